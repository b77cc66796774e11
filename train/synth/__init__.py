"""Scores with known keys, chords and beats, and the audio they make."""

from .arrange import humanised
from .harmony import compose
from .render import draw_programs, find_soundfont, play_additive, play_soundfont
from .score import Beat, Note, Score, Segment

__all__ = [
    "Beat",
    "Note",
    "Score",
    "Segment",
    "compose",
    "draw_programs",
    "find_soundfont",
    "humanised",
    "play_additive",
    "play_soundfont",
]
