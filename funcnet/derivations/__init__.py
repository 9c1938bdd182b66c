"""One weight's derivative, written out with its numbers."""
