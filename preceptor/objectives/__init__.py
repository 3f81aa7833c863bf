"""One method, one file; the file is named after the method."""
