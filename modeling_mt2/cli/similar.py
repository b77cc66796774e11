"""`mt2 similar`: the songs of an index that are most similar to a song."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from mt2_music.options import NUM_SIMILAR, VECTORS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 similar` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "--index", nargs="+", required=True, type=Path, help="what `mt2 index` or `mt2 embed` wrote, of the same model"
    )
    parser.add_argument(
        "--by",
        choices=VECTORS,
        default=VECTORS[0],
        help="contrastive: how it sounds; equivariant: key and harmony; mean: both (default: %(default)s)",
    )
    parser.add_argument(
        "-k", type=int, default=NUM_SIMILAR, dest="number", help="how many songs (default: %(default)s)"
    )
    parser.add_argument(
        "--any_key", action="store_true", help="whatever the keys: pitch the song to all twelve, and take the nearest"
    )
    parser.add_argument(
        "--no_duplicates",
        "--no-duplicates",
        action="store_true",
        help="leave out what is the same recording as the song, or as one that is more similar",
    )
    parser.add_argument("--json", action="store_true", help="print one list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Find the songs of an index that are most similar to each given song; the song itself is left out.

    Returns:
        0 when all files could be used, 1 when some could not.

    Raises:
        ValueError: the index cannot be used, or is another model's.
    """
    from mt2_music.cli.songs import listed, named_files
    from mt2_music.collection.archive import each_file
    from mt2_music.music_model import load

    if arguments.number < 1:
        raise ValueError(f"-k must be at least 1, got {arguments.number}")
    model = load(arguments.model, device="cpu")
    index = model.open_index(arguments.index, ("mean", arguments.by))
    options = {name: getattr(arguments, name) for name in ("by", "number", "any_key", "no_duplicates")}
    find = partial(model.similar, index=index, **options)
    results: list[dict[str, Any]] = []
    with listed(results, arguments.json):
        for name, found, error in each_file(named_files(arguments.files), find):
            if found is None:
                results.append({"file": name, "error": error})
                continue
            near = [{"file": file, "similarity": round(similarity, 6)} for file, similarity in found]
            results.append({"file": name, "nearest": near})
            if not arguments.json:
                print("\n".join([name, *(f"  {similarity:6.3f}  {file}" for file, similarity in found)]))
    return int(any("error" in result for result in results))
