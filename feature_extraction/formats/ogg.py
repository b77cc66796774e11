"""Ogg, page by page; FLAC in it becomes plain FLAC."""

import struct
from dataclasses import dataclass

from .flac import flac_samples, with_flac_samples
from .pieces import Bytes, Part


@dataclass
class _OggStream:
    first: bytes  # body of its first page
    pieces: list[list[int]]
    audio: list[tuple[int, int]]  # bodies of pages that hold frames, of FLAC
    serial: int
    ended: bool = False
    samples: int = 0
    only_starts: bool = True


def ogg_parts(data: Bytes) -> list[Part]:
    """Return the streams of a chained Ogg file."""
    streams: list[_OggStream] = []
    place = 0
    cut = False
    while place < data.size:
        head = data.at(place, 27)
        if head[:4] != b"OggS" or len(head) < 27:
            place = data.find(b"OggS", place + 1, data.size) if len(head) == 27 else -1
            if place < 0:
                break
            continue
        flags, serial, segments = head[5], struct.unpack("<I", head[14:18])[0], head[26]
        body = place + 27 + segments
        stop = body + sum(data.at(place + 27, segments))
        if stop > data.size:
            cut = True
            break
        if flags & 2 and (not streams or not streams[-1].only_starts):
            streams.append(_OggStream(data.at(body, 64), [[place, place]], [], serial))
        if streams:
            _add_page(streams[-1], data, place, body, stop)
        place = stop
    return [_ogg_part(stream, cut and stream is streams[-1]) for stream in streams]


def _add_page(stream: _OggStream, data: Bytes, place: int, body: int, stop: int) -> None:
    head = data.at(place, 27)
    flags, serial = head[5], struct.unpack("<I", head[14:18])[0]
    stream.only_starts &= bool(flags & 2)
    if stream.pieces[-1][1] != place:
        stream.pieces.append([place, place])
    stream.pieces[-1][1] = stop
    if serial != stream.serial:
        return
    stream.ended |= bool(flags & 4)
    samples = struct.unpack("<q", head[6:14])[0]
    stream.samples = max(stream.samples, samples)
    if stream.audio or (not flags & 3 and data.at(body, 2) in (b"\xff\xf8", b"\xff\xf9")):
        stream.audio.append((body, stop))


def _ogg_part(stream: _OggStream, cut: bool) -> Part:
    if stream.first[:5] != b"\x7fFLAC" or not stream.audio:
        return Part(tuple((start, stop) for start, stop in stream.pieces), broken_off=cut or not stream.ended)
    # libsndfile reads no FLAC in Ogg that others have written: without its pages it is plain FLAC.
    info = bytearray(stream.first[9:51])  # fLaC, header of the block, STREAMINFO
    info[4] |= 0x80  # no other block follows
    announced = flac_samples(bytes(info))
    share = min(1.0, stream.samples / announced) if announced and stream.samples else 1.0
    whole = (stream.ended and not cut) or bool(announced and share == 1.0)
    head = with_flac_samples(bytes(info), stream.samples or announced)
    return Part((head, *stream.audio), 1.0 if whole else share, not whole and not announced)
