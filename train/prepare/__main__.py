"""Decode an archive once: `python -m mt2_music.train.prepare --audio_dir DIR --output_dir PREPARED`.

Leaves 16 kHz mono int16 in Arrow shards, which training maps into memory and draws windows from without decoding
(`--prepared_dir PREPARED`), and which `datasets.load_dataset("arrow", data_files="PREPARED/*.arrow")` opens too.
Shards are made side by side, each whole or not at all; a run that was broken off goes on where it was.
"""

import argparse
import logging
from concurrent.futures.process import BrokenProcessPool

from mt2_music.audio_datasets import load_named_dataset
from mt2_music.train.data.prepared import PreparedTracks, prepare
from mt2_music.train.data.tracks import find_files, find_rows

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Prepare a folder or data set from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--audio_dir", help="folder of music, searched with all folders below")
    source.add_argument("--dataset", help="name or path of a datasets data set, or of a saved one")
    parser.add_argument("--dataset_split", default="train", help="split of the data set (default: train)")
    parser.add_argument("--audio_column", default="audio", help="its column of audio (default: audio)")
    parser.add_argument("--output_dir", required=True, help="folder of the shards; a begun one is finished")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.audio_dir is not None:
            sources = find_files(arguments.audio_dir)
        else:
            dataset = load_named_dataset(arguments.dataset, arguments.dataset_split)
            sources = find_rows(dataset, arguments.audio_column)
        left_out = prepare(sources, arguments.output_dir, arguments.workers)
        tracks = PreparedTracks(arguments.output_dir, 0.0)
    except BrokenProcessPool:
        parser.error("a worker was killed, perhaps for lack of memory: start again with fewer --workers to go on")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for item in left_out:
        logger.warning("left out %s: %s", item.name, item.reason)
    place = arguments.output_dir
    logger.info("%d tracks, %.2f hours in %s; %d files left out", len(tracks), tracks.hours, place, len(left_out))


if __name__ == "__main__":
    main()
