"""Who is learned from."""
