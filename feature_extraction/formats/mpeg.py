"""MPEG audio (MP3 and its older layers), frame by frame."""

import struct
from dataclasses import dataclass
from typing import Any

from .pieces import Bytes, Part

_BIT_RATES = {  # kbit/s by version 1 or not, and layer
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # hertz, by version
TAGS = (b"Xing", b"Info", b"VBRI")
# How files of other kinds begin, where one lies behind a song.
STARTS = (
    *(b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b"wvpk", b"TTA1", b"MAC ", b".snd", b"MPCK", b"tBaK"),
    *(b"DSD ", b"#!AMR", b"riff\x2e\x91\xcf\x11", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\x1a\x45\xdf\xa3"),
)
MAX_FRAME = 4096  # bytes; more than any frame has
FRAMES_OF_SLACK = 3  # by which the number of frames in a header may be wrong without a reason to worry
_headers: dict[bytes, "tuple[tuple[int, int, int], int, int] | None"] = {}


def mpeg_header(header: bytes) -> tuple[tuple[int, int, int], int, int] | None:
    """Read the header of a frame: what all frames of a stream share, its bytes, and where a Xing tag would be."""
    if header not in _headers:
        if len(_headers) > 4096:
            _headers.clear()
        _headers[header] = _parse_mpeg_header(header)
    return _headers[header]


def _parse_mpeg_header(header: bytes) -> tuple[tuple[int, int, int], int, int] | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3 or header[3] & 3 == 2:
        return None
    first, hertz = version == 3, _RATES[version][rate]
    bits = 1000 * _BIT_RATES[first, layer][bit_rate - 1]
    if layer == 1:
        length = 4 * (12 * bits // hertz + padding)
    else:
        length = (144 if first or layer == 2 else 72) * bits // hertz + padding
    return (version, layer, hertz), length, 4 + _side_bytes(header)


def _side_bytes(header: bytes) -> int:
    mono = header[3] >> 6 == 3
    return {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[header[1] >> 3 & 3 == 3, mono]


def next_frame(data: Bytes, place: int, stop: int, in_a_row: int = 4) -> int | None:
    """Return where the next frames begin that follow one another, or end with the file; None if nowhere."""
    while (place := data.find(b"\xff", place, stop)) >= 0:
        here, first = place, None
        for number in range(in_a_row):
            header = mpeg_header(data.at(here, 4))
            if header is None or first not in (None, header[0]):
                if not (number > 1 and here >= data.size - 4):
                    break
                return place
            first, here = header[0], here + header[1]
            if here > data.size and number == 0:
                break
        else:
            return place
        place += 1
    return None


def after_id3(data: Bytes, place: int) -> int:
    """Return the place behind ID3v2 tags."""
    while (head := data.at(place, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:10]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + size + (10 if head[5] & 16 else 0)
    return place


def song_begins(data: Bytes, place: int) -> bool:
    """Tell whether another song, or a tag before one, begins behind a stream that ends at a place."""
    head = data.at(place, 16)
    if head.startswith(STARTS) or head[4:8] == b"ftyp" or after_id3(data, place) > place:
        return True
    length = adts_length(head)
    return bool(length and adts_length(data.at(place + length, 7))) or next_frame(data, place, place + 1) is not None


def adts_length(head: bytes) -> int:
    """Return how many bytes a frame of AAC has, by the seven that it begins with; 0 where none begins."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= 7 else 0


def after_tag(data: Bytes, place: int) -> int:
    """Return the place behind the tag at a place, or the place itself."""
    head = data.at(place, 32)
    if head[:3] == b"TAG":
        return place + 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return place + 32 + (struct.unpack("<I", head[12:16])[0] if head[23] & 0x20 else 0)
    return after_id3(data, place)


@dataclass
class _MpegStream:
    key: tuple[int, int, int]
    header: bytes  # of its first frame
    pieces: list[list[int]]
    frames: int = 0
    announced: int = 0
    tagged: bool = False  # the first frame is a Xing or VBRI tag
    lost: int = 0  # bytes between frames that are nothing
    cut: bool = False  # in the middle of a frame


def mpeg_parts(data: Bytes) -> list[Part]:
    """Return the MPEG streams of a file: one for every Xing tag, format, and run of frames that no tag has counted."""
    place = next_frame(data, after_id3(data, 0), data.size)
    streams: list[_MpegStream] = []
    stream: _MpegStream | None = None
    while place is not None and place < data.size:
        if stream is not None and stream.pieces[-1][1] == place:
            place = _plain_frames(data, place, stream)
        head = data.at(place, 54)
        parsed = mpeg_header(head[:4])
        if parsed is None or (stream is not None and parsed[0] != stream.key and not _goes_on(data, place, parsed)):
            following = after_tag(data, place)
            if following == place:
                if data.at(place, 16).startswith(STARTS):
                    break
                found = next_frame(data, place + 1, data.size)
                if stream is not None and found is not None:
                    stream.lost += found - place
                following = data.size if found is None else found
            place = following
            continue
        key, length, tag_at = parsed
        if place + length > data.size:
            if stream is not None:
                stream.cut = True
            break
        tag = head[tag_at : tag_at + 4]
        tagged = key[1] == 3 and (tag in TAGS[:2] or head[36:40] == b"VBRI")
        over = stream is not None and stream.announced and stream.frames >= stream.announced
        if stream is None or tagged or key != stream.key or over:
            stream = _MpegStream(key, head[:4], [[place, place]])
            streams.append(stream)
        if tagged:
            stream.tagged = True
            stream.announced = _frames_announced(head, tag_at)
        else:
            stream.frames += 1
        if stream.pieces[-1][1] != place:
            stream.pieces.append([place, place])
        stream.pieces[-1][1] = place + length
        place += length
    return [_mpeg_part(stream) for stream in _without_scraps(streams)]


def _plain_frames(data: Bytes, place: int, stream: _MpegStream) -> int:
    """Count the frames that follow in a stream as far as nothing else can come between; return the place behind."""
    block, offset = data.block(place, MAX_FRAME)
    stop = min((found for tag in TAGS if (found := block.find(tag, offset)) >= 0), default=len(block)) - MAX_FRAME
    left = stream.announced - stream.frames if stream.announced else len(block)
    start, frames, key = offset, 0, stream.key
    while offset < stop and frames < left:
        parsed = _headers.get(block[offset : offset + 4])
        if parsed is None or parsed[0] != key:
            break
        offset += parsed[1]
        frames += 1
    stream.frames += frames
    stream.pieces[-1][1] += offset - start
    return place + offset - start


def _goes_on(data: Bytes, place: int, parsed: tuple[tuple[int, int, int], int, int]) -> bool:
    following = mpeg_header(data.at(place + parsed[1], 4))
    return following is not None and following[0] == parsed[0]


def _frames_announced(head: bytes, tag_at: int) -> int:
    if head[36:40] == b"VBRI":
        return struct.unpack(">I", head[50:54].ljust(4, b"\0"))[0] if len(head) >= 54 else 0
    flags, frames = struct.unpack(">II", head[tag_at + 4 : tag_at + 12])
    return frames if flags & 1 else 0


def _without_scraps(streams: list[_MpegStream]) -> list[_MpegStream]:
    """Put the few frames that a header did not count back to those it did."""
    kept: list[_MpegStream] = []
    for stream in streams:
        if kept and not stream.tagged and stream.key == kept[-1].key and stream.frames <= FRAMES_OF_SLACK:
            kept[-1].pieces += stream.pieces
            continue
        if stream.frames:
            kept.append(stream)
    return kept


def _mpeg_part(stream: _MpegStream) -> Part:
    pieces: list[Any] = [tuple(piece) for piece in stream.pieces]
    share = 1.0
    announced = stream.announced
    if stream.lost:
        size = sum(stop - start for start, stop in stream.pieces)
        share = size / (size + stream.lost)
    if announced and stream.frames + FRAMES_OF_SLACK < announced:
        share = stream.frames / announced
    exact = stream.tagged and announced and abs(stream.frames - announced) <= FRAMES_OF_SLACK
    if stream.key[1] == 3 and not exact:
        # libsndfile believes a Xing tag, and without one it estimates the length from the first frame.
        if stream.tagged:
            start, stop = pieces[0]
            tag = mpeg_header(stream.header)
            pieces[0] = (start + (tag[1] if tag else 0), stop)
        pieces = [_xing_frame(stream.header, stream.frames), *pieces]
    return Part(tuple(pieces), share, stream.cut and not announced)


def _xing_frame(header: bytes, frames: int) -> bytes:
    """Make a silent frame that says how many follow."""
    header = bytes([0xFF, header[1] | 1, header[2] & 0x0D | 0xE0, header[3]])  # the highest bit rate: room for the tag
    parsed = mpeg_header(header)
    assert parsed is not None
    tag = header + bytes(_side_bytes(header)) + b"Xing" + struct.pack(">II", 1, frames)
    return tag.ljust(parsed[1], b"\0")
