"""A typed recipe, its presets, and the one file that builds objects from it."""
