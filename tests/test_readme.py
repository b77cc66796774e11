"""Every block of the README runs, in a folder that has what it speaks of."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from mt2_music.train.synth import find_soundfont
from support import RATE, TINY, python, song, soundfont

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(music_folder, tmp_path_factory):
    here = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "model_cards" / "mt2-small", here / "model_cards" / "mt2-small")
    shutil.copytree(music_folder, here / "music")
    soundfile.write(here / "song.ogg", song(7), RATE)
    if find_soundfont() is not None:
        for name in ("first.sf2", "second.sf2"):
            soundfont(here / name)
    for label, seconds in (("long", 3.0), ("short", 2.0)):
        (here / "labelled" / label).mkdir(parents=True)
        for index in range(8):
            soundfile.write(here / "labelled" / label / f"{index}.wav", song(index, 4.0)[: int(seconds * RATE)], RATE)
    return here


@pytest.mark.parametrize("index", [index for index, (kind, _) in enumerate(BLOCKS) if kind == "python"])
def test_python_blocks_run(folder, index):
    env = {
        **os.environ,
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "data"),
    }
    python("-c", BLOCKS[index][1], cwd=folder, env=env)


def test_commands_run(folder):
    for line in "\n".join(text for kind, text in BLOCKS if kind == "bash").splitlines():
        words = shlex.split(line)
        if not words:
            continue
        if words[0] == "make":  # that it would work is what this whole run of tests and CI show
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words[0] == "pip":
            for extra in re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", line))):
                assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        elif words[0] == "mt2":
            python("-m", "mt2_music.cli", *words[1:], cwd=folder)
        elif "mt2_music.train.pretrain" in words:  # shortened: the defaults are for hours on a GPU
            python(*words[1:], *TINY, "--max_steps", "2", "--save_steps", "2", cwd=folder)
        elif "mt2_music.train.synth.corpus" in words:  # shortened, and with SoundFonts that every machine has
            banks = ["--soundfonts", "first.sf2", "--test_soundfont", "second.sf2"]
            if find_soundfont() is not None:
                python(*words[1:], "--hours", "0.06", "--seconds", "8", *banks, cwd=folder)
        elif "mt2_music.train.probing.run" in words:
            if find_soundfont() is not None:
                python(*words[1:], "--seeds", "0", "--tasks", "corpus-key", "corpus-chord", cwd=folder)
        elif "mt2_music.train.probing.report" in words:
            if find_soundfont() is not None:
                python(*words[1:], cwd=folder)
        else:
            assert words[0] == "python"
            python(*words[1:], cwd=folder)


def test_the_tree_is_the_tree():
    block = BLOCKS[-1][1]
    folder = ""
    for line in block.splitlines():
        names = re.match(r"\s*([\w./]+(?:, [\w./]+)*)", line).group(1).split(", ")
        if not line.startswith(" "):
            folder = names[0]
            names = [""]
        assert all((ROOT / folder / name).exists() for name in names), line


def test_the_first_embedding_comes_early():
    assert README[: README.index("pooler_output.shape")].count("\n") < 30
    assert sys.version_info >= (3, 10)
