"""Pre-training: settings, losses, the Trainer, and the command."""
