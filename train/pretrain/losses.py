"""The two losses of MT2, and numbers that tell how healthy a representation is. Pure functions of tensors."""

import math

import torch
from torch import Tensor

EQUAL_ROWS = 1e-2  # rows that differ by less, relative to their length, count as collapsed
CIRCLE_OF_FIFTHS = 7  # a semitone turns the profile by 7 twelfths of the circle, a fifth by one


def profile_phase(profile: Tensor) -> Tensor:
    """Map profiles over 12 key signatures to points of the disc spanned by the circle of fifths.

    Args:
        profile: (..., 12), non-negative, each summing to 1.

    Returns:
        Real and imaginary part, (..., 2): on the unit circle for a one-hot profile, at 0 for a uniform one. Real
        arithmetic, because not every device has complex numbers.

    Raises:
        ValueError: the last axis is not 12 long.
    """
    if profile.shape[-1] != 12:
        raise ValueError(f"a profile has 12 values on its last axis, got shape {tuple(profile.shape)}")
    angles = 2 * math.pi * CIRCLE_OF_FIFTHS * torch.arange(12, device=profile.device) / 12
    profile = profile.float()
    # Sums, not a matrix product: autocast would round that to half precision.
    return torch.stack([(profile * angles.cos()).sum(-1), (profile * angles.sin()).sum(-1)], dim=-1)


def transposition_distance(profile: Tensor, transposed: Tensor, semitones: Tensor) -> Tensor:
    """Measure how far a second profile is from being the first one, transposed.

    Args:
        profile: (B, 12).
        transposed: (B, 12), of the same music pitched up by `semitones`.
        semitones: (B,), of any sign.

    Returns:
        (B,), |exp(2 pi i 7 c / 12) - z' conj(z)|^2: 0 for one-hot profiles that follow the transposition, 1 when
        either profile is uniform, up to 4 for one-hot profiles half a circle apart.

    Source: cross-power spectral density loss, Kong et al. 2024 (STONE, arXiv:2407.07408).
    """
    first, second = profile_phase(profile), profile_phase(transposed)
    cross_real = (first * second).sum(-1)
    cross_imag = second[..., 1] * first[..., 0] - second[..., 0] * first[..., 1]
    angle = 2 * math.pi * CIRCLE_OF_FIFTHS * semitones / 12
    return (angle.cos() - cross_real).square() + (angle.sin() - cross_imag).square()


def cpsd_loss(
    profile_a: Tensor,
    profile_b: Tensor,
    profile_a_transposed: Tensor,
    semitones: Tensor,
    semitones_b: Tensor | None = None,
    two_window_weight: float = 1.0,
) -> Tensor:
    """Ask that profiles turn with the music: the same for two windows of a song, rotated for a transposed one.

    Args:
        profile_a, profile_b: profiles of two windows of each song, (B, 12).
        profile_a_transposed: profiles of window A pitched up by `semitones`, (B, 12).
        semitones: (B,), pitch of the transposed view above view A.
        semitones_b: (B,), pitch of view B above view A; 0 when left out, as published.
        two_window_weight: weight of the two terms that compare different windows, against 1 for the term within A.

    Returns:
        Scalar mean over the batch; 0 for ideal one-hot profiles, 3 for uniform ones with equal weights.

    Raises:
        ValueError: the shapes differ.

    Source: Kong et al. 2025 (arXiv:2507.12996) and 2024 (arXiv:2407.07408); both options are ours.
    """
    shapes = {tuple(profile.shape) for profile in (profile_a, profile_b, profile_a_transposed)}
    if len(shapes) > 1 or semitones.shape != profile_a.shape[:1]:
        raise ValueError(
            f"profiles must have one shape (batch, 12) and semitones (batch,), got {sorted(shapes)} and "
            f"{tuple(semitones.shape)}"
        )
    if semitones_b is None:
        semitones_b = torch.zeros_like(semitones)
    within = transposition_distance(profile_a, profile_a_transposed, semitones)
    across = transposition_distance(profile_a, profile_b, semitones_b)
    across = across + transposition_distance(profile_b, profile_a_transposed, semitones - semitones_b)
    return (within + two_window_weight * across).mean()


def nt_xent_loss(projection_a: Tensor, projection_b: Tensor, temperature: float = 0.1) -> Tensor:
    """Pull two windows of one song together and push other songs away.

    Args:
        projection_a, projection_b: projections of the two windows, (B, P), any scale; row i of both is song i.
        temperature: of the softmax over cosines, above 0.

    Returns:
        Scalar mean over 2 B anchors, each against the 2 B - 1 other rows; log(2 B - 1) when all rows are equal.

    Raises:
        ValueError: shapes differ, fewer than two songs (no negatives), or a temperature not above 0.

    Source: normalised temperature-scaled cross-entropy, Chen et al. 2020 (SimCLR), as used by Kong et al. 2025.
        Gathering rows from other processes is the caller's job.
    """
    if projection_a.shape != projection_b.shape or projection_a.ndim != 2:
        raise ValueError(
            f"projections must have one shape (batch, size), got {tuple(projection_a.shape)} and "
            f"{tuple(projection_b.shape)}"
        )
    num_songs = len(projection_a)
    if num_songs < 2:
        raise ValueError("a contrastive loss needs at least two songs in a batch: there are no negatives")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    rows = torch.nn.functional.normalize(torch.cat([projection_a, projection_b]).float(), dim=-1)
    with torch.autocast(rows.device.type, enabled=False):
        similarity = rows @ rows.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * num_songs, dtype=torch.bool, device=rows.device), -torch.inf)
    partner = torch.arange(2 * num_songs, device=rows.device).roll(num_songs)
    return torch.nn.functional.cross_entropy(similarity, partner)


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
    singular = torch.linalg.svdvals(centred)
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
    return torch.nn.functional.pdist(unit).square().mul(-2).exp().mean().log()


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
