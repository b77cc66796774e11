from pathlib import Path

import numpy as np
import pytest
import soundfile

from mt2_music import MT2FeatureExtractor
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from support import RATE, TINY, python, song, soundfont


@pytest.fixture(scope="session")
def extractor() -> MT2FeatureExtractor:
    return MT2FeatureExtractor()


@pytest.fixture(scope="session")
def music_folder(tmp_path_factory) -> Path:
    """Songs in several formats, rates and channel counts, some in a folder below."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "deeper").mkdir()
    kinds = [("wav", RATE, 1), ("flac", 22050, 2), ("ogg", 44100, 2), ("mp3", 48000, 1)]
    for index in range(12):
        suffix, rate, channels = kinds[index % len(kinds)]
        audio = resample(song(index), RATE, rate)
        path = folder / ("deeper" if index % 3 == 0 else ".") / f"song {index:02d}.{suffix}"
        soundfile.write(path, np.stack([audio] * channels, axis=1), rate)
    return folder


@pytest.fixture(scope="session")
def run_dir(music_folder, tmp_path_factory) -> Path:
    """A finished pre-training run, from the command line."""
    output = tmp_path_factory.mktemp("run")
    steps = ["--max_steps", 60, "--save_steps", 20]
    python("-m", "mt2_music.train.pretrain", "--audio_dir", music_folder, "--output_dir", output, *TINY, *steps)
    return output


@pytest.fixture(scope="session")
def published(run_dir, tmp_path_factory) -> Path:
    """The Hub folder of that run, published from the command line."""
    target = tmp_path_factory.mktemp("cards") / "mt2-test"
    python("-m", "mt2_music.train.publish", run_dir, target)
    return target


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory) -> Path:
    """A rendered corpus of a few minutes, with three SoundFonts beside it that sound alike."""
    folder = tmp_path_factory.mktemp("rendered")
    for name in ("first", "second", "unseen"):
        soundfont(folder / f"{name}.sf2")
    banks = ["--soundfonts", "first.sf2", "second.sf2", "--test_soundfont", "unseen.sf2"]
    options = ["--output_dir", "corpus", "--seconds", 8, "--hours", 0.06, *banks]
    python("-m", "mt2_music.train.synth.corpus", *options, cwd=folder)
    return folder / "corpus"
