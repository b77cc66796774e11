"""Indexes follow their files: what changed is embedded again, what moved is found, and what is gone is not named."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mt2_music import load, storage
from mt2_music.cli import main
from mt2_music.collection import searchable
from mt2_music.collection.index import SongFile, find_songs, refresh_index
from mt2_music.collection.similar import similar_songs
from mt2_music.collection.stores import only_writer
from mt2_music.collection.table_formats import write_table
from mt2_music.collection.tables import Embeddings, make_row, read_embeddings
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.loading import Provenance, find_model
from mt2_music.song.embed import SongEmbedding
from mt2_music.storage import only_process
from support import RATE, KilledError, song

SOURCE = Provenance("m", "r", "f")
OUTPUTS = ["index", "index.npz", "index.parquet", "index.arrow"]


@pytest.fixture(autouse=True)
def _needs_arrow():
    pytest.importorskip("pyarrow")


class Embedding:
    """Stands for a model: a vector that only this content has, and the contents that it was made for."""

    def __init__(self) -> None:
        self.embedded = []

    def __call__(self, sound) -> SongEmbedding:
        content = Path(sound).read_bytes()
        if b"broken" in content:
            raise ValueError("this is no audio")
        self.embedded.append(os.path.basename(sound))
        vector = np.random.default_rng(list(hashlib.sha256(content).digest())).normal(size=8).astype(np.float32)
        return SongEmbedding({"mean": vector}, {}, np.zeros((1, 2)), 1.0)


def write(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        path = folder / f"{name.replace('__', '/')}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def refresh(output: Path, *places: Path, **options):
    embed = Embedding()
    report = refresh_index(output, find_songs(map(str, places)), embed, SOURCE, **options)
    return report, embed.embedded


def contents(output: Path, opened=read_embeddings) -> dict[str, bytes]:
    """Return what an index says of its songs; each counts once."""
    index = opened([output])
    assert len(set(map(os.path.realpath, index.files))) == len(index.files)
    return {file: vector.tobytes() for file, vector in zip(index.files, index.vectors["mean"], strict=True)}


def wanted(*places: Path) -> dict[str, bytes]:
    files = [song.sound for song in find_songs(map(str, places))]
    return {os.path.abspath(file): Embedding()(file).mean.tobytes() for file in files}


def change_things(music: Path) -> None:
    """Change, touch, move, rename in a circle, copy, delete and add songs."""
    (music / "a.wav").write_text("other a", encoding="utf-8")
    os.utime(music / "b.wav", ns=(1, 1))
    (music / "new").mkdir()
    (music / "c.wav").rename(music / "new" / "c2.wav")
    for old, new in (("d", "x"), ("e", "d"), ("x", "e")):
        (music / f"{old}.wav").rename(music / f"{new}.wav")
    (music / "f.wav").unlink()
    write(music, new__g="g", h="h")


LETTERS = {letter: letter for letter in "abcdefi"}


@pytest.mark.parametrize("name", OUTPUTS)
def test_only_what_changed_is_embedded_again(tmp_path, name):
    music, output = write(tmp_path / "music", **LETTERS), tmp_path / name
    report, embedded = refresh(output, music)
    assert len(embedded) == 7
    assert contents(output) == wanted(music)
    report, embedded = refresh(output, music)
    assert (embedded, len(report.unchanged)) == ([], 7)
    change_things(music)
    report, embedded = refresh(output, music)
    assert sorted(embedded) == ["a.wav", "g.wav", "h.wav"]
    assert str(report) == "embedded 3, moved 3, dropped 1, unchanged 2"
    assert contents(output) == wanted(music)
    assert refresh(output, music)[1] == []


@pytest.mark.parametrize("name", ["index", "index.npz"])
def test_a_kill_at_any_moment_leaves_the_index_of_before_or_after(tmp_path, monkeypatch, name):
    monkeypatch.setattr("mt2_music.collection.archive.ROWS_PER_PART", 3)
    monkeypatch.setattr(searchable, "ROWS_WORTH_A_COPY", 1)
    music, output = write(tmp_path / "music", **LETTERS), tmp_path / name
    refresh(output, music)
    before, start = contents(output), tmp_path / "start"
    change_things(music)
    after = wanted(music)
    copy = shutil.copytree if output.is_dir() else shutil.copy
    copy(output, start)
    outcomes, steps = [], 0
    finished = False
    while not finished:
        if output.is_dir():
            shutil.rmtree(output)
        copy(start, output)
        steps += 1
        left = steps
        with monkeypatch.context() as patch:
            for act in (os.replace, os.unlink, os.rename, os.mkdir):

                def do(*arguments, act=act, **options):
                    nonlocal left
                    left -= 1
                    if left == 0:
                        raise KilledError
                    return act(*arguments, **options)

                patch.setattr(os, act.__name__, do)
            try:
                refresh(output, music)
                finished = True
            except KilledError:
                pass
        there = contents(output)
        assert there in (before, after), steps
        assert contents(output, searchable.open_embeddings) == there, steps
        outcomes.append(there == after)
        refresh(output, music)
        assert contents(output) == contents(output, searchable.open_embeddings) == after, steps
        assert len(list(output.glob("search-*"))) == output.is_dir()
    assert outcomes == sorted(outcomes)  # one moment at which all changes
    assert 0 < sum(outcomes) < len(outcomes)


def test_a_copy_is_not_used_for_other_parts_of_the_same_names(tmp_path, monkeypatch):
    """Runs that were killed left no copy, and parts whose names, and by chance their sizes, are those of before."""
    monkeypatch.setattr(searchable, "ROWS_WORTH_A_COPY", 1)
    monkeypatch.setattr(searchable, "_copy_name", lambda listed: "search-" + "-".join(path.stem for path in listed))
    music, output = write(tmp_path / "music", a="a", b="b"), tmp_path / "index"
    refresh(output, music)
    monkeypatch.setattr("mt2_music.collection.index.write_copy", lambda folder: None)
    before = os.listdir(output)
    for number in range(2):
        write(music, a=f"a {number}", b=f"b {number}")
        refresh(output, music)
        assert contents(output, searchable.open_embeddings) == contents(output) == wanted(music)
    assert {*os.listdir(output)} < {*before}  # by their names alone, nothing has changed but that the copy is gone


def test_what_a_killed_run_embedded_is_not_embedded_again(tmp_path, monkeypatch):
    monkeypatch.setattr("mt2_music.collection.archive.ROWS_PER_PART", 2)
    music, output = write(tmp_path / "music", a="a"), tmp_path / "index"
    refresh(output, music)
    write(music, **{f"new{number}": str(number) for number in range(7)})
    embed = Embedding()

    def fail(sound):
        if len(embed.embedded) == 5:
            raise KilledError
        return embed(sound)

    with pytest.raises(KilledError):
        refresh_index(output, find_songs([str(music)]), fail, SOURCE)
    assert len(contents(output)) == 1
    report, embedded = refresh(output, music)
    assert (len(embedded), len(report.unchanged)) == (3, 5)
    assert contents(output) == wanted(music)


def test_an_interrupt_keeps_what_is_embedded(tmp_path):
    music = write(tmp_path / "music", **LETTERS)
    embed = Embedding()

    def interrupted(sound):
        if len(embed.embedded) == 4:
            raise KeyboardInterrupt
        return embed(sound)

    for name in ("index", "index.npz"):
        embed.embedded.clear()
        with pytest.raises(KeyboardInterrupt):
            refresh_index(tmp_path / name, find_songs([str(music)]), interrupted, SOURCE)
        assert len(contents(tmp_path / name)) == 4
        assert len(refresh(tmp_path / name, music)[1]) == 3


def test_shares_refresh_one_index(tmp_path):
    music, output = write(tmp_path / "music", **LETTERS), tmp_path / "index"
    for shard in range(3):
        refresh(output, music, shard=shard, shards=3)
    assert contents(output) == wanted(music)
    change_things(music)
    embedded = [refresh(output, music, shard=shard, shards=2)[1] for shard in range(2)]
    assert sorted(sum(embedded, [])) == ["a.wav", "g.wav", "h.wav"]
    assert contents(output) == wanted(music)
    assert [path for path in os.listdir(output) if path.startswith(".")] == []


@pytest.mark.parametrize("name", ["index", "index.npz"])
def test_a_missing_root_loses_no_song(tmp_path, name):
    """The folder of a disk that is not connected is missing or empty; a song that is gone alone is dropped."""
    disk, other = write(tmp_path / "disk", a="a", b="b"), write(tmp_path / "other", c="c", d="d")
    output = tmp_path / name
    refresh(output, disk, other)
    before = contents(output)
    disk.rename(tmp_path / "away")
    (other / "d.wav").unlink()
    for _ in range(2):
        report, _ = refresh(output, disk, other)
        assert report.kept == {str(disk): 2}
        assert str(disk) in report.failures
        assert contents(output).keys() == before.keys() - {str(other / "d.wav")}
        disk.mkdir(exist_ok=True)
    disk.rmdir()
    (tmp_path / "away").rename(disk)
    (disk / "b.wav").unlink()
    assert refresh(output, disk, keep_missing=True)[0].kept == {str(disk): 1}
    assert str(disk / "b.wav") in contents(output)
    assert refresh(output, other)[0].dropped == [str(disk / "b.wav")]  # whichever of the roots was given
    assert contents(output) == wanted(disk, other)


@pytest.mark.parametrize("name", ["index", "index.npz"])
def test_an_empty_folder_below_the_root_loses_no_song_and_a_missing_one_does(tmp_path, name):
    """A disk that is not connected leaves its mount point; who removes an album removes its folder."""
    songs = {"own": "o", "disk__a": "a", "disk__deep__b": "b", "album__c": "c", "album__d": "d", "kept__e": "e"}
    music, output = write(tmp_path / "music", **songs, kept__f="f"), tmp_path / name
    refresh(output, music)
    before = contents(output)
    shutil.move(music / "disk", tmp_path / "away")
    (music / "disk").mkdir()
    shutil.rmtree(music / "album")
    (music / "kept" / "f.wav").unlink()
    gone = {str(music / "album" / "c.wav"), str(music / "album" / "d.wav"), str(music / "kept" / "f.wav")}
    report, _ = refresh(output, music)
    assert report.kept == {str(music / "disk"): 2}
    assert set(report.dropped) == gone
    assert contents(output).keys() == before.keys() - gone
    assert refresh(output, music)[0].dropped == []
    (music / "disk").rmdir()
    shutil.move(tmp_path / "away", music / "disk")
    report, embedded = refresh(output, music)
    assert (embedded, report.kept, len(report.unchanged)) == ([], {}, 4)
    shutil.rmtree(music / "disk" / "deep")
    (music / "disk" / "deep").mkdir()  # another disk, in the first
    assert refresh(output, music)[0].kept == {str(music / "disk" / "deep"): 1}
    (music / "disk" / "deep").rmdir()
    assert refresh(output, music)[0].dropped == [str(music / "disk" / "deep" / "b.wav")]
    assert contents(output) == wanted(music)


@pytest.mark.parametrize("inside", [["x"], []])
def test_a_song_that_became_a_folder_is_gone(tmp_path, inside):
    music, output = write(tmp_path / "music", a="a", b="b"), tmp_path / "index.npz"
    refresh(output, music)
    (music / "a.wav").unlink()
    (music / "a.wav").mkdir()
    write(music / "a.wav", **{name: name for name in inside})
    report, _ = refresh(output, music)
    assert report.dropped == [str(music / "a.wav")] and report.kept == {}
    assert list(report.failures) == ([] if inside else [str(music / "a.wav")])
    assert contents(output).keys() == {
        str(music / "b.wav"),
        *(str(music / "a.wav" / f"{name}.wav") for name in inside),
    }


def test_a_song_that_became_unreadable_is_named_and_dropped(tmp_path):
    music, output = write(tmp_path / "music", a="a", b="b"), tmp_path / "index.npz"
    refresh(output, music)
    (music / "a.wav").write_text("broken", encoding="utf-8")
    report, _ = refresh(output, music)
    assert list(report.failures) == [str(music / "a.wav")]
    assert list(contents(output)) == [str(music / "b.wav")]


@pytest.mark.parametrize("name", ["index", "index.npz"])
def test_a_song_is_one_however_it_is_named(tmp_path, monkeypatch, name):
    music = write(tmp_path / "place" / "music", a="a", deep__b="b", deep__c="c")
    output = tmp_path / "place" / name
    monkeypatch.chdir(tmp_path / "place")
    (tmp_path / "place" / "link").symlink_to(music, target_is_directory=True)
    refresh(output, Path("./music"))
    same = [
        music,
        Path("music/../music"),
        Path("music/deep"),
        Path("music/a.wav"),
        Path("link"),
        Path("mus*/**/*.wav"),
    ]
    for place in same:
        assert refresh(output, place)[1] == [], place
    assert refresh(output, *same)[1] == []
    assert contents(output) == wanted(music)
    monkeypatch.chdir(tmp_path)
    assert contents(output) == wanted(music)
    (tmp_path / "place").rename(tmp_path / "elsewhere")  # index and music together
    music, output = tmp_path / "elsewhere" / "music", tmp_path / "elsewhere" / name
    assert contents(output) == wanted(music)
    assert refresh(output, music)[1] == []
    output = output.rename(tmp_path / name)  # the index alone
    assert contents(output) == wanted(music)
    assert refresh(output, music)[1] == []
    music = music.rename(tmp_path / "renamed")  # the music alone
    report, embedded = refresh(output, music)
    assert (embedded, len(report.moved)) == ([], 3)
    assert contents(output) == wanted(music)


def test_sounds_that_are_no_files_are_known_by_name(tmp_path):
    files = write(tmp_path, **LETTERS)
    rows = [
        SongFile(f"data row {n}", str(path), "", f"data row {n}", f"data row {n}")
        for n, path in enumerate(sorted(files.glob("*.wav")))
    ]
    for name in ("index", "index.npz"):
        for stop, new in ((4, 4), (7, 3), (7, 0)):
            embed = Embedding()
            refresh_index(tmp_path / name, iter(rows[:stop]), embed, SOURCE)
            assert len(embed.embedded) == new
        refresh(tmp_path / name, files)
        assert len(contents(tmp_path / name)) == 14


def test_five_hundred_files_by_the_command(tmp_path, monkeypatch, capsys):
    """10 changed, 10 moved, 10 deleted: 10 are embedded, and nothing that is gone is named."""
    music, calls = tmp_path / "music", []
    write(music, **{f"{number % 7}__{number}": str(number) for number in range(500)})

    def embed_audio(model, extractor, audio, sampling_rate=None, **_):
        if not isinstance(audio, str | os.PathLike):  # the command tries its options
            return SongEmbedding({}, {}, np.zeros((1, 2)), 1.0)
        calls.append(audio)
        return Embedding()(audio)

    monkeypatch.setattr("mt2_music.music_model.embed_audio", embed_audio)
    index = ["index", str(music), "-o", str(tmp_path / "index")]
    assert main(index) == 0
    assert len(calls) == 500
    songs = sorted(music.rglob("*.wav"))
    for number in range(10):
        songs[number].write_text(f"changed {number}", encoding="utf-8")
        songs[100 + number].rename(music / f"moved {number}.wav")
        songs[200 + number].unlink()
    calls.clear()
    capsys.readouterr()
    assert main(index) == 0
    assert len(calls) == 10
    assert capsys.readouterr().out == "embedded 10, moved 10, dropped 10, unchanged 470\n"
    query = str(songs[300])
    assert main(["similar", query, "--index", str(tmp_path / "index"), "-k", "600", "--json"]) == 0
    named = [row["file"] for row in json.loads(capsys.readouterr().out)[0]["nearest"]]
    assert sorted([*named, query]) == sorted(map(str, music.rglob("*.wav")))
    assert load().index(music, tmp_path / "index").unchanged == [song.name for song in find_songs([str(music)])]


def test_two_writers_are_kept_apart(tmp_path, capsys):
    music = write(tmp_path / "music", **LETTERS)
    for output in (tmp_path / "index", tmp_path / "index.npz"):
        refresh(output, music)
        with only_writer(output):
            for command in ("index", "embed"):
                assert main([command, str(music), "-o", str(output)]) == 2
                told = capsys.readouterr().err
                assert f"another process writes to {output} (process {os.getpid()} on " in told
    with only_writer(tmp_path / "index", 0, 2):
        refresh(tmp_path / "index", music, shard=1, shards=2)
        for shard, shards in ((0, 1), (0, 2), (1, 3)):
            with pytest.raises(ValueError, match="another process writes"):
                refresh(tmp_path / "index", music, shard=shard, shards=shards)
    assert refresh(tmp_path / "index", music)[1] == []


def test_the_lock_of_a_dead_process_locks_nobody_out(tmp_path):
    code = "import os, sys, time; from pathlib import Path; from mt2_music.storage import only_process\n"
    code += "with only_process(Path(sys.argv[1]), 'works'): print('held', flush=True); time.sleep(60)"
    lock = tmp_path / ".lock"
    process = subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(ValueError, match=f"another process works.*process {process.pid} on"),
        only_process(lock, "works"),
    ):
        pass
    process.kill()
    process.wait()
    assert lock.exists()
    with only_process(lock, "works", 5):
        pass
    assert not lock.exists()


def test_the_lock_of_windows(tmp_path, monkeypatch):
    """By a stand-in for its functions: bytes that are locked, by file; closing a file does not unlock it there."""

    class Msvcrt:
        LK_NBLCK, LK_UNLCK = 2, 0
        held = set()

        def locking(self, file, mode, number):
            place = (os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR), number)
            if mode == self.LK_NBLCK and place in self.held:
                raise PermissionError(13, "Permission denied")
            (self.held.add if mode == self.LK_NBLCK else self.held.remove)(place)

    monkeypatch.setattr(storage, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    for _ in range(2):
        with only_process(tmp_path / ".lock", "works"):
            with (
                pytest.raises(ValueError, match=f"process {os.getpid()} on"),
                only_process(tmp_path / ".lock", "works"),
            ):
                pass
        assert not Msvcrt.held


def test_provenance_is_of_weights_and_settings_and_not_of_the_name(tmp_path):
    folder = Path(shutil.copytree(find_model("mt2-small-key"), tmp_path / "model"))
    source = load(folder).source
    assert load("mt2-small-key").source.fits(source)
    folder = folder.rename(tmp_path / "renamed")
    assert load(folder).source.model == "renamed"
    assert load(folder).source.fits(source)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for setting, value, same in (("key_calibration", 1.5, True), ("layer_norm_eps", 1e-5, False)):
        (folder / "config.json").write_text(json.dumps({**config, setting: value}), encoding="utf-8")
        assert load(folder).source.fits(source) is same
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = folder / "model.safetensors"
    content, state = bytearray(weights.read_bytes()), weights.stat()
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))  # size and time are those of before
    assert not load(folder).source.fits(source)


def song_of(vector) -> SongEmbedding:
    return SongEmbedding({"mean": np.float32(vector)}, {}, np.zeros((1, 2)), 1.0, source=SOURCE)


def test_as_many_songs_as_are_asked_for(tmp_path, monkeypatch):
    """The song is in the index by several names, and recordings are in it several times."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, own="", **{f"song{number}": "" for number in range(9)})
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10, 32)).astype(np.float32)
    files = ["own.wav", "./own.wav", str(tmp_path / "own.wav"), "copy of own.wav"]
    files += [f"{place}song{number}.wav" for number in range(9) for place in ("", "copy of ")]
    rows = [vectors[9]] * 4 + [vectors[number] for number in range(9) for _ in range(2)]
    index = Embeddings(files, {"mean": np.stack(rows)}, SOURCE)
    for own in ("own.wav", tmp_path / "own.wav", (tmp_path / "own.wav").open("rb")):
        for number in (1, 5, 9):
            found = similar_songs(index, [song_of(vectors[9])], number=number, own=own)
            assert len(found) == number
            assert found[0][0] == "copy of own.wav"
            found = similar_songs(index, [song_of(vectors[9])], number=number, own=own, no_duplicates=True)
            assert len({file.removeprefix("copy of ") for file, _ in found} - {"own.wav"}) == number
        assert len(similar_songs(index, [song_of(vectors[9])], number=99, own=own)) == 19


def test_copies_of_a_recording_are_left_out(tmp_path, capsys):
    """By the shipped model: a copy, an MP3 and one that is 6 dB softer fill the answer, unless it is asked not to."""
    for number in range(5):
        audio = resample(song(number), RATE, 44100)
        soundfile.write(tmp_path / f"{number}.flac", audio, 44100)
        soundfile.write(tmp_path / f"{number} softer.wav", audio / 2, 44100)
        soundfile.write(tmp_path / f"{number} coded.mp3", audio, 44100)
        shutil.copy(tmp_path / f"{number}.flac", tmp_path / f"{number} copy.flac")
    assert main(["index", str(tmp_path), "-o", str(tmp_path / "index.npz")]) == 0
    for by in ("mean", "equivariant"):
        query = ["similar", str(tmp_path / "0.flac"), "--index", str(tmp_path / "index.npz"), "--by", by, "--json"]
        capsys.readouterr()
        for options, number in (([], 10), (["--no_duplicates"], 4), (["--no-duplicates", "--any_key"], 4)):
            assert main([*query, *options]) == 0
            rows = json.loads(capsys.readouterr().out)[0]["nearest"]
            songs = [os.path.basename(row["file"])[0] for row in rows]
            assert len(songs) == number
            assert sorted(songs) == list("1234") if options else songs[:3] == ["0"] * 3


def test_empty_parts_and_rows_without_vectors(tmp_path, caplog):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "a.parquet", [make_row(f"{n}.wav", song_of([n, 1, 2]), SOURCE) for n in range(4)])
    table = parquet.read_table(tmp_path / "a.parquet")
    parquet.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    kinds = {"fixed": table["mean"].type, "list": arrow.list_(arrow.float32())}
    for name, kind in kinds.items():
        vectors = [None, [1, 2, 3], None] if name == "fixed" else [[1, 2, 3], None, [3, 4, 5]]
        column = arrow.array(vectors, kind)
        part = table.slice(0, 3).set_column(table.schema.get_field_index("mean"), "mean", column)
        part = part.set_column(0, "file", arrow.array([f"{name}{number}" for number in range(3)]))
        parquet.write_table(part, tmp_path / f"c-{name}.parquet")
    nothing = part.set_column(part.schema.get_field_index("mean"), "mean", arrow.nulls(3))
    parquet.write_table(nothing, tmp_path / "d.parquet")
    index = read_embeddings([tmp_path])
    assert index.files == ["0.wav", "1.wav", "2.wav", "3.wav", "fixed1", "list0", "list2"]
    assert index.vectors["mean"][-3:].tolist() == [[1, 2, 3], [1, 2, 3], [3, 4, 5]]
    assert "c-fixed.parquet: rows without a vector are left out: 2" in caplog.text


def test_an_archive_with_frames_is_not_read_whole(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    song = SongEmbedding(
        {"mean": np.ones(8, np.float32)},
        {"mean": np.ones((1, 8))},
        np.zeros((1, 2)),
        1.0,
        frames=np.random.default_rng(0).normal(size=(50_000, 8)).astype(np.float32),
    )
    for name in ("x.parquet", "x.arrow"):
        write_table(tmp_path / name, [make_row("a.wav", song, SOURCE, windows=True, frames=True)])
        before = arrow.default_memory_pool()
        counted = arrow.proxy_memory_pool(before)
        arrow.set_memory_pool(counted)
        try:
            assert read_embeddings([tmp_path / name]).vectors["mean"].shape == (1, 8)
        finally:
            arrow.set_memory_pool(before)
        assert counted.max_memory() < song.frames.nbytes / 4
