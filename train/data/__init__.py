"""Audio and labels to training items."""
