"""A small zoo of the families that the distillation literature compares."""
