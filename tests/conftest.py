"""Fixtures that several folders of tests share. What is dear is made once, also where several processes test.

Torch and the package are imported where they are used: the process that hands out the tests to others needs neither.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from mt2_music import MT2FeatureExtractor

# Before torch and transformers are imported, which read them, and for the processes that tests start. No test touches
# the network, or caches that are not its own; of models this small, a second thread costs more than it helps.
CACHES = tempfile.TemporaryDirectory(prefix="mt2-tests-")
os.environ |= {"HF_HOME": CACHES.name, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return a function that makes a folder, or waits for the process that makes it: tests must only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / "shared" / name, shared / "shared" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                folder.mkdir()  # fails where it was begun and failed: once is enough to see why
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def extractor() -> "MT2FeatureExtractor":
    from mt2_music import MT2FeatureExtractor

    return MT2FeatureExtractor()


@pytest.fixture(scope="session")
def music_folder(once) -> Path:
    """Songs in several formats, rates and channel counts, some in a folder below."""
    import numpy as np
    import soundfile

    from mt2_music.feature_extraction.feature_extraction_mt2 import resample
    from support import RATE, song

    def make(folder: Path) -> None:
        (folder / "deeper").mkdir()
        kinds = [("wav", RATE, 1), ("flac", 22050, 2), ("ogg", 44100, 2), ("mp3", 48000, 1)]
        for index in range(12):
            suffix, rate, channels = kinds[index % len(kinds)]
            audio = resample(song(index), RATE, rate)
            path = folder / ("deeper" if index % 3 == 0 else ".") / f"song {index:02d}.{suffix}"
            soundfile.write(path, np.stack([audio] * channels, axis=1), rate)

    return once("music", make)


@pytest.fixture(scope="session")
def quads_dir(once) -> Path:
    """Six quads of plain tones, three of them of a melody alone."""
    from dataclasses import replace

    import numpy as np

    from mt2_music.train.synth import compose, play_additive
    from support import RATE, write_quads

    def play(quad: int, score: int, orchestration: int) -> np.ndarray:
        music = compose(np.random.default_rng([7, quad, score]), 6.0, (5 * quad + score) % 12, "major")
        if quad % 2:
            music = replace(music, notes=tuple(note for note in music.notes if note.part == "melody"))
        audio = play_additive(music, np.random.default_rng([8, quad, orchestration]))[: 5 * RATE]
        return (32767 * np.pad(audio, (0, 5 * RATE - len(audio)))).astype(np.int16)

    return once("quads", lambda folder: write_quads(folder, [False, True] * 3, play))


@pytest.fixture(scope="session")
def run_dir(music_folder, once) -> Path:
    """A finished pre-training run, by the command."""
    from mt2_music.train.pretrain.__main__ import main
    from support import STEPS, TINY

    def make(folder: Path) -> None:
        main(["--audio_dir", str(music_folder), "--output_dir", str(folder), *TINY, *STEPS])

    return once("run", make)


@pytest.fixture(scope="session")
def published(run_dir, once) -> Path:
    """The Hub folder of that run, by the command."""
    from mt2_music.train.publish.__main__ import main

    def make(folder: Path) -> None:
        assert main([str(run_dir), str(folder / "mt2-test")]) == 0

    return once("cards", make) / "mt2-test"


@pytest.fixture(scope="session")
def small_corpus(once) -> Path:
    """A rendered corpus of a few minutes, with three SoundFonts beside it that sound alike."""
    from mt2_music.train.synth.corpus.__main__ import main
    from support import soundfont

    def make(folder: Path) -> None:
        for name in ("first", "second", "unseen"):
            soundfont(folder / f"{name}.sf2")
        options = ["--output_dir", folder / "corpus", "--seconds", 8, "--hours", 0.06]
        options += ["--soundfonts", folder / "first.sf2", folder / "second.sf2"]
        options += ["--test_soundfont", folder / "unseen.sf2"]
        main([str(option) for option in options])

    return once("rendered", make) / "corpus"
