"""The `mt2` command: embeddings and keys of sound files."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers.utils import logging

from mt2_music.feature_extraction import MT2FeatureExtractor

from .configuration_mt2 import MT2Config
from .embed import embed_audio, load_model
from .files import audio_files, write_npz
from .keys import KeyEstimate, classify_key, estimate_key, key_calibration, knows_keys
from .modeling_mt2 import MT2ForAudioClassification, MT2ForPreTraining, MT2Model

DEFAULT_MODEL = Path(__file__).parent / "model_cards" / "mt2-small-key"  # comes with the package
# On validation pieces as many keys are right as without; but transposed music is heard transposed 95 % of the time,
# and without 86 %.
DEFAULT_TRANSPOSITIONS = 1


def each_file(files: list[str], work: Callable[[str], Any]) -> Iterator[tuple[str, Any, str | None]]:
    """Do the work for every file; a file that cannot be used gives its reason and does not stop the rest."""
    for file in tqdm(files, unit="file", disable=len(files) < 2 or not sys.stderr.isatty()):
        try:
            yield file, work(file), None
        except (ValueError, OSError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            yield file, None, str(error)


def embed(arguments: argparse.Namespace) -> int:
    """Write the embeddings of all readable files to one npz file."""
    if arguments.output.is_dir() or not arguments.output.parent.is_dir():
        raise ValueError(f"cannot write {arguments.output}: it is a folder, or lies in one that does not exist")
    model = load_model(MT2Model, arguments.model)
    extractor = MT2FeatureExtractor.from_pretrained(arguments.model)
    done = [
        (file, vectors)
        for file, vectors, error in each_file(arguments.files, lambda file: embed_audio(model, extractor, file))
        if error is None
    ]
    if not done:
        print("no file could be embedded; nothing was written", file=sys.stderr)
        return 1
    arrays = {name: np.stack([vectors[name] for _, vectors in done]) for name in done[0][1]}
    write_npz(arguments.output, files=np.array([file for file, _ in done]), **arrays)
    return int(len(done) < len(arguments.files))


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


def key(arguments: argparse.Namespace) -> int:
    """Print the key of every readable file; from a model that was not taught keys, the key signature."""
    extractor = MT2FeatureExtractor.from_pretrained(arguments.model)
    hear = key_listener(arguments.model, extractor, arguments.transpositions)
    results: list[dict[str, Any]] = []
    for file, estimate, error in each_file(arguments.files, hear):
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


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0 when every file could be used, 1 when some could not, 2 when nothing was tried."""
    parser = argparse.ArgumentParser(prog="mt2", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="{embed,key}")
    for function, summary in ((embed, "write embeddings to an npz file"), (key, "estimate keys")):
        command = commands.add_parser(function.__name__, help=summary, description=function.__doc__)
        command.add_argument("files", nargs="+", metavar="FILE", help="wav, flac, ogg or mp3, or folders of them")
        command.add_argument(
            "--model", default=DEFAULT_MODEL, help="folder or Hub name of a published model (default: mt2-small-key)"
        )
        command.set_defaults(run=function)
        if function is embed:
            command.add_argument("-o", "--output", required=True, type=Path, help="npz file to write")
        else:
            command.add_argument(
                "--transpositions",
                type=int,
                default=DEFAULT_TRANSPOSITIONS,
                help="semitones up and down to average over: more are steadier, and slower (default: %(default)s)",
            )
            command.add_argument("--json", action="store_true", help="print one list of objects")
    arguments = parser.parse_args(argv)
    arguments.files = audio_files(arguments.files)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return arguments.run(arguments)
    except (OSError, ValueError) as error:
        print(f"mt2: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
