"""Ctrl-C and SIGTERM: what is done is kept, one sentence says how to go on, and the exit code is 130 or 143."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from mt2_music import interrupts
from mt2_music.cli import main
from mt2_music.collection import archive
from mt2_music.collection.tables import read_embeddings
from mt2_music.interrupts import Stopped, check, command, finishing, process_pool, signals_handled
from mt2_music.music_model import MusicModel
from mt2_music.train.data.prepared import PreparedTracks
from mt2_music.train.prepare.__main__ import main as prepare
from support import RATE, song

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    for index in range(4):
        soundfile.write(folder / f"{index}.wav", song(index, 4.0), RATE)
    return folder


@pytest.fixture
def signal_in_second_song(monkeypatch):
    """Let a signal come while the second song is embedded or its key is named."""

    def prepare_for(number, method):
        original, calls = getattr(MusicModel, method), []

        def work(self, audio, *arguments, **options):
            if isinstance(audio, str):
                calls.append(audio)
                if len(calls) == 2:
                    signal.raise_signal(number)
            return original(self, audio, *arguments, **options)

        monkeypatch.setattr(MusicModel, method, work)

    return prepare_for


def stopped(arguments, number, capsys):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    (sentence,) = [line for line in output.err.splitlines() if "stopped" in line]
    return output.out, sentence


@pytest.mark.parametrize("number", NUMBERS)
def test_an_archive_keeps_what_is_done_and_goes_on(
    number, songs, tmp_path, signal_in_second_song, monkeypatch, capsys
):
    with monkeypatch.context():
        signal_in_second_song(number, "_embed_one")
        _, sentence = stopped(["index", songs, "-o", tmp_path / "index", "--device", "cpu"], number, capsys)
    assert "the same command goes on" in sentence
    assert len(read_embeddings([tmp_path / "index"]).files) == 2  # the song at hand was finished
    monkeypatch.undo()
    assert main(["index", str(songs), "-o", str(tmp_path / "index"), "--device", "cpu"]) == 0
    assert len(read_embeddings([tmp_path / "index"]).files) == 4


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no such signal here")
@pytest.mark.parametrize("words", [["key"], ["key", "--json"], ["doctor"]])
def test_a_reader_that_has_enough_ends_a_command_without_a_word(words, songs):
    command = [sys.executable, "-m", "mt2_music.cli", *words, *([str(songs)] if words[0] == "key" else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE


def test_a_file_that_is_not_finished_has_another_name(songs, tmp_path, signal_in_second_song, capsys):
    signal_in_second_song(signal.SIGINT, "embed")
    (tmp_path / "out.npz").write_bytes(b"of an earlier run")
    _, sentence = stopped(["embed", songs, "-o", tmp_path / "out.npz", "--device", "cpu"], signal.SIGINT, capsys)
    assert f"songs that were done: 2, in {tmp_path / 'out.unfinished.npz'}" in sentence
    assert len(np.load(tmp_path / "out.unfinished.npz")["files"]) == 2
    assert (tmp_path / "out.npz").read_bytes() == b"of an earlier run"


def test_keys_that_were_named_are_printed(songs, signal_in_second_song, capsys):
    signal_in_second_song(signal.SIGTERM, "key")
    output, sentence = stopped(["key", songs, "--json"], signal.SIGTERM, capsys)
    assert output.count('"file"') == 2
    assert "files that were done before: 2" in sentence


def test_parts_are_written_every_half_minute(songs, tmp_path, monkeypatch):
    assert archive.SECONDS_PER_PART <= 30
    now = iter(range(0, 10_000, 20))
    monkeypatch.setattr(archive.time, "monotonic", lambda: float(next(now)))
    assert main(["embed", str(songs), "-o", str(tmp_path / "index"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "index").glob("*.parquet"))) == 2


def test_preparing_stops_between_two_songs_and_goes_on(songs, tmp_path, monkeypatch, capsys):
    written = []
    monkeypatch.setattr("mt2_music.train.data.prepared.TRACKS_PER_SHARD", 1)
    monkeypatch.setattr("mt2_music.train.data.prepared.tqdm", lambda **options: Progress(written))
    arguments = ["--audio_dir", str(songs), "--output_dir", str(tmp_path / "prepared"), "--workers", "1"]
    with pytest.raises(SystemExit) as ended:
        prepare(arguments)
    assert ended.value.code == 130
    assert "prepare: stopped; the same command goes on" in capsys.readouterr().err
    assert 1 <= len(list((tmp_path / "prepared").glob("*.arrow"))) <= 4
    assert not list((tmp_path / "prepared").glob("*.part"))
    monkeypatch.undo()
    monkeypatch.setattr("mt2_music.train.data.prepared.TRACKS_PER_SHARD", 1)
    prepare(arguments)
    assert len(PreparedTracks(tmp_path / "prepared", 0.0)) == 4


class Progress:
    """Stands for a progress bar, and sends a signal at the first progress."""

    def __init__(self, written):
        self.written = written

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, count):
        self.written.append(count)
        if len(self.written) == 1:
            signal.raise_signal(signal.SIGINT)


def _work(number):
    for _ in range(1000):
        check()
        time.sleep(0.01)
    return number


def test_workers_stop_when_their_parent_does():
    start = time.monotonic()
    with pytest.raises(Stopped), signals_handled(), process_pool(1) as pool:
        results = pool.map(_work, range(50))
        signal.raise_signal(signal.SIGINT)
        list(results)
    assert time.monotonic() - start < 8  # one piece of work alone takes ten seconds


def test_a_second_signal_waits_for_nothing():
    with signals_handled(), finishing():
        signal.raise_signal(signal.SIGINT)
        check(patience_seconds=60)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_outside_a_piece_of_work_stops_at_once(capsys):
    @command("thing", "nothing was written")
    def thing():
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    with pytest.raises(SystemExit) as ended:
        thing()
    assert ended.value.code == 143
    assert capsys.readouterr().err == "thing: stopped; nothing was written\n"
    assert interrupts._State.asked is None


def test_all_long_commands_are_commands():
    """Each main function is wrapped, so that none ends in a traceback."""
    from importlib import import_module

    names = ["cli", "train.prepare.__main__", "train.synth.corpus.__main__", "train.synth.quads.__main__"]
    names += ["train.key.__main__", "train.probing.run.__main__", "train.finetune.__main__", "train.pretrain.__main__"]
    names += ["train.publish.__main__", "train.card.__main__", "train.plots.__main__", "train.demo.__main__"]
    for name in names:
        assert hasattr(import_module(f"mt2_music.{name}").main, "__wrapped__"), name


def test_a_console_that_cannot_show_a_name_gets_it_escaped(songs, tmp_path, monkeypatch):
    import io
    import sys

    soundfile.write(tmp_path / "caf\xe9 \u266b.wav", song(0, 3.0), RATE)
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    assert main(["key", str(tmp_path)]) == 0
    console.flush()
    assert os.path.basename(console.buffer.getvalue().split(b"\t")[0]) == b"caf\\xe9 \\u266b.wav"
