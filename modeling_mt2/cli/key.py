"""`mt2 key`: the key of every file, or its keys over time."""

import argparse
from functools import partial
from typing import Any

from mt2_music.options import DEFAULT_TRANSPOSITIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 key` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "--transpositions",
        type=int,
        help="semitones up and down to average over: more are steadier, and slower (default: "
        f"{DEFAULT_TRANSPOSITIONS}, if the model has room)",
    )
    parser.add_argument("--always", action="store_true", help="name the likeliest key of a song without a key, too")
    parser.add_argument("--over_time", "--over-time", action="store_true", help="the keys of songs that change theirs")
    parser.add_argument(
        "--notation", choices=("standard", "camelot", "openkey"), default="standard", help="how keys are printed"
    )
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
    names_keys = knows_keys(model.config)
    if not names_keys and (arguments.over_time or arguments.notation != "standard"):
        raise ValueError(f"{model.name} names key signatures only: choose a model that names keys")
    if arguments.over_time and arguments.always:
        raise ValueError("--over_time and --always do not go together")
    name_key: Any = partial(model.key, always=arguments.always, transpositions=arguments.transpositions)
    if arguments.over_time:
        name_key = model.keys
    rate = model.extractor.sampling_rate
    name_key(np.zeros(rate, np.float32), rate)  # options are refused once, and not for every file
    results: list[dict[str, Any]] = []
    warned: dict[str, str] = {}
    with listed(results, arguments.json):
        for file, found, error in each_file(named_files(arguments.files), name_key, warned):
            if found is None:
                results.append({"file": file, "error": error})
                continue
            result = (
                {"keys": [_segment(one) for one in found]} if arguments.over_time else _estimate(found, names_keys)
            )
            results.append({"file": file, **result, **({"warning": warned[file]} if file in warned else {})})
            if arguments.json:
                continue
            if arguments.over_time:
                for one in found:
                    print(f"{file}\t{one.start:.1f}\t{one.end:.1f}\t{_name(one, arguments.notation) or 'no key'}")
            else:
                name = _name(found, arguments.notation) or found.name
                print(f"{file}\t{name}\t{found.reason or format(found.confidence, '.2f')}")
    return int(any("error" in result for result in results))


def _name(found: Any, notation: str) -> str | None:
    return {"standard": found.key, "camelot": found.camelot, "openkey": found.open_key}[notation]


def _estimate(estimate: Any, names_keys: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"signature": estimate.signature}
    if names_keys:
        result |= {"key": estimate.key, "camelot": estimate.camelot, "open_key": estimate.open_key}
    result |= {"reason": estimate.reason, "tuning_cents": round(estimate.tuning_cents, 1)}
    result["profile"] = [round(float(value), 6) for value in estimate.profile]
    return {**result, "confidence": round(estimate.confidence, 6)}


def _segment(segment: Any) -> dict[str, Any]:
    names = {"key": segment.key, "camelot": segment.camelot, "open_key": segment.open_key}
    times = {"start": round(segment.start, 3), "end": round(segment.end, 3)}
    return {**times, **names, "confidence": round(segment.confidence, 6)}
