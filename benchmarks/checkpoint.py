"""How mt2-small and mt2-small-key were made: `python benchmarks/checkpoint.py --help` lists what it needs.

Trains the model and its two ablations, with one class token each and otherwise the same music, settings and steps;
publishes, probes and names keys; and fills the cards and README. Every part is a command of the package that goes on
where it was broken off, so this may be started again until it is done.

The training music is a prepared folder of rendered pieces with solos, and of recordings, as checkpoint_data.md says:
`python -m mt2_music.train.synth.corpus --output_dir big --hours 45 --solos --pop909 ... --musicxml ...`, then
`python -m mt2_music.train.prepare` on a folder that holds big/audio/train and the recordings.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from mt2_music.keys import DEFAULT_TRANSPOSITIONS

MODEL, ABLATIONS = "mt2-small", {"mt2-small-equivariant": "equivariant", "mt2-small-contrastive": "contrastive"}
LAYER_TASKS = ("corpus-key", "corpus-instrument", "philharmonia-instrument", "philharmonia-pitch")


def command(module: str, *options: object) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", f"mt2_music.train.{module}", *map(str, options)], check=True)


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared_dir", type=Path, required=True, help="training music, prepared")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus of the benchmark, that of baselines.sh")
    parser.add_argument("--philharmonia", type=Path, required=True, help="as the benchmark takes it")
    parser.add_argument("--songs", type=Path, required=True, help="recordings for the map, a folder for each album")
    parser.add_argument("--work", type=Path, default=Path("checkpoint"), help="folder of runs, scores and embeddings")
    parser.add_argument("--cards", type=Path, default=Path("model_cards"), help="folder of the published models")
    parser.add_argument("--max_steps", type=int, help="instead of the preset's")
    arguments = parser.parse_args()
    work, cards, here = arguments.work, arguments.cards, Path(__file__).parent
    places = {MODEL: cards / MODEL, **{name: work / name for name in ABLATIONS}}
    steps = ["--max_steps", arguments.max_steps] if arguments.max_steps else []
    for name, place in places.items():
        run = work / f"run-{name}"
        if not (run / "model.safetensors").is_file():
            tokens = ["--class_tokens", ABLATIONS[name]] if name in ABLATIONS else []
            where = ["--prepared_dir", arguments.prepared_dir, "--output_dir", run]
            probe = ["--probe_corpus", arguments.corpus, "--probe_steps", "250"]
            command("pretrain", "--preset", "small", *where, *probe, *tokens, *steps, "--disable_tqdm", "true")
        if not place.exists():
            about = ["--training_data", here / "checkpoint_data.md", "--corpus", arguments.corpus]
            command("publish", run, place, *about, "--half")
    results, layers = work / "results.json", work / "layers.json"
    cache = ["--cache_dir", work / "cache"]
    data = ["--data", f"corpus={arguments.corpus}", f"philharmonia={arguments.philharmonia}"]
    data += ["--transpositions", 3, *cache]  # steadier than none on validation pieces
    command("probing.run", "--model", *places.values(), *data, "--out", results)
    options = ["--layers", "all", "--tasks", *LAYER_TASKS, "--seeds", "0"]
    command("probing.run", "--model", places[MODEL], *data, *options, "--out", layers)
    with_keys = cards / f"{MODEL}-key"
    if not with_keys.exists():
        command("key", places[MODEL], with_keys, "--corpus", arguments.corpus, *cache, "--half")
    keys = work / "keys.json"
    as_printed = ["--transpositions", DEFAULT_TRANSPOSITIONS, "--tasks", "corpus-key", "--out", keys]
    command("probing.run", "--model", with_keys, "krumhansl", *data, *as_printed)
    shared = ["--corpus", arguments.corpus, "--songs", arguments.songs]
    run = work / f"run-{MODEL}"
    command(
        "card", places[MODEL], "--results", results, here / "baselines.json", "--layers", layers, "--run", run, *shared
    )
    command("card", with_keys, "--results", keys, here / "baselines.json", "--corpus", arguments.corpus)
    readme = arguments.cards.parent / "README.md"
    if readme.is_file():
        command("card", places[MODEL], with_keys, "--readme", readme)


if __name__ == "__main__":
    main()
