"""Parts of files, put together so that a decoder takes them for files of their own."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

CACHE_BYTES = 1 << 20
READING_ERRORS = (OSError, ValueError, MemoryError)  # the others are of files that are none of ours
LIBSNDFILE, FFMPEG, NO_SOUND = "libsndfile", "ffmpeg", ""  # who decodes a stream


class Bytes:
    """A binary file, of which any part is read by place; small reads cost little.

    Args:
        file: the file.
        first: where it begins; places are counted from there.
    """

    def __init__(self, file: Any, first: int = 0) -> None:
        self.file, self.first = file, first
        self.size = max(0, file.seek(0, 2) - first)
        self._start, self._cache = 0, b""

    def behind(self, place: int) -> "Bytes":
        """Return what begins at a place."""
        return Bytes(self.file, self.first + place) if place else self

    def at(self, place: int, length: int) -> bytes:
        """Return the bytes at a place, fewer where the file ends."""
        start = place - self._start
        if start < 0 or start + length > len(self._cache):
            self.file.seek(self.first + place)
            self._start, self._cache, start = place, self.file.read(max(length, CACHE_BYTES)), 0
        return self._cache[start : start + length]

    def block(self, place: int, least: int) -> tuple[bytes, int]:
        """Return many bytes, and where in them those of a place begin; `least` follow there, unless the file ends."""
        self.at(place, least)
        return self._cache, place - self._start

    def find(self, wanted: bytes, place: int, stop: int) -> int:
        """Return where bytes come next in part of the file, or -1."""
        while place < stop:
            block = self.at(place, min(CACHE_BYTES, stop - place))
            found = block.find(wanted)
            if found >= 0:
                return place + found
            if len(block) < CACHE_BYTES:
                break
            place += len(block) - len(wanted) + 1
        return -1


@dataclass(frozen=True)
class Part:
    """One whole stream in a file.

    Args:
        pieces: what a decoder is given, in order: bytes, or start and stop of those in the file.
        share: of the samples that its header announces, how many are there, by the sizes in it; above 0.
        broken_off: it ends before its end, and nothing says how much is missing.
        kind: what it is, for people.
        decoder: LIBSNDFILE or FFMPEG.
        bounds: where it begins and ends in the file, for who is not given its pieces.
    """

    pieces: tuple[bytes | tuple[int, int], ...]
    share: float = 1.0
    broken_off: bool = False
    kind: str = ""
    decoder: str = LIBSNDFILE
    bounds: tuple[int, int] = (0, 0)

    @property
    def stop(self) -> int:
        """Where its last piece ends."""
        return max(piece[1] for piece in self.pieces if not isinstance(piece, bytes))

    def moved(self, first: int) -> "Part":
        """Return the part of a file that begins at another place."""
        pieces = (one if isinstance(one, bytes) else (one[0] + first, one[1] + first) for one in self.pieces)
        return replace(self, pieces=tuple(pieces))


class Spliced:
    """A binary file to read that is put together from pieces of another one.

    Args:
        file: the other one.
        pieces: as of `Part`.
    """

    def __init__(self, file: Any, pieces: tuple[bytes | tuple[int, int], ...]) -> None:
        self._file = file
        lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._pieces = pieces
        self._stops = list(accumulate(lengths))
        self._size = sum(lengths)
        self._place = 0
        self.error: Exception | None = None

    def seek(self, place: int, whence: int = 0) -> int:
        """Move as files do."""
        self._place = max(0, place + (0, self._place, self._size)[whence])
        return self._place

    def tell(self) -> int:
        """Return the place, as files do."""
        return self._place

    def read(self, length: int = -1) -> bytes:
        """Read as files do; an error is kept in `error`, because libsndfile has no way to pass it on."""
        length = self._size - self._place if length < 0 else length
        found = []
        index = bisect_right(self._stops, self._place)
        while length > 0 and index < len(self._pieces):
            start = self._stops[index - 1] if index else 0
            wanted = min(length, self._stops[index] - self._place)
            try:
                block = self._bytes_of(self._pieces[index], self._place - start, wanted)
            except READING_ERRORS as error:
                self.error = error
                break
            found.append(block)
            self._place += len(block)
            length -= len(block)
            index += 1
            if len(block) < wanted:
                break
        return b"".join(found)

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer as files do; inside one piece of a file it goes there without a copy."""
        index = bisect_right(self._stops, self._place)
        piece = self._pieces[index] if index < len(self._pieces) else b""
        into = getattr(self._file, "readinto", None)
        if into is None or isinstance(piece, bytes) or self._place + len(buffer) > self._stops[index]:
            block = self.read(len(buffer))
            buffer[: len(block)] = block
            return len(block)
        place = piece[1] - self._stops[index] + self._place
        try:
            if self._file.tell() != place:
                self._file.seek(place)
            count = into(buffer)
        except READING_ERRORS as error:
            self.error = error
            return 0
        self._place += count
        return count

    def _bytes_of(self, piece: bytes | tuple[int, int], offset: int, length: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[offset : offset + length]
        self._file.seek(piece[0] + offset)
        return self._file.read(length)
