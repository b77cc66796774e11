"""MTEB runs our models: on tasks made here of composed music, by its own evaluation, with scores in its JSON."""

import io
import json
import shutil
import sys
from functools import cache

import numpy as np
import pytest
import soundfile
from datasets import ClassLabel, Dataset, Features, Value
from torch.utils.data import DataLoader

import mt2_music
from mt2_music.audio.datasets import decoding_without_torchcodec
from mt2_music.audio.stored import StoredAudio
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.train.synth import compose, play_additive
from support import RATE

mteb = pytest.importorskip("mteb")  # needs Python 3.11
from mteb.abstasks.classification import AbsTaskClassification  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.mocks.mock_run import mock_run  # noqa: E402

from mt2_music.integrations.mteb import MT2Encoder  # noqa: E402
from mt2_music.integrations.mteb.__main__ import main  # noqa: E402

TONICS = (0, 4, 8)
KINDS = (("wav", 16000, 1), ("flac", 22050, 2), ("ogg", 44100, 1))


@pytest.fixture(scope="module")
def encoder():
    return MT2Encoder("mt2-small", device="cpu")


@cache
def piece(number, tonic):
    rng = np.random.default_rng([11, number, tonic])
    return play_additive(compose(rng, 2.5 + 0.5 * (number % 3), tonic, "major"), rng)


def as_file(samples, number):
    """Return what a cell of a data set on the Hub holds, of several formats, rates and numbers of channels."""
    kind, rate, channels = KINDS[number % len(KINDS)]
    file = io.BytesIO()
    soundfile.write(file, np.stack([resample(samples, RATE, rate)] * channels, 1), rate, format=kind)
    return {"bytes": file.getvalue(), "path": f"{number}.{kind}"}


def keys_of_pieces(numbers):
    labels = [label for _ in numbers for label in range(len(TONICS))]
    numbers = [number for number in numbers for _ in TONICS]
    pairs = zip(numbers, labels, strict=True)
    return [as_file(piece(number, TONICS[label]), number) for number, label in pairs], labels


def write_table(path, **columns):
    types = {"audio": StoredAudio(), "label": ClassLabel(names=["C", "E", "Ab"]), "score": Value("int64")}
    types |= {name: Value("string") for name in ("id", "query-id", "corpus-id")}
    path.parent.mkdir(parents=True, exist_ok=True)
    features = Features({name: types[name] for name in columns})
    Dataset.from_dict(columns, features=features).to_parquet(path)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A data set as it lies on the Hub: pieces in three keys. Beside it one with shuffled labels."""
    folder = tmp_path_factory.mktemp("pieces")
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(8)), ("test", range(8, 16))):
        audio, labels = keys_of_pieces(numbers)
        write_table(folder / "right" / f"{split}.parquet", audio=audio, label=labels)
        write_table(folder / "shuffled" / f"{split}.parquet", audio=audio, label=list(rng.permutation(labels)))
    return folder


class KeyOfPiece(AbsTaskClassification):
    metadata = TaskMetadata(
        name="KeyOfPiece",
        description="Three keys of composed pieces.",
        dataset={"path": "somewhere", "revision": "1"},
        type="AudioClassification",
        category="a2c",
        modalities=["audio"],
        eval_splits=["test"],
        eval_langs=["zxx-Zxxx"],
        main_score="accuracy",
        date=("2026-01-01", "2026-01-01"),
        reference=None,
        domains=["Music"],
        task_subtypes=[],
        license="apache-2.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )
    input_column_name = "audio"

    def __init__(self, folder):
        super().__init__()
        dataset = {"path": str(folder), "revision": "1"}
        self.metadata = self.metadata.model_copy(update={"dataset": dataset})


WHERE = {"task_metadata": KeyOfPiece.metadata, "hf_split": "test", "hf_subset": "default"}


def test_a_task_is_scored_right_and_at_chance_with_shuffled_labels(encoder, pieces, tmp_path):
    accuracy = {}
    for name in ("right", "shuffled"):
        cache = mteb.ResultCache(tmp_path / name)
        mteb.evaluate(encoder, KeyOfPiece(pieces / name), cache=cache, show_progress_bar=False)
        (file,) = tmp_path.glob(f"{name}/results/mt2-music__mt2-small/*/KeyOfPiece.json")
        (scores,) = json.loads(file.read_text(encoding="utf-8"))["scores"]["test"]
        accuracy[name] = scores["accuracy"]
        assert scores["main_score"] == scores["accuracy"] and len(scores["scores_per_experiment"]) == 10
    assert accuracy["right"] > 0.9
    assert 0.05 < accuracy["shuffled"] < 0.65  # chance is a third, of 24 pieces
    meta = json.loads((file.parent / "model_meta.json").read_text(encoding="utf-8"))
    model = mt2_music.load("mt2-small", "cpu")
    assert (meta["name"], meta["modalities"], meta["embed_dim"]) == ("mt2-music/mt2-small", ["audio"], 128)
    assert meta["revision"] == file.parent.name == "-".join(model.source[1:])
    assert meta["n_parameters"] == sum(weight.numel() for weight in model.encoder.parameters())


def test_vectors_are_those_of_this_package(encoder, tmp_path):
    """In the order of the rows, of files of several kinds, whatever the size of batches."""
    cells = [as_file(piece(number, 0), number) for number in range(4)]
    write_table(tmp_path / "train.parquet", audio=cells)
    inputs = DataLoader(Dataset.from_parquet(str(tmp_path / "train.parquet")), batch_size=3)
    songs = mt2_music.load("mt2-small", "cpu").embed([cell["bytes"] for cell in cells])
    wanted = {name: np.stack([song.vectors[name] for song in songs]) for name in songs[0].vectors}
    wanted["both"] = np.concatenate([wanted["equivariant"], wanted["contrastive"]], 1)
    experiments = {"mean": encoder.mteb_model_meta.experiment_name}
    for readout, vectors in wanted.items():
        other = MT2Encoder("mt2-small", encoder.mteb_model_meta.revision, device="cpu", readout=readout)
        got = other.encode(inputs, **WHERE, show_progress_bar=False, batch_size=3)
        assert got.dtype == np.float32 and np.allclose(got, vectors, atol=1e-6)
        assert other.mteb_model_meta.embed_dim == got.shape[1]
        experiments[readout] = other.mteb_model_meta.experiment_name
    assert experiments["mean"] is None and len({*experiments.values()}) == 4  # readouts share no file of scores


def test_the_tasks_that_mteb_checks_encoders_with(encoder):
    """One of every kind that takes audio alone, as MTEB makes them, without torchcodec too."""
    with decoding_without_torchcodec():
        found = {name: result for name, result in mock_run(encoder).items() if result is not None}
    kinds = ("Clustering", "Multilabel", "Retrieval", "Reranking", "Classification", "CrossVal", "PairClassification")
    assert all(any(kind in name for name in found) for kind in kinds)
    assert {name: str(result) for name, result in found.items() if not hasattr(result, "get_score")} == {}


def test_the_command_scores_tasks_of_mteb_from_a_copy_of_their_data(pieces, tmp_path, capsys, monkeypatch):
    copy = shutil.copytree(pieces / "right", tmp_path / "right")
    audio, labels = keys_of_pieces(range(3))
    write_table(tmp_path / "rerank" / "corpus" / "test.parquet", id=list("abcdefghi"), audio=audio)
    softer = [as_file(0.5 * piece(number, TONICS[0]), number + 1) for number in range(3)]  # the first of each three
    write_table(tmp_path / "rerank" / "queries" / "test.parquet", id=["x", "y", "z"], audio=softer)
    relevant = {"query-id": ["x", "y", "z"], "corpus-id": ["a", "d", "g"], "score": [1, 1, 1]}
    write_table(tmp_path / "rerank" / "qrels" / "test.parquet", **relevant)
    configs = [("default", "qrels"), ("corpus", "corpus"), ("queries", "queries")]
    lines = [f"- config_name: {n}\n  data_files:\n  - split: test\n    path: {p}/*.parquet" for n, p in configs]
    readme = "\n".join(["---", "configs:", *lines, "---", ""])
    (tmp_path / "rerank" / "README.md").write_text(readme, encoding="utf-8")

    output = tmp_path / "scores"
    names = ["GTZANGenre", "GTZANAudioReranking", "FSDD"]
    data = [f"GTZANGenre={copy}", f"GTZANAudioReranking={tmp_path / 'rerank'}"]
    command = ["--tasks", *names, "--data", *data, "--output", str(output), "--device", "cpu"]
    assert main(command) == 1  # there is no network, and no copy of the third
    said = capsys.readouterr()
    assert "FSDD: no score" in said.err and "GTZANAudioReranking: map_at_1000 1.0000" in said.out
    files = {path.stem: path for path in output.glob("results/mt2-music__mt2-small/*/*.json")}
    assert files.keys() == {"GTZANGenre", "GTZANAudioReranking", "model_meta"}
    result = json.loads(files["GTZANGenre"].read_text(encoding="utf-8"))
    assert result["scores"]["train"][0]["main_score"] > 0.8 and result["dataset_revision"] == "folder right"

    def fail(self, *arguments, **options):
        raise RuntimeError("scored again")

    monkeypatch.setattr(MT2Encoder, "encode", fail)
    assert main([*command[:3], "--data", *data, *command[-4:]]) == 0  # all are there
    other = f"GTZANGenre={pieces / 'shuffled'}"
    assert main(["--tasks", "GTZANGenre", "--data", other, *command[-4:]]) == 1  # not taken for the others' scores
    assert "scored again" in capsys.readouterr().err


def test_what_cannot_be_used_is_named(encoder, tmp_path, capsys):
    audio = [as_file(piece(0, 0), 0), {"bytes": b"<html>", "path": "1.wav"}]
    write_table(tmp_path / "train.parquet", audio=audio, label=[0, 1])
    rows = Dataset.from_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(ValueError, match="KeyOfPiece, default, test: clip 1 cannot be used"):
        encoder.encode(DataLoader(rows), **WHERE, show_progress_bar=False)
    with pytest.raises(ValueError, match="no column of audio, only label"):
        encoder.encode(DataLoader(rows.remove_columns("audio")), **WHERE)
    with pytest.raises(ValueError, match="has the readouts mean, equivariant, contrastive, both, and no 'sum'"):
        MT2Encoder("mt2-small", device="cpu", readout="sum")
    with pytest.raises(ValueError, match="has the revision .*, not 1"):
        MT2Encoder("mt2-small", "1", device="cpu")
    for wrong, message in (
        (["--tasks", "GTZANGenres"], "Did you mean: 'GTZANGenre'"),
        (["--tasks", "ClothoT2ARetrieval"], "takes text and audio, not audio alone"),
        (["--tasks", "GTZANGenre", "--data", f"FSDD={tmp_path}"], "the name of a task to be scored, got FSDD"),
        (["--data", f"GTZANGenre={tmp_path / 'nothing'}"], "there is no folder"),
        (["--tasks", "GTZANGenre", "--model", "mt2-smal"], "there is no model mt2-smal"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*wrong, "--output", str(tmp_path / "scores")])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "scores").exists()


def test_without_mteb_one_sentence_says_so(monkeypatch, capsys):
    """`--help` does without."""
    monkeypatch.delitem(sys.modules, "mt2_music.integrations.mteb.encoder")
    monkeypatch.setitem(sys.modules, "mteb.models", None)
    for words, code, said in (
        (["--help"], 0, "usage:"),
        (["--output", "scores"], 2, "needs Python 3.11 and the package"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        told = capsys.readouterr()
        assert stop.value.code == code and said in told.out + told.err
