"""Fine-tuning a published model on labelled music."""
