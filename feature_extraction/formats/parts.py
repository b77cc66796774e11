"""Which streams a sound file holds."""

import struct
from collections.abc import Callable
from dataclasses import replace

from .flac import flac_parts
from .frames import aac_parts, ac3_parts, asf_parts, tta_parts, wavpack_parts
from .kinds import MP4_KINDS, NO_SOUND, Kind, is_sound, kind_of
from .mpeg import after_id3, after_tag, mpeg_parts, song_begins
from .ogg import ogg_parts
from .pieces import Bytes, Part
from .sizes import aiff_parts, au_parts, caf_parts, mp4_parts, riff_parts, wave64_parts

READERS: dict[str, Callable[[Bytes], list[Part]]] = {
    "MP3": mpeg_parts,
    "Ogg": ogg_parts,
    "FLAC": flac_parts,
    "WAV": riff_parts,
    "AIFF": aiff_parts,
    "AU": au_parts,
    "Wave64": wave64_parts,
    "CAF": caf_parts,
    **dict.fromkeys(MP4_KINDS, mp4_parts),
    "AAC": aac_parts,
    "AC-3": ac3_parts,
    "Windows Media": asf_parts,
    "WavPack": wavpack_parts,
    "True Audio": tta_parts,
}


def structure_of(data: Bytes) -> tuple[Kind, list[Part]]:
    """Return what a file is, and the streams of all the songs that were joined in it, of whatever kinds.

    Of what is no sound there are none; otherwise there is at least one.
    """
    first = kind = kind_of(data)
    if kind.decoder == NO_SOUND:
        return kind, []
    parts: list[Part] = []
    start = after_id3(data, 0)
    while not parts or (is_sound(kind) and song_begins(data, start)):
        stop = start
        for part in parts_of(data.behind(start), kind):
            part = part.moved(start)
            parts.append(replace(part, kind=kind.name, decoder=kind.decoder, bounds=(stop, part.stop)))
            stop = part.stop
        if stop <= start:
            break
        start = stop
        while (tag_end := after_tag(data, start)) != start:
            start = tag_end
        kind = kind_of(data.behind(start))
    return first, parts


def parts_of(data: Bytes, kind: Kind) -> list[Part]:
    """Return the streams of a sound file, in order; at least one."""
    try:
        parts = READERS[kind.name](data) if kind.name in READERS else []
    except (struct.error, IndexError):  # a header that ends in the middle
        parts = []
    return parts or [Part(((0, data.size),))]
