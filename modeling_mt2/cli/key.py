"""`mt2 key`: the key of every file."""

import argparse
import json
from typing import Any

import numpy as np

from mt2_music.archive import each_file
from mt2_music.audio_files import audio_files, named
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.keys import DEFAULT_TRANSPOSITIONS, key_estimator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 key` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "--transpositions",
        type=int,
        default=DEFAULT_TRANSPOSITIONS,
        help="semitones up and down to average over: more are steadier, and slower (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Print the key of every readable file; from a model that was not taught keys, the key signature."""
    extractor = MT2FeatureExtractor.from_pretrained(arguments.model)
    hear = key_estimator(arguments.model, extractor, arguments.transpositions)
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
