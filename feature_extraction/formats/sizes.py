"""Files whose headers name the size of their samples: WAV and its 64-bit kin, AIFF, AU, CAF, MP4."""

import struct
from collections.abc import Callable
from typing import Any

from .mpeg import STARTS, song_begins
from .pieces import Bytes, Part

MAX_UNKNOWN = 0x7FFF0000  # sizes from here on, in a smaller file, are those of a stream whose end was not known


def _is_chunk(head: bytes) -> bool:
    return len(head) == 8 and all(32 <= byte < 127 for byte in head[:4]) and not head.startswith(STARTS)


def _behind_chunks(data: Bytes, place: int, order: Any, begins: Callable[[int], bool]) -> int:
    """Return the place behind chunks that follow the samples: that of another file, or the end of this one."""
    while place + 8 <= data.size and not begins(place) and _is_chunk(data.at(place, 8)):
        size = int.from_bytes(data.at(place + 4, 4), order)
        place += 8 + size + size % 2
    return min(place, data.size)


def riff_parts(data: Bytes) -> list[Part]:
    """Return the WAV files that follow one another; sizes that nobody filled in reach to the end of the file."""

    def begins(place: int) -> bool:
        return data.at(place, 4) in (b"RIFF", b"RIFX", b"RF64", b"BW64") and data.at(place + 8, 4) == b"WAVE"

    parts, place = [], 0
    while begins(place):
        part, place = _riff_part(data, place, begins)
        parts.append(part)
    return parts


def _riff_part(data: Bytes, start: int, begins: Callable[[int], bool]) -> tuple[Part, int]:
    order: Any = "big" if data.at(start, 4) == b"RIFX" else "little"
    place, long_size, second = start + 12, None, 0
    while True:
        name, size = data.at(place, 4), int.from_bytes(data.at(place + 4, 4), order)
        if name == b"data" or place + 8 > data.size:
            break
        if name == b"ds64":
            long_size = int.from_bytes(data.at(place + 16, 8), "little")
        if name == b"fmt ":
            second = int.from_bytes(data.at(place + 16, 4), order)  # bytes
        place += 8 + size + size % 2
    if name != b"data":
        return Part(((start, data.size),)), data.size
    samples = place + 8
    rest = data.size - samples
    declared = long_size if size == 0xFFFFFFFF and long_size is not None else size
    following = samples + declared + declared % 2
    unfinished = declared == 0 and rest > 0 and not _is_chunk(data.at(samples, 8))
    is_followed = _is_chunk(data.at(following, 8)) or song_begins(data, following)
    if declared and second and rest - declared > second and not is_followed:
        unfinished = any(data.at(following, second))  # the recorder died, or the size does not fit into 32 bits
    if unfinished or (long_size is None and declared > rest and declared >= MAX_UNKNOWN):
        head = data.at(start, 8)[:4] + b"\xff\xff\xff\xff"
        pieces = (head, (start + 8, place + 4), b"\xff\xff\xff\xff", (samples, data.size))
        return Part(pieces), data.size
    if declared > rest:
        return Part(((start, data.size),), rest / declared or 1e-6), data.size
    stop = _behind_chunks(data, following, order, begins)
    return Part(((start, stop),)), stop


def aiff_parts(data: Bytes) -> list[Part]:
    """Return the AIFF files that follow one another."""

    def begins(place: int) -> bool:
        return data.at(place, 4) == b"FORM" and data.at(place + 8, 4) in (b"AIFF", b"AIFC")

    parts, start = [], 0
    while begins(start):
        place, share = start + 12, 1.0
        while place + 8 <= data.size and not begins(place):
            name, size = data.at(place, 4), int.from_bytes(data.at(place + 4, 4), "big")
            rest = data.size - place - 8
            if name == b"SSND" and (size > rest or size == 0):
                share = rest / size if rest < size < MAX_UNKNOWN else 1.0
                place = data.size
            elif not _is_chunk(data.at(place, 8)):
                if song_begins(data, place):
                    break
                place = data.size
            else:
                place += 8 + size + size % 2
        stop = min(place, data.size)
        parts.append(Part(((start, stop),), share or 1e-6))
        start = stop if stop > start else data.size
    return parts


def au_parts(data: Bytes) -> list[Part]:
    """Return the AU files that follow one another."""
    parts, start = [], 0
    while (magic := data.at(start, 4)) in (b".snd", b"dns."):
        order: Any = "big" if magic == b".snd" else "little"
        head = data.at(start, 12)
        samples = start + int.from_bytes(head[4:8], order)
        declared, rest = int.from_bytes(head[8:12], order), data.size - samples
        stop = samples + declared
        if declared == 0xFFFFFFFF or (declared == 0 and rest > 0):
            parts.append(Part((head[:8] + b"\xff\xff\xff\xff", (start + 12, data.size))))
            break
        if declared >= rest:
            parts.append(Part(((start, data.size),), min(1.0, rest / declared) or 1e-6 if declared else 1.0))
            break
        parts.append(Part(((start, stop),)))
        start = stop
    return parts


def wave64_parts(data: Bytes) -> list[Part]:
    """Return the Wave64 files that follow one another."""
    parts, start = [], 0
    while data.at(start, 4) == b"riff" and len(data.at(start, 40)) == 40:
        size = struct.unpack("<Q", data.at(start + 16, 8))[0]
        stop = start + max(size, 40)
        parts.append(Part(((start, min(stop, data.size)),), min(1.0, (data.size - start) / max(size, 40))))
        start = stop + -size % 8
    return parts


def caf_parts(data: Bytes) -> list[Part]:
    """Return the CAF files that follow one another; libsndfile refuses one that is shorter than its header says."""
    parts, start = [], 0
    while data.at(start, 4) == b"caff":
        place, part = start + 8, None
        while place + 12 <= data.size and data.at(place, 4) != b"caff":
            name, size = data.at(place, 4), struct.unpack(">q", data.at(place + 4, 8))[0]
            rest = data.size - place - 12
            if name == b"data" and (size == -1 or size > rest):
                pieces = ((start, place + 4), struct.pack(">q", rest), (place + 12, data.size))
                part, place = Part(pieces, 1.0 if size < 0 else rest / size or 1e-6), data.size
                break
            if place > start + 8 and song_begins(data, place):
                break
            place += 12 + max(size, 0)
        stop = min(place, data.size)
        parts.append(part or Part(((start, stop),)))
        start = stop if stop > start else data.size
    return parts


def mp4_parts(data: Bytes) -> list[Part]:
    """Return the MP4 files that follow one another."""
    starts, place, stop = [0], 0, data.size
    while place + 8 <= data.size:
        if not all(32 <= byte < 127 or byte == 0xA9 for byte in data.at(place + 4, 4)) and song_begins(data, place):
            stop = place
            break
        size, name = struct.unpack(">I4s", data.at(place, 8))
        if name == b"ftyp" and place:
            starts.append(place)
        size = struct.unpack(">Q", data.at(place + 8, 8))[0] if size == 1 else size or data.size
        place += max(size, 8)
    return [Part((bounds,)) for bounds in zip(starts, [*starts[1:], stop], strict=True)]
