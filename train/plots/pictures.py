"""Pictures of a training run, and of a model's output for a song."""

import json
import logging
from pathlib import Path

import numpy as np
import torch

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining
from mt2_music.music import PITCH_CLASSES_BY_FIFTHS, SIGNATURES
from mt2_music.song.keys import estimate_key

logger = logging.getLogger(__name__)
MAX_FRAMES_SHOWN = 1000  # along one side of the self-similarity; longer songs are averaged down

CURVES = (
    (("loss_cpsd",), "equivariance loss (CPSD)"),
    (("loss_nt_xent",), "contrastive loss (NT-Xent)"),
    (("profile_magnitude",), "profile magnitude |z|"),
    (("rank_equivariant", "rank_contrastive"), "effective rank"),
    (("alignment", "uniformity"), "alignment and uniformity"),
    (("probe_key", "probe_key_fifth"), "keys right, or a fifth off (online probe)"),
)


def plot_training(trainer_state: Path, output: Path) -> None:
    """Draw losses and health of the representation over the steps of a run.

    Args:
        trainer_state: trainer_state.json of the run.
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    entries = json.loads(trainer_state.read_text(encoding="utf-8"))["log_history"]
    figure = Figure(figsize=(14, 6), layout="constrained")
    for axes, (names, title) in zip(figure.subplots(2, 3).flat, CURVES, strict=True):
        for name in names:
            points = [(entry["step"], entry[name]) for entry in entries if name in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=name.removeprefix("rank_").removeprefix("probe_"))
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
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

    angles = 2 * np.pi * np.arange(12) / 12
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot(projection="polar", theta_offset=np.pi / 2, theta_direction=-1)
    best = int(profile.argmax())
    colours = ["tab:orange" if signature == best else "tab:blue" for signature in PITCH_CLASSES_BY_FIFTHS]
    axes.bar(angles, profile[PITCH_CLASSES_BY_FIFTHS], width=2 * np.pi / 14, color=colours)
    axes.set_xticks(angles, [SIGNATURES[signature].replace(" / ", "\n") for signature in PITCH_CLASSES_BY_FIFTHS])
    axes.tick_params(axis="x", pad=16)
    axes.set_yticklabels([])
    axes.set_title(title)
    figure.savefig(output, dpi=120)


def self_similarity(frames: torch.Tensor) -> np.ndarray:
    """Compare all frames of a song with one another.

    Args:
        frames: frame tokens, (T, D).

    Returns:
        Cosines of the frames after their mean was taken off, (n, n) with n at most MAX_FRAMES_SHOWN: frames of a
        longer song are averaged in groups of one size, the last of which may be smaller.
    """
    frames = frames.float().cpu()
    group = -(-len(frames) // MAX_FRAMES_SHOWN)
    means = torch.stack([part.mean(0) for part in frames.split(group)])
    unit = torch.nn.functional.normalize(means - means.mean(0), dim=-1)
    return (unit @ unit.T).numpy()


def plot_self_similarity(similarity: np.ndarray, seconds: float, title: str, output: Path) -> None:
    """Draw which moments of a song sound alike.

    Args:
        similarity: what `self_similarity` returns.
        seconds: length of the song.
        title: over the picture.
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    extent = (0, seconds, 0, seconds)
    image = axes.imshow(similarity, origin="lower", extent=extent, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set(title=title, xlabel="seconds", ylabel="seconds")
    figure.colorbar(image, label="cosine of frame tokens")
    figure.savefig(output, dpi=120)


@torch.no_grad()
def class_attention(model: MT2ForPreTraining, input_features: torch.Tensor) -> np.ndarray:
    """Return what each class token attends to in the first window of a song, averaged over heads.

    Args:
        model: in evaluation mode.
        input_features: frames of one song, (T, input_size).

    Returns:
        (class tokens, layers, frames); a row sums to what the token does not give to class tokens.
    """
    window = input_features[None, : model.config.max_frames].to(model.device)
    attentions = model.mt2(window, output_attentions=True).attentions
    tokens = len(model.config.class_tokens)
    return torch.stack([layer[0].mean(0)[:tokens, tokens:] for layer in attentions], dim=1).float().cpu().numpy()


def plot_attention(attention: np.ndarray, names: tuple[str, ...], frame_rate: float, title: str, output: Path) -> None:
    """Draw what class tokens attend to, layer by layer.

    Args:
        attention: what `class_attention` returns.
        names: of the class tokens.
        frame_rate: frames per second.
        title: over the picture.
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2 + 2 * len(names)), layout="constrained")
    for axes, name, layers in zip(figure.subplots(len(names), squeeze=False).flat, names, attention, strict=True):
        extent = (0, layers.shape[1] / frame_rate, len(layers) + 0.5, 0.5)
        image = axes.imshow(layers, aspect="auto", extent=extent, interpolation="nearest")
        axes.set(title=f"{name} token", xlabel="seconds", ylabel="layer")
        figure.colorbar(image, ax=axes, label="attention")
    figure.suptitle(title)
    figure.savefig(output, dpi=120)


def plot_song(model: MT2ForPreTraining, extractor: MT2FeatureExtractor, song: Path, folder: Path) -> list[Path]:
    """Draw all pictures of one song.

    Args:
        model, extractor: from one published folder; without calibration there is no picture of the profile.
        song: sound file.
        folder: where to write; names begin with that of the song.

    Returns:
        The pictures.

    Raises:
        ValueError, FileNotFoundError: the song cannot be read.
    """
    features = extractor(song, return_tensors="pt")["input_features"]
    pictures = [folder / f"{song.stem} self-similarity.png", folder / f"{song.stem} attention.png"]
    with torch.no_grad():
        frames = model.mt2(features.to(model.device)).last_hidden_state[0]
    plot_self_similarity(self_similarity(frames), len(frames) / model.config.frame_rate, song.stem, pictures[0])
    attention = class_attention(model, features[0])
    plot_attention(attention, tuple(model.config.class_tokens), model.config.frame_rate, song.stem, pictures[1])
    if "equivariant" in model.config.class_tokens and model.config.key_calibration is not None:
        estimate = estimate_key(model, extractor, song, always=True)
        pictures.append(folder / f"{song.stem} profile.png")
        plot_profile(estimate.profile, f"{song.stem}: estimated as {estimate.name}", pictures[-1])
    return pictures
