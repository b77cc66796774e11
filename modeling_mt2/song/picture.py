"""The picture of a song: chroma, keys, chords and beats under one time axis."""

from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.feature_extraction.feature_extraction_mt2 import _require as require
from mt2_music.music import MAJOR_TONICS, NO_CHORD, PITCH_CLASSES_BY_FIFTHS, parse_key

from .analysis import SongAnalysis

SECONDS_PER_INCH, MIN_INCHES, MAX_INCHES = 4.0, 8.0, 40.0
MIN_LABEL_INCHES = 0.32  # a chord shorter than this in the picture has no name in it
SILENT = "#eeeeee"


def plot_analysis(analysis: SongAnalysis, output: Path) -> None:
    """Draw a song.

    Args:
        analysis: of the song.
        output: picture to write, PNG whatever its name.

    Raises:
        ImportError: matplotlib is not installed.
    """
    require("matplotlib", "drawing songs")
    from matplotlib.figure import Figure

    width = float(np.clip(analysis.seconds / SECONDS_PER_INCH, MIN_INCHES, MAX_INCHES))
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True, height_ratios=(1, 1, 0.7, 5))
    inches = width / max(analysis.seconds, 1e-3)
    _draw_bars(axes[0], "key", [(k.start, k.end, k.key) for k in analysis.keys], inches)
    chords = [(c.start, c.end, None if c.label == NO_CHORD else c.seventh) for c in analysis.chords]
    _draw_bars(axes[1], "chords", chords, inches)
    _draw_beats(axes[2], analysis)
    axes[3].imshow(
        analysis.chroma.T, aspect="auto", origin="lower", cmap="magma", interpolation="nearest",
        extent=(0, analysis.seconds, -0.5, 11.5),
    )  # fmt: skip
    axes[3].set_yticks(range(12), MAJOR_TONICS, fontsize=8)
    axes[3].set(xlabel="seconds", ylabel="pitch class", xlim=(0, analysis.seconds))
    for beat in analysis.beats.downbeats:
        axes[3].axvline(beat, color="white", linewidth=0.5, alpha=0.5)
    figure.suptitle(title_of(analysis), fontsize=11)
    figure.savefig(output, dpi=120, format="png")


def title_of(analysis: SongAnalysis) -> str:
    """Return key, tempo and tuning in one line."""
    parts = [analysis.key.key or f"no key ({analysis.key.reason})"]
    if analysis.tempo is not None:
        parts.append(f"{analysis.tempo:.0f} beats per minute")
    if analysis.metre is not None:
        parts.append(f"{analysis.metre} beats in a bar")
    return ", ".join([*parts, f"tuned {round(analysis.tuning_cents):+d} cents"])


def color_of(name: str) -> tuple[float, ...]:
    """Return the colour of a key such as "A minor" or a chord such as "A:min7": hues go round the circle of fifths.

    Relatives have one hue, and minor is darker.
    """
    from matplotlib import colormaps

    if " " in name:
        tonic, mode = parse_key(name)
    else:
        root, _, quality = name.partition(":")
        mode = "minor" if quality.startswith("min") else "major"
        tonic = MAJOR_TONICS.index(root)
    place = PITCH_CLASSES_BY_FIFTHS.index((tonic + 3 * (mode == "minor")) % 12)
    shade = 0.75 if mode == "minor" else 1.0
    return tuple(shade * value for value in colormaps["hsv"](place / 12)[:3])


def _draw_bars(axes: Any, title: str, segments: list[tuple[float, float, str | None]], inches: float) -> None:
    for start, end, name in segments:
        color = SILENT if name is None else color_of(name)
        axes.broken_barh([(start, end - start)], (0, 1), color=color, alpha=0.55, edgecolor="white", linewidth=0.5)
        shown = short_name(name)
        if (end - start) * inches >= MIN_LABEL_INCHES + 0.055 * len(shown):
            axes.text((start + end) / 2, 0.48, shown, ha="center", va="center", fontsize=8, clip_on=True)
    axes.set(ylim=(0, 1), yticks=[])
    axes.set_ylabel(title, rotation=0, ha="right", va="center")


def short_name(name: str | None) -> str:
    """Return a chord as musicians write it, such as "Am7" for "A:min7"; a key as it is."""
    if name is None:
        return "–"
    root, _, quality = name.partition(":")
    return name if " " in name else root + {"maj": "", "min": "m", "min7": "m7"}.get(quality, quality)


def _draw_beats(axes: Any, analysis: SongAnalysis) -> None:
    beats = analysis.beats
    for time, place in zip(beats.times, beats.positions, strict=True):
        axes.axvline(time, 0, 1.0 if place == 1 else 0.45, color="black", linewidth=1.4 if place == 1 else 0.8)
    axes.set(ylim=(0, 1), yticks=[])
    axes.set_ylabel("beats", rotation=0, ha="right", va="center")
