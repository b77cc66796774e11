"""The `mt2` command: keys, embeddings and likeness of sound files."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers.utils import logging

from mt2_music.feature_extraction import MT2FeatureExtractor

from . import archive, doctor, export, similar
from .archive import each_file
from .configuration_mt2 import MT2Config
from .embed import load_model
from .files import audio_files, named
from .keys import KeyEstimate, classify_key, estimate_key, key_calibration, knows_keys
from .modeling_mt2 import MT2ForAudioClassification, MT2ForPreTraining

DEFAULT_MODEL = Path(__file__).parent / "model_cards" / "mt2-small-key"  # comes with the package
# On validation pieces as many keys are right as without; but transposed music is heard transposed 95 % of the time,
# and without 86 %.
DEFAULT_TRANSPOSITIONS = 1


def key_listener(
    model: str | Path, extractor: MT2FeatureExtractor, transpositions: int = DEFAULT_TRANSPOSITIONS
) -> Callable[..., KeyEstimate]:
    """Load a model and return what names the key of a song: its layer of 24 keys, or the bare profile.

    Args:
        model: folder or Hub name.
        extractor: from the same place.
        transpositions: semitones up and down that are averaged over.

    Raises:
        ValueError: the model knows no keys, or was never calibrated.
    """
    if knows_keys(MT2Config.from_pretrained(model)):
        classifier = load_model(MT2ForAudioClassification, model)
        return partial(classify_key, classifier, extractor, transpositions=transpositions)
    pretrained = load_model(MT2ForPreTraining, model)
    key_calibration(pretrained)  # refused now rather than for every file
    return partial(estimate_key, pretrained, extractor, transpositions=transpositions)


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 key` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "--transpositions",
        type=int,
        default=DEFAULT_TRANSPOSITIONS,
        help="semitones up and down to average over: more are steadier, and slower (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one list of objects")


def key(arguments: argparse.Namespace) -> int:
    """Print the key of every readable file; from a model that was not taught keys, the key signature."""
    extractor = MT2FeatureExtractor.from_pretrained(arguments.model)
    hear = key_listener(arguments.model, extractor, arguments.transpositions)
    hear(
        np.zeros(extractor.sampling_rate, np.float32), extractor.sampling_rate
    )  # options are refused once, not per file
    results: list[dict[str, Any]] = []
    for file, estimate, error in each_file(named(audio_files(arguments.files)), hear):
        if estimate is None:
            results.append({"file": file, "error": error})
            continue
        result: dict[str, Any] = {"file": file, "signature": estimate.signature}
        if estimate.key is not None:
            result["key"] = estimate.key
        result["profile"] = [round(float(value), 6) for value in estimate.profile]
        results.append({**result, "confidence": round(estimate.confidence, 6)})
        if not arguments.json:
            print(f"{file}\t{estimate.name}\t{estimate.confidence:.2f}")
    if arguments.json:
        print(json.dumps(results, indent=1))
    return int(any("error" in result for result in results))


class Command(NamedTuple):
    """A command: what it takes, what it does, what it says of itself, and how many files it takes, if any."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    summary: str
    files: str | None = None


COMMANDS = {
    "key": Command(add_key_arguments, key, "estimate keys", "+"),
    "embed": Command(archive.add_arguments, archive.run, "write embeddings to a file, or to a folder", "*"),
    "index": Command(archive.add_arguments, archive.run, "the same, for a collection and `mt2 similar`", "*"),
    "similar": Command(similar.add_arguments, similar.run, "find songs that are like a song", "+"),
    "export": Command(export.add_arguments, export.run, "write a model to an ONNX file"),
    "doctor": Command(doctor.add_arguments, doctor.run, "tell what this environment has and lacks"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0 when every file could be used, 1 when some could not, 2 when nothing was tried."""
    parser = argparse.ArgumentParser(prog="mt2", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name, (add_arguments, run, summary, files) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=run.__doc__)
        if files:
            command.add_argument("files", nargs=files, metavar="FILE", help="wav, flac, ogg, mp3; folders; globs")
            command.add_argument(
                "--model",
                default=DEFAULT_MODEL,
                help="folder or Hub name of a published model (default: mt2-small-key)",
            )
        add_arguments(command)
        command.set_defaults(run=run)
    arguments = parser.parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return arguments.run(arguments)
    except (OSError, ValueError, ImportError) as error:
        print(f"mt2: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
