"""`make demo`: embeddings, keys and nearest songs from a published model."""
