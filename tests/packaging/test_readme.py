"""Every block of README and of the pages in docs runs, in order, in a folder that has what it names."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess

import pytest
import soundfile
import yaml

from mt2_music.audio.files import AUDIO_SUFFIXES
from mt2_music.train.analysis import pieces
from mt2_music.train.pretrain.config import PRESETS
from mt2_music.train.publish import key_layer
from mt2_music.train.synth import find_soundfont
from support import RATE, ROOT, TINY, here, python, song, soundfont

PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
}
README = PAGES["README"]
BLOCKS = {
    name: re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for name, text in sorted(PAGES.items())
}
OPTIONAL = ("ray", "sentence_transformers", "peft", "mteb", "faiss", "lancedb")
WITHOUT = {rf"^(?:import|from) {name}\b": importlib.util.find_spec(name) for name in OPTIONAL}  # what blocks need


@pytest.fixture(scope="module")
def folder(music_folder, tmp_path_factory):
    here = tmp_path_factory.mktemp("reader")
    for path in (ROOT / "model_cards").glob("mt2-*"):
        shutil.copytree(path, here / "model_cards" / path.name)
    shutil.copy(ROOT / "README.md", here)
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


@pytest.mark.parametrize("page", BLOCKS)
def test_blocks_run(folder, page, monkeypatch):
    for module, name in ((key_layer, "NUM_PLAIN_PIECES"), (pieces, "NUM_DRUMS"), (pieces, "NUM_NOISES")):
        monkeypatch.setattr(module, name, 6)
    for kind, text in BLOCKS[page]:
        if kind == "python" and all(there for what, there in WITHOUT.items() if re.search(what, text, re.MULTILINE)):
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
            assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    elif words[0] == "mt2":
        here("-m", "mt2_music.cli", *words[1:], cwd=folder)
    elif words[0] == "accelerate":
        python("-m", "accelerate.commands.launch", "--cpu", *words[2:], cwd=folder)
    elif "mt2_music.train.synth.quads" in words:  # shortened, and with a SoundFont that every machine has
        if find_soundfont() is not None:
            here(*words[1:-1], "8", "--seconds", "6", "--soundfonts", "first.sf2", cwd=folder)
    elif "--quads_dir" in words and find_soundfont() is None:
        return
    elif "mt2_music.train.pretrain" in words:  # shortened: the defaults are for hours on a GPU
        here(*words[1:], *TINY, "--max_steps", "2", "--save_steps", "2", cwd=folder)
    elif "mt2_music.train.finetune" in words:
        here(*words[1:], "--num_train_epochs", "2", "--dataloader_num_workers", "0", cwd=folder)
    elif "mt2_music.train.synth.corpus" in words:  # shortened, and with SoundFonts that every machine has
        banks = ["--soundfonts", "first.sf2", "--test_soundfont", "second.sf2"]
        if find_soundfont() is not None:
            here(*words[1:], "--hours", "0.06", "--seconds", "8", *banks, cwd=folder)
    elif find_soundfont() is None and {"--data", "--corpus", "--results", "results.json"} & {*words}:
        return  # of the corpus, which could not be rendered
    elif "mt2_music.train.probing.run" in words:
        short = [] if "--tasks" in words else ["--tasks", "corpus-key", "corpus-chord"]
        here(*words[1:], "--seeds", "0", *short, cwd=folder)
    elif "mt2_music.train.analysis" in words:  # shortened
        here(*words[1:], "--steps", "5", cwd=folder)
    elif "mt2_music.train.card" in words:  # as a shell names all folders
        folders = [os.path.relpath(path, folder) for word in words for path in folder.glob(word) if "*" in word]
        here(*(word for word in words[1:] if "*" not in word), *folders, cwd=folder)
        if "--readme" in words:  # nothing that it said is lost
            assert (folder / "README.md").read_text(encoding="utf-8") == README
    else:
        assert words[0] == "python"
        here(*words[1:], cwd=folder)


def test_the_tree_is_the_tree():
    (block,) = (text for kind, text in BLOCKS["CONTRIBUTING"] if not kind)
    folder = ""
    for line in block.splitlines():
        names = re.match(r"\s*([\w./]+(?:, [\w./]+)*)", line).group(1).split(", ")
        if not line.startswith(" "):
            folder = names[0]
            names = [""]
        assert all((ROOT / folder / name).exists() for name in names), line


def test_links_lead_to_files():
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("model_cards/*.md"),
    ):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"
    assert all(f"(docs/{path.name})" in README for path in ROOT.glob("docs/*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_exist(page):
    folders = "benchmarks|docs|feature_extraction|model_cards|modeling_mt2|tests|train"
    for name in re.findall(rf"\b(?:{folders})/[\w./-]+\.(?:py|md|sh|json)\b", PAGES[page]):
        assert "NAME" in name or (ROOT / name).is_file(), name


def test_suffixes_that_pages_name_are_read():
    said = r"need nothing else: ([\w,\s]+) and similar ones\. These need the program ffmpeg: ([\w,\s]+) and others"
    named = [tuple(" ".join(words.split()) for words in both) for both in re.findall(said, README)]
    rows = re.findall(r"^\| ([\w, ]+) and (?:their kin|others) \|", PAGES["embeddings"], re.MULTILINE)
    assert (len(named), len(rows)) == (1, 2)
    for suffixes in (*named[0], *rows):
        assert {f".{suffix}" for suffix in suffixes.split(", ")} <= AUDIO_SUFFIXES


def test_the_table_of_presets_has_all():
    rows = re.findall(r"^\| `(\w+)`[^|]*\| [^|]*(?:cores|GPU) \|", PAGES["training"], re.MULTILINE)
    assert sorted(rows) == sorted(PRESETS)


def test_readme_is_short_and_says_first_what_a_visitor_asks_first():
    assert README.count("\n") <= 150
    asked = [
        "model_cards/space/screenshot.png",
        "pip install",
        "mt2 key",
        "mt2_music.load",
        "<!-- models -->",
        "make demo",
    ]
    assert sorted(asked, key=README.index) == asked
    for text in PAGES.values():  # a name without a folder or an owner is none that transformers could find
        assert not re.search(r"from_pretrained\(\s*[\"'][\w-]+[\"']", text)


def test_the_citation_is_that_of_readme():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert f"title = {{{paper['title']}}}" in README
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert f"author = {{{authors}}}" in README
