"""Data sets of sound files without torchcodec: every layout that `datasets` has, as rows and as streams."""

import io
import json
import pickle
import sys
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
import soundfile

from mt2_music.audio.datasets import audio_column, holds_dataset, load_named_dataset, open_audio_cell, open_stream
from mt2_music.cli import main
from mt2_music.collection.tables import read_embeddings
from mt2_music.train.data.labels import load_labelled
from mt2_music.train.pretrain.__main__ import main as pretrain
from support import RATE, TINY, song

LENGTHS = (3000, 4000, 5000)  # samples: which file a row is
OPENINGS = {"rows": load_named_dataset, "stream": open_stream}


@pytest.fixture(autouse=True)
def without_torchcodec(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.01, raising=False)


def sound(path: Path, num_samples: int, format=None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.linspace(-0.5, 0.5, num_samples), RATE, format=format)
    return str(path)


def three(folder: Path, names=("0.wav", "1.wav", "2.wav"), **options) -> list[str]:
    return [sound(folder / name, length, **options) for name, length in zip(names, LENGTHS, strict=True)]


def encoded(num_samples: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(num_samples), RATE, format="WAV")
    return file.getvalue()


def labels(folder):
    three(folder / "train", ("a/0.wav", "a/1.wav", "b/2.wav"))
    sound(folder / "test" / "b" / "3.wav", 6000)


def metadata_csv(folder):
    three(folder)
    rows = "".join(f"{number}.wav,{number}\n" for number in range(3))
    (folder / "metadata.csv").write_text("file_name,year\n" + rows, encoding="utf-8")


def metadata_jsonl(folder):
    three(folder / "music")
    rows = [json.dumps({"file_name": f"music/{number}.wav", "tags": ["ü", "x"]}) for number in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")


def other_suffixes(folder):
    three(folder, ("0.oga", "1.aif", "2.opus"), format="WAV")  # of which `datasets` knows the last alone


def more_pictures_than_songs(folder):
    three(folder)
    for number in range(5):
        (folder / f"cover {number}.jpg").write_bytes(b"a picture")


def magic_name(folder):
    three(folder / "live [1999] *ü")


def parquet_of_paths(folder):
    data = {"audio": three(folder.parent / "elsewhere"), "year": [1, 2, 3]}
    folder.mkdir()
    datasets.Dataset.from_dict(data).cast_column("audio", datasets.Audio()).to_parquet(folder / "train-0.parquet")


def parquet_of_bytes(folder):  # what `push_to_hub` makes
    folder.mkdir()
    data = datasets.Dataset.from_dict({"audio": [encoded(length) for length in LENGTHS]})
    data.cast_column("audio", datasets.Audio(sampling_rate=RATE)).to_parquet(folder / "train-0.parquet")


def parquet_of_pandas(folder):
    folder.mkdir()
    pandas.DataFrame({"audio": three(folder.parent / "elsewhere")}).to_parquet(folder / "train.parquet")


def saved(folder):
    data = datasets.Dataset.from_dict({"audio": three(folder.parent / "elsewhere")})
    data.cast_column("audio", datasets.Audio()).save_to_disk(folder)


def saved_splits(folder):
    data = datasets.Dataset.from_dict({"audio": [encoded(length) for length in LENGTHS]})
    data = data.cast_column("audio", datasets.Audio())
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(folder)


def saved_arrays(folder):
    arrays = [{"array": [0.5] * length, "sampling_rate": RATE} for length in LENGTHS]
    datasets.Dataset.from_dict({"audio": arrays}).save_to_disk(folder)


def jsonl(folder):
    folder.mkdir()
    rows = [json.dumps({"audio": path, "year": 1}) for path in three(folder.parent / "elsewhere")]
    (folder / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")


def csv(folder):
    folder.mkdir()
    rows = "".join(f"{path},1\n" for path in three(folder.parent / "elsewhere"))
    (folder / "train.csv").write_text("audio,year\n" + rows, encoding="utf-8")


LAYOUTS = [
    labels, metadata_csv, metadata_jsonl, other_suffixes, more_pictures_than_songs, magic_name, parquet_of_paths,
    parquet_of_bytes, parquet_of_pandas, saved, saved_splits, saved_arrays, jsonl, csv,
]  # fmt: skip


def lengths_of(dataset, column="audio"):
    cells = [row[column] for row in audio_column(dataset, column)]
    return [soundfile.info(open_audio_cell(cell, "a cell")).frames for cell in cells]


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_is_read(layout, opening, tmp_path):
    layout(tmp_path / "data")
    place = next(tmp_path.glob("data/live*"), tmp_path / "data")
    rows = OPENINGS[opening](str(place), "train")
    assert lengths_of(rows) == list(LENGTHS)
    pickled = pickle.loads(pickle.dumps(audio_column(rows, "audio")))  # as workers that are spawned need it
    assert len(list(pickled)) == 3
    if layout is labels:
        assert rows.features["label"].names == ["a", "b"]
        assert lengths_of(OPENINGS[opening](str(place), "test")) == [6000]
        assert load_named_dataset(str(place), "train[:2]+test").num_rows == 3
    if layout is metadata_jsonl:
        assert next(iter(rows.select_columns(["tags"])))["tags"] == ["ü", "x"]
    with pytest.raises(ValueError, match="no column 'music'"):
        audio_column(rows, "music")
    if "year" in (rows.column_names or ()):
        with pytest.raises(ValueError, match="'year' holds .*int64.* no audio"):
            audio_column(rows, "year")
    if layout not in (saved, saved_arrays):  # which have no splits
        with pytest.raises(ValueError, match="split"):
            OPENINGS[opening](str(place), "dessert")


def test_cells_of_a_stream_may_be_anything_that_a_file_can_be(tmp_path):
    path = sound(tmp_path / "a.wav", 3000)
    stereo = np.stack([np.full(4000, 0.5), np.full(4000, -0.25)])

    def cells():
        yield from ({"audio": cell} for cell in (path, encoded(3500), Path(path), {"path": path}))
        yield {"audio": {"array": stereo, "sampling_rate": 8000}}

    stream = datasets.IterableDataset.from_generator(cells)
    assert lengths_of(stream) == [3000, 3500, 3000, 3000, 4000]
    wav = list(audio_column(stream, "audio"))[-1]["audio"]
    samples, rate = soundfile.read(open_audio_cell(wav, "a cell"))
    assert rate == 8000 and np.array_equal(samples.T, stereo)
    with pytest.raises(ValueError, match="type int holds no audio"):
        list(audio_column(datasets.IterableDataset.from_generator(lambda: iter([{"audio": 5}])), "audio"))


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": None}, {"path": ""}, {}])
def test_an_empty_cell_is_named(cell):
    with pytest.raises(ValueError, match="row 3 holds no audio"):
        open_audio_cell(cell, "row 3")


def test_what_is_cached_is_what_datasets_alone_would_have_made(tmp_path):
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "train.tar", "w") as file:
        for path in three(tmp_path / "elsewhere"):
            file.add(path, Path(path).name)
    assert lengths_of(load_named_dataset(str(tmp_path / "data"), "train"), "wav") == list(LENGTHS)
    assert lengths_of(open_stream(str(tmp_path / "data"), "train"), "wav") == list(LENGTHS)
    feature = datasets.load_dataset(str(tmp_path / "data"), split="train").features["wav"]
    assert feature == datasets.Audio() and type(feature) is datasets.Audio


@pytest.mark.parametrize("opening", OPENINGS)
def test_what_cannot_be_read_is_refused_with_the_cause(opening, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(OSError, match="data"):
        OPENINGS[opening](str(tmp_path / "data"), "train")
    with pytest.raises(OSError, match="nothing"):
        OPENINGS[opening](str(tmp_path / "nothing"), "train")
    (tmp_path / "data" / "train.parquet").write_bytes(b"torn")
    with pytest.raises(ValueError, match="data set .*data cannot be read: .*4 bytes"):
        OPENINGS[opening](str(tmp_path / "data"), "train")


@pytest.mark.parametrize("streaming", [[], ["--streaming"]])
def test_embed_names_the_bad_cell_and_embeds_the_others(streaming, published, tmp_path, capsys):
    soundfile.write(tmp_path / "song.wav", song(0, 3.0), RATE)
    cells = [(tmp_path / "song.wav").read_bytes(), None, b"no sound"]
    data = datasets.Dataset.from_dict({"audio": cells}).cast_column("audio", datasets.Audio())
    data.to_parquet(tmp_path / "data" / "train.parquet")
    options = ["--dataset", str(tmp_path / "data"), *streaming, "--model", str(published), "--json"]
    assert main(["embed", *options, "-o", str(tmp_path / "out.npz")]) == 1
    results = json.loads(capsys.readouterr().out)
    assert [bool(row.get("error")) for row in results] == [False, True, True]
    assert "no audio" in results[1]["error"] or "not audio" in results[1]["error"]
    assert main(["embed", str(tmp_path / "song.wav"), "--model", str(published), "-o", str(tmp_path / "a.npz")]) == 0
    got, want = (read_embeddings([tmp_path / name]).vectors["mean"] for name in ("out.npz", "a.npz"))
    assert np.array_equal(got, want)


@pytest.mark.parametrize("streaming", [[], ["--streaming", "true"]])
def test_pretraining_on_a_folder_of_labels(streaming, tmp_path):
    for number in range(6):
        (tmp_path / "data" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "data" / "ab"[number % 2] / f"{number}.flac", song(number, 4.0), RATE)
    steps = ["--max_steps", "2", "--save_steps", "2", "--output_dir", str(tmp_path / "out")]
    pretrain(["--dataset", str(tmp_path / "data"), *streaming, *TINY, *steps])
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("layout", [labels, metadata_csv, parquet_of_paths, saved])
def test_fine_tuning_takes_folders_of_sounds_and_folders_of_data_sets(layout, tmp_path):
    layout(tmp_path / "data")
    shares = {"validation": 0.4, "test": 0.0}
    if layout is labels:
        assert not holds_dataset(tmp_path / "data")  # labels are read off the folders, and other files are named
        (tmp_path / "data" / "test").rename(tmp_path / "data" / "validation")
        sound(tmp_path / "data" / "validation" / "a" / "4.wav", 3000)
        assert load_labelled(str(tmp_path / "data"), "single", shares).names == ("a", "b")
        return
    assert holds_dataset(tmp_path / "data")
    if layout is saved:
        with pytest.raises(ValueError, match="no column 'year'"):
            load_labelled(str(tmp_path / "data"), "regression", shares, "audio", "year")
        return
    found = load_labelled(str(tmp_path / "data"), "regression", shares, "audio", "year")
    assert found.names == ("year",) and sum(map(len, found.splits.values())) == 3
