"""What an environment has and lacks."""

import importlib
import importlib.util
import io
import re
import shutil
import sys
from importlib import metadata, resources
from typing import Any

import numpy as np

from .options import DEFAULT_MODEL

# What each package is for; the first group cannot be done without.
REQUIRED = {
    "torch": "everything",
    "transformers": "everything",
    "numpy": "everything",
    "soundfile": "reading sound files",
    "soxr": "resampling",
}
OPTIONAL = {
    "torchaudio": "nothing here, but transformers imports it where it is installed",
    "datasets": "pre-training, fine-tuning, the benchmark",
    "accelerate": "pre-training and fine-tuning",
    "peft": "fine-tuning by adapters",
    "evaluate": "fine-tuning and the benchmark",
    "matplotlib": "pictures",
    "sklearn": "fine-tuning and the benchmark",
    "mir_eval": "the benchmark",
    "tensorboard": "logs of training",
    "pyarrow": "Parquet and Arrow files",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "running what was exported",
    "gradio": "the demo page",
    "torchcodec": "m4a, aac, wma and other files, in the place of ffmpeg",
    "pretty_midi": "rendering MIDI files",
    "music21": "rendering MusicXML files",
    "tinysoundfont": "rendering with SoundFonts",
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", None)}


def examine() -> list[dict[str, Any]]:
    """Try every package and every step from a sound file to a key.

    Returns:
        One row for each thing tried: "name", "version" where there is one, "purpose", whether it is "required",
        "tested", of packages the lowest and the newest version that the tests ran with, and "problem", which is None
        where all is well. Optional packages that are not installed are no problem.
    """
    rows = [_try_package(name, purpose, name in REQUIRED) for name, purpose in {**REQUIRED, **OPTIONAL}.items()]
    tested = tested_versions()
    for row in rows:
        row["tested"] = tested.get(DISTRIBUTIONS.get(row["name"], row["name"]))
    rows += [_try(f"{suffix} files", "reading and writing", _round_trip, suffix) for suffix in FORMATS]
    rows.append(_find_program("ffmpeg", "m4a, aac, wma and other files"))
    rows.append(_try(DEFAULT_MODEL, "the model that comes with the package", _estimate_key_of_chord))
    return rows


def tested_versions() -> dict[str, tuple[str, str]]:
    """Return the lowest and the newest version of each package that the tests ran with.

    The lowest is what this package requires, the newest the one in `constraints.txt`. A package that is not in both
    is left out.
    """
    pinned = resources.files("mt2_music").joinpath("constraints.txt").read_text(encoding="utf-8")
    newest = dict(re.findall(r"^([\w.-]+)==([\w.]+)", pinned, re.MULTILINE))
    allowed = (re.match(r"([\w.-]+)[^;]*>=\s*([\w.]+)", text) for text in metadata.requires("mt2-music") or ())
    lowest = {found[1]: found[2] for found in allowed if found}
    return {name: (lowest[name], newest[name]) for name in lowest if name in newest}


def _try_package(name: str, purpose: str, required: bool) -> dict[str, Any]:
    row = {"name": name, "version": None, "purpose": purpose, "required": required, "problem": None}
    try:
        row["version"] = metadata.version(DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:
        row["problem"] = f"is missing: run `pip install {name}`" if required else None
        return row
    try:
        if sys.modules.get(name, ...) is None:  # hidden when transformers was imported: try again, to see why
            del sys.modules[name]
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - whatever a broken package does is what is to be told
        advice = f"run `pip uninstall {name}`, or install the build that belongs to the others"
        row["problem"] = f"is installed and does not load ({type(error).__name__}: {error}): {advice}"
    return row


def _find_program(name: str, purpose: str) -> dict[str, Any]:
    version = "found" if shutil.which(name) else None
    return {"name": name, "version": version, "purpose": purpose, "required": False, "problem": None}


def _try(name: str, purpose: str, work: Any, *arguments: Any) -> dict[str, Any]:
    row = {"name": name, "version": None, "purpose": purpose, "required": True, "problem": None}
    try:
        work(*arguments)
    except Exception as error:  # noqa: BLE001
        row["problem"] = f"does not work ({type(error).__name__}: {error})"
    return row


def _round_trip(suffix: str) -> None:
    import soundfile

    from mt2_music.feature_extraction.decoding import read_audio

    container, subtype = FORMATS[suffix]
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(16000) / 10), 16000, format=container, subtype=subtype)
    file.seek(0)
    audio, _ = read_audio(file)
    if not 0.05 < abs(audio).max() < 0.15:
        raise ValueError("a file that was written is read as something else")


def _estimate_key_of_chord() -> None:
    from .music_model import load

    times = np.arange(4 * 16000) / 16000
    chord = sum(np.sin(2 * np.pi * 261.63 * 2 ** (step / 12) * times) for step in (0, 4, 7, 11, 14)) / 20
    estimate = load(DEFAULT_MODEL, device="cpu").key(chord, 16000)
    if not np.isfinite(estimate.profile).all():
        raise ValueError("the model returns NaN")
