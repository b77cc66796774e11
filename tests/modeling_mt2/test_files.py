"""One walk: whatever a person sees as sound is found once, or named, however a folder is built."""

import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mt2_music.audio.files import audio_files, find_audio, printable, walk
from mt2_music.cli import main
from mt2_music.collection.index import find_songs
from mt2_music.feature_extraction.names import path_of
from mt2_music.train.data.label_sources import read_folder
from mt2_music.train.data.tracks import find_files, scan
from support import RATE, song, tone

APPLE = struct.pack(">II16sH", 0x51607, 0x20000, b"Mac OS X", 2) + bytes(400)


def clip(index):
    return song(index, 4.0)[: 4 * RATE]


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(found, folder):
    return [os.path.relpath(path, folder) for path in found]


def test_what_people_see_as_sound_is_found_and_what_is_hidden_is_counted(tmp_path):
    seen = [
        "a.m4a",
        "b.ALAC",
        "c.wma",
        "d.aifc",
        "e.snd",
        "f.wave",
        "g.rf64",
        "h.mp2",
        "i.oga",
        "j.opus",
        "k.aac",
        "l.ape",
    ]
    hidden = ["._a.m4a", ".b.mp3", "__MACOSX/deep/c.flac", ".git/d.wav"]
    touch(tmp_path, *seen, *hidden, ".DS_Store", "._cover.jpg", "cover.jpg")
    found = walk(str(tmp_path))
    assert relative(found.files, tmp_path) == seen
    assert sorted(relative(found.hidden, tmp_path)) == sorted(hidden)
    assert relative(found.others, tmp_path) == ["cover.jpg"]
    assert found.say_hidden().startswith("skipped 4 hidden files, such as ")
    assert walk(str(tmp_path / ".git")).say_hidden() is None  # who names a hidden folder means it
    assert relative(walk(str(tmp_path / ".git")).files, tmp_path) == [".git/d.wav"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows asks for rights to make links")
def test_links_are_followed_once_and_loops_end(tmp_path):
    touch(tmp_path, "in/real.wav", "in/z/own.wav", "out/far.wav", "out/deep/farther.wav")
    inside = tmp_path / "in"
    for name, target in {
        "a link to the real one.wav": inside / "real.wav",
        "far.wav": tmp_path / "out" / "far.wav",
        "far again.wav": tmp_path / "out" / "far.wav",
        "folder": tmp_path / "out" / "deep",
        "the same folder": tmp_path / "out" / "deep",
        "loop": inside,
        "z/up": inside,
        "a": inside / "z",
        "broken.wav": tmp_path / "nowhere",
        "itself.wav": inside / "itself.wav",
    }.items():
        (inside / name).symlink_to(target)
    (tmp_path / "out" / "deep" / "back").symlink_to(tmp_path / "in")
    want = ["broken.wav", "far again.wav", "folder/farther.wav", "itself.wav", "real.wav", "z/own.wav"]
    assert relative(walk(str(inside)).files, inside) == want
    (inside / "out").symlink_to(tmp_path)  # a link to what holds the folder itself
    assert relative(walk(str(inside)).files, inside)[:3] == ["broken.wav", "far again.wav", "folder/farther.wav"]
    assert len(walk(str(inside)).files) == len(want)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "open/a.wav", "closed/b.wav")
    scandir = os.scandir

    def refuse(path="."):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert relative(audio_files([str(tmp_path)]), tmp_path) == ["closed", "open/a.wav"]
    with pytest.raises(ValueError, match=r"closed: .*Permission denied"):
        scan(find_files(tmp_path), 1.0)


def test_globs_below_a_folder_whose_name_looks_like_one(tmp_path, monkeypatch):
    touch(tmp_path, "live [1999]/a.wav", "live [1999]/deep/b.wav", "live 1/c.wav", "live/x [1]/y?/d.wav")
    for pattern, names in {
        "live [1999]/*.wav": ["live [1999]/a.wav"],
        "live [1999]/**/*.wav": ["live [1999]/a.wav", "live [1999]/deep/b.wav"],
        "live/x [1]/y?/*": ["live/x [1]/y?/d.wav"],
        "live*/*.wav": ["live 1/c.wav", "live [1999]/a.wav"],
        "live [19]/*.wav": ["live 1/c.wav"],  # no such folder: a pattern
        "live [1999]/missing*.wav": ["live [1999]/missing*.wav"],
    }.items():
        assert relative(audio_files([str(tmp_path / pattern)]), tmp_path) == names, pattern
        monkeypatch.chdir(tmp_path)
        assert audio_files([pattern]) == names, pattern
    (song,) = find_songs([str(tmp_path / "live/x [1]/y?/*.wav")])
    assert (song.root, song.file) == (str(tmp_path / "live/x [1]/y?"), "d.wav")
    assert find_songs(["live*/*.wav"])[0].root == str(tmp_path)


def test_a_very_deep_folder_is_no_trouble(tmp_path):
    """Deeper than Python calls functions; it is removed here, because `shutil.rmtree` cannot."""
    depth = sys.getrecursionlimit() + 100
    before = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Path("a.wav").touch()
        found = find_audio([str(tmp_path)]).files
        Path("a.wav").unlink()
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")
    finally:
        os.chdir(before)
    assert len(found) == 1


def test_names_are_printed_in_one_line_and_one_column_and_can_be_had_back():
    names = [
        "plain é.wav",
        "new\nline",
        "tab\there",
        "esc\x1b[31m",
        "back\\slash",
        "back\\nslash",
        "caf\udce9",
        "\u2028",
        "\x9b",
    ]
    printed = [printable(name) for name in names]
    assert printed[0] == names[0] and printed[1] == "new\\nline" and printed[6] == "caf\\udce9"
    assert len(set(printed)) == len(names)
    assert all(name.isprintable() for name in printed)
    if os.sep == "/":
        assert [path_of(name) for name in printed] == names


@pytest.fixture
def folder(tmp_path):
    """The folder of a person: good files, what macOS leaves, a page that a download left, and a joined album."""
    music = tmp_path / "music"
    music.mkdir()
    soundfile.write(music / "ok.flac", clip(1), RATE)
    soundfile.write(music / "song.mp3", clip(2), RATE)
    soundfile.write(music / "a.aifc", clip(3), RATE, format="AIFF")
    soundfile.write(music / "b.snd", clip(4), RATE, format="AU")
    (music / "._song.mp3").write_bytes(APPLE)
    (music / "page.mp3").write_text("<html>404</html>", encoding="utf-8")
    parts = []
    for index in range(3):
        soundfile.write(tmp_path / "part.mp3", clip(index), RATE)
        parts.append((tmp_path / "part.mp3").read_bytes())
    (music / "z album.mp3").write_bytes(b"".join(parts))
    soundfile.write(tmp_path / "whole.wav", clip(5), RATE)
    whole = (tmp_path / "whole.wav").read_bytes()
    (music / "z torn.wav").write_bytes(whole[: len(whole) * 3 // 4])
    return music


def test_a_folder_gives_a_row_or_a_named_failure_for_every_file(folder, tmp_path, capsys):
    assert main(["embed", str(folder), "-o", str(tmp_path / "out.npz"), "--json", "--device", "cpu"]) == 1
    output = capsys.readouterr()
    results = {os.path.basename(result["file"]): result for result in json.loads(output.out)}
    assert results.keys() == {"ok.flac", "song.mp3", "a.aifc", "b.snd", "page.mp3", "z album.mp3", "z torn.wav"}
    assert "HTML, not audio" in results["page.mp3"]["error"]
    assert results["z album.mp3"]["seconds"] == pytest.approx(12, abs=0.2)
    assert "3.0 of 4.0 s are there" in results["z torn.wav"]["warning"]
    assert "z torn.wav breaks off: 3.0 of 4.0 s are there" in output.err
    assert f"skipped 1 hidden file, such as {folder / '._song.mp3'}" in output.err
    assert len(np.load(tmp_path / "out.npz")["files"]) == 6


def test_training_finds_and_measures_the_same_files(folder, caplog):
    with caplog.at_level("INFO"):
        tracks = scan(find_files(folder), 1.0)
    seconds = {os.path.basename(track.name): track.seconds for track in tracks.tracks}
    assert seconds.keys() == {"ok.flac", "song.mp3", "a.aifc", "b.snd", "z album.mp3", "z torn.wav"}
    assert seconds["z album.mp3"] == pytest.approx(12, abs=0.2)
    assert seconds["z torn.wav"] == pytest.approx(3, abs=0.1)
    assert [item.reason for item in tracks.left_out] == [f"{folder / 'page.mp3'} is HTML, not audio"]
    assert "z torn.wav breaks off: 3.0 of 4.0 s are there" in caplog.text
    assert "skipped 1 hidden file" in caplog.text
    album = next(index for index, track in enumerate(tracks.tracks) if "album" in track.name)
    window = tracks.read(album, 9.0, RATE, RATE)  # in the third part
    assert np.abs(window).max() > 0.05


def test_names_with_newlines_make_no_lines_of_their_own(tmp_path, capsys):
    if os.sep == "\\":
        pytest.skip("no such names here")
    place = tmp_path / "label\tone"
    place.mkdir()
    soundfile.write(place / "a\nb.wav", tone(440, 2.0), RATE)
    (place / "c\nd.wav").write_text("no", encoding="utf-8")
    assert main(["key", str(place)]) == 1
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 1 and "a\\nb.wav" in output.out
    assert not any(line.startswith(("b.wav", "d.wav")) for line in (output.out + output.err).splitlines())
    examples, _ = read_folder(tmp_path)
    assert sorted(example.name for example in examples) == ["label\\tone/a\\nb.wav", "label\\tone/c\\nd.wav"]
    open_each = [example.open for example in examples]
    assert all(os.path.isfile(open_one()) for open_one in open_each)
