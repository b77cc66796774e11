"""How the published models were made: mt2-small, mt2-base, their -key variants, and mt2-small-analysis.

`python benchmarks/checkpoint/checkpoint.py --help` says of what. Renders quads, prepares recordings, trains both
models, publishes and probes them, teaches them keys, and the small one chords and beats too, and fills the cards and
README. Every part is a command of the package that goes on where it was broken off, so this may be started again until
it is done. Training takes minutes of a large GPU; a run that is there already, trained elsewhere by the same command,
is taken as it is. What parts of the recipe are worth, benchmarks/checkpoint/recipe.py measures.

The banks are those of benchmarks/sound_banks/rebuild.sh. The recordings are those that training_data.md names: of each
the middle two minutes at most, in mono at 16 kHz, as Opus of 14 kbit/s, coded by `ffmpeg -c:a libopus -b:a 14k
-compression_level 5 -application lowdelay -frame_duration 60` from a WAV file.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from mt2_music.options import DEFAULT_TRANSPOSITIONS

PRESETS = {"mt2-small": "gpu", "mt2-base": "base"}
HARDWARE = "one H200 GPU"  # of the runs that were published
QUADS, QUADS_SEED, SOLO_SHARE = 4000, 177, 0.25
ANALYSIS_STEPS = 4000
BASELINES = Path(__file__).parent.parent / "probes" / "baselines.json"
LAYER_TASKS = ("corpus-key", "corpus-instrument", "philharmonia-instrument", "philharmonia-pitch")
BANKS = (
    "TimGM6mb.sf2",
    "sf_GMbank.sf2",
    "OPL-3_FM_128M.sf2",
    "a320u.sf2",
    "freepats.sf2",
    "generalusergs.sf2",
    "vsco.sf2",
)


def command(module: str, *options: object) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", f"mt2_music.train.{module}", *map(str, options)], check=True)


def make_music(arguments: argparse.Namespace) -> list[object]:
    """Render and prepare what is trained on; return the options that name it."""
    quads, prepared = arguments.work / "quads", arguments.work / "prepared"
    scores = ["--pop909", arguments.pop909, "--musicxml", arguments.musicxml]
    banks = ["--soundfonts", *(arguments.banks / name for name in BANKS)]
    recipe = ["--quads", QUADS, "--seed", QUADS_SEED, "--solo_share", SOLO_SHARE]
    command("synth.quads", "--output_dir", quads, *recipe, *banks, *scores)
    command("prepare", "--audio_dir", arguments.recordings, "--output_dir", prepared)
    return ["--quads_dir", quads, "--prepared_dir", prepared]


def make_model(name: str, arguments: argparse.Namespace) -> None:
    """Publish what was trained, score it, teach it keys, and a small one chords and beats; and fill the cards."""
    work, corpus, here = arguments.work, arguments.corpus, Path(__file__).parent
    run, model, with_keys = work / f"run-{name}", arguments.cards / name, arguments.cards / f"{name}-key"
    results, layers = (work / f"{kind}-{name}.json" for kind in ("results", "layers"))
    cache = ["--cache_dir", work / "cache"]
    data = ["--data", f"corpus={corpus}", f"philharmonia={arguments.philharmonia}", *cache]
    steady = ["--transpositions", 3]  # steadier than none on validation pieces
    if not model.exists():
        about = ["--training_data", here / "training_data.md", "--note", here / "note.md"]
        about += ["--hardware", HARDWARE, "--corpus", corpus]
        command("publish", run, model, *about, "--half")
    command("probing.run", "--model", model, *data, *steady, "--out", results)
    options = ["--layers", "all", "--tasks", *LAYER_TASKS, "--seeds", "0"]
    command("probing.run", "--model", model, *data, *steady, *options, "--out", layers)
    pictures = ["--layers", layers, "--run", run, "--corpus", corpus, "--songs", arguments.songs]
    command("card", model, "--results", results, BASELINES, *pictures)
    large = arguments.large_corpus if name == "mt2-small" and arguments.large_corpus else corpus
    if not with_keys.exists():
        command("key", model, with_keys, "--corpus", large, *cache, "--half")
    score_keys(with_keys, corpus, work, data)
    if name == "mt2-small":
        analysis = arguments.cards / f"{name}-analysis"
        if not analysis.exists():
            fitted = ["--corpus", large, *cache, "--steps", ANALYSIS_STEPS, "--half"]
            command("analysis", with_keys, analysis, *fitted)
        score_keys(analysis, corpus, work, data)


def score_keys(model: Path, corpus: Path, work: Path, data: list[object]) -> None:
    """Score the keys that a model names, as `mt2 key` prints them, and fill its card."""
    keys = work / f"keys-{model.name}.json"
    as_printed = ["--transpositions", DEFAULT_TRANSPOSITIONS, "--tasks", "corpus-key", "--out", keys]
    command("probing.run", "--model", model, "krumhansl", *data, *as_printed)
    command("card", model, "--results", keys, BASELINES, "--corpus", corpus)


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=Path, help="folder of the SoundFonts")
    parser.add_argument("--pop909", type=Path, help="folder of POP909")
    parser.add_argument("--musicxml", type=Path, help="folder of OpenEWLD's lead sheets")
    parser.add_argument("--recordings", type=Path, help="folder of the recordings; these four only to train")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus of benchmarks/probes/baselines.sh")
    parser.add_argument(
        "--large_corpus",
        type=Path,
        help="the same of 40 hours, which mt2-small-key and -analysis learned from (default: --corpus)",
    )
    parser.add_argument("--philharmonia", type=Path, required=True, help="as the benchmark takes it")
    parser.add_argument("--songs", type=Path, required=True, help="recordings for the map, a folder for each album")
    parser.add_argument("--work", type=Path, default=Path("checkpoint"), help="folder of runs, scores and embeddings")
    parser.add_argument("--cards", type=Path, default=Path("model_cards"), help="folder of the published models")
    parser.add_argument("--only", nargs="+", choices=PRESETS, default=list(PRESETS), help="these models alone")
    parser.add_argument("--max_steps", type=int, help="instead of the presets'")
    arguments = parser.parse_args()
    runs = {name: arguments.work / f"run-{name}" for name in arguments.only}
    untrained = {name: run for name, run in runs.items() if not (run / "model.safetensors").is_file()}
    if untrained:
        needed = (arguments.banks, arguments.pop909, arguments.musicxml, arguments.recordings)
        if not all(needed):
            parser.error(f"to train {', '.join(untrained)}: give --banks, --pop909, --musicxml and --recordings")
        music = make_music(arguments)
        steps = ["--max_steps", arguments.max_steps] if arguments.max_steps else []
        for name, run in untrained.items():
            command(
                "pretrain", "--preset", PRESETS[name], *music, "--output_dir", run, *steps, "--disable_tqdm", "true"
            )
    for name in arguments.only:
        make_model(name, arguments)
    readme = arguments.cards.parent / "README.md"
    if readme.is_file():
        published = [arguments.cards / f"{name}{kind}" for name in PRESETS for kind in ("", "-key", "-analysis")]
        command("card", *(folder for folder in published if folder.exists()), "--readme", readme)


if __name__ == "__main__":
    main()
