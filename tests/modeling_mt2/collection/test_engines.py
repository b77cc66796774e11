"""Engines that exist take the Parquet parts of an index as they are, and find what the exact search finds."""

from pathlib import Path

import numpy as np
import pytest

from mt2_music.collection.similar import nearest
from mt2_music.collection.table_formats import write_table
from mt2_music.collection.tables import make_row, read_embeddings
from mt2_music.loading import Provenance
from mt2_music.song.embed import SongEmbedding

SIZE, SONGS, QUERIES, NUMBER = 32, 3000, 30, 10


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """Songs in groups, and far from the origin: without the mean taken off, other songs are near."""
    pytest.importorskip("pyarrow")
    folder, rng = tmp_path_factory.mktemp("engines") / "index", np.random.default_rng(0)
    folder.mkdir()
    groups = rng.normal(size=(60, SIZE)) * np.linspace(2, 0.2, SIZE)
    vectors = np.float32(groups[rng.integers(60, size=SONGS)] + 0.5 * rng.normal(size=(SONGS, SIZE)) + 2)
    for part, some in enumerate(np.array_split(vectors, 6)):
        songs = [SongEmbedding({"mean": vector}, {}, np.zeros((1, 2)), 1.0) for vector in some]
        rows = [make_row(f"{part}-{row}.wav", song, Provenance("m", "r", "f")) for row, song in enumerate(songs)]
        write_table(folder / f"embeddings-{part}.parquet", rows)
    return folder


def recall(find, exact, index) -> float:
    """Share of the exact answers that were found, for songs of the index that are a little changed."""
    rng, vectors = np.random.default_rng(1), read_embeddings([index]).vectors["mean"]
    queries = vectors[rng.integers(SONGS, size=QUERIES)] + np.float32(0.2) * rng.normal(size=(QUERIES, SIZE))
    shares = [len({*find(query)} & {*exact(query)}) / NUMBER for query in queries.astype(np.float32)]
    return float(np.mean(shares))


def as_mt2_similar(index: Path):
    opened = read_embeddings([index])
    return lambda query: [file for file, _ in nearest(opened, query, number=NUMBER)]


def cosine(index: Path):
    """The exact answer where nothing is taken off, by its definition."""
    opened = read_embeddings([index])
    units = opened.vectors["mean"] / np.linalg.norm(opened.vectors["mean"], axis=1, keepdims=True)
    return lambda query: [opened.files[row] for row in np.argsort(-(units @ query))[:NUMBER]]


@pytest.mark.parametrize("kind", ["Flat", "IVF32,Flat"])
def test_faiss_by_datasets(index, tmp_path, kind):
    faiss = pytest.importorskip("faiss")
    datasets = pytest.importorskip("datasets")
    songs = datasets.Dataset.from_parquet([str(part) for part in index.glob("*.parquet")], cache_dir=str(tmp_path))
    engine = faiss.index_factory(SIZE, f"L2norm,{kind}", faiss.METRIC_INNER_PRODUCT)
    if kind != "Flat":
        faiss.extract_index_ivf(engine).nprobe = 4
    centred = faiss.IndexPreTransform(faiss.CenteringTransform(SIZE), engine)
    songs.add_faiss_index("mean", custom_index=centred, train_size=len(songs))

    def find(query):
        return songs.get_nearest_examples("mean", query, NUMBER).examples["file"]

    found = recall(find, as_mt2_similar(index), index)
    assert found == 1 if kind == "Flat" else found >= 0.95
    assert recall(find, cosine(index), index) < 0.9  # the mean is taken off, as `mt2 similar` does


@pytest.mark.parametrize("approximate", [False, True])
def test_lancedb(index, tmp_path, approximate):
    lancedb = pytest.importorskip("lancedb")
    parquet = pytest.importorskip("pyarrow.dataset").dataset(list(map(str, index.glob("*.parquet"))))
    songs = lancedb.connect(tmp_path).create_table("songs", parquet.to_batches(), schema=parquet.schema)
    assert songs.count_rows() == SONGS
    if approximate:
        config = lancedb.index.IvfFlat(distance_type="cosine", num_partitions=32)
        songs.create_index("mean", config=config)

    def find(query):
        search = songs.search(query, vector_column_name="mean").distance_type("cosine").nprobes(4)
        return [row["file"] for row in search.limit(NUMBER).to_list()]

    found = recall(find, cosine(index), index)
    assert found >= 0.95 if approximate else found == 1
