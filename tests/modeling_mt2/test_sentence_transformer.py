"""Published folders as a `SentenceTransformer`: the vectors of the package, in batches, and whole after saving."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

import mt2_music
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from support import RATE, ROOT, song

sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6.2")

FOLDER = ROOT / "model_cards" / "mt2-small"
SECONDS = (9.0, 1.0, 5.0)  # more than two windows, and less than one


@pytest.fixture(scope="module")
def model():
    return sentence_transformers.SentenceTransformer(str(FOLDER), trust_remote_code=True, device="cpu")


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """The same songs as `encode` takes them, of several kinds and rates, and as the package does."""
    path = tmp_path_factory.mktemp("songs") / "a.wav"
    file, array, other = (song(index, seconds) for index, seconds in enumerate(SECONDS))
    soundfile.write(path, np.stack([resample(file, RATE, 44100)] * 2, axis=1), 44100)
    other = resample(other, RATE, 22050)
    kinds = [str(path), array, {"array": other, "sampling_rate": 22050}, {"audio": str(path)}, path]
    return kinds, [(str(path), None), (array, RATE), (other, 22050), (str(path), None), (path, None)]


def expected(songs, readout="mean"):
    published = mt2_music.load(FOLDER, device="cpu")
    return np.stack([published.embed(audio, rate).vectors[readout] for audio, rate in songs[1]])


def test_vectors_are_those_of_the_package_whatever_the_batch(model, songs):
    wanted = expected(songs)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01  # they can be told apart
    for batch_size in (1, 2, 32):
        assert np.abs(model.encode(songs[0], batch_size=batch_size) - wanted).max() < 1e-5
    assert np.abs(model.encode(songs[0][1]) - wanted[1]).max() < 1e-5  # one song alone is one vector
    assert model.get_embedding_dimension() == wanted.shape[1]
    # Samples that do not say their rate have the model's; another one is said for those alone.
    slow = resample(song(1, SECONDS[1]), RATE, 22050)
    assert np.abs(model.encode([slow]) - wanted[1]).max() > 0.01
    said = model.encode([songs[0][0], slow], processing_kwargs={"audio": {"sampling_rate": 22050}})
    assert np.abs(said - expected((None, [songs[1][0], (slow, 22050)]))).max() < 1e-5


def test_readouts_and_normalisation(model, songs):
    both = [expected(songs, name) for name in ("equivariant", "contrastive")]
    assert np.abs(model.encode(songs[0], readout="mean") - expected(songs)).max() < 1e-5
    for name, wanted in zip(("equivariant", "contrastive", "concat"), (*both, np.concatenate(both, 1)), strict=True):
        assert np.abs(model.encode(songs[0], readout=name) - wanted).max() < 1e-5, name
    unit = model.encode(songs[0], normalize_embeddings=True)
    assert np.abs(unit - expected(songs) / np.linalg.norm(expected(songs), axis=1, keepdims=True)).max() < 1e-5
    frames = model.encode([songs[0][1]], output_value="token_embeddings")[0]
    wanted = mt2_music.load(FOLDER, device="cpu").embed(songs[0][1], RATE, frames=True).frames
    assert np.abs(frames.numpy() - wanted).max() < 1e-4


def test_similarity_and_search_find_the_same_song(model, songs):
    vectors = model.encode(songs[0], convert_to_tensor=True)
    similar = model.similarity(vectors, vectors)
    assert torch.allclose(similar, torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1))
    hits = sentence_transformers.util.semantic_search(vectors[:1], vectors, top_k=3)[0]
    assert {hit["corpus_id"] for hit in hits} == {0, 3, 4} and hits[-1]["score"] == pytest.approx(1, abs=1e-5)


def test_a_saved_model_is_the_same_to_the_bit(model, songs, tmp_path):
    model.save(str(tmp_path / "again"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    assert np.array_equal(again.encode(songs[0]), model.encode(songs[0]))
    weights = load_file(tmp_path / "again" / "model.safetensors")
    assert weights and not list((tmp_path / "again").glob("*.bin"))
    published = load_file(FOLDER / "model.safetensors")
    assert all(np.array_equal(value, published[f"mt2.{name}"]) for name, value in weights.items())


def test_another_readout_may_be_the_one_of_a_folder(songs, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "by-sound")
    settings = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    settings["modality_config"]["audio"]["method_output_name"] = "contrastive_embeds"
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    changed = sentence_transformers.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    assert np.abs(changed.encode(songs[0]) - expected(songs, "contrastive")).max() < 1e-5


def test_it_can_be_trained(songs):
    """After `encode`, whose tensors cannot be trained with."""
    model = sentence_transformers.SentenceTransformer(str(FOLDER), trust_remote_code=True, device="cpu")
    model.encode(songs[0][:1])
    model.train()
    model(model.preprocess(songs[0]))["sentence_embedding"].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "options", "error", "says"),
    [
        ("a text", {}, ValueError, "'text' is not supported"),
        ({"audio": "nowhere.wav"}, {}, FileNotFoundError, "no such file: nowhere.wav"),
        (np.zeros((2, RATE), np.float32), {}, ValueError, "one clip is expected"),
        (np.full(RATE, np.nan, np.float32), {}, ValueError, "NaN"),
        (np.zeros(RATE, np.float32), {"readout": "chroma"}, ValueError, "one of mean, equivariant, contrastive, con"),
    ],
)
def test_what_cannot_be_used_is_named(model, wrong, options, error, says):
    with pytest.raises(error, match=says):
        model.encode([wrong], **options)


def test_the_code_of_a_folder_runs_only_if_it_is_trusted():
    with pytest.raises(ValueError, match="trust_remote_code"):
        sentence_transformers.SentenceTransformer(str(FOLDER))
