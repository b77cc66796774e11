"""Decode an archive once: `python -m mt2_music.train.prepare --audio_dir DIR --output_dir PREPARED`.

Writes 16 kHz mono int16 audio to Arrow shards. Training maps them into memory and draws windows without decoding
(`--prepared_dir PREPARED`). `datasets.load_dataset("arrow", data_files="PREPARED/*.arrow")` opens them too. Shards are
written in parallel, and each appears only when it is complete. An interrupted run goes on where it stopped.
"""

import argparse
import logging
from concurrent.futures.process import BrokenProcessPool

from mt2_music.audio.datasets import load_named_dataset
from mt2_music.interrupts import command
from mt2_music.train.data.prepared import PreparedTracks, prepare
from mt2_music.train.data.tracks import find_files, find_rows

logger = logging.getLogger(__name__)


@command("prepare", "the same command goes on with what is missing")
def main(argv: list[str] | None = None) -> None:
    """Prepare a folder or data set from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--audio_dir", help="folder of music, searched with all folders below")
    source.add_argument("--dataset", help="name or path of a datasets data set, or of a saved one")
    parser.add_argument("--dataset_split", default="train", help="split of the data set (default: train)")
    parser.add_argument("--audio_column", default="audio", help="its column of audio (default: audio)")
    parser.add_argument("--output_dir", required=True, help="folder of the shards; an unfinished one is completed")
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
