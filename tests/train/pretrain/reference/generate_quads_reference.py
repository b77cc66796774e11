"""Write quads.npz: outputs of a model on one made-up batch, and the losses that the prototype of the recipe has there.

The formulas are those of `train_quads.py`, the script that the recipe comes from, written anew in NumPy with loops and
in its own order of rows: first songs of all quads, second songs of all quads, recordings; among quads, single
instruments last. They share no code with the package, and are to be changed only where the prototype was misread.

Run by hand: `python tests/train/pretrain/reference/generate_quads_reference.py`.
"""

import math
from pathlib import Path

import numpy as np

QUADS, SOLO_QUADS, RECORDINGS = 4, 2, 4
SONGS, OF_QUADS = 2 * QUADS + RECORDINGS, 2 * QUADS
FRAMES, INSTANTS, START = 26, 6, 2  # frames of a window, how many are compared, and which is the first
GAIN, TEMPERATURE = 2.0, 0.1
erf = np.vectorize(math.erf)


def gelu(x: np.ndarray) -> np.ndarray:
    """Weigh values by the share of a normal distribution below them."""
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def unit(rows: np.ndarray) -> np.ndarray:
    """Bring rows to length 1."""
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


def minus_log_share(scores: np.ndarray, chosen: int) -> float:
    """Minus the log of one score's share in a softmax."""
    return float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[chosen])


def cpsd(logits: np.ndarray, of_b: np.ndarray, of_c: np.ndarray) -> tuple[float, float]:
    """Centre logits (3, songs, 12) over all rows, and compare profiles as points of the circle of fifths.

    Returns:
        The loss, and the mean distance of profiles from the centre of the circle.
    """
    rows = logits.reshape(-1, 12)
    centred = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    profiles = np.exp(GAIN * centred)
    profiles /= profiles.sum(1, keepdims=True)
    points = (profiles @ np.exp(2j * np.pi * 7 * np.arange(12) / 12)).reshape(3, -1)
    total = 0.0
    for a, b, c, up_b, up_c in zip(*points, of_b, of_c, strict=True):
        for first, second, semitones in ((a, c, up_c), (a, b, up_b), (b, c, up_c - up_b)):
            total += abs(np.exp(2j * np.pi * 7 * semitones / 12) - second * np.conj(first)) ** 2
    return total / logits.shape[1], float(np.abs(points).mean())


def several_positives(rows: np.ndarray, labels: np.ndarray) -> float:
    """Average minus log shares among all other rows, over the rows of the same label, and over rows."""
    scores = unit(rows) @ unit(rows).T / TEMPERATURE
    of_rows = []
    for own in range(len(rows)):
        others = [other for other in range(len(rows)) if other != own]
        same = [place for place, other in enumerate(others) if labels[other] == labels[own]]
        of_rows.append(np.mean([minus_log_share(scores[own, others], place) for place in same]))
    return float(np.mean(of_rows))


def one_positive(rows: np.ndarray) -> float:
    """The same where only the other window of a song is a positive, and windows Y are negatives alone."""
    scores = unit(rows) @ unit(rows).T / TEMPERATURE
    of_rows = []
    for own in range(2 * SONGS):
        others = [other for other in range(len(rows)) if other != own]
        of_rows.append(minus_log_share(scores[own, others], others.index((own + SONGS) % (2 * SONGS))))
    return float(np.mean(of_rows))


def between_orchestrations(first: np.ndarray, second: np.ndarray, head: dict[str, np.ndarray]) -> tuple[float, float]:
    """Compare evenly spaced instants of two orchestrations, in both directions; also the share that is nearest."""
    instants = START + FRAMES // INSTANTS * np.arange(INSTANTS)

    def project(frames: np.ndarray) -> np.ndarray:
        hidden = gelu(frames[:, instants] @ head["0.weight"].T + head["0.bias"])
        return unit((hidden @ head["2.weight"].T + head["2.bias"]).reshape(OF_QUADS * INSTANTS, -1))

    scores = project(first) @ project(second).T / TEMPERATURE
    both = [minus_log_share(rows[own], own) for rows in (scores, scores.T) for own in range(len(scores))]
    return float(np.mean(both)), float(np.mean(scores.argmax(1) == np.arange(len(scores))))


def main() -> None:
    """Draw a batch whose pairs are alike but not equal."""
    rng = np.random.default_rng(0)

    def alike(shape: tuple[int, ...], noise: float, count: int) -> list[np.ndarray]:
        common = rng.standard_normal(shape)
        return [(common + noise * rng.standard_normal(shape)).astype(np.float32) for _ in range(count)]

    logits = np.stack(alike((SONGS, 12), 0.5, 3))
    a, b, y = alike((SONGS, 16), 0.7, 3)
    y = y[:OF_QUADS]
    frames, other_frames = alike((OF_QUADS, FRAMES, 24), 0.8, 2)
    shapes = {"0.weight": (24, 24), "0.bias": (24,), "2.weight": (8, 24), "2.bias": (8,)}
    head = {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    transpositions = rng.integers(-8, 8, (SONGS, 2))
    song = np.arange(SONGS)
    orchestration = np.concatenate([song[QUADS:OF_QUADS], song[:QUADS]])  # Y of a song is played like the other song
    rows, labels = np.concatenate([a, b, y]).astype(float), np.concatenate([song, song, orchestration])
    solo = np.concatenate([np.arange(QUADS - SOLO_QUADS, QUADS), np.arange(OF_QUADS - SOLO_QUADS, OF_QUADS)])
    solo = np.concatenate([solo, solo + SONGS, solo + 2 * SONGS])
    loss_cpsd, magnitude = cpsd(logits.astype(float), *transpositions.T)
    loss_frame, accuracy = between_orchestrations(
        frames.astype(float), other_frames.astype(float), {name: value.astype(float) for name, value in head.items()}
    )
    values = {
        "loss_cpsd": loss_cpsd,
        "profile_magnitude": magnitude,
        "loss_nt_xent": several_positives(rows, labels),
        "loss_nt_xent_of_songs": one_positive(rows),
        "loss_solo": several_positives(rows[solo], labels[solo]),
        "loss_frame": loss_frame,
        "frame_accuracy": accuracy,
    }
    tensors = {"key_logits": logits, "a": a, "b": b, "y": y, "frames_a": frames, "frames_y": other_frames}
    np.savez_compressed(
        Path(__file__).with_name("quads.npz"),
        transpositions=transpositions,
        **tensors,
        **{f"frame_head.{name}": value for name, value in head.items()},
        **values,
    )


if __name__ == "__main__":
    main()
