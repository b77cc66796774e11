"""Where the tempo is: `python benchmarks/probes/tempo.py MODEL... --corpus corpus`.

A linear layer on a song's vector cannot name its tempo, of MT2 or of any baseline: how often something recurs is not a
linear function of a mean over time. The same frames hold the beats, though. This reads the tempo both ways: by the
benchmark's layer on every vector, and by its layer for beats on the frozen frames, whose median interval is the tempo.
Readouts are chosen on validation. Writes tempo.json and tempo.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.storage import write_text_atomic
from mt2_music.train.probing.cache import EmbeddingCache
from mt2_music.train.probing.encoders import load_encoder
from mt2_music.train.probing.probe import fit_probe
from mt2_music.train.probing.tasks import TASKS, metric_of

SPLITS = ("validation", "test")
CHANCE = 120.0  # answered where fewer than two beats are found


def tempo_of(beats: Any) -> float:
    """Return the tempo of beats in seconds, by their median interval, in beats per minute."""
    times = np.asarray(beats, float)
    return float(60 / np.median(np.diff(times))) if len(times) > 1 else CHANCE


def measure(model: str, corpus: Path, cache_dir: Path) -> dict[str, Any]:
    """Read the tempo of validation and test pieces both ways."""
    vector_task, beat_task = TASKS["corpus-tempo"], TASKS["corpus-beat"]
    cache = EmbeddingCache(cache_dir, load_encoder(model), with_frames=True)
    splits, beat_splits = vector_task.load(corpus), beat_task.load(corpus)
    failed = cache.fill(clip for clips in splits.values() for clip in clips)
    if failed:
        raise ValueError(f"{len(failed)} pieces cannot be used; {next(iter(failed.values()))}")
    score = metric_of(vector_task)
    truth = {split: [clip.label for clip in splits[split]] for split in SPLITS}
    fitted = {
        readout: fit_probe(cache, splits, readout, vector_task.head, score, "acc1", 0)
        for readout in cache(splits["train"][0]).vectors
    }
    best = max(fitted, key=lambda readout: fitted[readout].validation)
    by_vector = {split: fitted[best].answers(cache, splits[split]) for split in SPLITS}
    beats = fit_probe(cache, beat_splits, "frames", beat_task.head, metric_of(beat_task), beat_task.main, 0)
    by_beats = {split: [tempo_of(found) for found in beats.answers(cache, beat_splits[split])] for split in SPLITS}
    return {
        "readout": best,
        **{
            f"{way} {split}": score(answers[split], truth[split])
            for way, answers in (("vector", by_vector), ("beats", by_beats))
            for split in SPLITS
        },
    }


def main() -> None:
    """Measure what is missing, and write table and scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders, short names or baselines of the benchmark")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus of benchmarks/probes/baselines.sh")
    parser.add_argument("--cache_dir", type=Path, default=Path("probe_cache"), help="where embeddings are kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    for model in arguments.models:
        results[Path(model).name] = measure(model, arguments.corpus, arguments.cache_dir)
        write_text_atomic(arguments.out, json.dumps(results, indent=1) + "\n")
    lines = [
        "| model | vector, chosen on validation | layer on the vector: Acc1 | Acc2 | beats from frames: Acc1 | Acc2 |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, found in results.items():
        scores = [f"{100 * found[f'{way} test'][acc]:.1f}" for way in ("vector", "beats") for acc in ("acc1", "acc2")]
        lines.append(f"| {name} | {found['readout']} | " + " | ".join(scores) + " |")
    notes = (
        "Test pieces of the corpus, in percent: Acc1 within 4 % of the tempo, Acc2 also of its half, double, third or "
        "triple. One seed. Written by benchmarks/probes/tempo.py."
    )
    write_text_atomic(arguments.out.with_suffix(".md"), "\n".join(lines) + f"\n\n{notes}\n")


if __name__ == "__main__":
    main()
