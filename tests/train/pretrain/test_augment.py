"""Augmentation: nothing by default, what it says otherwise, and the same for the same draws."""

import numpy as np
import pytest
import torch

from mt2_music.train.data.windows import NUM_DRAWS
from mt2_music.train.pretrain.augment import EQUALIZER_HZ, LOW_PASS_HZ, NOISE_SNR_DB, Augmentation
from support import RATE, tone


def draws(windows, **fixed):
    """Draws of one half, but for some columns."""
    numbers = torch.full((windows, NUM_DRAWS), 0.5)
    for column, value in fixed.items():
        numbers[:, int(column[1:])] = value
    return numbers


def level_db(waveforms):
    return 10 * torch.log10(waveforms.double().square().mean(1))


def test_nothing_is_changed_by_default():
    windows = torch.randint(-(2**15), 2**15, (2, 800), dtype=torch.int16)
    features = torch.rand(2, 9, 5)
    plain = Augmentation()
    assert plain.waveforms(windows, torch.rand(2, NUM_DRAWS), RATE) is windows
    assert plain.frames(features, torch.rand(2, NUM_DRAWS)) is features


def test_gain_is_in_decibels_and_int16_means_full_scale():
    windows = torch.from_numpy(np.stack([tone(440), tone(440)]))
    louder = Augmentation(gain_db=6).waveforms(windows, draws(2, c6=1.0), RATE)
    assert torch.allclose(level_db(louder) - level_db(windows), torch.tensor(6.0, dtype=torch.double), atol=1e-3)
    integers = (windows * 32767).round().to(torch.int16)
    unchanged = Augmentation(gain_db=6).waveforms(integers, draws(2), RATE)
    assert torch.allclose(unchanged, windows, atol=1e-4)


def test_band_limits_take_what_lies_outside_and_leave_the_rest():
    windows = torch.from_numpy(np.stack([tone(f) for f in (50, 1000, 7000, 7000)]))
    numbers = draws(4, c0=0.0, c1=1.0)  # 2000 Hz and 300 Hz
    numbers[3, 2] = 0.9  # not chosen
    change = level_db(Augmentation(band_share=0.8).waveforms(windows, numbers, RATE)) - level_db(windows)
    assert change[0] < -20 and change[2] < -20
    assert abs(change[1]) < 0.1 and abs(change[3]) < 1e-6
    octave_above = torch.from_numpy(tone(2 * LOW_PASS_HZ[0])[None])
    fall = level_db(Augmentation(band_share=1).waveforms(octave_above, draws(1, c0=0.0, c1=0.0), RATE))
    assert float(fall - level_db(octave_above)) == pytest.approx(-24, abs=0.5)  # of a 4th-order filter


def test_the_equalizer_lifts_each_band_by_what_was_drawn_for_it():
    windows = torch.from_numpy(np.stack([tone(f) for f in (*EQUALIZER_HZ, 480)]))
    numbers = draws(6, c12=1.0, c13=0.0)  # 960 Hz up, 2400 Hz down, the others as they were
    change = level_db(Augmentation(equalizer_db=8).waveforms(windows, numbers, RATE)) - level_db(windows)
    assert torch.allclose(change, torch.tensor([0, 0, 8, -8, 0, 4], dtype=torch.double), atol=0.1)


@pytest.mark.parametrize(("draw", "snr_db"), [(0.0, NOISE_SNR_DB[0]), (1.0, NOISE_SNR_DB[1])])
def test_noise_lies_below_the_window_by_the_drawn_ratio(draw, snr_db):
    windows = torch.from_numpy(np.stack([tone(440), 0.01 * tone(440)]))
    noise = Augmentation(noise_share=1).waveforms(windows, draws(2, c4=draw), RATE) - windows
    assert torch.allclose(level_db(windows) - level_db(noise), torch.tensor(snr_db, dtype=torch.double), atol=0.3)


def test_hidden_frames_are_one_stretch_of_silence():
    features = torch.ones(64, 100, 3)
    hidden = Augmentation(mask_share=0.4).frames(features, torch.rand(64, NUM_DRAWS))[:, :, 0] == 0
    assert 1 < hidden.sum(1).float().mean() < 40 and hidden.sum(1).max() <= 41
    assert (hidden.int().diff(dim=1) == 1).sum(1).max() <= 1


def test_the_same_draws_change_a_window_alone_as_in_a_batch():
    windows, numbers = torch.randn(5, 4000), torch.rand(5, NUM_DRAWS)
    everything = Augmentation(gain_db=6, band_share=0.7, noise_share=0.7)
    together = everything.waveforms(windows, numbers, RATE)
    alone = torch.cat([everything.waveforms(windows[i : i + 1], numbers[i : i + 1], RATE) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(together, windows, atol=1e-3)


def test_an_effect_of_ones_own_gets_a_generator_that_follows_the_draws():
    def shaken(waveforms, rate, generator):
        assert rate == RATE
        return waveforms + torch.rand(waveforms.shape, generator=generator)

    windows, numbers = torch.zeros(3, 10), torch.rand(3, NUM_DRAWS)
    own = Augmentation(effect=shaken)
    assert torch.equal(own.waveforms(windows, numbers, RATE), own.waveforms(windows, numbers, RATE))
    assert not torch.equal(own.waveforms(windows, numbers, RATE), own.waveforms(windows, numbers + 0.01, RATE))
    with pytest.raises(ValueError, match=r"made \(3, 5\) of \(3, 10\)"):
        Augmentation(effect=lambda waveforms, rate, generator: waveforms[:, :5]).waveforms(windows, numbers, RATE)


@pytest.mark.parametrize(("setting", "value"), [("band_share", 1.5), ("mask_share", -0.1), ("gain_db", -1)])
def test_impossible_strengths_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        Augmentation(**{setting: value})
