"""Streams that FFmpeg decodes: where each ends, so that a song behind it is found, and whether it is whole."""

from collections.abc import Callable

from .mpeg import adts_length, song_begins
from .pieces import Bytes, Part

ASF_DATA = b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
TTA_FRAME_SECONDS = (256, 245)  # a fraction: the length of all frames but the last
WAVPACK_FIRST_BLOCK = 0x800  # flag: the first of the blocks that hold the channels of the same samples


def aac_parts(data: Bytes) -> list[Part]:
    """Return the AAC stream that a file begins with, by its ADTS frames."""
    return _framed(data, adts_length, 7)


def ac3_parts(data: Bytes) -> list[Part]:
    """Return the AC-3 stream, or E-AC-3 stream, that a file begins with, by its frames."""
    return _framed(data, _ac3_length, 6)


def _ac3_length(head: bytes) -> int:
    if head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >> 1 >= len(AC3_KBITS):
        return 0
    kbits = AC3_KBITS[code >> 1]
    return (4 * kbits, 2 * (kbits * 960 // 441 + (code & 1)), 6 * kbits)[rate]


def _framed(data: Bytes, length_of: Callable[[bytes], int], head_bytes: int) -> list[Part]:
    place = 0
    while place < data.size:
        head = data.at(place, head_bytes)
        if len(head) < head_bytes:
            return [Part(((0, data.size),), broken_off=head[:2] == data.at(0, 2) and place > 0)]
        length = length_of(head)
        if not length:
            break
        if place + length > data.size:
            return [Part(((0, data.size),), broken_off=place > 0)]
        place += length
    return [Part(((0, place if place and _ends_at(data, place) else data.size),))]


def _ends_at(data: Bytes, place: int) -> bool:
    return data.at(place, 8)[:3] == b"TAG" or data.at(place, 8) == b"APETAGEX" or song_begins(data, place)


def asf_parts(data: Bytes) -> list[Part]:
    """Return the Windows Media file that a file begins with, by its objects."""
    place, share = 0, 1.0
    while place + 24 <= data.size and not (place and _ends_at(data, place)):
        size = int.from_bytes(data.at(place + 16, 8), "little")
        if data.at(place, 16) == ASF_DATA:
            if size < 24:  # of a broadcast, which did not know
                return [Part(((0, data.size),))]
            share = min(1.0, (data.size - place) / size)
        place += max(size, 24)
    return [Part(((0, min(place, data.size)),), share)]


def wavpack_parts(data: Bytes) -> list[Part]:
    """Return the WavPack file that a file begins with: the next one counts its samples from 0 again."""
    place, has_sound = 0, False
    while len(head := data.at(place, 32)) == 32 and head[:4] == b"wvpk":
        index = head[10] << 32 | int.from_bytes(head[16:20], "little")
        samples, flags = int.from_bytes(head[20:24], "little"), int.from_bytes(head[24:28], "little")
        if has_sound and samples and not index and flags & WAVPACK_FIRST_BLOCK:
            break
        has_sound = has_sound or samples > 0
        place += 8 + int.from_bytes(head[4:8], "little")
    ends = has_sound and place < data.size and (head[:4] == b"wvpk" or _ends_at(data, place))
    return [Part(((0, place if ends else data.size),))]


def tta_parts(data: Bytes) -> list[Part]:
    """Return the True Audio file that a file begins with, by its table of frames."""
    head = data.at(0, 22)
    rate, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    length = TTA_FRAME_SECONDS[0] * rate // TTA_FRAME_SECONDS[1]
    if not length:
        return []
    count = -(-samples // length)
    table = data.at(22, 4 * count)
    place = 22 + 4 * count + 4 + sum(int.from_bytes(table[at : at + 4], "little") for at in range(0, 4 * count, 4))
    return [Part(((0, place if place < data.size and _ends_at(data, place) else data.size),))]
