"""`mt2 key`: the key of every file."""

import argparse
from functools import partial
from typing import Any

from mt2_music.options import DEFAULT_TRANSPOSITIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 key` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "--transpositions",
        type=int,
        default=DEFAULT_TRANSPOSITIONS,
        help="semitones up and down to average over: more are steadier, and slower (default: %(default)s)",
    )
    parser.add_argument("--always", action="store_true", help="name the likeliest key of a song without a key, too")
    parser.add_argument("--json", action="store_true", help="print one list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Name the keys of songs; a model without a key classifier names the key signatures.

    Returns:
        0 when all files could be used, 1 when some could not.

    Raises:
        ValueError: options or the model cannot be used.
    """
    import numpy as np

    from mt2_music.cli.songs import listed, named_files
    from mt2_music.collection.archive import each_file
    from mt2_music.music_model import load
    from mt2_music.song.keys import knows_keys

    model = load(arguments.model, device="cpu")
    name_key = partial(model.key, transpositions=arguments.transpositions, always=arguments.always)
    names_keys = knows_keys(model.config)
    rate = model.extractor.sampling_rate
    name_key(np.zeros(rate, np.float32), rate)  # options are refused once, and not for every file
    results: list[dict[str, Any]] = []
    warned: dict[str, str] = {}
    with listed(results, arguments.json):
        for file, estimate, error in each_file(named_files(arguments.files), name_key, warned):
            if estimate is None:
                results.append({"file": file, "error": error})
                continue
            result: dict[str, Any] = {"file": file, "signature": estimate.signature}
            if names_keys:
                result |= {"key": estimate.key, "camelot": estimate.camelot, "open_key": estimate.open_key}
            result |= {"reason": estimate.reason, "tuning_cents": round(estimate.tuning_cents, 1)}
            result["profile"] = [round(float(value), 6) for value in estimate.profile]
            result["confidence"] = round(estimate.confidence, 6)
            results.append({**result, **({"warning": warned[file]} if file in warned else {})})
            if not arguments.json:
                print(f"{file}\t{estimate.name}\t{estimate.reason or format(estimate.confidence, '.2f')}")
    return int(any("error" in result for result in results))
