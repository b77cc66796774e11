"""200 odd and hostile files, with the seconds of sound that are in each: what `hostile.py` embeds."""

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

RATE = 22050
SECONDS = 4.0


@dataclass(frozen=True)
class OddFile:
    """One file.

    Args:
        kind: what is odd about it.
        path: where it lies.
        seconds: of sound in it, least and most; None where it must be refused by name.
        either: it may also be refused.
        nominal: seconds that are in it for the table; the middle between least and most if not given.
    """

    kind: str
    path: Path
    seconds: tuple[float, float] | None
    either: bool = False
    nominal: float | None = None


def music(number: int, rate: int = RATE, seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    """Play three tones, other ones for every number: float32 (samples, channels)."""
    time = np.arange(round(seconds * rate)) / rate
    pitches = [220 * 2 ** ((number * 5 % 12 + step) / 12) for step in (0, 4 - number % 2, 7)]
    tones = sum(np.sin(2 * np.pi * pitch * time) * (1 + np.sin(2 * time)) for pitch in pitches) / 8
    return np.repeat(tones.astype(np.float32)[:, None], channels, axis=1)


def coded(container: str, subtype: str | None = None, number: int = 0, rate: int = RATE, channels: int = 1) -> bytes:
    """Return a sound file as bytes."""
    file = BytesIO()
    soundfile.write(file, music(number, rate, channels=channels), rate, format=container, subtype=subtype)
    return file.getvalue()


PLAIN: list[tuple[str, str, str | None, int, int]] = [
    *((f"{subtype.lower()}.wav", "WAV", subtype, RATE, 1) for subtype in (
        "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM",
        "GSM610")),
    *((f"{rate}.flac", "FLAC", None, rate, 2) for rate in (8000, 11025, 16000, 32000, 44100, 48000, 96000, 192000)),
    *((f"{channels} channels.wav", "WAVEX", None, RATE, channels) for channels in (1, 2, 4, 6, 8)),
    *((f"{rate}.mp3", "MP3", None, rate, 1) for rate in (8000, 16000, 24000, 44100, 48000)),
    ("24 bits.flac", "FLAC", "PCM_24", RATE, 1), ("vorbis.ogg", "OGG", "VORBIS", RATE, 2),
    ("opus.opus", "OGG", "OPUS", 48000, 2), ("opus.ogg", "OGG", "OPUS", 24000, 1), ("a.aiff", "AIFF", None, RATE, 2),
    ("a.aif", "AIFF", "PCM_24", RATE, 1), ("a.aifc", "AIFF", "FLOAT", RATE, 1), ("a.au", "AU", None, RATE, 1),
    ("a.snd", "AU", "ULAW", RATE, 1), ("a.caf", "CAF", None, RATE, 1), ("alac.caf", "CAF", "ALAC_16", RATE, 1),
    ("a.w64", "W64", None, RATE, 1), ("a.rf64", "RF64", None, RATE, 1), ("a.wave", "WAV", None, RATE, 1),
    ("a.voc", "VOC", "PCM_16", RATE, 1), ("a.nist", "NIST", None, RATE, 1), ("a.8svx", "SVX", "PCM_16", RATE, 1),
    ("a.mp3", "MP3", None, RATE, 2),
]  # fmt: skip
WHOLE = {
    "wav": ("WAV", None), "flac": ("FLAC", None), "mp3": ("MP3", None), "ogg": ("OGG", "VORBIS"),
    "aiff": ("AIFF", None), "au": ("AU", None), "w64": ("W64", None), "rf64": ("RF64", None), "caf": ("CAF", None),
}  # fmt: skip
NO_SOUND: dict[str, bytes] = {
    "page.mp3": b"<!DOCTYPE html><html><body>404 not found</body></html>", "error.flac": b'{"error": "not found"}',
    "notes.ogg": b"Notes about a song, nothing else.\n" * 20, "wide.mp3": "words".encode("utf-16"),
    "list.mp3": b"#EXTM3U\nhttp://example.org/a.mp3\n", "plain list.m4a": b"a.mp3\nb.mp3\n",
    "feed.mp3": b"<?xml version='1.0'?>",
    "picture.wav": b"\x89PNG\r\n\x1a\n" + bytes(500), "photo.flac": b"\xff\xd8\xff\xe0" + bytes(500),
    "gif.ogg": b"GIF89a" + bytes(99),
    "paper.mp3": b"%PDF-1.4\n" + bytes(500), "songs.mp3": b"PK\x03\x04" + bytes(500),
    "packed.wav": b"\x1f\x8b\x08" + bytes(500),
    "packed.flac": b"7z\xbc\xaf\x27\x1c" + bytes(500), "packed.ogg": b"Rar!\x1a\x07" + bytes(500),
    "tar.wav": bytes(257) + b"ustar" + bytes(500),
    "tune.mp3": b"MThd\x00\x00\x00\x06" + bytes(50), "tune.wav": b"RIFF\x40\x00\x00\x00RMID" + bytes(60),
    "program.au": b"\x7fELF" + bytes(500),
    "data.aiff": b"SQLite format 3\x00" + bytes(500), "array.wav": b"\x93NUMPY" + bytes(90), "empty.mp3": b"",
    "empty.wav": b"",
    "zeros.mp3": bytes(5000), "zeros.wav": bytes(5000),
    "fork.mp3": b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(4000),
    "pointer.flac": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "bank.wav": b"RIFF\x40\x00\x00\x00sfbk" + bytes(60),
    "tag alone.mp3": b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256),
    "header alone.wav": b"RIFF\x24\x00\x00\x00WAVE", "marker alone.flac": b"fLaC",
    "page alone.ogg": b"OggS\x00\x02" + bytes(40), "cover.m4a": b"\x00\x00\x00\x18ftypheic" + bytes(200),
    "no header.aac": bytes(range(256)) * 20, "ones.mp3": b"\xff" * 9000,
}  # fmt: skip
NAMES: list[str | bytes] = [
    "new\nline.wav", "tab\tand\rreturn.wav", "-o.wav", "--help.wav", "  spaces .wav", "quote's \"two\".wav",
    "100%.wav", "song%03d.wav",
    "[brackets].wav", "star *.wav", "question?.wav", "$(touch x);`y`.wav", "semi;colon|pipe&.wav",
    "back\\slash.wav", "back\\nslash.wav",
    "escape\x1b[31m.wav", "émigré.wav", "日本語.wav", "🎵.wav", "e\u0301.wav", "\u202eright to left.wav", "file:a.wav",
    "http:a.wav",
    "a.wav.WAV", "UPPER.WAV", "dots...wav", "l" * 240 + ".wav", "\u2028separator.wav", b"caf\xe9.wav",
    b"\xff\xfe.wav", b"bro\x80\nken.wav",
]  # fmt: skip


def _with_size(data: bytes, chunk: bytes, size: int, order: str = "<") -> bytes:
    place = data.index(chunk) + 4
    return data[:place] + struct.pack(f"{order}I", size) + data[place + 4 :]


def _without_xing(data: bytes) -> bytes:
    """Take away the first frame, which says how many follow."""
    return data[data.index(b"\xff", data.index(b"Info" if b"Info" in data else b"Xing")) :]


def make_files(folder: Path) -> list[OddFile]:
    """Write all files to a new folder; those that ffmpeg must make, only where it is there."""
    makers: list[Callable[[Path], Iterator[OddFile]]] = [
        _plain, _misnamed, _joined, _torn, _sizes, _tags, _signals, _no_sound, _names, _in_the_file_system, _by_ffmpeg,
    ]  # fmt: skip
    made = []
    for make in makers:
        place = folder / make.__name__.strip("_").replace("_", " ")
        place.mkdir(parents=True)
        made += list(make(place))
    return made


def _write(
    kind: str, path: Path, data: bytes, seconds: float | None, slack: float = 0.15, either: bool = False
) -> OddFile:
    path.write_bytes(data)
    return OddFile(kind, path, None if seconds is None else (seconds - slack, seconds + slack), either)


def _plain(folder: Path) -> Iterator[OddFile]:
    for number, (name, container, subtype, rate, channels) in enumerate(PLAIN):
        try:
            data = coded(container, subtype, number, rate, channels)
        except soundfile.LibsndfileError:  # an older libsndfile
            continue
        yield _write("formats, rates, channels", folder / name, data, SECONDS)


def _misnamed(folder: Path) -> Iterator[OddFile]:
    names = [
        "wav.mp3",
        "flac.mp3",
        "mp3.wav",
        "ogg.m4a",
        "aiff.wav",
        "au.flac",
        "w64.wav",
        "caf.m4a",
        "rf64.ogg",
        "mp3.flac",
    ]
    for number, name in enumerate(names):
        data = coded(*WHOLE[name.split(".")[0]], number)
        yield _write("another suffix than its format", folder / name, data, SECONDS)


def _joined(folder: Path) -> Iterator[OddFile]:
    kind = "joined files"
    for suffix, (container, subtype) in WHOLE.items():
        data = b"".join(coded(container, subtype, number) for number in range(3))
        yield _write(kind, folder / f"three.{suffix}", data, 3 * SECONDS, 0.3)
    mixed = [coded("MP3", None, number, rate) for number, rate in enumerate((22050, 44100, 16000))]
    yield _write(kind, folder / "three rates.mp3", b"".join(mixed), 3 * SECONDS, 0.3)
    tagged = [b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256) + data for data in mixed]
    yield _write(kind, folder / "three with tags.mp3", b"".join(tagged), 3 * SECONDS, 0.3)
    plain = b"".join(_without_xing(coded("MP3", None, number)) for number in range(3))
    yield _write(kind, folder / "three without counts.mp3", plain, 3 * SECONDS, 0.4)
    behind = coded("MP3") + _without_xing(coded("MP3", None, 1))
    yield _write(kind, folder / "one that counts and one that does not.mp3", behind, 2 * SECONDS, 0.4)
    flacs = [coded("FLAC", None, number, rate) for number, rate in enumerate((22050, 44100, 16000))]
    yield _write(kind, folder / "three rates.flac", b"".join(flacs), 3 * SECONDS, 0.3)
    chained = [coded("OGG", "VORBIS", 1, 22050), coded("OGG", "OPUS", 2, 48000), coded("OGG", "VORBIS", 3, 44100, 2)]
    yield _write(kind, folder / "three codecs.ogg", b"".join(chained), 3 * SECONDS, 0.3)


def _torn(folder: Path) -> Iterator[OddFile]:
    for suffix, (container, subtype) in WHOLE.items():
        whole = coded(container, subtype)
        for percent in (80, 60, 20):
            data, path = whole[: len(whole) * percent // 100], folder / f"{percent} percent.{suffix}"
            if percent == 20 and suffix != "ogg":
                yield _write("broken off", path, data, None)
                continue
            path.write_bytes(data)
            exact = suffix not in ("mp3", "ogg", "flac", "caf")
            most = SECONDS * percent / 100 + 0.3
            least = most - 0.5 if exact else 0.0
            yield OddFile("broken off", path, (least, most), not exact, SECONDS * percent / 100)


def _sizes(folder: Path) -> Iterator[OddFile]:
    kind, wav, aiff, au = "sizes that are wrong", coded("WAV"), coded("AIFF"), coded("AU")
    for name, size in (("zero", 0), ("unknown", 0xFFFFFFFF), ("large", 0x7FFFFFFF), ("small", 1000)):
        yield _write(kind, folder / f"{name}.wav", _with_size(wav, b"data", size), SECONDS)
        riff = _with_size(_with_size(wav, b"data", size), b"RIFF", size)
        yield _write(kind, folder / f"{name} both.wav", riff, SECONDS)
    yield _write(kind, folder / "zero.aiff", _with_size(aiff, b"SSND", 0, ">"), SECONDS)
    for name, size in (("zero", 0), ("unknown", 0xFFFFFFFF)):
        yield _write(kind, folder / f"{name}.au", au[:8] + struct.pack(">I", size) + au[12:], SECONDS)
    flac = coded("FLAC")
    yield _write(kind, folder / "zero.flac", flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:], SECONDS)
    yield _write(kind, folder / "no count.mp3", _without_xing(coded("MP3")), SECONDS, 0.3)


def _tags(folder: Path) -> Iterator[OddFile]:
    kind, mp3, wav, flac = "tags and junk", coded("MP3"), coded("WAV"), coded("FLAC")
    id3 = b"ID3\x04\x00\x00\x00\x01\x00\x00" + bytes(16384)
    old, ape = b"TAG" + bytes(125), b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
    listed = b"LIST" + struct.pack("<I", 26) + b"INFOISFT\x0e\x00\x00\x00" + b"Lavf58.29.100\x00"
    for name, data in {
        "id3.mp3": id3 + mp3, "two id3.mp3": id3 + id3 + mp3, "id3v1.mp3": mp3 + old, "ape.mp3": mp3 + ape,
        "id3.flac": id3 + flac,
        "id3v1.flac": flac + old, "chunk first.wav": wav[:36] + listed + wav[36:], "chunk last.wav": wav + listed,
        "id3 last.wav": wav + b"id3 " + struct.pack("<I", len(id3)) + id3,
        "junk first.mp3": bytes(range(200)) * 9 + mp3,
        "junk last.mp3": mp3 + b"junk" * 999, "zeros last.wav": wav + bytes(4000),
        "zeros last.mp3": mp3 + bytes(4000),
    }.items():  # fmt: skip
        yield _write(kind, folder / name, data, SECONDS)


def _signals(folder: Path) -> Iterator[OddFile]:
    signals = {
        "silence": np.zeros(44100), "one sample": np.ones(1), "two samples": np.ones(2),
        "a few samples": np.ones(64), "dc": np.full(44100, 0.3),
        "loud": 100 * music(1)[:, 0], "quiet": 1e-6 * music(1)[:, 0],
    }  # fmt: skip
    for name, samples in signals.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
        seconds = len(samples) / RATE
        yield OddFile("signals", folder / f"{name}.wav", (seconds - 0.01, seconds + 0.01))
    for name, value in (("nan", np.nan), ("infinity", np.inf), ("overflow", 1e30)):
        soundfile.write(folder / f"{name}.wav", np.where(np.arange(RATE) == 99, value, 0.1), RATE, subtype="FLOAT")
        yield OddFile("signals", folder / f"{name}.wav", None)
    for suffix, (container, subtype) in WHOLE.items():
        soundfile.write(folder / f"nothing.{suffix}", np.zeros(0), RATE, format=container, subtype=subtype)
        yield OddFile("signals", folder / f"nothing.{suffix}", None)


def _no_sound(folder: Path) -> Iterator[OddFile]:
    for name, data in NO_SOUND.items():
        yield _write("no sound", folder / name, data, None)
    for number in range(6):
        data = np.random.default_rng(number).bytes(20000)
        yield _write("no sound", folder / f"random {number}.{list(WHOLE)[number]}", data, None)


def _names(folder: Path) -> Iterator[OddFile]:
    for number, name in enumerate(NAMES):
        path = Path(os.path.join(folder, os.fsdecode(name)))
        try:
            yield _write("names", path, coded("WAV", None, number), SECONDS)
        except OSError:  # not on this file system
            continue


def _in_the_file_system(folder: Path) -> Iterator[OddFile]:
    kind, outside = "links, pipes, folders", folder.parent.parent / "outside"
    outside.mkdir()
    yield OddFile(kind, folder / "to a file.wav", (SECONDS - 0.1, SECONDS + 0.1))
    (outside / "a.wav").write_bytes(coded("WAV", None, 1))
    (folder / "to a file.wav").symlink_to(outside / "a.wav")
    (folder / "to the same file.wav").symlink_to(outside / "a.wav")
    (outside / "deep").mkdir()
    yield _write(kind, outside / "deep" / "b.wav", coded("WAV", None, 2), SECONDS)
    for name, target in (
        ("to a folder", outside / "deep"),
        ("again", outside / "deep"),
        ("loop", folder),
        ("up", folder.parent),
    ):
        (folder / name).symlink_to(target, target_is_directory=True)
    (folder / "broken.wav").symlink_to(folder / "nowhere.wav")
    (folder / "itself.wav").symlink_to(folder / "itself.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(folder)  # the names of sockets are short
        listener.bind("socket.wav")
        os.chdir(before)
    (folder / "folder.mp3").mkdir()
    for name in ("broken.wav", "itself.wav", "device.wav", "pipe.wav", "socket.wav", "folder.mp3"):
        yield OddFile(kind, folder / name, None)
    (folder / "__MACOSX").mkdir()
    for name in ("._a.wav", ".hidden.mp3", "__MACOSX/c.mp3", ".DS_Store"):  # these are not seen as sound
        (folder / name).write_bytes(b"\x00\x05\x16\x07" + bytes(99))


def _by_ffmpeg(folder: Path) -> Iterator[OddFile]:
    if shutil.which("ffmpeg") is None:
        return
    kind, source = "formats for FFmpeg", folder / "source"
    source.write_bytes(coded("WAV", None, 3, 44100, 2))

    def run(name: str, *options: str) -> Path:
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(folder / name)]
        subprocess.run(command, check=True)
        return folder / name

    for name, *options in (
        ["aac.m4a"], ["alac.m4a", "-c:a", "alac"], ["a.wma"], ["a.aac"], ["a.mka"], ["a.webm"], ["a.mp4"], ["a.wv"],
        ["a.tta"],
        ["a.ac3"], ["a.mp2"], ["flac.oga", "-c:a", "flac"], ["-dash.m4a"], ["first.m4a", "-movflags", "faststart"],
        ["a.m4b"],
        ["mp3.wav", "-c:a", "mp3"], ["a.dts", "-c:a", "dca", "-strict", "-2"], ["a.rm"], ["a.asf", "-c:a", "wmav2"],
    ):  # fmt: skip
        path = run(name, *options) if not name.startswith("-") else run("dash.m4a").rename(folder / name)
        yield OddFile(kind, path, (SECONDS - 0.1, SECONDS + 0.2))
    vbr = run("no count.mp3", "-q:a", "2", "-write_xing", "0", "-af", "adelay=1000|1000")
    yield OddFile(kind, vbr, (SECONDS + 0.9, SECONDS + 1.2))
    m4a, first, wma = ((folder / name).read_bytes() for name in ("aac.m4a", "first.m4a", "a.wma"))
    yield _write(kind, folder / "two.m4a", m4a + first, 2 * SECONDS, 0.2)
    yield _write(kind, folder / "no index.m4a", m4a[: len(m4a) * 7 // 10], None)
    yield _write(kind, folder / "broken off.m4a", first[: len(first) * 7 // 10], 0.7 * SECONDS, 0.4)
    yield _write(kind, folder / "broken off.wma", wma[: len(wma) * 7 // 10], 0.7 * SECONDS, 0.4)
    silent = folder / "no sound.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=size=64x64:duration=1", "-an", str(silent)], check=True
    )
    yield OddFile(kind, silent, None)
    source.unlink()
