"""The time line of a song as HTML: its keys, chords and beats over its chroma, with a player and a cursor."""

from base64 import b64encode
from html import escape
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from mt2_music import ChordSegment, KeySegment, SongAnalysis
from mt2_music.music import MAJOR_TONICS, NO_CHORD
from mt2_music.song.picture import SILENT, color_of, short_name

HERE = Path(__file__).parent
PIXELS_PER_SECOND = 80
SECONDS_PER_TICK = 2
OPACITY = 0.55  # of colours, on white: black names can be read on all of them


def time_line() -> gr.HTML:
    """Lay out an empty time line, which shows what `render` returns."""
    style, script = ((HERE / f"timeline.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return gr.HTML(css_template=style, js_on_load=script, elem_id="timeline")


def render(song: SongAnalysis, audio: str) -> str:
    """Write the time line of a song as HTML.

    Args:
        song: what was found in it.
        audio: address of its sound file, for the player.
    """
    pitches = "".join(_element("pitch", name) for name in reversed(MAJOR_TONICS))
    names = "".join(_element(name, name) for name in ("time", "keys", "chords", "beats"))
    ticks = range(0, int(song.seconds) + 1, SECONDS_PER_TICK)
    rows = {
        "time": "".join(_element("tick", _minutes(second, 0), left=second) for second in ticks),
        "keys": "".join(_key(segment) for segment in song.keys),
        "chords": "".join(_chord(segment) for segment in song.chords),
        "beats": _beats(song),
        "chroma": f'<img src="{_chroma_picture(song.chroma)}" alt="chroma">',
    }
    track = "".join(f'<div class="{name}">{content}</div>' for name, content in rows.items())
    width = _pixels(song.seconds)
    return (
        f'<audio controls src="{escape(audio)}"></audio>'
        f'<div class="song"><div class="names">{names}<div class="chroma">{pitches}</div></div>'
        f'<div class="view" tabindex="0"><div class="track" style="width: {width}" data-rate="{PIXELS_PER_SECOND}">'
        f'{track}<div class="cursor"></div></div></div></div>'
    )


def _key(segment: KeySegment) -> str:
    if segment.key is None:
        return _segment(segment, "no key", "no key", SILENT)
    return _segment(segment, segment.key, f"{segment.key}, {segment.confidence:.0%}", _color(segment.key))


def _chord(segment: ChordSegment) -> str:
    if segment.label == NO_CHORD:
        return _segment(segment, "N.C.", "no chord", SILENT)
    about = f"{short_name(segment.seventh)}, {segment.confidence:.0%}"
    return _segment(segment, short_name(segment.label), about, _color(segment.label))


def _segment(segment: KeySegment | ChordSegment, name: str, about: str, color: str) -> str:
    start, end = segment.start, segment.end
    hint = f"{about}\n{_minutes(start)} – {_minutes(end)}"
    return _element("segment", name, hint, left=start, width=end - start, color=color)


def _beats(song: SongAnalysis) -> str:
    if not len(song.beats):
        return _element("none", "no beats")
    return "".join(
        _element("down beat" if place == 1 else "beat", "", f"beat {place}\n{_minutes(time)}", left=time)
        for time, place in zip(song.beats.times, song.beats.positions, strict=True)
    )


def _element(
    kind: str,
    text: str,
    hint: str | None = None,
    *,
    left: float | None = None,
    width: float | None = None,
    color: str | None = None,
) -> str:
    """Write one element; `hint` appears under the mouse, and places are in seconds."""
    sizes = [("left", left), ("width", width)]
    style = [f"{name}: {_pixels(seconds)}" for name, seconds in sizes if seconds is not None]
    if color is not None:
        style.append(f"background: {color}")
    attributes = {"class": kind, "title": hint, "style": "; ".join(style) or None}
    written = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items() if value is not None)
    return f"<div{written}><span>{escape(text)}</span></div>"


def _color(name: str) -> str:
    red, green, blue = (1 - OPACITY * (1 - value) for value in color_of(name))
    return to_hex((red, green, blue))


def _chroma_picture(chroma: np.ndarray) -> str:
    """Draw chroma (stretches, 12) with C at the bottom, a pixel each, as an address that holds the picture."""
    strength = chroma.T[::-1] / max(chroma.max(), 1e-9)
    file = BytesIO()
    Image.fromarray(colormaps["magma"](strength, bytes=True)[..., :3].copy()).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def _pixels(seconds: float) -> str:
    return f"{seconds * PIXELS_PER_SECOND:.1f}px"


def _minutes(seconds: float, digits: int = 1) -> str:
    tenths = round(seconds * 10**digits) / 10**digits  # first, so that 59.99 becomes 1:00.0 and not 0:60.0
    width = 2 if digits == 0 else 3 + digits
    return f"{int(tenths // 60)}:{tenths % 60:0{width}.{digits}f}"
