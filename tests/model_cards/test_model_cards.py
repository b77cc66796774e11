"""The models published here: whole, of this code, what their cards say, and loaded without the package."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
import yaml

import mt2_music
from mt2_music.music import signature
from mt2_music.train.probing.report.comparison import chosen_readout
from mt2_music.train.publish.card import fill_card, fill_results
from mt2_music.train.publish.facts import CODE_FILES, SENTENCE_FILES
from mt2_music.train.publish.readme import fill_readme
from support import RATE, ROOT, pitch_fork, python, song

CARDS = ROOT / "model_cards"
MODELS = sorted(path.parent for path in CARDS.glob("*/config.json"))

WITHOUT_PACKAGE = """
import sys, warnings
sys.modules["mt2_music"] = None
warnings.simplefilter("error")  # before transformers adds its own filters
import torch
from transformers import AutoFeatureExtractor, AutoModel
extractor = AutoFeatureExtractor.from_pretrained(sys.argv[1], trust_remote_code=True)
model, report = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True, output_loading_info=True)
assert not any(report.values()), report
with torch.no_grad():
    embedding = model.eval()(**extractor(sys.argv[2], return_tensors="pt")).pooler_output
assert embedding.dtype == torch.float32 and embedding.isfinite().all()
"""


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_process_without_the_package_embeds_a_file_without_a_warning(folder, tmp_path):
    soundfile.write(tmp_path / "song.ogg", song(70), RATE)
    env = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    said = python("-c", WITHOUT_PACKAGE, folder, tmp_path / "song.ogg", cwd=tmp_path, env=env).stderr
    assert not re.search("warn|unexpected|missing|newly", said, re.IGNORECASE), said


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_folders_hold_this_code_and_cards_their_own_numbers(folder):
    refresh = f"python -m mt2_music.train.card model_cards/{folder.name}"
    for name, path in CODE_FILES.items():
        assert (folder / name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), f"{name} is an old copy: {refresh}"
    for name, content in SENTENCE_FILES.items():
        assert json.loads((folder / name).read_text(encoding="utf-8")) == content, f"{name} is an old copy: {refresh}"
    card = (folder / "README.md").read_text(encoding="utf-8")
    _, metadata, text = card.split("---\n", 2)
    assert text == fill_card(folder).split("---\n", 2)[2], f"the card is not what its files say: {refresh}"
    index = yaml.safe_load(metadata)["model-index"][0]
    scores = json.loads((folder / "results.json").read_text(encoding="utf-8"))["models"][folder.name]["tasks"]
    assert {result["task"]["name"] for result in index["results"]} == set(scores)
    for result in index["results"]:  # one figure a task
        task = scores[result["task"]["name"]]
        value = task["readouts"][chosen_readout(task)]["test"][task["main"]]["mean"]
        assert [metric["value"] for metric in result["metrics"]] == [round(100 * value, 2)]
    assert (folder / "results.md").read_text(encoding="utf-8") == fill_results(folder), f"results.md is old: {refresh}"
    for picture in re.findall(r"\]\((figures/[\w.-]+)\)", card):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_the_code_of_a_card_runs_beside_the_folder(folder, tmp_path):
    shutil.copytree(folder, tmp_path / folder.name)
    # Of another rate than the model's, and in stereo: what a snippet that forgets either would get wrong.
    audio = np.repeat(pitch_fork(0), 3)
    soundfile.write(tmp_path / "song.ogg", np.stack([audio, audio], axis=1), 3 * RATE)
    (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    env = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    said = python("-c", block, cwd=tmp_path, env=env).stdout
    if "top_k" in block:
        assert "'C major'" in said, said
    elif "analyze" in block:
        assert "C major" in said and "\tC:maj\n" in said, said
    else:
        assert "torch.Size([1, " in said


def test_readme_says_what_the_results_say():
    readme = CARDS.parent / "README.md"
    refresh = "python -m mt2_music.train.card model_cards/mt2-* --readme README.md"
    assert fill_readme(readme.read_text(encoding="utf-8"), MODELS) == readme.read_text(encoding="utf-8"), f"README is old: {refresh}"
    with pytest.raises(ValueError, match="README needs one line"):
        fill_readme("# no markers", MODELS)
    with pytest.raises(ValueError, match="no results"):
        fill_readme(readme.read_text(encoding="utf-8"), [CARDS / "space"])


def test_models_of_readme_that_are_not_named_stay_in_it(tmp_path):
    readme = (CARDS.parent / "README.md").read_text(encoding="utf-8")
    assert fill_readme(readme, [CARDS / "mt2-small", CARDS / "mt2-small-key"]) == readme
    assert fill_readme(readme, [CARDS / "mt2-base-key"]) == readme
    alone = shutil.copytree(CARDS / "mt2-small", tmp_path / "mt2-small")
    with pytest.raises(ValueError, match="speaks of mt2-base, whose folder"):
        fill_readme(readme, [alone])
    without = re.sub(r"^`mt2-(?!small` ).*\n", "", readme, flags=re.MULTILINE)
    short = fill_readme(without, [alone])
    assert "`mt2-small` has" in short and "mt2-base` has" not in short and "| mt2-base |" not in short


def test_readme_says_which_models_are_installed_with_the_package():
    pyproject = (CARDS.parent / "pyproject.toml").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'^"mt2_music.model_cards" = \["([^"]+)/\*"\]', pyproject, re.MULTILINE)
    installed = {folder.name for folder in CARDS.glob(pattern)}
    readme = (CARDS.parent / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(`([^`]+)` is `([^`]+)` with one more layer.*)$", readme, re.MULTILINE)
    assert {name for _, name, _ in lines} == {folder.name for folder in MODELS if folder.name.endswith("-key")}
    for line, *models in lines:
        assert all((model in installed) == ("Neither is installed" not in line) for model in models), line


def test_the_model_of_the_command_estimates_plain_cadences():
    model = mt2_music.load()
    estimates = [model.key(pitch_fork(tonic), RATE) for tonic in range(12)]
    assert sum(estimate.signature == tonic for tonic, estimate in enumerate(estimates)) >= 11
    assert all(signature(str(estimate.key)) == estimate.signature for estimate in estimates)
    flat = model.key(np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32) * 0.1, RATE)
    assert flat.confidence < 0.9  # noise is in no key
