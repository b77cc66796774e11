"""Pictures of runs and songs."""
