"""The pictures of a model card: scores, confusion of keys, a map, a self-similarity, the training run."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mt2_music.music import MAJOR_TONICS, PITCH_CLASSES_BY_FIFTHS, fifths_between, signature
from mt2_music.music_model import load
from mt2_music.song.keys import KeyEstimate
from mt2_music.storage import write_text_atomic
from mt2_music.train.data.tracks import find_files
from mt2_music.train.plots.pictures import plot_self_similarity, plot_training, self_similarity
from mt2_music.train.probing.report.report import load_results, plot_bars, plot_layers
from mt2_music.train.synth.corpus import key_of, read_rows

from .facts import FIGURES_FOLDER, MISTAKES_FILE, RESULTS_FILE

logger = logging.getLogger(__name__)

NUM_EXAMPLES = 6  # mistakes that a card names
MAX_SONGS_ON_MAP = 400
BASELINES_SHOWN = ("log-mel", "chroma", "mfcc", "krumhansl")


def draw(folder: Path, layers: Path | None, corpus: Path | None, songs: Path | None, run: Path | None) -> None:
    """Draw the pictures whose material is given into the figures folder of a published model.

    Args:
        folder: of the model; results.json in it gives the picture of scores.
        layers: results of inner layers.
        corpus: rendered corpus; the keys of its test pieces in one key are estimated, and mistakes.json is written.
        songs: folder of real recordings, put on the map, and coloured, by the folder they lie in.
        run: output folder of the training run.

    Raises:
        FileNotFoundError, ValueError: something of it is not what it should be.
    """
    figures = folder / FIGURES_FOLDER
    if (folder / RESULTS_FILE).is_file():
        models = load_results([folder / RESULTS_FILE])
        # Of all that the card's table compares, the model and its ablations, and the best-known baselines.
        shown = [name for name in models if name.startswith(folder.name) or name in BASELINES_SHOWN]
        plot_bars({name: models[name] for name in shown}, figures / "bars.png")
    if layers is not None:
        plot_layers(load_results([layers]), figures / "layers.png")
    if run is not None:
        plot_training(run / "trainer_state.json", figures / "training.png")
    if corpus is None and songs is None:
        return
    model = load(folder, device="cpu")
    if corpus is not None:
        rows = [row for row in read_rows(corpus) if row["split"] == "test" and key_of(row)]
        estimates = [model.key(corpus / row["file"], always=True) for row in tqdm(rows, desc="keys", unit="piece")]
        write_text_atomic(figures / MISTAKES_FILE, json.dumps(mistakes(rows, estimates), indent=1) + "\n")
        true = np.array([signature(row["key"]) for row in rows])
        plot_confusion(true, np.array([estimate.signature for estimate in estimates]), figures / "keys.png")
    if songs is not None:
        found = [Path(name) for name, _ in find_files(songs).found]
        found = found[:: max(1, len(found) // MAX_SONGS_ON_MAP)]
        tokens, albums = [], []
        for path in tqdm(found, desc="map", unit="song"):
            try:
                tokens.append(model.embed(path).contrastive)
                albums.append(path.parent.name)
            except (ValueError, OSError) as error:
                logger.warning("left out %s: %s", path, error)
        plot_map(np.stack(tokens), albums, figures / "map.png")
        first = next(path for path in found if path.parent.name == albums[0])
        frames = torch.from_numpy(model.embed(first, frames=True).frames)
        picture = figures / "self-similarity.png"
        plot_self_similarity(self_similarity(frames), len(frames) / model.config.frame_rate, first.stem, picture)


def mistakes(rows: list[dict[str, Any]], estimates: list[KeyEstimate]) -> dict[str, Any]:
    """Count the pieces whose key signature is estimated wrong, and list those the model was surest of."""
    pairs = zip(rows, estimates, strict=True)
    steps = np.array([(int(e.profile.argmax()) - signature(row["key"])) % 12 for row, e in pairs])
    wrong = sorted(np.flatnonzero(steps), key=lambda index: -estimates[index].confidence)
    return {
        "pieces": len(rows),
        "wrong": len(wrong),
        "fifth": int(np.isin(steps, (5, 7)).sum()),
        "examples": [
            {
                "piece": rows[index]["piece"],
                "key": rows[index]["key"],
                "estimated": estimates[index].name,
                "confidence": round(estimates[index].confidence, 4),
            }
            for index in wrong[:NUM_EXAMPLES]
        ],
    }


def plot_confusion(true: np.ndarray, estimated: np.ndarray, output: Path) -> None:
    """Draw how often each key signature was taken for each other, both around the circle of fifths.

    Args:
        true, estimated: pitch classes of the major keys, (pieces,).
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    counts = np.zeros((12, 12), dtype=int)
    np.add.at(counts, (true, estimated), 1)
    counts = counts[np.ix_(PITCH_CLASSES_BY_FIFTHS, PITCH_CLASSES_BY_FIFTHS)]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    image = left.imshow(counts / counts.sum(1, keepdims=True).clip(min=1), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        left.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color="tab:orange")
    names = [MAJOR_TONICS[pitch_class] for pitch_class in PITCH_CLASSES_BY_FIFTHS]
    left.set_xticks(range(12), names)
    left.set_yticks(range(12), names)
    left.set(xlabel="estimated signature, by its major key", ylabel="true signature")
    figure.colorbar(image, ax=left, label="share of a row")
    fifths = np.array([fifths_between(*pair) for pair in zip(true, estimated, strict=True)])
    right.bar(range(-5, 7), [np.mean(fifths == step) for step in range(-5, 7)])
    right.set(xlabel="fifths from the true signature, sharps to the right", ylabel="share of pieces", ylim=(0, 1))
    right.set_xticks(range(-5, 7))
    right.grid(axis="y", color="0.9")
    right.set_axisbelow(True)
    figure.savefig(output, dpi=120)


def plot_map(tokens: np.ndarray, albums: list[str], output: Path) -> None:
    """Draw songs as points on the two principal components of their tokens.

    Args:
        tokens: one row a song, (songs, D).
        albums: what decides the colour of each.
        output: picture to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    centred = tokens - tokens.mean(0)
    _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    for index, album in enumerate(sorted(set(albums))):
        of_album = np.array([other == album for other in albums])
        marker = "os^Dv"[index // 10 % 5]
        axes.scatter(
            places[of_album, 0],
            places[of_album, 1],
            s=18,
            marker=marker,
            color=f"C{index % 10}",
            label=album,
            alpha=0.8,
        )
    share = strengths**2 / (strengths**2).sum()
    axes.set(xlabel=f"first component, {share[0]:.0%} of the variance", ylabel=f"second, {share[1]:.0%}")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(output, dpi=120)
