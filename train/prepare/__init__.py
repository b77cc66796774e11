"""Decode a collection once: `python -m mt2_music.train.prepare`."""
