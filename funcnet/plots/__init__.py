"""Pictures of networks and trainings, with matplotlib."""
