"""Embeddings of songs: of any length, in bounded memory, the same however they are read, with their times."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mt2_music import MT2FeatureExtractor, MT2Model
from mt2_music.song import rows
from mt2_music.song.embed import Embedder, embed_audio, stream_features
from support import RATE, python, song, tiny_config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MT2Model(tiny_config(initializer_range=0.1)).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.flac"
    soundfile.write(path, np.stack([song(4, 9.7)] * 2, 1), RATE)
    return path


def cut(waveform, *places):
    return np.split(waveform, places)


@pytest.mark.parametrize("places", [(), (1,), (511, 512, 513), (40_000,), tuple(range(0, 100_000, 777))])
def test_frames_of_blocks_are_those_of_the_whole(extractor, places):
    waveform = song(4, 7.3)
    whole = extractor.extract(torch.from_numpy(waveform)[None])[0]
    pieces = torch.cat(list(stream_features(extractor, cut(waveform, *places))))
    assert pieces.shape == whole.shape
    assert torch.allclose(pieces, whole, atol=1e-5)


def test_too_little_context_would_be_noticed(extractor, monkeypatch):
    """The frames of a block alone are others: what the test above compares does depend on what is kept."""
    monkeypatch.setattr("mt2_music.song.embed.cqt_kernels", lambda *_: [None] * 2)
    waveform = song(4, 7.3)
    whole = extractor.extract(torch.from_numpy(waveform)[None])[0]
    pieces = torch.cat(list(stream_features(extractor, cut(waveform, 40_000))))
    assert not torch.allclose(pieces, whole, atol=1e-4)


def test_a_song_is_what_the_model_makes_of_the_whole(model, extractor, file):
    embedding = embed_audio(model, extractor, file, frames=True)
    with torch.no_grad():
        whole = model(**extractor(str(file), return_tensors="pt"))
    assert np.allclose(embedding.mean, whole.pooler_output[0], atol=1e-5)
    assert np.allclose(embedding.equivariant, whole.equivariant_embeds[0], atol=1e-5)
    assert np.allclose(embedding.contrastive, whole.contrastive_embeds[0], atol=1e-5)
    assert np.allclose(embedding.frames, whole.last_hidden_state[0], atol=1e-5)
    assert embedding.seconds == soundfile.info(file).frames / RATE


@pytest.mark.parametrize("hop", [None, 0.512, 0.3])
def test_windows_cover_the_song_and_their_mean_is_its_vector(model, extractor, file, hop):
    embedding = embed_audio(model, extractor, file, hop_seconds=hop)
    starts, ends = embedding.times.T
    assert starts[0] == 0
    assert ends[-1] == pytest.approx(embedding.seconds)
    assert (starts[1:] <= ends[:-1] + 1e-3).all()
    assert (starts < ends).all()
    length = model.config.max_frames
    first = round(float(starts[-1]) * extractor.frame_rate)
    features = extractor(str(file), return_tensors="pt")["input_features"]
    with torch.no_grad():
        last = model(features[:, first : first + length]).pooler_output[0]
    assert np.allclose(embedding.windows["mean"][-1], last, atol=1e-5)
    levels = features[0, :, -128:].max(1).values.numpy()
    sounding = levels >= max(levels.max() - 0.45, 0.15)
    firsts = np.round(starts * extractor.frame_rate).astype(int)
    weights = [sounding[first : first + length].sum() for first in firsts]
    mean = np.average(embedding.windows["contrastive"], axis=0, weights=weights)
    assert np.allclose(embedding.contrastive, mean, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.0001, 0.05, 1.024, 1.0241, 3.0])
def test_lengths_around_a_window(model, extractor, seconds):
    waveform = song(1)[: max(1, round(seconds * RATE))]
    embedding = embed_audio(model, extractor, waveform, RATE, frames=True)
    assert len(embedding.frames) == len(waveform) // extractor.hop_length + 1
    assert len(embedding.times) == -(-len(embedding.frames) // model.config.max_frames)
    assert np.isfinite(embedding.mean).all()


def test_neither_batches_nor_the_form_of_the_audio_change_a_thing(model, extractor, file, monkeypatch):
    want = embed_audio(model, extractor, str(file)).vectors
    waveform, _ = soundfile.read(file, dtype="float32")
    monkeypatch.setattr("mt2_music.song.embed.BLOCK_SECONDS", 0.7)
    for audio, rate in (
        (file, None),
        ({"array": waveform.T, "sampling_rate": RATE}, None),
        (io.BytesIO(file.read_bytes()), None),
        ({"array": waveform[:, 0], "sampling_rate": RATE}, None),
        ({"bytes": None, "path": str(file)}, None),
        ({"bytes": file.read_bytes(), "path": None}, None),
    ):
        got = embed_audio(model, extractor, audio, rate, batch_size=2).vectors
        assert all(np.allclose(got[name], want[name], atol=1e-5) for name in want), type(audio)


def test_transposed_music_is_another_harmony(model, extractor, file):
    plain, up = (embed_audio(model, extractor, file, transposition=shift).vectors for shift in (0, 3))
    with torch.no_grad():
        want = model(**extractor(str(file), return_tensors="pt"), transposition=3).equivariant_embeds[0]
    assert np.allclose(up["equivariant"], want, atol=1e-5)
    assert not np.allclose(up["equivariant"], plain["equivariant"], atol=1e-2)


@pytest.mark.parametrize(
    ("audio", "options", "reason"),
    [
        (np.zeros(0, np.float32), {}, "empty"),
        (np.full(RATE, np.nan, np.float32), {}, "NaN"),
        (np.full(RATE, 1e30, np.float32), {}, "too large"),
        (np.zeros(RATE, np.float32), {"hop_seconds": 0.0}, "hop_seconds"),
        (np.zeros(RATE, np.float32), {"hop_seconds": 1.5}, "hop_seconds"),
        (np.zeros(RATE, np.float32), {"hop_seconds": 0.5, "frames": True}, "overlapping"),
        (np.zeros(RATE, np.float32), {"batch_size": 0}, "batch_size"),
        ({"bytes": None, "path": None}, {}, "no audio"),
    ],
)
def test_what_cannot_be_embedded_is_named(model, extractor, audio, options, reason):
    rate = None if isinstance(audio, dict) else RATE
    with pytest.raises(ValueError, match=reason):
        embed_audio(model, extractor, audio, rate, **options)


def test_memory_does_not_grow_with_the_song(published, tmp_path):
    """Half an hour takes hardly more than a minute: what is kept of it are two dozen windows a minute."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("the peak of a process alone is read from /proc")
    code = r"""
import re, sys, numpy as np, soundfile
from mt2_music import MT2FeatureExtractor, MT2Model
from mt2_music.song import rows
from mt2_music.song.embed import embed_audio
from mt2_music.loading import load_model
model, extractor = load_model(MT2Model, sys.argv[1]), MT2FeatureExtractor.from_pretrained(sys.argv[1])
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024
for minutes in (2, 30):
    noise = np.random.default_rng(0).integers(-3000, 3000, 60 * 8000, dtype=np.int16)
    with soundfile.SoundFile(sys.argv[2], "w", 8000, 1) as sound:
        for _ in range(minutes):
            sound.write(noise)
    assert embed_audio(model, extractor, sys.argv[2]).seconds == 60 * minutes
    print(peak())
"""
    short, long = map(float, python("-c", code, published, tmp_path / "long.wav").stdout.split())
    assert long < short + 60, (short, long)  # mebibytes; half an hour at 16 kHz is 115, and its frames are 51


def test_batches_of_files_for_other_engines(published, music_folder, file):
    embed = Embedder(published)
    bad = music_folder / "missing.wav"
    batch = embed({"file": np.array([str(file), str(bad)]), "number": np.array([1, 2])})
    assert {"file", "number", "seconds", "mean", "equivariant", "contrastive", "error", "model"} < batch.keys()
    want = embed_audio(embed.model, MT2FeatureExtractor.from_pretrained(published), file)
    assert np.array_equal(batch["mean"][0], want.mean)
    assert batch["error"][0] == ""
    assert "missing.wav" in batch["error"][1]
    assert np.isnan(batch["mean"][1]).all()
    assert batch["number"].tolist() == [1, 2]
    datasets = pytest.importorskip("datasets")
    songs = datasets.Dataset.from_dict({"file": [str(file), str(bad)]}).map(embed, batched=True, batch_size=1)
    assert [bool(error) for error in songs["error"]] == [False, True]


def test_rows_that_are_kept_are_those_that_were_added(monkeypatch):
    monkeypatch.setattr(rows, "FIRST_ROWS", 2)
    kept = rows.Rows()
    with pytest.raises(ValueError, match="no rows"):
        _ = kept.values
    parts = [torch.randn(count, 3, dtype=torch.bfloat16) for count in (1, 3, 0, 7)]
    for part in parts:
        kept.add(part)
    whole = torch.cat(parts).float()
    for part in parts:
        part.zero_()
    assert kept.values.dtype == torch.float32 and torch.equal(kept.values, whole)
