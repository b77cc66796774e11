"""Sound files are decoded to the end of what is in them, and what cannot be decoded is named by what it is."""

import io
import os
import re
import shutil
import struct
import subprocess
import warnings

import numpy as np
import pytest
import soundfile

from mt2_music import MT2FeatureExtractor
from mt2_music.feature_extraction import ffmpeg
from mt2_music.feature_extraction.decoding import IncompleteAudioWarning, measure, open_audio, read_audio, read_blocks
from mt2_music.feature_extraction.feature_extraction_mt2 import read_file
from support import RATE, tone

FORMATS = {
    "wav": ("WAV", None),
    "flac": ("FLAC", None),
    "mp3": ("MP3", None),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "aiff": ("AIFF", None),
    "au": ("AU", None),
    "w64": ("W64", None),
    "rf64": ("RF64", None),
    "caf": ("CAF", None),
}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the program ffmpeg makes these files")


def coded(suffix, samples, rate=RATE):
    file = io.BytesIO()
    container, subtype = FORMATS[suffix]
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def music(seconds=4.0, rate=RATE):
    """Tones that change, so that a codec has something to do."""
    return np.concatenate([tone(220 * 2 ** (step / 12), seconds / 8, rate, 0.4) for step in range(8)])


def read_all(data):
    """Return seconds, and what was said about them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", IncompleteAudioWarning)
        samples, rate = read_audio(io.BytesIO(data))
    return len(samples) / rate, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("suffix", FORMATS)
def test_joined_files_are_decoded_to_the_last(suffix):
    parts = [coded(suffix, tone(frequency, 2.0)) for frequency in (440, 880, 1320)]
    assert read_all(b"".join(parts)) == (pytest.approx(6, abs=0.1), [])
    samples, rate = read_audio(io.BytesIO(b"".join(parts)))
    for index, frequency in enumerate((440, 880, 1320)):
        middle = samples[int((2 * index + 0.5) * rate) : int((2 * index + 1.5) * rate)]
        assert abs(np.fft.rfft(middle)).argmax() == pytest.approx(frequency, abs=2)
    some, _ = read_audio(io.BytesIO(b"".join(parts)), int(3.5 * rate), rate)  # any part of it, over a joint
    whole = samples[int(3.5 * rate) : int(4.5 * rate)]
    assert len(some) == rate and np.corrcoef(some, whole)[0, 1] > 0.99


@pytest.mark.parametrize("suffix", ["mp3", "flac"])
def test_parts_of_other_rates_are_resampled(suffix):
    data = b"".join(coded(suffix, music(2.0, rate), rate) for rate in (22050, 44100, 16000))
    assert read_all(data) == (pytest.approx(6, abs=0.1), [])
    assert measure(io.BytesIO(data), "a")[0] == pytest.approx(6 * 22050, abs=2000)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_breaks_off_is_named_and_used_where_most_is_there(suffix):
    samples = 0.3 * np.random.default_rng(0).standard_normal(8 * RATE).clip(-3, 3)  # of one size an instant
    whole = coded(suffix, samples)
    seconds, said = read_all(whole[: len(whole) * 3 // 4])
    assert 4.5 < seconds < 6.2
    assert len(said) == 1 and "audio bytes breaks off" in said[0]
    if suffix not in ("ogg", "opus"):  # these do not say how long they are
        assert re.search(rf"{seconds:.1f} of 8\.[01] s are there", said[0])
        with pytest.raises(ValueError, match="breaks off"):
            read_all(whole[: len(whole) // 4])
    count, rate, note = measure(io.BytesIO(whole[: len(whole) * 3 // 4]), "it")
    assert count / rate == pytest.approx(seconds, abs=0.05)
    assert note.startswith("it breaks off")


def test_damage_in_the_middle_costs_no_more_than_what_lies_behind_it():
    samples = 0.3 * np.random.default_rng(0).standard_normal(8 * RATE).clip(-3, 3)
    data = bytearray(coded("flac", samples))
    place = len(data) * 3 // 4
    data[place : place + 3000] = bytes(3000)
    seconds, said = read_all(bytes(data))
    assert 5.5 < seconds < 8.0
    assert "breaks off" in said[0]


def with_size(data, chunk, size, order="<"):
    place = data.index(chunk) + 4
    return data[:place] + struct.pack(f"{order}I", size) + data[place + 4 :]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 44, 1000])
def test_samples_behind_a_size_that_nobody_filled_in_are_read(size):
    wav, au, aiff = coded("wav", music()), coded("au", music()), coded("aiff", music())
    assert read_all(with_size(wav, b"data", size)) == (4.0, [])
    assert read_all(with_size(with_size(wav, b"data", size), b"RIFF", size)) == (4.0, [])
    if size in (0, 0xFFFFFFFF):
        assert read_all(au[:8] + struct.pack(">I", size) + au[12:]) == (4.0, [])
        assert read_all(with_size(aiff, b"SSND", size, ">")) == (4.0, [])


def test_a_wav_file_without_samples_is_empty_whatever_follows():
    listed = b"LIST" + struct.pack("<I", 4) + b"INFO"
    empty = coded("wav", np.zeros(0))
    for data in (empty, empty + listed):
        assert read_all(data) == (0, [])
        with pytest.raises(ValueError, match="no audio"):
            measure(io.BytesIO(data), "a")
    assert read_all(coded("wav", music()) + listed) == (4.0, [])


def test_flac_without_a_length_is_read_to_its_last_sample():
    samples = music(4.321)
    data = coded("flac", samples)
    unknown = data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]
    got, _ = read_audio(io.BytesIO(unknown))
    assert np.array_equal(got, read_audio(io.BytesIO(data))[0])


def test_mp3_without_a_count_of_its_frames_is_read_to_its_end():
    """Frames differ in size, and the first is large: from it libsndfile takes the file to be short."""
    noise, silence = np.random.default_rng(0).standard_normal(4 * RATE).clip(-3, 3) / 4, np.zeros(12 * RATE)
    file = io.BytesIO()
    samples = np.concatenate([noise, silence])
    soundfile.write(file, samples, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.2)
    data = file.getvalue()
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    bare = data[data.index(b"\xff", tag + 130) :]  # without the frame that holds the count
    file = io.BytesIO(bare)
    assert soundfile.info(file).duration < 12
    assert read_all(bare)[0] == pytest.approx(16, abs=0.3)
    assert read_all(data + bare)[0] == pytest.approx(32, abs=0.4)
    assert read_all(bytes(range(200)) * 20 + bare)[0] == pytest.approx(16, abs=0.3)  # junk before it


NO_SOUND = [
    (b"", "an empty file"),
    (bytes(3000), "nothing but zeros"),
    (b"<html><body>404</body></html>", "HTML"),
    (b"\xef\xbb\xbf<!doctype HTML>", "HTML"),
    (b"#EXTM3U\na.mp3\n", "a playlist"),
    (b"a.mp3\nb.flac\n", "a playlist"),
    ("Noten für Ärzte".encode(), "text"),
    ("Noten".encode("utf-16"), "text"),
    (b'{"error": 404}', "text"),
    (b"MThd\0\0\0\6", "a MIDI file"),
    (b"PK\3\4" + bytes(99), "a ZIP archive"),
    (b"\x89PNG\r\n\x1a\n" + bytes(99), "an image"),
    (b"\0\0\0\x18ftypheic" + bytes(99), "an image"),
    (b"\0\5\x16\7" + bytes(99), "AppleDouble"),
    (b"ID3\4\0\0\0\0\2\0" + bytes(256), "a tag"),
    (np.random.default_rng(0).bytes(9999), "in no known format"),
    (b"\xff" * 5000, "in no known format"),
]


@pytest.mark.parametrize(("data", "kind"), NO_SOUND)
def test_what_is_no_sound_is_called_what_it_is(data, kind, tmp_path, extractor):
    path = tmp_path / "song.mp3"
    path.write_bytes(data)
    for read in (read_audio, extractor, lambda path: list(read_blocks(path, RATE)), lambda path: measure(path, "a")):
        with pytest.raises(ValueError, match=rf"song\.mp3 is .*{kind}.*, not audio"):
            read(path)


def test_what_needs_ffmpeg_is_named_with_advice_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ffmpeg.importlib.util, "find_spec", lambda name: None)
    box = b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42"
    cases = {"AAC in MP4": box + b"mp4a", "ALAC in MP4": box + b"alac", "AAC": b"\xff\xf1\x50\x80" + bytes(99)}
    cases |= {"Windows Media": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(99), "WavPack": b"wvpk" + bytes(99)}
    for kind, data in cases.items():
        with pytest.raises(ValueError, match=f"audio bytes is {kind}, and reading that needs FFmpeg: install"):
            read_audio(io.BytesIO(data))


@needs_ffmpeg
def test_ffmpeg_decodes_what_libsndfile_does_not(tmp_path):
    source = tmp_path / "a.wav"
    soundfile.write(source, np.stack([music(), music()], 1), RATE)

    def made(name, *options):
        path = tmp_path / name
        subprocess.run(["ffmpeg", "-v", "error", "-i", source, *options, f"file:{path}"], check=True)
        return path

    want, _ = read_audio(source)
    names = [
        ["a.m4a"],
        ["b.m4a", "-c:a", "alac"],
        ["c.wma"],
        ["d.aac"],
        ["e.mka"],
        ["f.wv"],
        ["g.oga", "-c:a", "flac"],
    ]
    for path in [*(made(*words) for words in names), made("x %03d;`$a`\n.m4a").rename(tmp_path / "-i\n;`$a`%d.m4a")]:
        for file in (path, io.BytesIO(path.read_bytes())):
            got, rate = read_audio(file)
            assert rate == RATE
            assert len(got) / rate == pytest.approx(4, abs=0.15)
            assert max(np.corrcoef(got[lag : lag + 50000], want[:50000])[0, 1] for lag in range(0, 4000, 8)) > 0.5
    later, _ = read_audio(tmp_path / "b.m4a", RATE, RATE)
    assert np.allclose(later, want[RATE : 2 * RATE], atol=1e-3)
    assert measure(tmp_path / "a.m4a", "a")[0] == pytest.approx(4 * RATE, abs=2500)
    first = made("first.m4a", "-movflags", "faststart").read_bytes()
    assert read_all(first[: len(first) * 3 // 4])[1][0].startswith("audio bytes breaks off: ")
    assert read_all(first + (tmp_path / "a.m4a").read_bytes())[0] == pytest.approx(8, abs=0.2)
    with pytest.raises(ValueError, match=r"cannot read .*torn\.m4a, which is .*MP4: "):
        (tmp_path / "torn.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:9000])
        read_audio(tmp_path / "torn.m4a")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_part_of_a_file_and_its_blocks_are_what_the_whole_holds(suffix):
    """Frames of an MP3 that hold little are coded with bits of frames far before them."""
    data = coded(suffix, tone(440, 6.0))
    whole, rate = read_audio(io.BytesIO(data))
    for start in (0, 1000, 2 * rate, 5 * rate):
        part, _ = read_audio(io.BytesIO(data), start, rate // 2)
        assert np.allclose(part, whole[start : start + rate // 2], atol=1e-3)
    blocks = np.concatenate(list(read_blocks(io.BytesIO(data), rate, block_seconds=0.7)))
    assert np.allclose(blocks, whole, atol=1e-5)


def test_only_errors_of_reading_are_called_so(tmp_path):
    soundfile.write(tmp_path / "a.wav", music(), RATE)
    for error in (RuntimeError("CUDA out of memory"), TypeError("mine")):
        with pytest.raises(type(error), match=str(error)), open_audio(tmp_path / "a.wav"):
            raise error


def test_files_are_opened_by_python_and_neighbours_are_left_alone(tmp_path, extractor):
    soundfile.write(tmp_path / "song.mp3", music(), RATE)
    (tmp_path / "._song.mp3").write_bytes(struct.pack(">II16sH", 0x51607, 0x20000, b"Mac OS X", 2) + bytes(4000))
    assert len(read_audio(tmp_path / "song.mp3")[0]) == pytest.approx(4 * RATE, abs=2000)
    assert len(read_file(tmp_path / "song.mp3")[0]) == pytest.approx(4 * RATE, abs=2000)  # as on the Hub
    with pytest.raises(ValueError, match="opened as text"), (tmp_path / "song.mp3").open(encoding="latin-1") as file:
        read_audio(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_nothing_waits_for_a_pipe_or_a_device(tmp_path, extractor):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "device.wav").symlink_to("/dev/zero")
    for name in ("pipe.wav", "device.wav"):
        with pytest.raises(ValueError, match=r"a pipe, a socket or a device"):
            extractor(tmp_path / name)
        with pytest.raises(ValueError, match="is not a file"):
            read_file(tmp_path / name)


def test_an_error_of_the_disk_is_passed_on(tmp_path):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 100_000:
                raise OSError(5, "Input/output error")
            return super().read(min(size, 50_000))

        readinto = None

    with pytest.raises(OSError, match="Input/output error"):
        read_audio(Failing(coded("wav", music())))


def test_the_extractor_reads_files_as_the_package_does(tmp_path):
    data = coded("mp3", tone(440, 2.0)) + coded("mp3", tone(880, 2.0))
    (tmp_path / "joined.mp3").write_bytes(data)
    extractor = MT2FeatureExtractor()
    frames = extractor(tmp_path / "joined.mp3", return_tensors="np")["input_features"]
    assert frames.shape[1] == pytest.approx(4 * RATE / 512, abs=4)
    assert "read_file" not in extractor.to_dict()
