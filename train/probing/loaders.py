"""Real data sets in their official layouts: one function each, from the folder a user has to labelled clips in splits.

Nothing is downloaded and no sound is decoded. What all loaders have in common:

- A missing folder or file is a `MissingDataError` that tells the layout, as is a split without any of its sound files.
- Sound files that are missing or empty are left out with one warning that tells their number and the first of them.
  Some official archives hold files of 0 bytes: MagnaTagATune three, the Philharmonia recordings two.
- A malformed annotation is a `ValueError` that names file and line, or file and entry.
- Where the split is ours, no group is on two sides of it. Official splits are kept as they are.
"""

import csv
import hashlib
import inspect
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mt2_music.train.synth.score import Beat, key_name, parse_key, parse_pitch_class

from .clips import SPLITS, Clip, MissingDataError, Splits, require, split_by_group

logger = logging.getLogger(__name__)

PHILHARMONIA_NAME = re.compile(
    r"(?P<instrument>[^_]+)_(?P<note>[A-G]s?\d)_(?P<length>[^_]+)_(?P<dynamic>[^_]+)_(?P<articulation>[^_]+)"
)
UNSTEADY_ARTICULATIONS = ("trill", "gliss", "harmonic")
# Measured by autocorrelation on 75 and 83 recordings: most saxophones sound half a semitone above or below their name,
# and nearly all trombones that play forte or louder are named an octave too high.
MISNAMED_INSTRUMENTS = ("saxophone", "trombone")

# The second of each pair of equal recordings. Source: Sturm 2014, told in the README of CPJKU/BallroomAnnotations.
BALLROOM_REPLICAS = """
    Albums-AnaBelen_Veneo-15 Albums-Ballroom_Magic-18 Albums-Chrisanne2-12 Albums-Fire-09 Albums-Latin_Jam-13
    Albums-Latin_Jam-14 Albums-Latin_Jam-15 Albums-Latin_Jam2-13 Albums-Latin_Jam2-14 Albums-Latin_Jam2-15
    Media-103414 Media-103415 Media-104705
""".split()
SAME_BEAT_SECONDS = 0.02
FMA_SUBSETS = ("small", "medium", "large")  # each holds the one before


def load_philharmonia_instrument(root: Path) -> Splits:
    """Load recordings of single instruments, labelled with the instrument.

    Layout:
        root/, or any folders in it: <instrument>_<note>_<length>_<dynamic>_<articulation>.mp3, .flac or .wav,
        such as violin_As3_15_forte_arco-normal.mp3, where As3 is A#3

    Percussion has no note in its names and is left out. Split: ours, by instrument and note, so that no note of an
    instrument is on two sides.

    Source: Philharmonia Orchestra, philharmonia.co.uk/resources/sound-samples.
    """
    return _philharmonia(root, lambda name: name["instrument"])


def load_philharmonia_pitch(root: Path) -> Splits:
    """Load recordings of single notes, labelled with the MIDI number, such as "57" for A3 (220 Hz).

    Layout and split as for `load_philharmonia_instrument`. Left out is what is no single steady note at the pitch of
    its name: phrases, trills, glissandi and harmonics, and all of `MISNAMED_INSTRUMENTS`.
    """

    def pitch(name: re.Match[str]) -> str | None:
        if name["length"] == "phrase" or name["instrument"] in MISNAMED_INSTRUMENTS:
            return None
        if any(word in name["articulation"] for word in UNSTEADY_ARTICULATIONS):
            return None
        return str(12 * (int(name["note"][-1]) + 1) + parse_pitch_class(name["note"][:-1].replace("s", "#")))

    return _philharmonia(root, pitch)


def _philharmonia(root: Path, label_of: Callable[[re.Match[str]], str | None]) -> Splits:
    folder = _Folder("Philharmonia", root, load_philharmonia_instrument)
    clips, left_out = [], []
    for path in sorted(folder.find().rglob("*")):
        if path.suffix.lower() not in (".mp3", ".flac", ".wav"):
            continue
        name = PHILHARMONIA_NAME.fullmatch(path.stem)
        label = label_of(name) if name else None
        if name and label:
            clips.append(Clip(path, label, f"{name['instrument']} {name['note']}"))
        else:
            left_out.append(path)
    if left_out:
        logger.info("Philharmonia: %d recordings do not fit, such as %s", len(left_out), left_out[0].name)
    return _without_unknown_classes(folder.present(split_by_group(clips)), folder.name)


def load_magnatagatune(root: Path) -> Splits:
    """Load MagnaTagATune: clips of 29 s, labelled with those of the 50 most frequent tags that apply, maybe none.

    Layout:
        root/annotations_final.csv, tab-separated: clip_id, a column of 0 and 1 for each tag, mp3_path
        root/0/*.mp3 to root/f/*.mp3

    Split: folders 0 to b train, c validation, d to f test; tags are counted over all. The group is the recording that
    a clip was cut from.

    Source: Law et al., ISMIR 2009; the split as in Dieleman and Schrauwen, ICASSP 2014.
    """
    folder = _Folder("MagnaTagATune", root, load_magnatagatune)
    path = folder.find("annotations_final.csv")
    rows = []
    counts: Counter[str] = Counter()
    for line, row in _rows(path, "clip_id", "mp3_path", delimiter="\t"):
        with _naming(f"{path}, line {line}"):
            sound = row.pop("mp3_path")
            del row["clip_id"]
            if not {"0", "1"}.issuperset(row.values()):
                raise ValueError("tags must be 0 or 1")
            part = int(sound.partition("/")[0], 16)
            tags = [tag for tag, value in row.items() if value == "1"]
        counts.update(tags)
        rows.append((SPLITS[(part >= 0xC) + (part >= 0xD)], sound, tags))
    top = set(sorted(counts, key=lambda tag: (-counts[tag], tag))[:50])
    splits = _no_clips()
    for split, sound, tags in rows:
        recording = PurePosixPath(sound).stem.rsplit("-", 2)[0]  # without start and end of the clip in seconds
        splits[split].append(Clip(root / sound, tuple(tag for tag in tags if tag in top), recording))
    return folder.present(splits)


def load_gtzan_genre(root: Path) -> Splits:
    """Load GTZAN: excerpts of 30 s, labelled with the genre.

    Layout:
        root/genres/<genre>/<genre>.00000.wav or .au
        root/train_filtered.txt, valid_filtered.txt and test_filtered.txt, of lines such as blues/blues.00029.wav

    Split: the lists, which leave out replicas, distortions and wrong labels. They are no part of the data set: see
    github.com/coreyker/dnn-mgr, folder gtzan, or github.com/jongpillee/music_dataset_split, folder GTZAN_split.

    Source: Tzanetakis and Cook 2002; the lists by Kereliuk, Sturm and Larsen 2015 (arXiv:1507.04761).
    """
    folder = _Folder("GTZAN", root, load_gtzan_genre)
    splits = _no_clips()
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        path = folder.find(f"{name}_filtered.txt")
        for line, text in _lines(path):
            with _naming(f"{path}, line {line}"):
                sound = _gtzan_sound(root, PurePosixPath(text).stem)
            splits[split].append(Clip(sound, sound.parent.name, sound.stem))
    return folder.present(splits)


def load_gtzan_rhythm(root: Path) -> Splits:
    """Load GTZAN-Rhythm: excerpts of 30 s, labelled with their beats, in seconds.

    Layout:
        root/genres/<genre>/<genre>.00000.wav or .au
        root/jams/<genre>.00000.wav.jams

    The position of beats before the first downbeat is not known and told as 0. Excerpts without beats are left out.

    Split: ours, by excerpt. In the literature all of it is the test set of models trained on Ballroom; GTZAN holds
    replicas and many pieces of some artists, so its own test part flatters.

    Source: Marchand, Fresnel and Peeters, ISMIR 2015 late-breaking.
    """
    folder = _Folder("GTZAN-Rhythm", root, load_gtzan_rhythm)
    clips = []
    for path in sorted(folder.find("jams").glob("*.jams")):
        with _naming(str(path)):
            sound = _gtzan_sound(root, path.name.removesuffix(".jams").removesuffix(".wav"))
            beats = _jams_beats(json.loads(path.read_text(encoding="utf-8")))
        clips.append(Clip(sound, beats, sound.stem))
    return folder.present(split_by_group(_labelled(clips, folder.name)))


def load_nsynth_instrument(root: Path) -> Splits:
    """Load NSynth: notes of 4 s, labelled with the family of the instrument, such as "string".

    Layout:
        root/nsynth-train/examples.json, root/nsynth-train/audio/<note>.wav
        root/nsynth-valid/ and root/nsynth-test/ likewise

    Split: official. Validation and test share instruments with each other, but not with train. The family
    "synth_lead" occurs in train alone.

    Source: Engel et al. 2017 (arXiv:1704.01279).
    """
    return _nsynth(root, "instrument_family_str")


def load_nsynth_pitch(root: Path) -> Splits:
    """Load NSynth, labelled with the MIDI number, such as "57"; layout and split as for `load_nsynth_instrument`."""
    return _nsynth(root, "pitch")


def _nsynth(root: Path, field: str) -> Splits:
    folder = _Folder("NSynth", root, load_nsynth_instrument)
    splits = _no_clips()
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        path = folder.find(f"nsynth-{name}/examples.json")
        with _naming(str(path)):
            examples = json.loads(path.read_text(encoding="utf-8")).items()
        for note, example in examples:
            with _naming(f"{path}, entry {note}"):
                clip = Clip(path.parent / "audio" / f"{note}.wav", str(example[field]), example["instrument_str"])
            splits[split].append(clip)
    return folder.present(splits)


def load_giantsteps_key(root: Path) -> Splits:
    """Load the two key data sets of GiantSteps: electronic dance music, 2 min, labelled such as "Eb minor".

    Layout:
        root/giantsteps-key-dataset/annotations/key/<id>.LOFI.key
        root/giantsteps-key-dataset/audio/<id>.LOFI.mp3
        root/giantsteps-mtg-key-dataset/annotations/annotations.txt and beatport_metadata.txt
        root/giantsteps-mtg-key-dataset/audio/<id>.LOFI.mp3

    Tracks with several keys, with none, or annotated with less than full confidence are left out.

    Split: the first data set is the test, the second is train and validation at about 100 to 16 by a hash of the
    artist, where all who ever worked with an artist of validation are of validation too. Who made the test tracks is
    not known.

    Source: Knees et al., ISMIR 2015, github.com/GiantSteps; left out as in Korzeniowski and Widmer 2018
    (arXiv:1808.05340), split as in Castellon et al. 2021 (arXiv:2107.05677), but followed until nothing changes.
    """
    folder = _Folder("GiantSteps", root, load_giantsteps_key)
    splits = _no_clips()
    left_out = 0
    for path in sorted(folder.find("giantsteps-key-dataset/annotations/key").glob("*.key")):
        with _naming(f"{path}, line 1"):
            key = _single_key(path.read_text(encoding="utf-8"))
        if key is None:
            left_out += 1
        else:
            sound = root / "giantsteps-key-dataset" / "audio" / f"{path.stem}.mp3"
            splits["test"].append(Clip(sound, key, path.stem))
    path = folder.find("giantsteps-mtg-key-dataset/annotations/beatport_metadata.txt")
    artists = {}
    for line, row in _rows(path, "ID", "ARTIST", delimiter="\t"):
        with _naming(f"{path}, line {line}"):
            artists[int(row["ID"])] = frozenset(artist.strip() for artist in row["ARTIST"].split(","))
    validation = _validation_artists(artists.values())
    path = folder.find("giantsteps-mtg-key-dataset/annotations/annotations.txt")
    for line, row in _rows(path, "ID", "MANUAL KEY", "C", delimiter="\t"):
        with _naming(f"{path}, line {line}"):
            track = int(row["ID"])
            key = _single_key(row["MANUAL KEY"]) if int(row["C"]) == 2 else None
        if key is None:
            left_out += 1
        else:
            by = artists.get(track, frozenset({f"unknown artist of {track}"}))
            sound = root / "giantsteps-mtg-key-dataset" / "audio" / f"{track}.LOFI.mp3"
            splits["validation" if by & validation else "train"].append(Clip(sound, key, ", ".join(sorted(by))))
    if left_out:
        logger.info("GiantSteps: %d tracks have no single sure key and are left out", left_out)
    return folder.present(splits)


def _single_key(text: str) -> str | None:
    """Return a key by its usual name, or None where several are given or none."""
    if not text.strip() or "/" in text or "-" in text:
        return None
    return key_name(*parse_key(" ".join(text.split())))


def _validation_artists(tracks: Collection[frozenset[str]]) -> set[str]:
    everyone = {artist for artists in tracks for artist in artists}
    validation = {artist for artist in everyone if _sha1(artist.lower()) % 116 >= 100}
    known = -1
    while len(validation) != known:
        known = len(validation)
        for artists in tracks:
            if artists & validation:
                validation |= artists
    return validation


def load_emomusic(root: Path) -> Splits:
    """Load Emotion in Music: clips of 45 s, labelled with the mean (arousal, valence) of listeners, each 1 to 9.

    Layout:
        root/annotations/static_annotations.csv with song_id, mean_arousal and mean_valence
        root/annotations/songs_info.csv with song_id, Artist and Mediaeval 2013 set
        root/clips_45seconds/<song_id>.mp3

    Split: the evaluation set of MediaEval 2013 is the test; its development set is split 8 to 2 by a hash of the
    artist's name without all but Latin letters.

    Source: Soleymani et al. 2013; the split as in Castellon et al. 2021 (arXiv:2107.05677).
    """
    folder = _Folder("Emotion in Music", root, load_emomusic)
    path = folder.find("annotations/songs_info.csv")
    songs = {}
    for line, row in _rows(path, "song_id", "Artist", "Mediaeval 2013 set"):
        with _naming(f"{path}, line {line}"):
            is_test = {"development": False, "evaluation": True}[row["Mediaeval 2013 set"]]
            artist = " ".join(re.sub(r"[^a-z\s]", "", row["Artist"].lower(), flags=re.ASCII).split())
            split = "test" if is_test else "train" if _sha1(artist) % 10 < 8 else "validation"
            songs[int(row["song_id"])] = split, artist
    path = folder.find("annotations/static_annotations.csv")
    splits = _no_clips()
    for line, row in _rows(path, "song_id", "mean_arousal", "mean_valence"):
        with _naming(f"{path}, line {line}"):
            song = int(row["song_id"])
            label = _number(row["mean_arousal"]), _number(row["mean_valence"])
            split, artist = songs[song]
        splits[split].append(Clip(root / "clips_45seconds" / f"{song}.mp3", label, artist))
    return folder.present(splits)


def load_ballroom_beats(root: Path) -> Splits:
    """Load Ballroom: excerpts of 30 s of dance music, labelled with their beats, in seconds.

    Layout:
        root/BallroomData/<dance>/<name>.wav
        root/BallroomAnnotations/<name>.beats, lines of time and position in the bar
        root/BallroomAnnotations/ballroomGroundTruth/<name>.bpm, for the tempo alone

    Thirteen recordings are there twice: the second of each is left out. Split: ours, by album, as far as names tell.

    Source: Gouyon et al. 2006 (sound), Krebs, Böck and Widmer, ISMIR 2013 (github.com/CPJKU/BallroomAnnotations; in
    older versions the position follows the number of the bar and a dot, which is read as well).
    """

    def beats(path: Path) -> tuple[Beat, ...]:
        found = []
        for line, text in _lines(path):
            with _naming(f"{path}, line {line}"):
                time, position = text.split()
                found.append(Beat(_number(time), int(position.rpartition(".")[2])))
        return tuple(found)

    return _ballroom(root, beats, "BallroomAnnotations", "*.beats")


def load_ballroom_tempo(root: Path) -> Splits:
    """Load Ballroom, labelled with beats per minute; layout, replicas and split as for `load_ballroom_beats`.

    Source: Gouyon et al. 2006: the archive data2.tar.gz of the ISMIR 2004 tempo contest.
    """

    def tempo(path: Path) -> float:
        with _naming(f"{path}, line 1"):
            bpm = _number(path.read_text(encoding="utf-8"))
            if bpm <= 0:
                raise ValueError("a tempo must be above 0")
        return bpm

    return _ballroom(root, tempo, "BallroomAnnotations/ballroomGroundTruth", "*.bpm")


def _ballroom(root: Path, label_of: Callable[[Path], Any], folder_name: str, pattern: str) -> Splits:
    folder = _Folder("Ballroom", root, load_ballroom_beats)
    sounds = {path.stem: path for path in folder.find("BallroomData").rglob("*.wav")}
    clips = []
    for path in sorted(folder.find(folder_name).glob(pattern)):
        if path.stem in BALLROOM_REPLICAS:
            continue
        # Albums-<album>-<track> or Media-<album><track>, with two digits for the track
        album = path.stem[:-2].rstrip("-")
        clips.append(Clip(sounds.get(path.stem, root / "BallroomData" / f"{path.stem}.wav"), label_of(path), album))
    return folder.present(split_by_group(_labelled(clips, folder.name)))


def load_mtg_jamendo(root: Path) -> Splits:
    """Load MTG-Jamendo: whole tracks, labelled with those of the 50 most frequent tags that apply.

    Layout:
        root/data/splits/split-0/autotagging_top50tags-train.tsv, -validation.tsv and -test.tsv
        root/audio/00/1234.mp3 or 1234.low.mp3

    Labels are such as "genre---rock". Split: official split 0, in which no artist is on two sides.

    Source: Bogdanov et al. 2019, github.com/MTG/mtg-jamendo-dataset.
    """
    folder = _Folder("MTG-Jamendo", root, load_mtg_jamendo)
    splits = _no_clips()
    for split in SPLITS:
        path = folder.find(f"data/splits/split-0/autotagging_top50tags-{split}.tsv")
        for line, text in _lines(path):
            if line == 1:
                continue
            with _naming(f"{path}, line {line}"):
                _, artist, _, name, _, *tags = text.split("\t")
                if not tags or not name.endswith(".mp3"):
                    raise ValueError("expected track, artist, album, path, duration and at least one tag")
            sound = root / "audio" / name
            sound = _first_present(sound, sound.with_suffix(".low.mp3"))
            splits[split].append(Clip(sound, tuple(tags), artist))
    return folder.present(splits)


def load_fma(root: Path, subset: str = "small") -> Splits:
    """Load the Free Music Archive: clips of 30 s, labelled with the top genre.

    Layout:
        root/fma_metadata/tracks.csv
        root/fma_small/000/000002.mp3, or fma_medium or fma_large

    Args:
        root: folder of the layout.
        subset: one of `FMA_SUBSETS`: 8 balanced genres, or 16 unbalanced ones. Tracks of no top genre, which only
            "large" has, are left out.

    Split: official, in which no artist is on two sides.

    Raises:
        ValueError: there is no such subset.

    Source: Defferrard et al., ISMIR 2017 (arXiv:1612.01840).
    """
    if subset not in FMA_SUBSETS:
        raise ValueError(f"no subset {subset!r}, only {FMA_SUBSETS}")
    folder = _Folder("FMA", root, load_fma)
    sounds = folder.find(f"fma_{subset}")
    path = folder.find("fma_metadata/tracks.csv")
    wanted = FMA_SUBSETS[: FMA_SUBSETS.index(subset) + 1]
    split_names = {"training": "train", "validation": "validation", "test": "test"}
    splits = _no_clips()
    unlabelled = 0
    records = _records(path)
    with _naming(f"{path}, line 1"):
        # Names of columns stand in two rows, a third one names the index.
        (_, first), (_, second), _ = next(records), next(records), next(records)
        columns = list(zip(first, second, strict=True))
        fields = ("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id")
        places = [columns.index(field) for field in fields]
    for line, record in records:
        with _naming(f"{path}, line {line}"):
            held, split, genre, artist = (record[place] for place in places)
            if held not in wanted:
                continue
            name = f"{int(record[0]):06d}"
            clip = Clip(sounds / name[:3] / f"{name}.mp3", genre, artist)
            splits[split_names[split]] += [clip] if genre else []
        unlabelled += not genre
    if unlabelled:
        logger.info("FMA: %d tracks have no top genre and are left out", unlabelled)
    return folder.present(splits)


@dataclass(frozen=True)
class _Folder:
    """Where a data set lies, and the loader whose docstring tells its layout."""

    name: str
    root: Path
    loader: Callable[..., Splits]

    @property
    def layout(self) -> str:
        section = inspect.cleandoc(self.loader.__doc__ or "").partition("Layout:\n")[2]
        return section.partition("\n\n")[0]

    def find(self, part: str = "") -> Path:
        return require(self.root / part, self.name, self.layout)

    def refusal(self, reason: str) -> MissingDataError:
        return MissingDataError(f"{self.name}: {reason}. Expected layout:\n{self.layout}")

    def present(self, splits: Splits) -> Splits:
        """Leave out clips whose sound is missing or empty, and refuse a split that loses all."""
        missing = {clip.path: None for clips in splits.values() for clip in clips if not _holds_data(clip.path)}
        left = {split: [clip for clip in clips if clip.path not in missing] for split, clips in splits.items()}
        for split, clips in splits.items():
            if clips and not left[split]:
                raise self.refusal(f"no sound file of {split} is there, such as {clips[0].path}")
        if not any(left.values()):
            raise self.refusal(f"nothing to load in {self.root}")
        if missing:
            message = "%s: %d of %d sound files are missing or empty and left out; the first is %s"
            logger.warning(message, self.name, len(missing), sum(map(len, splits.values())), next(iter(missing)))
        return left


def _no_clips() -> Splits:
    return {split: [] for split in SPLITS}


def _without_unknown_classes(splits: Splits, name: str) -> Splits:
    """Leave out what a classifier could not know: clips of a class that does not occur in train."""
    known = {clip.label for clip in splits["train"]}
    left = {split: [clip for clip in clips if clip.label in known] for split, clips in splits.items()}
    unknown = sorted({clip.label for clips in splits.values() for clip in clips} - known)
    if unknown:
        count = sum(len(splits[split]) - len(left[split]) for split in splits)
        logger.warning("%s: %d clips of classes that do not occur in train are left out: %s", name, count, unknown)
    return left


def _labelled(clips: list[Clip], name: str) -> list[Clip]:
    """Leave out clips without a single beat: they were not annotated."""
    empty = [clip for clip in clips if clip.label == ()]
    if empty:
        logger.warning("%s: %d files without beats are left out, the first is %s", name, len(empty), empty[0].path)
    return [clip for clip in clips if clip.label != ()]


def _jams_beats(jams: Any) -> tuple[Beat, ...]:
    """Join the two lists of a GTZAN-Rhythm annotation, which both have the namespace "beat"."""
    times: dict[str, list[float]] = {"beat": [], "downbeat": []}
    for annotation in jams["annotations"]:
        kind = annotation["sandbox"].get("annotation_type")
        if kind in times:
            times[kind] += [_number(item["time"]) for item in annotation["data"]]
    downbeats = times["downbeat"]
    others = [time for time in times["beat"] if all(abs(time - down) > SAME_BEAT_SECONDS for down in downbeats)]
    beats = []
    position = 0
    for time, is_downbeat in sorted([(time, True) for time in downbeats] + [(time, False) for time in others]):
        position = 1 if is_downbeat else position + 1 if position else 0
        beats.append(Beat(time, position))
    return tuple(beats)


def _gtzan_sound(root: Path, name: str) -> Path:
    if not re.fullmatch(r"[a-z]+\.\d{5}", name):
        raise ValueError(f"not a name of GTZAN: {name!r}; expected such as 'blues.00029'")
    stem = root / "genres" / name.partition(".")[0] / name
    return _first_present(stem.with_name(f"{name}.wav"), stem.with_name(f"{name}.au"))


def _first_present(*paths: Path) -> Path:
    return next((path for path in paths if _holds_data(path)), paths[0])


def _holds_data(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _rows(path: Path, *columns: str, delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table with a header: line numbers and rows.

    Raises:
        ValueError: one of `columns` is missing, in the header or in a row.
    """
    header: list[str] = []
    for line, record in _records(path, delimiter):
        header = header or record
        row = dict(zip(header, record, strict=False))
        if missing := [column for column in columns if column not in row]:
            raise ValueError(f"{path}, line {line} is malformed: no {' and no '.join(missing)}")
        if record is not header:
            yield line, row


def _records(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Read separated values: line numbers and fields without blanks around them."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            for record in reader:
                if record:
                    yield reader.line_num, [field.strip() for field in record]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {reader.line_num} is malformed: {error!r}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Read a text: line numbers and lines, without blank ones."""
    with _naming(str(path)):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    for line, text in enumerate(lines, start=1):
        if text.strip():
            yield line, text.strip()


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Let errors of malformed content name where it stands."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"{place} is malformed: {error!r}") from error


def _number(text: Any) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text!r}")
    return value


def _sha1(text: str) -> int:
    return int(hashlib.sha1(text.encode()).hexdigest(), 16)
