"""Sounds that libsndfile does not read, by the program ffmpeg or by torchcodec, whichever is there."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .formats.pieces import Part
from .limits import BLOCK_VALUES, MISSING_SECONDS, check_claims
from .mixing import Mixer

ADVICE = "install the program ffmpeg, or the package torchcodec, which needs FFmpeg's libraries"
NO_REASON = "FFmpeg gave no reason"
NO_SOUND_TRACK = "there is no sound in it"


def is_installed() -> bool:
    """Tell whether FFmpeg can be used."""
    return shutil.which("ffmpeg") is not None or importlib.util.find_spec("torchcodec") is not None


class FFmpegSound:
    """The first sound of a file of any kind that FFmpeg knows, as a stream from the program; see `Sound`.

    Args:
        path: of the file.
        parts: the songs that were joined in it, at least one.
        complaint: how messages begin that say why it cannot be read.
        reason: to be given instead of FFmpeg's.

    Raises:
        ValueError: FFmpeg finds no sound in it, and the message says why.
    """

    def __init__(self, path: str | bytes, parts: Sequence[Part], complaint: str, reason: str | None) -> None:
        self._path, self._parts = path, list(parts)
        self._complaint, self._reason = complaint, reason
        self._size = os.path.getsize(path)
        self.seconds_there = self.seconds_announced = 0.0
        self.broken_off = False
        self.unread = ""
        self._stream: Any = None
        self.sampling_rate = 0
        self._start(0, 0.0)

    def _start(self, index: int, seconds: float) -> None:
        self.close()
        self._index = index
        made: Any = _Program if shutil.which("ffmpeg") is not None else _Torchcodec
        bounds = self._parts[index].bounds
        with self._named():
            whole = bounds == (0, self._size)
            self._stream = made(self._path, None if whole else bounds, seconds, self.sampling_rate or None)
            check_claims(self._stream.sampling_rate, self._stream.channels)
        self.sampling_rate = self._stream.sampling_rate
        self._mixer = Mixer(self.sampling_rate)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            self.close()
            raise ValueError(f"{self._complaint}{self._reason or error}") from error

    def count(self) -> int:
        """Decode everything to count the samples."""
        other = FFmpegSound(self._path, self._parts, self._complaint, self._reason)
        try:
            count = 0
            while length := len(other.read(self.sampling_rate * 30)):
                count += length
            return count
        finally:
            other.close()

    def read(self, num_samples: int) -> np.ndarray:
        """Return the next samples, up to so many; none at the end."""
        while True:
            block = self._stream.read(min(num_samples, BLOCK_VALUES // self._stream.channels))
            if len(block):
                return self._mixer.mix(block).astype(np.float32, copy=False)
            if self._stream.told:
                return np.zeros(0, np.float32)
            self._stream.told = True
            part = self._parts[self._index]
            try:
                with self._named():
                    there, announced, broken_off = self._stream.end()
            except ValueError:
                if not self._index:
                    raise
                there, announced, broken_off = 0.0, 0.0, True
            self.seconds_there += there
            announced = max(there / part.share, announced)
            self.seconds_announced += announced if announced - there > MISSING_SECONDS else there
            self.broken_off |= broken_off or part.broken_off
            if self._index + 1 == len(self._parts):
                return np.zeros(0, np.float32)
            try:
                self._start(self._index + 1, 0.0)
            except ValueError:
                self.broken_off, self._parts = True, self._parts[: self._index]  # it has ended, and tells it
                return np.zeros(0, np.float32)

    def seek(self, sample: int) -> None:
        """Go on with another sample."""
        if len(self._parts) == 1:
            self._start(0, sample / self.sampling_rate)
            return
        self._start(0, 0.0)
        while sample > 0 and len(block := self.read(min(sample, self.sampling_rate * 30))):
            sample -= len(block)

    def close(self) -> None:
        """End the program, if it still runs."""
        if self._stream is not None:
            self._stream.close()


class _Program:
    """One run of ffmpeg, which writes a WAV stream to a pipe."""

    def __init__(self, path: str | bytes, bounds: tuple[int, int] | None, seconds: float, rate: int | None) -> None:
        # A protocol before the path: no name is taken for an option or an address, and no playlist opens one.
        place = b"file:" + os.path.abspath(os.fsencode(path))
        if bounds is not None:
            place = b"subfile,,start,%d,end,%d,,:" % bounds + place
        self._place = place
        words: list[str | bytes] = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
        words += ["-protocol_whitelist", "file,subfile", *(["-ss", f"{seconds:.6f}"] if seconds else []), "-i", place]
        words += ["-map", "0:a:0", "-vn", "-sn", "-dn", *(["-ar", str(rate)] if rate else [])]
        words += ["-f", "wav", "-c:a", "pcm_f32le", "pipe:1"]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            ["ffmpeg", *(os.fsdecode(word) for word in words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for Python, which ends it
        )
        self._samples = 0
        self.told = False
        try:
            self.sampling_rate, self.channels = self._read_header()
        except ValueError:
            self.close()
            raise

    def _read_header(self) -> tuple[int, int]:
        assert self._process.stdout is not None
        read = self._process.stdout.read
        rate = channels = 0
        if read(12)[:4] == b"RIFF":
            while len(head := read(8)) == 8 and head[:4] != b"data":
                body = read(int.from_bytes(head[4:], "little"))
                if head[:4] == b"fmt ":
                    channels, rate = int.from_bytes(body[2:4], "little"), int.from_bytes(body[4:8], "little")
        if not rate or not channels:
            self._process.wait()
            raise ValueError(self._reason())
        return rate, channels

    def read(self, num_samples: int) -> np.ndarray:
        """Return samples, (samples, channels), up to so many."""
        assert self._process.stdout is not None
        if self.told:
            return np.zeros((0, self.channels), np.float32)
        size = 4 * self.channels
        block = self._process.stdout.read(size * num_samples)
        samples = np.frombuffer(block[: len(block) // size * size], "<f4").reshape(-1, self.channels)
        self._samples += len(samples)
        return samples

    def end(self) -> tuple[float, float, bool]:
        """Return seconds decoded and announced, and whether the program failed; once it has written all."""
        code = self._process.wait()
        log = self._messages()
        found = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", log)
        announced = 0.0
        if found and "Estimating duration" not in log:
            hours, minutes, seconds = found.groups()
            announced = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        if code and not self._samples:
            raise ValueError(self._reason())
        return self._samples / self.sampling_rate, announced, code != 0

    def _messages(self) -> str:
        """Return what the program wrote, without the file's name, which may hold anything."""
        self._log.seek(0)
        return self._log.read().replace(self._place, b"").decode(errors="replace")

    def _reason(self) -> str:
        """Return what is wrong: that there is no sound, or the first error of the program, which led to the others."""
        log = self._messages()
        streams = re.findall(
            r"^\[info\] +Stream #0:\d+.*?: (\w+): ", log.partition("Stream mapping:")[0], re.MULTILINE
        )
        if streams and "Audio" not in streams:
            return NO_SOUND_TRACK
        errors = re.findall(r"^(?:\[[^\]]*\] )?\[(?:error|fatal|panic)\] (?:: )?(.*\S)", log, re.MULTILINE)
        return errors[0] if errors else NO_REASON

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._log.close()


class _Torchcodec:
    """The same by torchcodec, which decodes a range at a time."""

    def __init__(self, path: str | bytes, bounds: tuple[int, int] | None, seconds: float, rate: int | None) -> None:
        try:
            from torchcodec.decoders import AudioDecoder

            with open(path, "rb") as file:
                file.seek(bounds[0] if bounds else 0)
                source = file.read(bounds[1] - bounds[0]) if bounds else os.fsdecode(path)
            self._decoder = AudioDecoder(source, sample_rate=rate)
        except (RuntimeError, ImportError, OSError, ValueError) as error:  # torch's, and of libraries that are missing
            raise ValueError(f"torchcodec: {str(error).partition(chr(10))[0]}") from error
        facts = self._decoder.metadata
        self.sampling_rate: int = rate or facts.sample_rate
        self.channels: int = facts.num_channels or 1
        self._announced = float(facts.duration_seconds_from_header or 0.0)
        self._place = self._there = seconds
        self.told = False

    def read(self, num_samples: int) -> np.ndarray:
        if self.told:
            return np.zeros((0, 1), np.float32)
        stop = self._place + num_samples / self.sampling_rate
        try:
            samples = self._decoder.get_samples_played_in_range(self._place, stop).data.T.numpy()
        except (RuntimeError, IndexError, ValueError):  # behind the end
            samples = np.zeros((0, 1), np.float32)
        self._place = stop
        self._there += len(samples) / self.sampling_rate
        return samples

    def end(self) -> tuple[float, float, bool]:
        return self._there, self._announced, False

    def close(self) -> None:
        pass
