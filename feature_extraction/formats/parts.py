"""Which streams a sound file holds."""

import struct
from collections.abc import Callable

from .flac import flac_parts
from .kinds import MP4_KINDS, Kind
from .mpeg import mpeg_parts
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
}


def parts_of(data: Bytes, kind: Kind) -> list[Part]:
    """Return the streams of a sound file, in order; at least one."""
    try:
        parts = READERS[kind.name](data) if kind.name in READERS else []
    except (struct.error, IndexError):  # a header that ends in the middle
        parts = []
    return parts or [Part(((0, data.size),))]
