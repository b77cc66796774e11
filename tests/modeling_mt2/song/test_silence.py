"""Silence has no weight: in class tokens, song vectors, keys, exported files; and it has no key."""

import json
import warnings

import numpy as np
import pytest
import soundfile
import torch

import mt2_music
from mt2_music import MT2ForAudioClassification, MT2ForPreTraining, MT2Model
from mt2_music.cli import main
from mt2_music.feature_extraction.feature_extraction_mt2 import AudioWarning
from mt2_music.modeling_mt2 import frame_levels, sounding_frames
from mt2_music.song.keys import answer_song
from mt2_music.song.silence import SECONDS_KEPT, WithoutSilence
from support import RATE, song, tiny_config


@pytest.fixture(scope="module")
def model():
    return mt2_music.load("mt2-small-key", device="cpu")


@pytest.fixture(scope="module")
def music():
    return song(3, 24.0)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def silence(samples: int, level: float = 0.0) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def with_silence(music: np.ndarray) -> dict[str, np.ndarray]:
    """The same music with silence of several kinds in several places."""
    length = len(music)
    halves = np.array_split(music, 2)
    return {
        "half behind": np.r_[music, silence(length)],
        "nine tenths behind": np.r_[music, silence(9 * length)],
        "dither behind": np.r_[music, silence(length, 1e-5)],
        "a quiet room behind": np.r_[music, silence(length, 3e-4 * np.abs(music).max())],
        "half before": np.r_[silence(length), music],
        "nine tenths before": np.r_[silence(9 * length), music],
        "between": np.r_[halves[0], silence(length), halves[1]],
        "a little before": np.r_[silence(RATE // 2), music],
    }


def test_silence_changes_neither_vector_nor_key(model, music):
    plain, key = model.embed(music, RATE), model.key(music, RATE)
    for place, padded in with_silence(music).items():
        embedding, padded_key = model.embed(padded, RATE), model.key(padded, RATE)
        for name in plain.vectors:
            least = 0.98 if name == "mean" or "behind" in place else 0.96  # windows are cut elsewhere
            assert cosine(plain.vectors[name], embedding.vectors[name]) >= least, (place, name)
        assert padded_key.key == key.key is not None, place
        assert embedding.sounding == pytest.approx(plain.sounding * len(music) / len(padded), abs=0.02), place


def test_pieces_of_silence_and_of_music_are_told_apart(model, music):
    """The wrong case: with as much of another song instead of silence, the vector is another one."""
    other = song(10, 24.0)
    plain, mixed = model.embed(music, RATE), model.embed(np.r_[music, other], RATE)
    assert cosine(plain.equivariant, mixed.equivariant) < 0.98


def test_padding_without_a_mask_is_silent(extractor, music):
    model = MT2Model(tiny_config(max_frames=32)).eval()
    features = torch.from_numpy(extractor(music[: 3 * RATE], sampling_rate=RATE)["input_features"][0])[None]
    padded = torch.nn.functional.pad(features, (0, 0, 0, 50))
    with torch.no_grad():
        alone, together = model(features), model(padded)
        unweighted = MT2Model(tiny_config(max_frames=32, silence_range=None)).eval()
        unweighted.load_state_dict(model.state_dict())
        moved = unweighted(padded)
    assert torch.allclose(alone.pooler_output, together.pooler_output, atol=1e-5)
    assert not torch.allclose(unweighted(features).pooler_output, moved.pooler_output, atol=1e-2)


@pytest.mark.parametrize("model_class", [MT2ForAudioClassification, MT2ForPreTraining])
def test_nothing_but_silence_gives_numbers(extractor, model_class):
    model = model_class(tiny_config(pooling="frames")).eval()
    features = extractor(np.zeros(5 * RATE, np.float32), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**features)
    assert all(value.isfinite().all() for value in outputs.values() if isinstance(value, torch.Tensor))


def test_a_frame_is_silent_beside_the_loudest_or_below_the_floor():
    config = tiny_config()
    levels = torch.tensor([[0.9, 0.46, 0.44, 0.2, 0.05], [0.3, 0.16, 0.14, 0.0, 0.29]])
    wanted = torch.tensor([[True, True, False, False, False], [True, True, False, False, True]])
    assert torch.equal(sounding_frames(levels, config), wanted)
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 0, 1, 1, 1]])  # the loudest of the clip counts, not of the padding
    wanted = torch.tensor([[False, True, True, True, False], [True, False, False, False, True]])
    assert torch.equal(sounding_frames(levels, config, mask), wanted)
    features = torch.zeros(2, 5, config.input_size)
    features[..., -3] = levels
    assert torch.equal(frame_levels(features, config), levels)


def frames_of(levels: list[float], config) -> torch.Tensor:
    """Frames of these levels, and their own numbers."""
    frames = torch.zeros(len(levels), config.input_size)
    frames[:, -1] = torch.tensor(levels)
    frames[:, 0] = torch.arange(len(levels))
    return frames


@pytest.mark.parametrize("sizes", [[1000], [1], [7, 0, 300], [31]])
def test_long_silences_are_left_out_in_whatever_pieces_a_song_comes(sizes):
    config = tiny_config()
    kept = round(SECONDS_KEPT * config.frame_rate)
    assert kept > 5
    levels = [0.0] * 50 + [0.4] * 20 + [0.0] * 5 + [0.4] * 20 + [0.0] * 90 + [0.9] * 20 + [0.44] * 40 + [0.46]
    frames, pieces, start = frames_of(levels, config), [], 0
    while start < len(frames):
        for size in sizes:
            pieces.append(frames[start : start + size])
            start += size
    shorter = WithoutSilence(pieces, config)
    numbers = torch.cat(list(shorter))[:, 0].int().tolist()
    stretches = [(0, kept), (50, 95 + kept), (185, 205 + kept), (245, 246)]  # 0.44 is silent beside 0.9, not 0.4
    assert numbers == [number for start, stop in stretches for number in range(start, stop)]
    assert shorter.share == pytest.approx(len(numbers) / len(levels))


def test_without_silence_range_nothing_is_left_out():
    config = tiny_config(silence_range=None)
    shorter = WithoutSilence([frames_of([0.0] * 90 + [0.5] * 3, config)], config)
    assert len(torch.cat(list(shorter))) == 93 and shorter.share == 1


def test_what_sounds_of_a_song_is_a_share_of_its_whole_length(model, extractor, music):
    def sounding(samples: np.ndarray) -> float:
        features = torch.from_numpy(extractor(samples, sampling_rate=RATE)["input_features"][0])
        return answer_song(model.model, [features], 0).sounding

    apart = np.concatenate([np.pad(part, (0, len(part))) for part in np.array_split(music, 12)])
    assert sounding(apart) == pytest.approx(sounding(music) / 2, abs=0.06)  # notes ring into silence
    assert sounding(silence(9 * RATE)) == 0


def test_a_level_changes_nothing(model, music):
    plain = model.embed(music, RATE)
    for gain in (0.01, 0.1, 30.0):
        other = model.embed(music * gain, RATE)
        assert cosine(plain.mean, other.mean) >= 0.95
        assert cosine(plain.contrastive, other.contrastive) >= 0.9
        assert model.key(music * gain, RATE).key == model.key(music, RATE).key


INVERTED = ["inverted", "inverted, 1 dB lower", "inverted, with dither", "inverted, and both with an offset and a hum"]


@pytest.mark.parametrize("second", INVERTED)
def test_an_inverted_channel_is_said_and_not_cancelled(model, music, tmp_path, second, capsys):
    channel = {
        "inverted": -music,
        "inverted, 1 dB lower": -0.89 * music,
        "inverted, with dither": -music + silence(len(music), 1e-5),
        "inverted, and both with an offset and a hum": -music,
    }[second]
    both = 0.1 + 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(music)) / RATE) if "hum" in second else 0 * music
    soundfile.write(tmp_path / "song.wav", np.c_[music + both, channel + both], RATE)
    with pytest.warns(AudioWarning, match="the channels cancel each other"):
        embedding = model.embed(tmp_path / "song.wav")
    alone = music + both
    assert cosine(embedding.mean, model.embed(alone, RATE).mean) > 0.99
    assert main(["key", str(tmp_path / "song.wav"), "--json"]) == 0
    printed = capsys.readouterr()
    (result,) = json.loads(printed.out)
    assert result["key"] == model.key(alone, RATE).key
    assert "the channels cancel each other" in result["warning"] and "song.wav: the channels" in printed.err


@pytest.mark.parametrize("second", ["the same", "other music", "silent", "a little out of phase"])
def test_other_channels_are_averaged(model, music, second):
    channel = {
        "the same": music,
        "other music": song(10, 24.0)[: len(music)],
        "silent": np.zeros_like(music),
        "a little out of phase": np.roll(music, 8),
    }[second]
    channel = np.pad(channel, (0, len(music) - len(channel)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)
        stereo = model.embed({"array": np.stack([music, channel]), "sampling_rate": RATE})
    assert cosine(stereo.mean, model.embed((music + channel) / 2, RATE).mean) > 0.9999
