"""Fit a key classifier on a published model: `python -m mt2_music.train.key`."""
