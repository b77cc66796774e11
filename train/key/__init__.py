"""Teach a published model the 24 keys: `python -m mt2_music.train.key`."""
