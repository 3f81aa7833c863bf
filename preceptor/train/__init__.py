"""The loop and what it needs: plans, updates, checkpoints, records."""
