"""Scores with known keys, and the audio they make."""

from .harmony import Note, Score, compose
from .render import find_soundfont, play_additive, play_soundfont

__all__ = ["Note", "Score", "compose", "find_soundfont", "play_additive", "play_soundfont"]
