"""Training: updates, epochs and whole trainings, each in one compiled program."""
