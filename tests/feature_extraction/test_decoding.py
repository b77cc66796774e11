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
from mt2_music.feature_extraction import decoding, ffmpeg
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


@pytest.mark.parametrize("first", FORMATS)
def test_a_song_of_another_kind_behind_one_is_decoded_too(first):
    for second in FORMATS:
        data = coded(first, tone(440, 2.0)) + coded(second, tone(880, 2.0))
        assert read_all(data) == (pytest.approx(4, abs=0.15), []), second
        count, rate, note = measure(io.BytesIO(data), "a")
        assert (count / rate, note) == (pytest.approx(4, abs=0.15), None), second


def test_three_kinds_in_a_row_with_tags_between_them():
    data = coded("mp3", tone(440, 2.0)) + b"TAG" + bytes(125) + id3(300) + coded("flac", tone(440, 2.0))
    assert read_all(data + id3(99) + coded("wav", tone(440, 2.0)) + b"TAG" + bytes(125)) == (
        pytest.approx(6, abs=0.1),
        [],
    )


def test_a_flac_file_is_not_searched_in_vain_for_the_end_of_its_last_frame(monkeypatch):
    """A song of another kind behind it may be longer than the part that is looked at first."""
    monkeypatch.setattr("mt2_music.feature_extraction.formats.flac.MAX_FLAC_FRAME", 10_000)
    data = coded("flac", music()) + coded("wav", music(8.0))
    assert read_all(data) == (pytest.approx(12, abs=0.1), [])


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


@pytest.mark.parametrize("behind", [b"abc", bytes(4096), np.random.default_rng(0).bytes(20_000), b"<html>404</html>"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_lies_behind_a_whole_song_and_is_none_is_no_damage(suffix, behind):
    seconds, said = read_all(coded(suffix, music()) + behind)
    assert said == [] and 4 <= seconds < (4.1 if suffix in ("mp3", "ogg", "opus") else 4.01)


def id3(size):
    return b"ID3\3\0\0" + bytes([0, 0, size >> 7, size & 127]) + b"\0" * size


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_tag_in_front_of_a_file_of_any_kind_is_passed_over(suffix):
    data = coded(suffix, music())
    got, rate = read_audio(io.BytesIO(id3(3000) + id3(10) + data))
    want, _ = read_audio(io.BytesIO(data))
    assert rate == RATE if suffix != "opus" else 48000
    assert np.array_equal(got, want)


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


def with_header(**changes):
    """A WAV file whose header says something else: the number of channels, the rate."""
    data = bytearray(coded("wav", music()))
    for name, value in changes.items():
        place, kind = {"channels": (22, "<H"), "rate": (24, "<I")}[name]
        struct.pack_into(kind, data, place, value)
    return bytes(data)


@pytest.mark.parametrize("with_ffmpeg", [False, True])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 0x7FFFFFFF}, "claims 2147483647 samples a second, and sounds have from 100 to 1000000"),
        ({"rate": 100_000_000}, "claims 100000000 samples"),
        ({"rate": 1}, "claims 1 samples"),
        ({"rate": 0}, "no sampling rate or number of channels that makes sense"),
        ({"channels": 1024}, "claims 1024 channels, and sounds have up to 256"),
    ],
)
def test_a_header_that_claims_what_no_sound_has_is_refused(changes, words, with_ffmpeg, monkeypatch, tmp_path):
    if not with_ffmpeg:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(ffmpeg.importlib.util, "find_spec", lambda name: None)
    for read in (read_audio, lambda file: measure(file, "a"), lambda file: list(read_blocks(file, RATE))):
        with pytest.raises(ValueError, match=f"cannot read audio bytes, which is WAV: .*{words}"):
            read(io.BytesIO(with_header(**changes)))
    joined = coded("wav", music()) + with_header(**changes)
    assert read_all(joined) == (4.0, ["audio bytes breaks off after 4.0 s, and nothing says how much is missing"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_blocks_are_bounded_by_the_samples_of_all_channels(suffix, monkeypatch):
    data = coded(suffix, np.stack([music()] * 2, 1))
    want, _ = read_audio(io.BytesIO(data))
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 2 * 777)
    blocks = []
    with open_audio(io.BytesIO(data)) as sound:
        while len(block := sound.read(10**9)):
            blocks.append(block)
    assert max(map(len, blocks)) == 777
    assert np.allclose(np.concatenate(blocks), want, atol=1e-6)


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


def adts(length):
    """A frame of AAC, as far as its header goes."""
    return (
        b"\xff\xf1\x50"
        + bytes([0x80 | length >> 11, length >> 3 & 255, (length & 7) << 5 | 31, 0xFC])
        + bytes(length - 7)
    )


def test_what_is_joined_and_needs_ffmpeg_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ffmpeg.importlib.util, "find_spec", lambda name: None)
    data = coded("mp3", music()) + adts(300) * 9
    seconds, said = read_all(data)
    assert seconds == pytest.approx(4, abs=0.1)
    assert len(said) == 1 and "goes on behind 4.0 s with AAC, and reading that needs FFmpeg: install" in said[0]
    assert "goes on with AAC" in measure(io.BytesIO(data), "it")[2]


CODERS = {
    "wma": [],
    "aac": [],
    "ac3": [],
    "eac3": [],
    "tta": [],
    "wv": [],
    "m4a": [],
    "mka": ["-c:a", "flac"],
}


@pytest.fixture(scope="module")
def by_ffmpeg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by ffmpeg")
    soundfile.write(folder / "a.wav", music(), 44100)  # 1.45 s

    def make(suffix, samples=None):
        path = folder / f"a.{suffix}"
        if not path.exists():
            command = ["ffmpeg", "-v", "error", "-i", folder / "a.wav", *CODERS[suffix], path]
            subprocess.run(command, check=True)
        return path.read_bytes()

    return make


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [suffix for suffix in CODERS if suffix != "mka"])
def test_joined_files_that_ffmpeg_decodes_are_decoded_to_the_last(suffix, by_ffmpeg):
    one, mp3, wav = by_ffmpeg(suffix), coded("mp3", music()), coded("wav", music())
    seconds = read_all(one)[0]
    assert seconds == pytest.approx(4 * RATE / 44100, abs=0.1)
    assert read_all(one * 3) == (pytest.approx(3 * seconds, abs=0.2), [])
    if suffix != "eac3":
        assert read_all(one + mp3 + wav) == (pytest.approx(seconds + 8, abs=0.2), [])
    if suffix not in ("ac3", "eac3"):  # of two bytes one does not know that they begin a song
        assert read_all(wav + id3(300) + one + mp3) == (pytest.approx(seconds + 8, abs=0.2), [])


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["wma", "aac", "ac3", "eac3", "tta", "wv"])
def test_what_breaks_off_is_named_also_where_ffmpeg_decodes(suffix, by_ffmpeg):
    data = by_ffmpeg(suffix)
    assert read_all(data)[1] == []
    seconds, said = read_all(data[: len(data) * 4 // 5])
    assert len(said) == 1 and "breaks off" in said[0]
    if suffix in ("wma", "tta", "wv"):
        assert re.search(r"of 1\.[45] s are there", said[0])
        with pytest.raises(ValueError, match=r"breaks off|cannot read"):
            read_all(data[: len(data) // 5])


@needs_ffmpeg
def test_reasons_are_those_of_the_file_and_not_of_the_program(tmp_path, by_ffmpeg):
    video = tmp_path / "silent film.mp4"
    source = ["-f", "lavfi", "-i", "testsrc=duration=1:size=32x32:rate=5", "-c:v", "mpeg4"]
    subprocess.run(["ffmpeg", "-v", "error", *source, video], check=True)
    with pytest.raises(ValueError, match=r"cannot read .*silent film\.mp4, which is MP4: there is no sound in it$"):
        read_audio(video)
    wrong = bytearray(coded("wav", music()))
    struct.pack_into("<H", wrong, 20, 0x55)  # said to be MP3
    (tmp_path / "x.wav").write_bytes(wrong)
    with pytest.raises(ValueError, match=r"cannot read .*x\.wav, which is WAV: ") as refusal:
        read_audio(tmp_path / "x.wav")
    assert "Conversion failed" not in str(refusal.value)
    (tmp_path / "line\nbreak.m4a").write_bytes(by_ffmpeg("m4a")[:3000])
    with pytest.raises(ValueError, match=r"cannot read .*line\\nbreak\.m4a, which is MP4: [^/]*$"):
        read_audio(tmp_path / "line\nbreak.m4a")


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


class Reader:
    """A file object of somebody else, which has no more methods than it needs."""

    def __init__(self, data, error=None):
        self.file, self.error = io.BytesIO(data), error

    def read(self, size=-1):
        if self.error and self.file.tell() > 50_000:
            raise self.error
        return self.file.read(size if size < 0 else min(size, 40_000))


class SeekableReader(Reader):
    def seek(self, place, whence=0):
        return self.file.seek(place, whence)


def test_file_objects_of_others_are_read_and_their_errors_are_errors_of_reading(extractor):
    data = coded("wav", music())
    for file in (Reader(data), SeekableReader(data)):
        assert len(read_audio(file)[0]) == 4 * RATE
    for reader in (Reader, SeekableReader):
        failing = reader(data * 2, ZeroDivisionError("division by zero"))
        if reader is Reader:
            failing.read()  # to its end, so that the next call fails
        for read in (read_audio, extractor):
            with pytest.raises(ValueError, match="the open file cannot be read: ZeroDivisionError: division by zero"):
                read(failing)
    with pytest.raises(ValueError, match="it gave str, not bytes"):
        read_audio(type("Text", (), {"read": lambda self, size=-1: "abc"})())
    with pytest.raises(ValueError, match="5 is neither a path nor an open file"):
        read_audio(5)


def test_a_folder_and_an_empty_name_are_no_files(tmp_path):
    with pytest.raises(ValueError, match="is a folder, not a file: in a list give files"):
        read_audio(tmp_path)
    with pytest.raises(FileNotFoundError, match="an empty name"):
        read_audio("")


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
