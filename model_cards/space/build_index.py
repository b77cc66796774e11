"""Compose the songs of the demo's index, and its examples: `python build_index.py`.

The index holds names and embeddings, no audio. Another model needs a new index. Examples are rendered only with
`--examples_soundfont`: the sound of a SoundFont is in them, so its licence must allow that.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from analysis import SongAnalyser
from mt2_music.collection.table_formats import write_table
from mt2_music.collection.tables import make_row
from mt2_music.options import DEFAULT_MODEL
from mt2_music.train.synth import Score, compose, draw_programs, find_soundfont, humanised, play_soundfont
from mt2_music.train.synth.render import families

HERE = Path(__file__).parent
NUM_SONGS, SONG_SECONDS, SEED = 60, 20.0, 8
EXAMPLES_RATE = 16000  # of the model
OGG_COMPRESSION = 0.8  # of 0 to 1


def indexed_song(index: int, soundfont: Path, sampling_rate: int) -> tuple[str, np.ndarray]:
    """Compose and play song `index`: all 24 keys in turn, everything else random.

    Returns:
        Its name, such as "Eb minor, 92 bpm: drums, piano", and mono float32 samples.
    """
    rng = np.random.default_rng([SEED, index])
    score = humanised(compose(rng, SONG_SECONDS, index % 12, ("major", "minor")[index // 12 % 2]), rng)
    programs = draw_programs({note.part for note in score.notes}, rng)
    name = f"{score.key}, {score.tempo:.0f} bpm: {', '.join(families(programs))}"
    return name, play_soundfont(score, programs, soundfont, sampling_rate)


def write_index(analyser: SongAnalyser, soundfont: Path, output: Path) -> None:
    """Embed the songs of the index, and write names and embeddings as `mt2 index` would."""
    rows = []
    for index in tqdm(range(NUM_SONGS), unit="song"):
        name, samples = indexed_song(index, soundfont, analyser.model.extractor.sampling_rate)
        rows.append(make_row(name, analyser.embed(samples), analyser.model.source))
    write_table(output, rows)


def joined(sections: list[Score]) -> Score:
    """Play scores one after the other; each part keeps its instrument."""
    notes, offset = [], 0.0
    for section in sections:
        notes += [replace(note, start=note.start + offset, end=note.end + offset) for note in section.notes]
        offset += section.chords[-1].end
    return Score(tuple(notes))


def example_scores() -> dict[str, Score]:
    """Compose the examples: a change of key, a form, a minor key."""
    home = compose(np.random.default_rng(12), 7.0, 0, "major")
    verse = compose(np.random.default_rng(15), 6.0, 3, "major")
    bridge = compose(np.random.default_rng(35), 6.0, 0, "minor")
    return {
        "From C to F sharp and back": joined([home, home.transposed(6), home]),
        "Verse, verse, bridge, verse": joined([verse, verse, bridge, verse]),
        "A minor": compose(np.random.default_rng(1), 15.0, 9, "minor"),
    }


def write_examples(soundfont: Path, folder: Path) -> None:
    """Render the examples as small ogg files."""
    for number, (name, score) in enumerate(example_scores().items()):
        programs = draw_programs({note.part for note in score.notes}, np.random.default_rng([SEED, NUM_SONGS, number]))
        samples = play_soundfont(score, programs, soundfont, EXAMPLES_RATE)
        level = 0.7 / np.abs(samples).max()
        soundfile.write(folder / f"{name}.ogg", level * samples, EXAMPLES_RATE, compression_level=OGG_COMPRESSION)


def main(argv: list[str] | None = None) -> None:
    """Write the index, and the examples if asked for, beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="as app.py takes it")
    parser.add_argument("--soundfont", type=Path, default=find_soundfont(), help="default: the first one found")
    parser.add_argument("--examples_soundfont", type=Path, help="also render the examples, with this one")
    arguments = parser.parse_args(argv)
    if arguments.soundfont is None:
        parser.error("no SoundFont to play: `pip install pretty_midi` and `pip install --no-deps tinysoundfont`")
    write_index(SongAnalyser(arguments.model), arguments.soundfont, HERE / "index.npz")
    if arguments.examples_soundfont is not None:
        write_examples(arguments.examples_soundfont, HERE / "examples")


if __name__ == "__main__":
    main()
