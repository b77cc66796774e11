"""What recordings lose on their way: `python benchmarks/songs/robustness.py MUSIC --models mt2-small`.

Embeds 30 seconds of every track as they are and after codecs, filters, a room, noise, other levels and speeds, and
says how alike a track and its degraded version are for each token, how often the nearest of all clean tracks is the
track itself, how often `--no_duplicates` takes both for one recording, and how often its key signature is still named
as it was. Statistics of MFCC, and Krumhansl's templates
on a chroma, do the same beside it. The music must not be what the model was trained on. Writes robustness.json, to
which models may be added later, and the table robustness.md.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from scipy.signal import butter, fftconvolve, sosfilt
from tqdm import tqdm

from mt2_music import MT2ForPreTraining
from mt2_music.collection.similar import SAME_RECORDING
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.loading import load_extractor, load_model
from mt2_music.music import key_of_chroma, signature
from mt2_music.options import DEFAULT_TRANSPOSITIONS
from mt2_music.song.keys import key_calibration, mean_profile, rotate_to_c
from mt2_music.storage import write_text_atomic
from mt2_music.train.data.tracks import find_files
from mt2_music.train.probing.encoders import MT2Encoder, SpectrogramStatistics

SECONDS = 30.0
SAMPLING_RATE = 16000
REVERB_SECONDS, REVERB_DB = 1.5, -3.0  # until it falls by 60 dB; its energy against the direct sound
BASELINE, OLD = "baselines", "mt2-small of 0.1.0"
Audio = np.ndarray  # float, (samples, channels)
Analysis = dict[str, np.ndarray]  # of all tracks: vectors by readout, (tracks, D), and "signature", (tracks,)
Embedder = Callable[[np.ndarray], dict[str, Any]]


def coded(audio: Audio, rate: int, kind: str, kilobits: float) -> tuple[Audio, int]:
    """Code audio with a constant bit rate, all channels together, and decode it."""
    if kind == "OPUS":
        audio, rate = soxr.resample(audio, rate, 48000), 48000
        each = kilobits / audio.shape[1]
        options = {"format": "OGG", "subtype": "OPUS", "compression_level": (256 - each) / 250}
    else:
        highest, lowest = (320, 32) if rate >= 32000 else (160, 8)
        options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
        options["compression_level"] = (highest - kilobits) / (highest - lowest)
    file = BytesIO()
    soundfile.write(file, np.clip(audio, -1, 1), rate, **options)
    file.seek(0)
    decoded, rate = soundfile.read(file, always_2d=True)
    return decoded, rate


def low_passed(audio: Audio, rate: int, hertz: float) -> tuple[Audio, int]:
    """Take away what is above a frequency, by 48 dB an octave."""
    return sosfilt(butter(8, hertz, fs=rate, output="sos"), audio, axis=0), rate


def reverberant(audio: Audio, rate: int) -> tuple[Audio, int]:
    """Put the music into a room whose echoes are noise that dies away."""
    rng = np.random.default_rng(0)
    time = np.arange(round(REVERB_SECONDS * rate)) / rate / REVERB_SECONDS
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time)
    room *= 10 ** (REVERB_DB / 20) / np.sqrt(np.square(room).sum())
    return audio + fftconvolve(audio, room[:, None], axes=0)[: len(audio)], rate


def noisy(audio: Audio, rate: int, decibels: float) -> tuple[Audio, int]:
    """Add white noise that is so many decibels below the music."""
    noise = np.random.default_rng(0).standard_normal(audio.shape)
    return audio + noise * np.sqrt(np.square(audio).mean()) * 10 ** (-decibels / 20), rate


def telephone(audio: Audio, rate: int) -> tuple[Audio, int]:
    """Sample at 8 kHz, in eight bits of G.711."""
    file = BytesIO()
    mono = soxr.resample(audio.mean(axis=1), rate, 8000)
    soundfile.write(file, np.clip(mono, -1, 1), 8000, format="WAV", subtype="ULAW")
    file.seek(0)
    decoded, rate = soundfile.read(file, always_2d=True)
    return decoded, rate


DEGRADATIONS: dict[str, Callable[[Audio, int], tuple[Audio, int]]] = {
    "MP3, 64 kbit/s": lambda audio, rate: coded(audio, rate, "MP3", 64),
    "Opus, 24 kbit/s": lambda audio, rate: coded(audio, rate, "OPUS", 24),
    "low-pass 3.5 kHz": lambda audio, rate: low_passed(audio, rate, 3500),
    "8 kHz, telephone": telephone,
    "reverb, 1.5 s": reverberant,
    "noise 10 dB below": lambda audio, rate: noisy(audio, rate, 10),
    "level +12 dB": lambda audio, rate: (audio * 10 ** (12 / 20), rate),
    "level -12 dB": lambda audio, rate: (audio * 10 ** (-12 / 20), rate),
    "level -40 dB": lambda audio, rate: (audio * 10 ** (-40 / 20), rate),
    # Samples of another rate: higher and faster, or lower and slower, by about half a semitone.
    "speed +3 %": lambda audio, rate: (audio, round(rate * 1.03)),
    "speed -3 %": lambda audio, rate: (audio, round(rate * 0.97)),
    "one channel": lambda audio, rate: (audio[:, :1], rate),
}
CLEAN = "clean"


def to_mono(audio: Audio, rate: int) -> np.ndarray:
    """Return what models take."""
    return resample(audio.mean(axis=1).astype(np.float32), rate, SAMPLING_RATE)


def read_tracks(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yield the middle of every track that is long enough, clean and degraded in every way, as models take it."""
    for _, path in tqdm(find_files(folder).found, unit="track"):
        try:
            audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            print(f"left out {path}: {error}")
            continue
        length = round(SECONDS * rate)
        if len(audio) < length:
            continue
        start = (len(audio) - length) // 2
        part = audio[start : start + length].astype(float)
        versions = {CLEAN: to_mono(part, rate)}
        yield versions | {name: to_mono(*degrade(part, rate)) for name, degrade in DEGRADATIONS.items()}


def open_model(source: str) -> tuple[Embedder, str]:
    """Return what embeds with a published model and names signatures, and what tells it from others."""
    model, extractor = load_model(MT2ForPreTraining, source), load_extractor(source)
    identity = f"{MT2Encoder(model, extractor, source).identity}-{model.config.key_calibration}"

    @torch.no_grad()
    def embed(waveform: np.ndarray) -> dict[str, Any]:
        features = extractor.extract(torch.from_numpy(waveform)[None])
        profile = rotate_to_c(mean_profile(model, features[0], DEFAULT_TRANSPOSITIONS), key_calibration(model))
        outputs = model.mt2(features)
        tokens = {"equivariant": outputs.equivariant_embeds[0], "contrastive": outputs.contrastive_embeds[0]}
        tokens["mean"] = (tokens["equivariant"] + tokens["contrastive"]) / 2
        readouts = {name: token.numpy() for name, token in tokens.items()}
        return {**readouts, "signature": int(profile.argmax())}

    return embed, identity


def open_baselines() -> tuple[Embedder, str]:
    """Return the same of statistics of MFCC, and of templates on a chroma."""
    mfcc, chroma = SpectrogramStatistics("mfcc"), SpectrogramStatistics("chroma")

    def embed(waveform: np.ndarray) -> dict[str, Any]:
        statistics = chroma.embed(waveform).vectors["statistics"][:12]
        return {"mfcc": mfcc.embed(waveform).vectors["statistics"], "signature": signature(key_of_chroma(statistics))}

    return embed, f"{mfcc.identity}-{chroma.identity}"


def embed_all(embedders: dict[str, Embedder], folder: Path) -> tuple[dict[str, dict[str, Analysis]], int]:
    """Embed all versions of all tracks; return what each embedder made of each version, and how many tracks."""
    analysed: dict[str, dict[str, list[dict[str, Any]]]] = {}
    count = 0
    for count, versions in enumerate(read_tracks(folder), start=1):  # noqa: B007
        for version, waveform in versions.items():
            for name, embed in embedders.items():
                analysed.setdefault(name, {}).setdefault(version, []).append(embed(waveform))
    if count < 2:
        raise ValueError(f"{folder} holds {count} tracks of {SECONDS:g} s")
    stacked = {
        name: {
            version: {key: np.stack([one[key] for one in found]) for key in found[0]} for version, found in of.items()
        }
        for name, of in analysed.items()
    }
    return stacked, count


def compare(analysed: dict[str, Analysis]) -> dict[str, Any]:
    """Return mean cosines, shares of tracks found again and of signatures kept, by version."""
    clean = analysed[CLEAN]
    scores: dict[str, Any] = {}
    for readout in [key for key in clean if key != "signature"]:
        # Coefficients of MFCC differ in scale by orders of magnitude: without this, all music would be the same.
        centre, scale = clean[readout].mean(0), clean[readout].std(0) if readout == "mfcc" else np.float64(1)
        if readout != "mfcc":
            centre = np.zeros_like(centre)
        originals = unit((clean[readout] - centre) / scale)
        among = originals @ originals.T
        others = among[~np.eye(len(among), dtype=bool)]
        scores.setdefault("another track", {})[readout] = {
            "cosine": float(others.mean()),
            "copy": float((others >= SAME_RECORDING).mean()),
        }
        for version in DEGRADATIONS:
            cosines = unit((analysed[version][readout] - centre) / scale) @ originals.T
            found = cosines.argmax(1) == np.arange(len(cosines))
            scores.setdefault(version, {})[readout] = {
                "cosine": float(np.diag(cosines).mean()),
                "found": float(found.mean()),
                "copy": float((np.diag(cosines) >= SAME_RECORDING).mean()),
            }
    for version in DEGRADATIONS:
        kept = analysed[version]["signature"] == clean["signature"]
        scores[version]["signature"] = float(kept.mean())
    pairs = clean["signature"][:, None] == clean["signature"]
    scores["another track"]["signature"] = float(pairs[~np.eye(len(pairs), dtype=bool)].mean())
    return scores


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def table(results: dict[str, Any]) -> str:
    """Write one table per model, one row per degradation."""
    titles = {BASELINE: "MFCC statistics; Krumhansl's templates on a chroma"}
    parts = []
    last = (OLD, BASELINE)
    for name in sorted(results["models"], key=lambda name: last.index(name) if name in last else -1):
        scores = results["models"][name]["scores"]
        readouts = [key for key in scores["another track"] if key != "signature"]
        head = ["", *(word for key in readouts for word in (f"{key}: cosine", "found"))]
        head += ["a copy", "signature kept"] if "mean" in readouts else ["signature kept"]
        lines = [f"## {titles.get(name, name)}", "", "| " + " | ".join(head) + " |"]
        lines.append("|---|" + "---:|" * (len(head) - 1))
        for version in ["another track", *DEGRADATIONS]:
            cells = [version]
            for readout in readouts:
                score = scores[version][readout]
                cells += [f"{score['cosine']:.3f}", f"{score['found']:.0%}" if "found" in score else "-"]
            cells += [f"{scores[version]['mean']['copy']:.0%}"] if "mean" in readouts else []
            lines.append("| " + " | ".join([*cells, f"{scores[version]['signature']:.0%}"]) + " |")
        parts.append("\n".join(lines))
    count = results["tracks"]
    note = (
        f"{count} tracks that no model was trained on, the middle {SECONDS:g} seconds of each, stereo at their own "
        "rate until they are degraded. Cosine: of a clean track and its degraded version, mean over tracks; it says "
        "little without the first row, the mean over pairs of different clean tracks. Found: share of degraded tracks "
        f"whose nearest clean track is their own; by chance {1 / count:.1%}. A copy: share that "
        f"`--no_duplicates` takes for the same recording, whose mean vectors have a cosine of {SAME_RECORDING:g} or "
        "more; of two different tracks, as the first row says. Signature kept: share that is named as "
        "that of the clean track, right or wrong; of two different tracks, as the first row says. A speed of 3 % "
        "moves pitches by 0.51 or 0.53 semitones, so the signature a semitone away is no less right. MFCC were "
        "divided by their deviation over "
        "clean tracks, after their mean was taken off, which favours them. Levels are changed in floating point: "
        "nothing is clipped or rounded. Models take the mean of channels anyway, so mono has no row. "
        f"Reverb: noise that dies away, {REVERB_DB:g} dB against the direct sound. Signatures by the profile, without "
        f"a key layer, averaged over {DEFAULT_TRANSPOSITIONS} semitones up and down. Written by "
        "benchmarks/songs/robustness.py."
    )
    return "\n\n".join([*parts, note]) + "\n"


def main() -> None:
    """Embed with the models that have no row yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, help="folder of recordings")
    parser.add_argument("--models", nargs="+", default=["mt2-small"], help="folders, Hub names or short names")
    parser.add_argument("--old", help="folder of 0.1.0's mt2-small, to be compared with")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    sources = {Path(source).name: source for source in arguments.models}
    sources |= {OLD: arguments.old} if arguments.old else {}
    opened = {**{name: open_model(source) for name, source in sources.items()}, BASELINE: open_baselines()}
    results = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {"models": {}}
    known = {name: of["identity"] for name, of in results["models"].items()}
    missing = {name: embed for name, (embed, identity) in opened.items() if known.get(name) != identity}
    if missing:
        analysed, results["tracks"] = embed_all(missing, arguments.music)
        for name, of in analysed.items():
            results["models"][name] = {"identity": opened[name][1], "scores": compare(of)}
        write_text_atomic(arguments.out, json.dumps(results, indent=1) + "\n")
    write_text_atomic(arguments.out.with_suffix(".md"), table(results))


if __name__ == "__main__":
    main()
