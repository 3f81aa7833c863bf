"""Which teacher, which temperature, which student: told from the student's gradients alone."""
