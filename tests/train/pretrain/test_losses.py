"""Losses: ideal cases, wrong signs, collapse, and an independent implementation in NumPy."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from mt2_music.train.pretrain.losses import (
    TEMPO_RANGE,
    alignment,
    cepstral_statistics,
    cpsd_loss,
    effective_rank,
    frame_nt_xent_loss,
    nt_xent_loss,
    profile_phase,
    reading_loss,
    spectral_shape,
    spread,
    tempo_loss,
    transposition_distance,
    uniformity,
)


def one_hot(indices):
    return torch.nn.functional.one_hot(torch.as_tensor(indices) % 12, 12).float()


def random_profiles(batch=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, batch, 12, generator=generator).mul(3).softmax(-1)


def numpy_cpsd(a, b, t, c, c_b, weight):
    turn = np.exp(2j * np.pi * 7 * np.arange(12) / 12)
    za, zb, zt = ((np.asarray(y, dtype=np.float64) * turn).sum(1) for y in (a, b, t))

    def distance(z, z2, semitones):
        return np.abs(np.exp(2j * np.pi * 7 * np.asarray(semitones) / 12) - z2 * np.conj(z)) ** 2

    return np.mean(distance(za, zt, c) + weight * (distance(za, zb, c_b) + distance(zb, zt, c - c_b)))


def test_a_profile_that_follows_the_transposition_is_ideal_and_the_opposite_sign_is_not():
    key, semitones = torch.arange(12), torch.tensor([1, -1, 2, 3, -4, 5, 6, -7, 8, 1, 2, 11])
    follows = cpsd_loss(one_hot(key), one_hot(key), one_hot(key + semitones), semitones)
    opposite = cpsd_loss(one_hot(key), one_hot(key), one_hot(key - semitones), semitones)
    assert follows == pytest.approx(0, abs=1e-6)
    assert opposite > 1
    moved_b = cpsd_loss(one_hot(key), one_hot(key + 2), one_hot(key + semitones), semitones, torch.full((12,), 2))
    assert moved_b == pytest.approx(0, abs=1e-6)


def test_the_loss_is_three_when_collapsed_and_does_not_know_absolute_keys():
    uniform = torch.full((4, 12), 1 / 12)
    assert cpsd_loss(uniform, uniform, uniform, torch.tensor([1, 2, 3, 4])) == pytest.approx(3)
    a, b, t = random_profiles()
    c = torch.arange(6)
    rotated = cpsd_loss(a.roll(5, -1), b.roll(5, -1), t.roll(5, -1), c)
    assert rotated == pytest.approx(float(cpsd_loss(a, b, t, c)), abs=1e-6)


@pytest.mark.parametrize(("c_b", "weight"), [(0, 1.0), (0, 0.1), (3, 1.0)])
def test_cpsd_equals_the_complex_formula(c_b, weight):
    a, b, t = random_profiles()
    c = torch.tensor([1, -5, 11, 4, 0, 7])
    got = cpsd_loss(a, b, t, c, torch.full((6,), c_b), weight)
    assert float(got) == pytest.approx(numpy_cpsd(a, b, t, c.numpy(), c_b, weight), abs=1e-6)


def test_a_fifth_is_the_smallest_step_of_the_circle():
    distances = [float(transposition_distance(one_hot([0]), one_hot([c]), torch.zeros(1))) for c in range(12)]
    assert sorted(range(12), key=distances.__getitem__)[:3] in ([0, 5, 7], [0, 7, 5])
    assert max(distances) == pytest.approx(distances[6]) == pytest.approx(4)


def test_phase_lies_on_the_unit_circle():
    assert torch.allclose(profile_phase(one_hot(range(12))).norm(dim=-1), torch.ones(12))
    assert torch.allclose(profile_phase(torch.full((1, 12), 1 / 12)), torch.zeros(1, 2), atol=1e-6)


def of_pairs(a, b, temperature=0.1):
    """The contrastive loss of two windows a song."""
    return nt_xent_loss(torch.cat([a, b]), torch.arange(len(a)).repeat(2), temperature)


def test_nt_xent_equals_its_definition_and_its_value_at_collapse():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 8, generator=generator)
    rows = np.concatenate([a, b]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = np.exp(rows @ rows.T / 0.1)
    np.fill_diagonal(similarity, 0)
    partners = similarity[np.arange(10), (np.arange(10) + 5) % 10]
    assert float(of_pairs(a, b)) == pytest.approx(-np.log(partners / similarity.sum(1)).mean(), rel=1e-5)
    assert float(of_pairs(7 * a, b)) == pytest.approx(float(of_pairs(a, b)), rel=1e-5)
    equal = torch.ones(5, 8)
    assert float(of_pairs(equal, equal)) == pytest.approx(math.log(9), rel=1e-5)
    assert of_pairs(a, a) < of_pairs(a, a.roll(1, 0))
    labels = torch.arange(5).repeat(2)
    assert torch.equal(nt_xent_loss(torch.cat([a, b]), labels[:, None] == labels), of_pairs(a, b))


def test_rows_without_a_positive_are_negatives_alone():
    rows = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    similarity = (
        torch.nn.functional.normalize(rows, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T / 0.1
    ).exp()
    share = similarity.fill_diagonal_(0) / similarity.sum(1, keepdim=True)
    want = -torch.stack([share[0, 1], share[1, 0], share[2, 3], share[3, 2]]).log().mean()
    assert float(nt_xent_loss(rows, labels)) == pytest.approx(float(want), rel=1e-5)
    assert nt_xent_loss(rows, torch.arange(6)) == 0  # nobody has one
    three = -(share[0, 1] * share[0, 2]).log() / 2  # the mean over positives lies outside the logarithm
    third = -(share[1, 0] * share[1, 2]).log() / 2 - (share[2, 0] * share[2, 1]).log() / 2
    got = nt_xent_loss(rows, torch.tensor([0, 0, 0, 1, 2, 3]))
    assert float(got) == pytest.approx(float(three + third) / 3, rel=1e-5)


def test_frames_of_one_instant_belong_together_and_all_others_apart():
    generator = torch.Generator().manual_seed(0)
    distinct = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q[:15].unflatten(0, (3, 5))
    loss, accuracy = frame_nt_xent_loss(distinct, 3 * distinct)
    assert loss < 0.01 and accuracy == 1
    for wrong in (distinct.roll(1, 0), distinct.roll(1, 1)):  # another song; another instant of the same song
        loss, accuracy = frame_nt_xent_loss(distinct, wrong)
        assert loss > 5 and accuracy == 0
    loss, _ = frame_nt_xent_loss(torch.ones(3, 5, 4), torch.ones(3, 5, 4))
    assert float(loss) == pytest.approx(math.log(15), rel=1e-5)
    one, other = torch.randn(2, 3, 5, 8, generator=generator)
    loss, accuracy = frame_nt_xent_loss(one, other, 0.5)
    assert all(map(torch.isclose, (loss, accuracy), frame_nt_xent_loss(2 * one, other, 0.5)))
    assert torch.isclose(loss, frame_nt_xent_loss(other, one, 0.5)[0])
    first, second = (x.reshape(15, 8).double().numpy() for x in (one, other))
    cosines = first @ second.T / np.linalg.norm(first, axis=1)[:, None] / np.linalg.norm(second, axis=1)
    forth, back = (np.exp(cosines / 0.5) / np.exp(cosines / 0.5).sum(axis, keepdims=True) for axis in (1, 0))
    want = -np.log(np.diag(forth)).mean() / 2 - np.log(np.diag(back)).mean() / 2
    assert float(loss) == pytest.approx(want, rel=1e-5)
    assert float(accuracy) == pytest.approx((cosines.argmax(1) == np.arange(15)).mean())


def test_the_tempo_loss_is_least_for_the_true_class_and_leaves_out_rows_of_no_tempo():
    classes = np.geomspace(*TEMPO_RANGE, 64)
    tempos = torch.tensor([40.0, 97.0, 240.0, 0.0])
    bells = np.exp(-((np.log(classes[None] / tempos[:3, None].numpy()) / 0.03) ** 2) / 2)
    bells = torch.tensor(bells / bells.sum(1, keepdims=True)).float()
    perfect = torch.cat([(bells + 1e-12).log(), torch.randn(1, 64)])
    loss, accuracy = tempo_loss(perfect, tempos)
    entropy = torch.distributions.Categorical(bells).entropy().mean()
    assert float(loss) == pytest.approx(float(entropy), abs=1e-4) and float(accuracy) == 1
    assert float(tempo_loss(torch.zeros(4, 64), tempos)[0]) == pytest.approx(np.log(64), abs=1e-5)
    wrong, none_right = tempo_loss(perfect, 1.1 * tempos.clamp(max=200))
    assert wrong > loss + 2 and none_right == 0
    assert [float(value) for value in tempo_loss(perfect, torch.zeros(4))] == [0, 0]
    with pytest.raises(ValueError, match="tempos"):
        tempo_loss(perfect, tempos[:3])


def test_cepstral_statistics_are_those_of_scipy_and_do_not_know_the_level():
    mel = torch.rand(3, 20, 128, generator=torch.Generator().manual_seed(0))
    cepstrum = scipy.fft.dct(mel.double().numpy(), type=2, norm="ortho", axis=-1)[..., 1:14]
    want = np.concatenate([cepstrum.mean(1), cepstrum.std(1)], axis=1)
    assert np.abs(cepstral_statistics(mel, 13).numpy() - want).max() < 1e-5
    assert torch.allclose(cepstral_statistics(mel + 0.3, 13), cepstral_statistics(mel, 13), atol=1e-5)
    steady = cepstral_statistics(mel[:, :1].expand(-1, 20, -1), 13)
    assert torch.allclose(steady[:, 13:], torch.zeros(3, 13), atol=1e-5)


def test_the_shape_of_a_spectrum_is_its_direction():
    cqt = torch.rand(3, 20, 84, generator=torch.Generator().manual_seed(0))
    mean = cqt.double().numpy().mean(1)
    assert np.abs(spectral_shape(cqt).numpy() - mean / np.linalg.norm(mean, axis=1, keepdims=True)).max() < 1e-6
    assert torch.allclose(spectral_shape(0.1 * cqt), spectral_shape(cqt), atol=1e-6)
    assert not spectral_shape(torch.zeros(1, 4, 84)).any()


def test_the_loss_of_the_cepstrum_is_none_for_perfect_estimates_and_one_for_ignorance():
    statistics = 5 + 3 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    deviation, mean = torch.std_mean(statistics, 0, correction=0)
    perfect = (statistics - mean) / deviation
    assert float(reading_loss(perfect, statistics)) == pytest.approx(0, abs=1e-5)
    assert float(reading_loss(torch.zeros(64, 10), statistics)) == pytest.approx(1, abs=1e-2)
    assert float(reading_loss(perfect.roll(1, 0), statistics)) > 1.5
    assert float(reading_loss(perfect, 7 * statistics)) == pytest.approx(0, abs=1e-5)
    assert reading_loss(torch.zeros(4, 10), torch.ones(4, 10)) == 0  # windows that all sound the same


def test_losses_are_float32_and_finite_under_autocast():
    a, b, t = random_profiles()
    frames = a[:, None], b[:, None]

    def losses():
        return (
            cpsd_loss(a, b, t, torch.ones(6)),
            of_pairs(a, b),
            frame_nt_xent_loss(*frames)[0],
            tempo_loss(a, torch.tensor([90.0] * 3 + [60.0] * 3))[0],
            reading_loss(a[:, :10], cepstral_statistics(torch.stack([b, t], 1), 5)),
        )

    want = losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = losses()
    assert all(torch.equal(x, y) and x.dtype == torch.float32 for x, y in zip(got, want, strict=True))
    silent = torch.zeros(4, 8, requires_grad=True)
    of_pairs(silent, silent).backward()
    assert torch.isfinite(silent.grad).all()


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    assert effective_rank(torch.randn(4096, 8, generator=generator) @ basis[:8]) == pytest.approx(8, rel=0.01)
    line = torch.randn(100, 1, generator=generator) * basis[:1]
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.ones(10, 4)) == 0
    noise = torch.ones(10, 64) + 1e-3 * torch.randn(10, 64, generator=generator)
    assert effective_rank(noise) == 0  # equal but for noise is collapse, not diversity


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpsd_loss(torch.ones(2, 12), torch.ones(3, 12), torch.ones(2, 12), torch.ones(2)), "one shape"),
        (lambda: cpsd_loss(torch.ones(2, 12), torch.ones(2, 12), torch.ones(2, 12), torch.ones(3)), "semitones"),
        (lambda: profile_phase(torch.ones(2, 24)), "12 values"),
        (lambda: nt_xent_loss(torch.ones(4, 4), torch.ones(3)), "rows, size"),
        (lambda: nt_xent_loss(torch.ones(2, 4), torch.ones(2)), "no negatives"),
        (lambda: nt_xent_loss(torch.ones(4, 4), torch.ones(4), 0), "temperature"),
        (lambda: nt_xent_loss(torch.ones(4, 4), torch.ones(4, 3)), "rows, size"),
        (lambda: frame_nt_xent_loss(torch.ones(2, 3, 4), torch.ones(2, 4, 4)), "one shape"),
        (lambda: frame_nt_xent_loss(torch.ones(6, 4), torch.ones(6, 4)), "one shape"),
        (lambda: frame_nt_xent_loss(torch.ones(1, 1, 4), torch.ones(1, 1, 4)), "two instants"),
        (lambda: frame_nt_xent_loss(torch.ones(2, 3, 4), torch.ones(2, 3, 4), 0), "temperature"),
    ],
)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_alignment_uniformity_and_spread_know_their_extremes():
    rows = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    equal = torch.ones(8, 64)
    assert float(alignment(rows, 3 * rows)) == pytest.approx(0, abs=1e-6)
    assert float(alignment(rows, -rows)) == pytest.approx(4, abs=1e-5)
    assert float(uniformity(equal)) == pytest.approx(0, abs=1e-6)
    assert float(spread(equal)) == pytest.approx(0, abs=1e-6)
    assert float(spread(rows)) == pytest.approx(1, abs=0.02)
    unit = rows[:6].double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = [math.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(6) for j in range(i)]
    assert float(uniformity(rows[:6])) == pytest.approx(math.log(np.mean(pairs)), abs=1e-5)
