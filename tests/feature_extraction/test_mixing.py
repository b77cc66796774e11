"""Channels become one: their mean, unless the music in them cancels there."""

import warnings

import numpy as np
import pytest

from mt2_music.feature_extraction.feature_extraction_mt2 import AudioWarning, mix_down
from mt2_music.feature_extraction.mixing import Mixer
from support import song, tone

SECONDS = 8.0


def music(index=3, rate=16000):
    return song(index, SECONDS)[: int(SECONDS * 16000)][:: 16000 // rate]


def noise(level, seed=0):
    return (level * np.random.default_rng(seed).standard_normal(len(music()))).astype(np.float32)


def drums(level, rate=16000):
    """Bursts of noise and of a low tone in turn, every half second."""
    beat = rate // 2
    time = np.arange(beat) / rate
    kick = np.sin(2 * np.pi * 55 * time) * np.exp(-12 * time)
    snare = np.random.default_rng(0).standard_normal(beat) * np.exp(-20 * time) / 2
    return level * np.tile(np.concatenate([kick, snare]), int(SECONDS)).astype(np.float32)


def loud(samples):
    return samples / np.abs(samples).max()


CANCELLING = {
    "inverted": lambda m: (m, -m),
    "softer": lambda m: (m, -0.5 * m),
    "with an offset": lambda m: (0.5 * m + 0.3, -0.5 * m + 0.3),
    "with a hum": lambda m: (m + tone(50, SECONDS, amplitude=0.3), -m + tone(50, SECONDS, amplitude=0.3)),
    "with noise of its own": lambda m: (m + noise(0.03), -m + noise(0.03, 1)),
    "with soft drums in the centre": lambda m: (m + drums(0.2), -m + drums(0.2)),
    "with a soft voice in the centre": lambda m: (m + 0.15 * loud(music(10)), -m + 0.15 * loud(music(10))),
    "two pairs": lambda m: (m, -m, m, -m),
    "against two": lambda m: (m, -m / 2, -m / 2),
}
MIXED = {
    "the same": lambda m: (m, m),
    "other music": lambda m: (m, loud(music(10))),
    "silent": lambda m: (m, 0 * m),
    "wide": lambda m: (m + loud(music(10)), m - loud(music(10))),
    "with a wide accompaniment": lambda m: (0.9 * m + loud(music(10)), 0.9 * m - loud(music(10))),
    "later": lambda m: (m, np.roll(m, 8)),
    "a little inverted": lambda m: (m, -0.3 * m),
    "of eight, one": lambda m: (*[0 * m] * 7, m),
    "of eight, all different": lambda m: tuple(noise(0.1, seed) for seed in range(8)),
    "an inverted offset": lambda m: (m + 0.3, m - 0.3),
    "one sample": lambda m: (m[:1], m[:1]),
    "silence": lambda m: (0 * m, 0 * m),
}


def mixed(channels):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mono = mix_down(np.stack(channels, 1).astype(np.float32), 16000)
    return mono, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("case", CANCELLING)
def test_music_that_cancels_is_that_of_the_loudest_channel(case):
    channels = CANCELLING[case](loud(music()))
    mono, said = mixed(channels)
    assert len(said) == 1 and "the channels cancel each other" in said[0]
    assert any(np.allclose(mono, channel, atol=1e-6) for channel in channels)


@pytest.mark.parametrize("case", MIXED)
def test_other_channels_are_averaged(case):
    channels = MIXED[case](loud(music()))
    mono, said = mixed(channels)
    assert said == []
    assert np.allclose(mono, np.mean(channels, 0), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_refused_elsewhere_are_no_trouble_here(value):
    channels = np.stack([music(), -music()], 1)
    channels[100] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", AudioWarning)
        assert mix_down(channels, 16000).shape == (len(channels),)


def test_blocks_of_a_song_are_mixed_in_one_way():
    """Drums in the centre that are at times so loud that a block alone would be averaged, and the music lost."""
    m = loud(music())
    parts = [(m + drums(level), -m + drums(level)) for level in (0.2, 0.7, 0.2)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        alone = mix_down(np.stack(parts[1], 1).astype(np.float32), 16000)
        assert not caught and np.allclose(alone, drums(0.7), atol=1e-6)
        mixer = Mixer(16000)
        blocks = [mixer.mix(np.stack(part, 1).astype(np.float32)) for part in parts]
    ways = [
        [np.allclose(block, part[way], atol=1e-6) for way in range(2)]
        for block, part in zip(blocks, parts, strict=True)
    ]
    assert ways in ([[True, False]] * 3, [[False, True]] * 3)
    assert len(caught) == 1  # for the whole song


def test_a_song_whose_channels_cancel_at_the_beginning_alone_is_averaged_behind():
    m, other = loud(music()), loud(music(10))
    mixer = Mixer(16000)
    with pytest.warns(AudioWarning):
        mixer.mix(np.stack([m, -m], 1))
    assert np.array_equal(mixer.mix(np.zeros((100, 2), np.float32)), np.zeros(100))
    assert np.allclose(mixer.mix(np.stack([m, other], 1)), (m + other) / 2, atol=1e-6)
