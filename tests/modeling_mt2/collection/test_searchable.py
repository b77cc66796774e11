"""Large indexes are searched where they are: as from rows in memory, whatever happens to a copy."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mt2_music.collection import searchable
from mt2_music.collection.searchable import open_embeddings, write_copy
from mt2_music.collection.similar import nearest, similar_songs
from mt2_music.collection.table_formats import write_table
from mt2_music.collection.tables import make_row, parts, read_embeddings
from mt2_music.loading import Provenance
from mt2_music.song.embed import SongEmbedding

pytest.importorskip("pyarrow")
SOURCE = Provenance("m", "r", "f")
SIZE = 16


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(searchable, "ROWS_WORTH_A_COPY", 300)
    monkeypatch.setattr(searchable, "ROWS_PER_BATCH", 64)
    monkeypatch.setattr("mt2_music.collection.similar.ROWS_PER_BLOCK", 100)


def embedding(rng) -> SongEmbedding:
    vectors = {name: rng.normal(3, 1, SIZE).astype(np.float32) for name in ("mean", "equivariant")}
    return SongEmbedding(vectors, {}, np.zeros((1, 2)), 1.0, source=SOURCE)


def make_index(folder: Path, rows: int = 500, per_part: int = 150) -> Path:
    """Write an index as `mt2 index` does; one row has no vector, and one song is in it twice."""
    (folder / "music").mkdir(parents=True)
    place, rng = {"root": str(folder / "music"), "root_from_index": "../music"}, np.random.default_rng(rows)
    songs = [(f"deep/{number:04d}.wav", embedding(rng)) for number in range(rows)]
    songs[7] = ("copy.wav", songs[8][1])
    songs[rows // 2][1].vectors["mean"][:] = np.nan
    made = [make_row(name, song, SOURCE, facts=place) for name, song in songs]
    index = folder / "index"
    index.mkdir()
    names = [f"embeddings-{number}.parquet" for number in range(0, rows, per_part)]
    for number, name in enumerate(names):
        write_table(index / name, made[number * per_part : (number + 1) * per_part])
    (index / "parts.json").write_text(json.dumps(names), encoding="utf-8")
    return index


@pytest.fixture
def nothing_is_read_whole(monkeypatch):
    def fail(*_):
        raise AssertionError("the index was read whole")

    monkeypatch.setattr(searchable, "read_embeddings", fail)


def answers(index) -> list:
    """Search by one reading and by twelve, with copies of recordings and without."""
    rng = np.random.default_rng(1)
    readings = [embedding(rng) for _ in range(12)]
    found = [nearest(index, readings[0].vectors[by], by, 9) for by in ("mean", "equivariant")]
    for some in (readings[:1], readings):
        for duplicates in (False, True):
            options = {"own": index.files[3], "no_duplicates": duplicates}
            found.append(similar_songs(index, some, "equivariant", 12, **options))
    return [(file, round(similarity, 5)) for one in found for file, similarity in one]


def test_a_copy_answers_as_all_rows_in_memory(tmp_path, nothing_is_read_whole):
    index = make_index(tmp_path / "here")
    write_copy(index)
    whole, stored = read_embeddings([index]), open_embeddings([index])
    assert list(stored.files) == whole.files and len(whole.files) == 499
    assert stored.source == SOURCE
    for name, vectors in whole.vectors.items():
        assert np.array_equal(stored.vectors[name][:], vectors)
        assert np.array_equal(np.load(*index.glob(f"search-*/{name}.npy")), vectors)  # anybody can open it
    assert answers(stored) == answers(whole)
    (tmp_path / "here").rename(tmp_path / "there")  # index and music together
    (moved,) = nearest(open_embeddings([tmp_path / "there" / "index"]), whole.vectors["mean"][40], number=1)
    assert moved == (str(tmp_path / "there" / "music" / "deep" / "0040.wav"), pytest.approx(1, abs=1e-5))
    shutil.rmtree(tmp_path / "there" / "index")  # it was opened before it was removed
    assert nearest(stored, whole.vectors["mean"][40], number=1)[0][1] == pytest.approx(1, abs=1e-5)


def test_memory_does_not_grow_with_the_index(tmp_path):
    index = make_index(tmp_path, 6000, 6000)
    write_copy(index)
    query, peaks = np.ones(SIZE, np.float32), []
    for opened in (open_embeddings, read_embeddings):
        tracemalloc.start()
        nearest(opened([index], ("mean",)), query)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    everything = 6000 * SIZE * 4
    assert peaks[0] < everything / 2 < everything < peaks[1]


def test_small_indexes_have_no_copy(tmp_path):
    index = make_index(tmp_path, 299)
    write_copy(index)
    assert not list(index.glob("search-*"))


def exchange_part(index: Path) -> None:
    """Write other rows to a part, as nobody should."""
    rows = [make_row(f"{number}.wav", embedding(np.random.default_rng(number)), SOURCE) for number in range(9)]
    write_table(parts(index)[0], rows)


def cut(index: Path) -> None:
    (path,) = index.glob("search-*/mean.npy")
    path.write_bytes(path.read_bytes()[:-4])


def spoil_names(index: Path) -> None:
    (path,) = index.glob("search-*/names.arrow")
    path.write_bytes(b"nothing")


def spoil_statistics(index: Path) -> None:
    (path,) = index.glob("search-*/statistics.npz")
    path.write_bytes(b"PK\x03\x04" + path.read_bytes()[4:-40])


def remove_statistics(index: Path) -> None:
    (path,) = index.glob("search-*/statistics.npz")
    path.unlink()


@pytest.mark.parametrize("spoil", [exchange_part, cut, spoil_names, spoil_statistics, remove_statistics])
def test_the_parts_are_what_counts(tmp_path, spoil, caplog):
    index = make_index(tmp_path)
    write_copy(index)
    before = answers(open_embeddings([index]))
    spoil(index)
    assert answers(open_embeddings([index])) == answers(read_embeddings([index]))
    assert (answers(open_embeddings([index])) == before) == (spoil is not exchange_part)
    assert ("is read whole" in caplog.text) == (spoil in (cut, spoil_names, spoil_statistics))


def test_a_full_disk_costs_the_copy_alone(tmp_path, monkeypatch, caplog):
    index = make_index(tmp_path)
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        patch.setattr(searchable, "write_npz", fail)
        write_copy(index)
    assert "No space left" in caplog.text and not list(index.glob("search-*"))
    assert len(open_embeddings([index]).files) == 499
    write_copy(index)
    assert len(list(index.glob("search-*"))) == 1
