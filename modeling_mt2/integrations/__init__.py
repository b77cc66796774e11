"""MT2 for programs of others that have a protocol of their own; each needs its package."""
