"""`mt2 similar`: songs of an index that are like a song."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.archive import each_file
from mt2_music.audio_files import audio_files, named
from mt2_music.embed import embed_audio
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.loading import load_model, provenance
from mt2_music.modeling_mt2 import MT2Model
from mt2_music.similar import ALL_KEYS, nearest
from mt2_music.tables import VECTORS, read_embeddings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 similar` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "--index", nargs="+", required=True, type=Path, help="what `mt2 index` or `mt2 embed` wrote, of the same model"
    )
    parser.add_argument(
        "--by",
        choices=VECTORS,
        default="mean",
        help="contrastive: how it sounds; equivariant: key and harmony; mean of both (default)",
    )
    parser.add_argument("-k", type=int, default=10, dest="number", help="how many (default: %(default)s)")
    parser.add_argument(
        "--any_key", action="store_true", help="whatever the keys: hear the song in all twelve, and take the nearest"
    )
    parser.add_argument("--json", action="store_true", help="print one list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Print the songs of an index that are nearest to each given song; the song itself is left out.

    Returns:
        0 when all could be used, 1 when some could not.

    Raises:
        ValueError: the index cannot be used, or is another model's.
    """
    if arguments.number < 1:
        raise ValueError(f"-k must be at least 1, got {arguments.number}")
    index = read_embeddings(arguments.index)
    model, extractor = load_model(MT2Model, arguments.model), MT2FeatureExtractor.from_pretrained(arguments.model)
    source = provenance(arguments.model, model, extractor)
    if source != index.source:
        raise ValueError(f"the index is of {' '.join(index.source)}, the model of {' '.join(source)}")

    def find(song: str) -> list[tuple[str, float]]:
        shifts = ALL_KEYS if arguments.any_key else [0]
        readings = [embed_audio(model, extractor, song, transposition=shift).track for shift in shifts]
        queries = np.stack([reading[arguments.by] for reading in readings if arguments.by in reading])
        near = nearest(index, queries, arguments.by, arguments.number + 1)
        own = os.path.realpath(song)
        return [found for found in near if os.path.realpath(found[0]) != own][: arguments.number]

    results: list[dict[str, Any]] = []
    for name, near, error in each_file(named(audio_files(arguments.files)), find):
        if near is None:
            results.append({"file": name, "error": error})
            continue
        results.append({"file": name, "nearest": [{"file": file, "similarity": round(s, 6)} for file, s in near]})
        if not arguments.json:
            print("\n".join([name, *(f"  {similarity:6.3f}  {file}" for file, similarity in near)]))
    if arguments.json:
        print(json.dumps(results, indent=1))
    return int(any("error" in result for result in results))
