"""Keys of songs of any length: what the model makes of the whole, decoded and turned into frames once."""

import numpy as np
import pytest
import soundfile
import torch

from mt2_music import MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.configuration_mt2 import POOLINGS
from mt2_music.music import KEY_LABELS
from mt2_music.song import keys
from mt2_music.song.keys import classify_key, estimate_key, mean_profile, rotate_to_c
from support import RATE, song, tiny_config

SECONDS = (0.3, 21.7)


def named(pooling):
    torch.manual_seed(0)
    labels = dict(enumerate(reversed(KEY_LABELS)))
    config = tiny_config(
        initializer_range=0.1, pooling=pooling, id2label=labels, label2id={label: i for i, label in labels.items()}
    )
    return MT2ForAudioClassification(config).eval()


@pytest.fixture(scope="module")
def profiling():
    torch.manual_seed(0)
    return MT2ForPreTraining(tiny_config(initializer_range=0.1, key_calibration=2.25)).eval()


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_named_key_is_that_of_the_embedding_of_the_whole_song(extractor, pooling, seconds):
    """Tokens are averaged over the song first, then comes the layer, then the average over transpositions."""
    model, audio = named(pooling), song(4, seconds)
    features = extractor(audio, sampling_rate=RATE, return_tensors="pt")["input_features"]
    wanted = torch.zeros(2, 12)
    for shift in (-1, 0, 1):
        with torch.no_grad():
            likely = model(features, transposition=shift).logits[0].softmax(-1)
        by_key = {model.config.id2label[i]: float(value) for i, value in enumerate(likely)}
        wanted += torch.tensor([by_key[key] for key in KEY_LABELS]).unflatten(0, (2, 12)).roll(-shift, 1) / 3
    estimate = classify_key(model, extractor, audio, RATE, transpositions=1, always=True)
    assert np.allclose(estimate.profile, wanted[0] + wanted[1].roll(3), atol=1e-5)
    best = torch.stack([wanted[0], wanted[1].roll(3)])[:, estimate.signature]
    assert estimate.confidence == pytest.approx(float(best.max()), abs=1e-5)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_profile_is_that_of_the_whole_song(profiling, extractor, seconds):
    audio = song(4, seconds)
    features = extractor(audio, sampling_rate=RATE, return_tensors="pt")["input_features"]
    parts, wanted = features.split(profiling.config.max_frames, 1), torch.zeros(12)
    for shift in (-2, -1, 0, 1, 2):
        with torch.no_grad():
            profiles = [profiling(part, transposition=shift).key_signature_profile[0] for part in parts]
        levels = features[..., -128:].amax(2)
        weights = [int((part[..., -128:].amax(2) >= levels.max() - 0.45).sum()) for part in parts]
        total = sum(profile * weight for profile, weight in zip(profiles, weights, strict=True))
        wanted += (total / sum(weights)).roll(-shift) / 5
    assert torch.allclose(mean_profile(profiling, features[0], 2), wanted, atol=1e-5)
    estimate = estimate_key(profiling, extractor, audio, RATE, transpositions=2, always=True)
    assert np.allclose(estimate.profile, rotate_to_c(wanted, 2.25), atol=1e-5)


@pytest.mark.parametrize("names_keys", [True, False])
def test_a_long_song_is_decoded_once_and_encoded_in_batches(profiling, extractor, monkeypatch, tmp_path, names_keys):
    """Three transpositions cost no second pass of the front end, and twice the song no larger block of anything."""
    model = named("equivariant") if names_keys else profiling
    monkeypatch.setattr("mt2_music.song.embed.BLOCK_SECONDS", 4.0)
    monkeypatch.setattr(keys, "WINDOWS_PER_CHUNK", 12)
    extract, rows, samples = extractor.extract, [], []

    def counted(waveforms):
        samples.append(waveforms.shape[1])
        return extract(waveforms)

    monkeypatch.setattr(extractor, "extract", counted)
    hook = model.mt2.embeddings.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    largest = []
    try:
        for seconds in (30, 60):
            rows.clear(), samples.clear()
            soundfile.write(tmp_path / "song.wav", np.tile(song(4, 10.0)[: 10 * RATE], seconds // 10), RATE)
            keys.song_key(model, extractor, tmp_path / "song.wav", transpositions=1)
            windows = -(-extractor.num_frames(seconds * RATE) // model.config.max_frames)
            assert sum(rows) == 3 * windows
            assert len(samples) == -(-seconds // 4) + 1  # every block, and what is left at the end
            assert sum(samples) < 1.7 * seconds * RATE  # with the context that blocks of 4 s share
            largest.append((max(rows), max(samples)))
    finally:
        hook.remove()
    assert largest[0] == largest[1] and largest[0][0] == 12
