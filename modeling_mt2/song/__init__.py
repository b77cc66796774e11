"""What one song gives: embeddings and keys."""
