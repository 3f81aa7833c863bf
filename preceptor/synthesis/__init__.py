"""Text that models write becomes data: rollouts in the stream, a teacher's answers in a file."""
