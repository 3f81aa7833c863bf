"""A grid of runs judged together: when distillation helps, whom, and whom the students follow."""
