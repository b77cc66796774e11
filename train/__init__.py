"""Pre-training of MT2: data, losses, Trainer, publishing."""
