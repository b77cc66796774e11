"""FLAC: where its streams begin, and how many samples are there."""

from .mpeg import after_tag, song_begins
from .pieces import Bytes, Part

FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
FLAC_HEAD = 42  # bytes: marker, header of the block, STREAMINFO
MAX_FLAC_FRAME = 1 << 20  # bytes
MAX_FLAC_HEADER = 17  # bytes of the header of a frame


def flac_samples(head: bytes) -> int:
    """Return how many samples the first FLAC_HEAD bytes of a stream announce; 0 where they do not say."""
    return int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF


def with_flac_samples(head: bytes, samples: int) -> bytes:
    """Let the first FLAC_HEAD bytes of a stream announce so many samples."""
    return head[:21] + bytes([head[21] & 0xF0 | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4, "big") + head[26:]


def flac_parts(data: Bytes) -> list[Part]:
    """Return the FLAC streams of a file, each with the number of samples that are there."""
    starts: list[int] = []
    place = 0
    while (place := data.find(b"fLaC", place, data.size)) >= 0:
        if data.at(place, 8) in FLAC_STARTS:
            starts.append(place)
        place += 4
    return [_flac_part(data, *bounds) for bounds in zip(starts, [*starts[1:], data.size], strict=True)]


def _flac_part(data: Bytes, start: int, stop: int) -> Part:
    head = data.at(start, FLAC_HEAD)
    announced = flac_samples(head)
    if data.at(stop - 128, 3) == b"TAG":
        stop -= 128
    found = _last_flac_frame(data, start, stop, announced)
    if found is None:
        return Part(((start, stop),))
    place, begins, ends = found
    if announced and ends >= announced:
        longest = int.from_bytes(head[15:18], "big") or MAX_FLAC_FRAME  # bytes
        return Part(((start, _song_behind(data, place, min(stop, place + longest + 1)) or stop),))
    if _crc(data.at(place, stop - place), 16) != 0:
        ends, stop = begins, place
    share = ends / announced if announced else 1.0
    return Part((with_flac_samples(head, ends), (start + FLAC_HEAD, stop)), min(1.0, share) or 1e-6)


def _last_flac_frame(data: Bytes, start: int, stop: int, announced: int) -> tuple[int, int, int] | None:
    """Return the place of the last frame, its first sample and the one behind its last; None without frames."""
    first = _first_flac_frame(data, start, stop)
    if first is None:
        return None
    like, size = data.at(first, 4), int.from_bytes(data.at(start + 10, 2), "big")  # samples of a block, at most
    behind = stop
    while behind > first:  # a song of another kind may lie behind the last frame
        tail_at, found = max(first, behind - MAX_FLAC_FRAME), None
        tail = data.at(tail_at, min(stop, behind + MAX_FLAC_HEADER) - tail_at)
        place = len(tail)
        while (place := tail.rfind(like[:2], 0, place)) >= 0:
            frame = _flac_frame(tail[place : place + MAX_FLAC_HEADER], like, size)
            if frame is None or (announced and frame[0] >= announced):
                continue
            found = found or (tail_at + place, *frame)
            if not announced:
                return found
            if frame[1] >= announced:  # what follows it only looks like a frame
                return tail_at + place, *frame
        if found is not None:
            return found
        behind = tail_at
    return None


def _song_behind(data: Bytes, place: int, stop: int) -> int | None:
    """Return where another song, or a tag, begins behind the last frame; None if nowhere."""
    value = 0
    for at, byte in enumerate(data.at(place, stop - place), place + 1):
        value = (value << 8 & 0xFFFF) ^ _CRC[16][value >> 8 ^ byte]
        if not value and (song_begins(data, at) or after_tag(data, at) > at):  # a frame ends with its checksum
            return at
    return None


def _first_flac_frame(data: Bytes, start: int, stop: int) -> int | None:
    place = start + 4
    while place + 4 <= stop:
        header = data.at(place, 4)
        place += 4 + int.from_bytes(header[1:], "big")
        if header[0] & 0x80:
            return place if data.at(place, 2) in (b"\xff\xf8", b"\xff\xf9") else None
    return None


def _flac_frame(head: bytes, like: bytes, block_size: int) -> tuple[int, int] | None:
    """Return the first sample of a frame and the one behind its last; None where no frame begins."""
    if len(head) < 6 or head[2] & 15 != like[2] & 15 or (head[3] ^ like[3]) & 0x0E or head[3] >> 4 > 10:
        return None
    size_code, lead = head[2] >> 4, head[4]
    extra = 0 if lead < 0x80 else 8 - (lead ^ 0xFF).bit_length() - 1
    if size_code == 0 or not (lead < 0x80 or 1 <= extra <= 6) or len(head) < 6 + extra:
        return None
    number = lead if lead < 0x80 else lead & (0x3F >> extra)
    for byte in head[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    place = 5 + extra
    samples = {1: 192, 6: head[place] + 1, 7: int.from_bytes(head[place : place + 2], "big") + 1}.get(
        size_code, 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8 if size_code > 7 else 0
    )
    place += {6: 1, 7: 2}.get(size_code, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= place or _crc(head[: place + 1], 8):
        return None
    begins = number if head[1] & 1 else number * block_size  # blocks of one size are counted, of others samples
    return begins, begins + samples


def _crc_table(bits: int, polynomial: int) -> list[int]:
    top, mask, table = 1 << bits - 1, (1 << bits) - 1, []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return table


_CRC = {8: _crc_table(8, 0x07), 16: _crc_table(16, 0x8005)}


def _crc(data: bytes, bits: int) -> int:
    value, table, mask = 0, _CRC[bits], (1 << bits) - 1
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> bits - 8 ^ byte]
    return value
