"""A language teacher's answers on disk: written once, read by row and offset."""
