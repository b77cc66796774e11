"""Fit what finds chords, beats and keys over time: `python -m mt2_music.train.analysis`."""
