"""The demo on a folder of one's own, shortened: bad files are named and stop nothing, table and pictures appear."""

import json
import shutil

import numpy as np
import soundfile

from mt2_music.song.keys import KeyEstimate
from mt2_music.train.demo.__main__ import main
from mt2_music.train.demo.songs import Song, make_music, share_right
from support import RATE, tone


def test_the_demo_takes_a_folder_of_ones_own(music_folder, tmp_path, capsys, caplog):
    folder = shutil.copytree(music_folder, tmp_path / "mine")
    (folder / "corrupt.ogg").write_bytes(next(folder.rglob("*.ogg")).read_bytes()[:500])
    (folder / "notes.txt").write_text("text", encoding="utf-8")
    soundfile.write(folder / "empty.wav", np.zeros(0), RATE)
    soundfile.write(folder / "short.wav", tone(440, 0.3), RATE)
    output = tmp_path / "demo"
    with caplog.at_level("INFO"):
        main(["--audio", str(folder), "--output", str(output), "--train", "--max_steps", "2"])
    left_out = json.loads((output / "run" / "left_out.json").read_text(encoding="utf-8"))
    names = {"corrupt.ogg", "notes.txt", "empty.wav", "short.wav"}
    assert {item["name"].rsplit("/")[-1] for item in left_out} == names
    assert all(name in caplog.text for name in names)
    table = capsys.readouterr().out
    assert all(f"song {index:02d}" in table for index in range(12))
    for picture in ("loss.png", "profile.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")
    assert (output / "model" / "README.md").is_file()


def test_the_published_model_names_the_keys_of_composed_songs(tmp_path, capsys):
    main(["--output", str(tmp_path)])
    table = capsys.readouterr().out
    assert "Db major" in table and "loading the published folder" in table
    right = float(json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["right"].split("%")[0])
    assert right > 70  # of 24; by chance 8.3


def test_composed_songs_carry_their_labels(tmp_path):
    songs = make_music(tmp_path / "songs", 2, seed=0, soundfont=None)
    assert [(song.key, song.signature) for song in songs] == [("C major", 0), ("Db major", 1)]
    assert soundfile.info(songs[0].path).duration > 15


def test_the_share_of_right_signatures():
    songs = [Song(None, signature=0) for _ in range(4)]
    estimates = [KeyEstimate(signature, np.eye(12)[signature], 1.0) for signature in (0, 0, 7, 3)]
    assert share_right(songs, estimates) == "50.0% right, 25.0% a fifth off"
    songs = [Song(None, "C major", 0), Song(None, "A minor", 0)]
    estimates = [KeyEstimate(0, np.eye(12)[0], 1.0, "C major") for _ in songs]
    assert share_right(songs, estimates) == "100.0% right, 0.0% a fifth off; keys, major or minor: 50.0% right"
