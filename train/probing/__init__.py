"""The benchmark: what a music representation knows, read off by one linear layer."""
