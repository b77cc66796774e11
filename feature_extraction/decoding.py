"""Sound files of any kind to mono samples, whole or block by block, to the end of what is in them.

libsndfile decodes what it can, part by part (see `formats`), and FFmpeg the rest, where it is installed. A file that
ends before its end is used, with a warning, where most of it is there, and is refused otherwise.
"""

import io
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from typing import Any, Protocol

import numpy as np

from . import ffmpeg
from .feature_extraction_mt2 import AudioWarning, _require
from .formats.kinds import UNKNOWN, Kind
from .formats.parts import structure_of
from .formats.pieces import LIBSNDFILE, NO_SOUND, Bytes, Part, Spliced
from .limits import BLOCK_VALUES, MISSING_SECONDS, ImplausibleError, check_claims
from .mixing import Mixer
from .names import name_of

MIN_SHARE = 0.45  # of the announced seconds; half of a file's bytes may hold a little less than half of its sound
MP3_BEFORE_SECONDS = 1.0  # decoded before the part that is asked for
SALVAGE_SAMPLES = 1024  # read at a time behind an error: of a block a decoder gives all or nothing
BLOCK_SECONDS = 30.0
MAX_LOOKED_AT = 4096  # files whose structure is kept
BAD_SF_INFO = 24  # libsndfile's own number of this error
NO_CLAIMS = "its header gives no sampling rate or number of channels that makes sense"
PROBE_SECONDS = 0.1  # decoded at both ends of a file before it is trusted


_looked_at: dict[tuple[Any, int, int], tuple[Kind, list[Part]]] = {}


class IncompleteAudioWarning(AudioWarning):
    """A file ends before its end; what is there was used."""


class Sound(Protocol):
    """An open sound: mono float32 samples in order.

    After it was read to its end, the last four say what was in it.
    """

    sampling_rate: int  # hertz
    seconds_there: float  # that were decoded
    seconds_announced: float  # that headers promise; 0 where they promise nothing
    broken_off: bool  # it ends before its end, however much is missing
    unread: str  # what is joined to it and cannot be decoded here, for people; empty where nothing is

    def count(self) -> int:
        """Return how many samples there are, by headers where these can be trusted."""

    def read(self, num_samples: int) -> np.ndarray:
        """Return the next samples, (samples,), up to so many; none at the end."""

    def seek(self, sample: int) -> None:
        """Go on with another sample."""


class _OpenPart:
    """One stream that libsndfile decodes."""

    def __init__(self, soundfile: Any, file: Any, part: Part) -> None:
        self.part = part
        self._soundfile, self._file = soundfile, file
        self._error = soundfile.LibsndfileError
        self._bytes = Spliced(file, part.pieces)
        self.sound = soundfile.SoundFile(self._bytes)
        # Else soundfile seeks after every read, and what an MP3 decoder has kept of the frames before is lost.
        self.sound.seekable = lambda: False
        self.rate = self.sound.samplerate
        check_claims(self.rate, self.sound.channels)
        self.mixer = Mixer(self.rate)
        self.done = 0
        self.damaged = False

    def read(self, num_samples: int) -> np.ndarray:
        """Return samples, (samples, channels), up to so many; those before the damage where there is some."""
        num_samples = min(num_samples, BLOCK_VALUES // self.sound.channels)
        if self.done < self.sound.frames:  # what lies behind the last one that is announced may be no sound
            num_samples = min(num_samples, self.sound.frames - self.done)
        block = np.empty((num_samples if not self.damaged else 0, self.sound.channels), np.float32)
        # `SoundFile.read` would stop at the announced length.
        try:
            count = self.sound.buffer_read_into(block, "float32") if len(block) else 0
        except self._error:
            self.damaged = True
            count = self._salvage(block)
        if self._bytes.error is not None:
            raise self._bytes.error
        self.done += count
        return block[:count]

    def _salvage(self, block: np.ndarray) -> int:
        """Read up to the damage, with a decoder that has not met it yet; return how many samples that are."""
        count = 0
        try:
            with self._soundfile.SoundFile(Spliced(self._file, self.part.pieces)) as sound:
                if self.done:
                    sound.seek(self.done)
                while got := sound.buffer_read_into(block[count : count + SALVAGE_SAMPLES], "float32"):
                    count += got
        except self._error:
            pass
        return count

    def seek(self, sample: int) -> None:
        """Go on with another sample."""
        sample = max(0, min(sample, self.sound.frames))
        # Frames of MP3 may need the bits of many before them, and are silent without.
        before = int(MP3_BEFORE_SECONDS * self.rate) if self.sound.format == "MP3" else 0
        try:
            self.done = self.sound.seek(max(0, sample - before))
        except self._error:
            self.damaged = True
        while self.done < sample and len(self.read(sample - self.done)):
            pass


class LibsndfileSound:
    """The streams of a file, one after the other, at the rate of the first.

    Args:
        file: binary file object.
        parts: its streams.
        unread: as of `Sound`.

    Raises:
        soundfile.LibsndfileError, ImplausibleError: the first cannot be opened.
    """

    def __init__(self, file: Any, parts: list[Part], unread: str = "") -> None:
        self._soundfile = _require("soundfile", "reading sound files")
        self._file, self._parts = file, parts
        self.seconds_there = self.seconds_announced = 0.0
        self.broken_off = False
        self.unread = unread
        self._open(0)
        self.sampling_rate: int = self._part.rate

    def _open(self, index: int) -> None:
        self._index = index
        self._part = _OpenPart(self._soundfile, self._file, self._parts[index])
        self._resampler = resampler_to(self.sampling_rate, self._part.rate) if index else None

    def _lengths(self) -> list[int]:
        if len(self._parts) == 1:
            return [self._part.sound.frames]
        lengths = []
        for part in self._parts:
            try:
                with self._soundfile.SoundFile(Spliced(self._file, part.pieces)) as sound:
                    lengths.append(round(sound.frames * self.sampling_rate / sound.samplerate))
            except self._soundfile.LibsndfileError:
                break  # where reading ends, too
        return lengths

    def count(self) -> int:
        """Return how many samples there are."""
        return sum(self._lengths())

    def share(self) -> float:
        """Return how much of what headers announce is there, by the sizes in them."""
        lengths = self._lengths()
        announced = sum(length / part.share for length, part in zip(lengths, self._parts, strict=False))
        return sum(lengths) / announced if announced else self._parts[0].share

    def is_torn(self) -> bool:
        """Tell whether the sizes in the file say that it ends before its end."""
        return any(part.share < 1 or part.broken_off for part in self._parts)

    def read(self, num_samples: int) -> np.ndarray:
        """Return the next samples, up to so many; none at the end."""
        while True:
            block = self._part.read(num_samples)
            mono = self._part.mixer.mix(block) if len(block) else np.zeros(0, np.float32)
            if self._resampler is not None:
                mono = self._resampler.resample_chunk(mono, last=not len(block))
            if not len(block):
                self._resampler = None  # it gave all that it held back
            if len(mono):
                return mono
            if len(block):
                continue
            if not self._next_part():
                return mono

    def _next_part(self) -> bool:
        part = self._part
        if part.damaged and 0 < part.sound.frames <= part.done:
            part.damaged = False  # what is announced is there; the decoder met something else behind it
        if part.done:  # else it was told already
            self.seconds_there += part.done / part.rate
            self.seconds_announced += max(part.done / part.part.share, part.sound.frames) / part.rate
        self.broken_off |= part.part.broken_off or part.damaged
        part.done = 0
        if self._index + 1 == len(self._parts):
            part.damaged = True  # nothing follows
            return False
        part.sound.close()
        try:
            self._open(self._index + 1)
        except (self._soundfile.LibsndfileError, ImplausibleError):
            self.broken_off = True
            self._parts = self._parts[: self._index + 1]
            self._part.damaged = True
            return False
        return True

    def seek(self, sample: int) -> None:
        """Go on with another sample."""
        if len(self._parts) > 1:
            index, lengths = 0, self._lengths()
            while index + 1 < len(lengths) and sample >= lengths[index]:
                sample -= lengths[index]
                index += 1
            self._part.sound.close()
            self._open(index)
        self._part.seek(round(sample * self._part.rate / self.sampling_rate))

    def close(self) -> None:
        """Let go of the stream; the file object stays open."""
        self._part.sound.close()


def resampler_to(rate: float, from_rate: int) -> Any:
    """Make a soxr stream between two rates, or None where they are equal."""
    if rate == from_rate:
        return None
    soxr = _require("soxr", f"resampling from {from_rate} to {rate} Hz")
    return soxr.ResampleStream(from_rate, rate, 1, dtype="float32", quality="HQ")


@contextmanager
def open_audio(file: Any) -> Iterator[Sound]:
    """Open a sound file, and say by name what is wrong with one that cannot be read.

    Args:
        file: path, or binary file object.

    Returns:
        The sound, closed at the end of the `with` block. Only errors of reading it become ValueErrors.

    Raises:
        ValueError: it is no sound file, or cannot be decoded here; the message names it.
        FileNotFoundError: there is no such file.
        ImportError: soundfile is not installed.
    """
    name = name_of(file)
    with ExitStack() as stack:
        path = None
        if isinstance(file, str | os.PathLike):
            _check_is_file(file, name)
            path = os.fspath(file)
            # Given a path, libsndfile looks at the file's neighbours, and cannot open all names.
            file = stack.enter_context(open(path, "rb"))
        elif isinstance(file, io.TextIOBase):
            raise ValueError(f"{name} was opened as text: open it in mode 'rb'")
        elif not hasattr(file, "read"):
            raise ValueError(f"{file!r:.60} is neither a path nor an open file")
        else:
            file = rewindable(file)
            if type(file) not in (io.BytesIO, io.BufferedReader, io.FileIO):
                file = _Foreign(file)
        kind, parts = _look_at(file, path)
        if kind.decoder == NO_SOUND:
            raise ValueError(f"{name} is {kind.name}, not audio")
        sound: Any = None
        reason = None
        by_libsndfile = list(takewhile(lambda part: part.decoder == LIBSNDFILE, parts))
        others = parts[len(by_libsndfile) :]
        if by_libsndfile and not (others and ffmpeg.is_installed()):
            unread = f"{others[0].kind}, and reading that needs FFmpeg: {ffmpeg.ADVICE}" if others else ""
            try:
                sound, reason = _try_libsndfile(file, by_libsndfile, unread)
            except ImplausibleError as error:
                raise ValueError(f"cannot read {name}, which is {kind.name}: {error}") from error
            if sound is not None:
                stack.callback(sound.close)
                if sound.share() < MIN_SHARE:
                    raise ValueError(f"{name} breaks off: {sound.share():.0%} of it is there")
        if sound is None and kind == UNKNOWN:
            raise ValueError(f"{name} is {kind.name}, not audio")
        if sound is None:
            path = path if path is not None else stack.enter_context(_on_disk(file))
            sound = _open_with_ffmpeg(path, name, kind, parts, reason)
            stack.callback(sound.close)
        yield sound


def _look_at(file: Any, path: Any) -> tuple[Kind, list[Part]]:
    """Return what a file is and its streams; of a path it is kept, because training opens the same files again."""
    key = None
    if path is not None:
        facts = os.fstat(file.fileno())
        key = (os.path.abspath(path), facts.st_size, facts.st_mtime_ns)
        if key in _looked_at:
            return _looked_at[key]
    found = structure_of(Bytes(file))
    if key is not None:
        if len(_looked_at) >= MAX_LOOKED_AT:
            _looked_at.clear()
        _looked_at[key] = found
    return found


def _try_libsndfile(file: Any, parts: list[Part], unread: str) -> tuple[LibsndfileSound | None, str]:
    soundfile = _require("soundfile", "reading sound files")
    try:
        return LibsndfileSound(file, parts, unread), ""
    except soundfile.LibsndfileError as error:
        return None, NO_CLAIMS if error.code == BAD_SF_INFO else error.error_string


def _open_with_ffmpeg(path: Any, name: str, kind: Kind, parts: list[Part], reason: str | None) -> ffmpeg.FFmpegSound:
    if not ffmpeg.is_installed():
        if reason is not None:
            raise ValueError(f"cannot read {name}, which is {kind.name}: {reason}")
        raise ValueError(f"{name} is {kind.name}, and reading that needs FFmpeg: {ffmpeg.ADVICE}")
    return ffmpeg.FFmpegSound(path, parts, f"cannot read {name}, which is {kind.name}: ", reason)


def _check_is_file(path: Any, name: str) -> None:
    if not name:
        raise FileNotFoundError("an empty name is that of no file")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise FileNotFoundError(f"{name} is a link to something that is not there") from error
        raise FileNotFoundError(f"no such file: {name}") from error
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # says why, if it cannot be read
        raise ValueError(f"{name} is a folder, not a file: in a list give files, and folders one by one")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for someone to write to it
        raise ValueError(f"{name} is a pipe, a socket or a device, and not a file")


def rewindable(file: Any) -> Any:
    """Return an open file that can be read more than once: of a pipe, what came out of it; others as they are."""
    if not hasattr(file, "read") or isinstance(file, io.TextIOBase):
        return file
    with _errors_of_reading():
        if file.seekable() if hasattr(file, "seekable") else hasattr(file, "seek"):
            return file
    return io.BytesIO(_Foreign(file).read())


class _Foreign:
    """An open file whose methods are somebody else's: whatever they raise is an error of reading it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, length: int = -1) -> bytes:
        with _errors_of_reading():
            data = self._file.read(length)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ValueError(f"the open file cannot be read: it gave {type(data).__name__}, not bytes")
        return bytes(data)

    def seek(self, place: int, whence: int = 0) -> int:
        with _errors_of_reading():
            return self._file.seek(place, whence)


@contextmanager
def _errors_of_reading() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"the open file cannot be read: {type(error).__name__}: {error}") from error


@contextmanager
def _on_disk(file: Any) -> Iterator[str]:
    """Copy a file object to the disk, where other programs can read it."""
    with tempfile.TemporaryDirectory(prefix="mt2-") as folder:
        path = os.path.join(folder, "audio")
        with open(path, "wb") as copy:
            file.seek(0)
            while block := file.read(1 << 20):
                copy.write(block)
        yield path


def read_audio(file: Any, start: int = 0, num_samples: int = -1) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the part of it that starts at sample `start`.

    Args:
        file: as for `open_audio`, whose errors it raises.
        start: first sample to read, at the file's own rate.
        num_samples: how many to read; -1 for all that follow.

    Returns:
        Mono float32 samples of shape (samples,), and the file's sampling rate in hertz.
    """
    with open_audio(file) as sound:
        if start:
            sound.seek(start)
        blocks, left = [], num_samples
        whole = max(1, int(BLOCK_SECONDS * sound.sampling_rate))
        while left and len(block := sound.read(whole if left < 0 else min(left, whole))):
            blocks.append(block)
            left -= len(block) if left > 0 else 0
        if num_samples < 0 and not start:
            check_complete(sound, name_of(file))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), sound.sampling_rate


def decode_file(file: Any) -> tuple[np.ndarray, int]:
    """Decode a whole sound file; see `read_audio`."""
    return read_audio(file)


def read_blocks(file: Any, sampling_rate: float, block_seconds: float = BLOCK_SECONDS) -> Iterator[np.ndarray]:
    """Decode a sound file of any length block by block, in bounded memory.

    Args:
        file: as for `open_audio`, whose errors it raises.
        sampling_rate: of the result, in hertz.
        block_seconds: how much is decoded at a time.

    Returns:
        Mono float32 blocks that follow one another without a seam, the file as `resample` gives it. Behind the last,
        an `IncompleteAudioWarning` or ValueError says if the file ends before its end.
    """
    with open_audio(file) as sound:
        resampler = resampler_to(sampling_rate, sound.sampling_rate)
        num_read = num_given = 0
        while len(block := sound.read(max(1, int(block_seconds * sound.sampling_rate)))):
            num_read += len(block)
            block = block if resampler is None else resampler.resample_chunk(block)
            num_given += len(block)
            yield block
        if resampler is not None:
            rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            yield rest if num_given or len(rest) or not num_read else np.zeros(1, np.float32)  # as of `resample`
        check_complete(sound, name_of(file))


def check_complete(sound: Sound, name: str) -> None:
    """Warn of a sound, read to its end, that is not all there.

    Raises:
        ValueError: most of it is missing.
    """
    note = missing_note(sound, name)
    if note is not None:
        warnings.warn(note, IncompleteAudioWarning, stacklevel=3)


def missing_note(sound: Sound, name: str) -> str | None:
    """Return what a sound, read to its end, lacks, or None.

    Raises:
        ValueError: most of it is missing.
    """
    there, announced = sound.seconds_there, sound.seconds_announced
    text = f"{name} breaks off: {there:.1f} of {announced:.1f} s are there"
    if announced - there > MISSING_SECONDS:
        if there < MIN_SHARE * announced:
            raise ValueError(text)
        return text
    if sound.unread:
        return f"{name} goes on behind {there:.1f} s with {sound.unread}"
    if not sound.broken_off:
        return None
    if not there:
        raise ValueError(f"{name} breaks off before its first sample")
    return f"{name} breaks off after {there:.1f} s, and nothing says how much is missing"


def measure(file: Any, name: str) -> tuple[int, int, str | None]:
    """Return number of samples and rate of a sound, after its two ends were decoded: a header alone proves little.

    Args:
        file: as for `open_audio`.
        name: for the note.

    Returns:
        The number, the rate in hertz, and what is to be said of a sound that ends before its end.

    Raises:
        ValueError, OSError: it cannot be read, or most of it is missing.
    """
    with open_audio(file) as sound:
        rate = sound.sampling_rate
        if isinstance(sound, LibsndfileSound) and not sound.is_torn():
            if not len(sound.read(1)):
                raise ValueError("the file holds no audio")
            count, probe = sound.count(), int(PROBE_SECONDS * rate)
            sound.seek(max(0, count - probe))
            if len(sound.read(probe)):
                return count, rate, f"{name} goes on with {sound.unread}" if sound.unread else None
            sound.seek(0)
        count = 0
        while length := len(sound.read(max(1, int(BLOCK_SECONDS * rate)))):
            count += length
        note = missing_note(sound, name)
        if not count:
            raise ValueError("the file holds no audio")
        return count, rate, note
