"""What came of it: task, fidelity, cost, statistics, report."""
