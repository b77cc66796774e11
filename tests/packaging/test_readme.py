"""Every block of README and guide runs, in the order of its text, in a folder that has what it speaks of."""

import importlib.util
import re
import shlex
import shutil
import subprocess

import pytest
import soundfile

from mt2_music.train.synth import find_soundfont
from support import RATE, ROOT, TINY, here, python, song, soundfont

README, GUIDE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "model_cards/guide.md"))
BLOCKS, GUIDE_BLOCKS = (
    re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for text in (README, GUIDE)
)


@pytest.fixture(scope="module")
def folder(music_folder, tmp_path_factory):
    here = tmp_path_factory.mktemp("reader")
    for name in ("mt2-small", "mt2-small-key"):
        shutil.copytree(ROOT / "model_cards" / name, here / "model_cards" / name)
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


@pytest.mark.parametrize("blocks", [BLOCKS, GUIDE_BLOCKS], ids=["README", "guide"])
def test_blocks_run(folder, blocks):
    for kind, text in blocks:
        if kind == "python" and ("import ray" not in text or importlib.util.find_spec("ray")):
            here("-c", text, cwd=folder)
        elif kind == "bash":
            for line in text.splitlines():
                run_line(folder, line)


def run_line(folder, line):
    """Run a command of the README as it stands, or shortened where it is for hours."""
    words = shlex.split(line)
    if words[0] == "make":  # that it would work is what this whole run of tests and CI show
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "pip":
        for extra in re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", line))):
            assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    elif words[0] == "mt2":
        here("-m", "mt2_music.cli", *words[1:], cwd=folder)
    elif words[0] == "accelerate":
        python("-m", "accelerate.commands.launch", "--cpu", *words[2:], cwd=folder)
    elif "mt2_music.train.pretrain" in words:  # shortened: the defaults are for hours on a GPU
        here(*words[1:], *TINY, "--max_steps", "2", "--save_steps", "2", cwd=folder)
    elif "mt2_music.train.finetune" in words:
        here(*words[1:], "--num_train_epochs", "2", "--dataloader_num_workers", "0", cwd=folder)
    elif "mt2_music.train.synth.corpus" in words:  # shortened, and with SoundFonts that every machine has
        banks = ["--soundfonts", "first.sf2", "--test_soundfont", "second.sf2"]
        if find_soundfont() is not None:
            here(*words[1:], "--hours", "0.06", "--seconds", "8", *banks, cwd=folder)
    elif "mt2_music.train.probing.run" in words:
        if find_soundfont() is not None:
            here(*words[1:], "--seeds", "0", "--tasks", "corpus-key", "corpus-chord", cwd=folder)
    elif "mt2_music.train.probing.report" in words:
        if find_soundfont() is not None:
            here(*words[1:], cwd=folder)
    else:
        assert words[0] == "python"
        here(*words[1:], cwd=folder)


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


def test_links_lead_to_what_is_there():
    for page in (ROOT / "README.md", ROOT / "model_cards" / "guide.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"
