"""Pictures of a training run and of what a model hears."""

import json
from pathlib import Path

import numpy as np

from mt2_music.embed import SIGNATURES

CURVES = (
    (("loss_cpsd",), "equivariance loss (CPSD)"),
    (("loss_nt_xent",), "contrastive loss (NT-Xent)"),
    (("profile_magnitude",), "profile magnitude |z|"),
    (("rank_equivariant", "rank_contrastive"), "effective rank"),
)


def plot_training(trainer_state: Path, output: Path) -> None:
    """Draw losses and health of the representation over the steps of a run.

    Args:
        trainer_state: trainer_state.json of the run.
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    entries = [entry for entry in json.loads(trainer_state.read_text())["log_history"] if "loss" in entry]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (names, title) in zip(figure.subplots(2, 2).flat, CURVES, strict=True):
        for name in names:
            points = [(entry["step"], entry[name]) for entry in entries if name in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=name.removeprefix("rank_"))
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    figure.savefig(output, dpi=120)


def plot_profile(profile: np.ndarray, title: str, output: Path) -> None:
    """Draw a key signature profile around the circle of fifths, C major on top and sharps clockwise.

    Args:
        profile: (12,), index = pitch class of the major key.
        title: over the picture.
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    order = [7 * step % 12 for step in range(12)]
    angles = 2 * np.pi * np.arange(12) / 12
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot(projection="polar", theta_offset=np.pi / 2, theta_direction=-1)
    best = int(profile.argmax())
    colours = ["tab:orange" if signature == best else "tab:blue" for signature in order]
    axes.bar(angles, profile[order], width=2 * np.pi / 14, color=colours)
    axes.set_xticks(angles, [SIGNATURES[signature].replace(" / ", "\n") for signature in order])
    axes.tick_params(axis="x", pad=16)
    axes.set_yticklabels([])
    axes.set_title(title)
    figure.savefig(output, dpi=120)
