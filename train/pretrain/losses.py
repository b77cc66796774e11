"""Losses of pre-training: CPSD and NT-Xent are defined in modeling_mt2/modeling_mt2.py, all others here.

`cpsd_loss` and `nt_xent_loss` are the two of the paper. `MT2ForPreTraining` computes them too, so they are part of the
file that goes to the Hub; here they are only passed on. What is defined here our recipe adds: losses, and numbers that
tell how healthy a representation is. All are pure functions of tensors.
"""

import math

import torch
from torch import Tensor

from mt2_music.modeling_mt2 import cpsd_loss, nt_xent_loss, profile_phase, transposition_distance

EQUAL_ROWS = 1e-2  # rows that differ by less, relative to their length, count as collapsed
TEMPO_RANGE = (40.0, 240.0)  # beats per minute; what lies outside counts as the nearest
TEMPO_DEVIATION = 0.03  # of the bell around a tempo, in units of its logarithm: about 3 %


def frame_nt_xent_loss(frames: Tensor, others: Tensor, temperature: float = 0.1) -> tuple[Tensor, Tensor]:
    """Pull the same instant of one score, played by two orchestrations, together, and push all other instants away.

    Instants of the same song are negatives too, so that not only harmony is learned but also where in the bar it is.

    Args:
        frames: projected frames of scores, (B, T, P), any scale.
        others: the same instants of the same scores by other orchestrations, (B, T, P).
        temperature: of the softmax over cosines, above 0.

    Returns:
        Scalar mean over all B * T instants, in both directions, log(B * T) when all rows are equal; and the share of
        instants whose nearest other is the right one.

    Raises:
        ValueError: the shapes differ, fewer than two instants, or a temperature not above 0.

    Source: dense contrastive learning, Wang et al. 2021 (arXiv:2011.09157); what is paired is ours.
    """
    if frames.shape != others.shape or frames.ndim != 3 or frames[..., 0].numel() < 2:
        raise ValueError(
            "frames must have one shape (songs, instants, size), two instants at least, got "
            f"{tuple(frames.shape)} and {tuple(others.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    first, second = (torch.nn.functional.normalize(rows.float().flatten(0, 1), dim=-1) for rows in (frames, others))
    with torch.autocast(first.device.type, enabled=False):
        similarity = first @ second.T / temperature
    own = torch.arange(len(first), device=first.device)
    directions = [torch.nn.functional.cross_entropy(rows, own) for rows in (similarity, similarity.T)]
    accuracy = (similarity.detach().argmax(1) == own).float().mean()
    return (directions[0] + directions[1]) / 2, accuracy


def tempo_loss(logits: Tensor, tempos: Tensor) -> tuple[Tensor, Tensor]:
    """Read the tempo of a score off its windows, as one of classes that are evenly spaced in octaves.

    Args:
        logits: of classes from the lowest to the highest of `TEMPO_RANGE`, (R, C), C at least 2.
        tempos: beats per minute of every row, (R,), 0 where unknown; such rows have no weight.

    Returns:
        Scalar cross-entropy to a bell around the true tempo, `TEMPO_DEVIATION` wide, 0 if no row has one; and the
        share of rows whose likeliest class is within 4 % of it.

    Raises:
        ValueError: the shapes do not fit.

    Source: tempo as classes, Schreiber & Müller 2018 (ISMIR); soft classes are ours.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or tempos.shape != logits.shape[:1]:
        raise ValueError(f"logits must be (rows, classes), tempos (rows,), got {(*logits.shape,)}, {(*tempos.shape,)}")
    lowest, highest = (math.log(tempo) for tempo in TEMPO_RANGE)
    classes = torch.linspace(lowest, highest, logits.shape[1], device=logits.device)
    known = (tempos > 0).float()
    log_tempos = tempos.float().clamp(min=1.0).log()
    distances = (classes[None] - log_tempos.clamp(lowest, highest)[:, None]) / TEMPO_DEVIATION
    targets = (-distances.square() / 2).softmax(dim=1)
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    right = (classes[logits.detach().argmax(1)] - log_tempos).abs() < math.log(1.04)
    count = known.sum().clamp(min=1)
    return (losses * known).sum() / count, (right.float() * known).sum() / count


def cepstral_statistics(mel: Tensor, num_coefficients: int) -> Tensor:
    """Compute mean and deviation over time of the cepstrum, without the coefficient of the level.

    Args:
        mel: mel bands in dB, (B, T, M).
        num_coefficients: how many, from the first after the level's.

    Returns:
        (B, 2 * num_coefficients), float32.

    Source: mel-frequency cepstral coefficients, Davis & Mermelstein 1980; orthonormal cosine transform of type II.
    """
    bands = torch.arange(mel.shape[-1], device=mel.device)
    orders = torch.arange(1, num_coefficients + 1, device=mel.device)
    basis = (math.pi / mel.shape[-1] * (bands[:, None] + 0.5) * orders[None]).cos() * math.sqrt(2 / mel.shape[-1])
    with torch.autocast(mel.device.type, enabled=False):
        cepstrum = mel.float() @ basis
    return torch.cat([cepstrum.mean(1), cepstrum.std(1, correction=0)], dim=1)


def spectral_shape(cqt: Tensor) -> Tensor:
    """Compute the mean spectrum over time, without its level.

    Args:
        cqt: constant-Q bins, not negative, (B, T, Q).

    Returns:
        (B, Q), float32, of unit length; 0 for silence.
    """
    return torch.nn.functional.normalize(cqt.float().mean(1), dim=-1)


def reading_loss(estimates: Tensor, statistics: Tensor) -> Tensor:
    """Ask that a token still says what its window sounded like: statistics of it by one linear layer.

    Args:
        estimates: read off the token, (B, S).
        statistics: from `cepstral_statistics` or `spectral_shape`, (B, S); they are brought to mean 0 and deviation 1
            over the batch.

    Returns:
        Scalar mean square: 0 for perfect estimates, 1 for those of a token that knows nothing.
    """
    deviation, mean = torch.std_mean(statistics.float(), dim=0, correction=0)
    return (estimates.float() - (statistics - mean) / (deviation + 1e-3)).square().mean()


def effective_rank(embeddings: Tensor) -> Tensor:
    """Count the directions that embeddings really use: the exponential of the entropy of their singular values.

    Args:
        embeddings: (B, D).

    Returns:
        Scalar from 1 (all on one line) to min(B - 1, D); 0 when rows are equal but for `EQUAL_ROWS` of their length.

    Source: Roy & Vetterli 2007, on centred rows.
    """
    centred = embeddings.float() - embeddings.float().mean(0)
    if centred.norm() <= EQUAL_ROWS * embeddings.float().norm():
        return centred.new_zeros(())
    # On the CPU: not every device has the singular value decomposition, and this is computed for the log alone.
    singular = torch.linalg.svdvals(centred.cpu()).to(centred.device)
    share = singular / singular.sum()
    return (-(share * share.clamp(min=1e-12).log()).sum()).exp()


def alignment(projection_a: Tensor, projection_b: Tensor) -> Tensor:
    """Measure how far apart two windows of a song lie: the mean squared distance of their unit vectors.

    Args:
        projection_a, projection_b: (B, P); row i of both is song i.

    Returns:
        Scalar from 0 (a song is one point) to 4; about 2 for unrelated directions.

    Source: Wang & Isola 2020, Understanding contrastive representation learning (arXiv:2005.10242), with exponent 2.
    """
    first, second = (torch.nn.functional.normalize(rows.float(), dim=-1) for rows in (projection_a, projection_b))
    return (first - second).square().sum(-1).mean()


def uniformity(projections: Tensor) -> Tensor:
    """Measure how evenly songs cover the sphere: the log of the mean Gaussian potential between their unit vectors.

    Args:
        projections: one row a song, (B, P), B at least 2.

    Returns:
        Scalar from 0 (all songs are one point) down to about -4 for an even spread in many dimensions.

    Source: Wang & Isola 2020 (arXiv:2005.10242), with t = 2.
    """
    unit = torch.nn.functional.normalize(projections.float(), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):
        squares = (2 - 2 * unit @ unit.T).clamp(min=0)  # not `pdist`, which not every device has
    potential = (-2 * squares).exp()
    num_rows = len(unit)
    return ((potential.sum() - potential.diagonal().sum()) / (num_rows * (num_rows - 1))).log()


def spread(embeddings: Tensor) -> Tensor:
    """Measure how much each dimension varies from song to song.

    Args:
        embeddings: (B, D).

    Returns:
        Scalar: standard deviation over songs of unit-length rows, averaged over dimensions, times sqrt(D); 0 when all
        rows are equal, near 1 when they point everywhere.

    Source: the check for collapse of Chen & He 2021 (SimSiam, arXiv:2011.10566).
    """
    unit = torch.nn.functional.normalize(embeddings.float(), dim=-1)
    return unit.std(0, correction=0).mean() * math.sqrt(embeddings.shape[1])


__all__ = [
    "alignment",
    "cepstral_statistics",
    "cpsd_loss",
    "effective_rank",
    "frame_nt_xent_loss",
    "nt_xent_loss",
    "profile_phase",
    "reading_loss",
    "spectral_shape",
    "spread",
    "tempo_loss",
    "transposition_distance",
    "uniformity",
]
