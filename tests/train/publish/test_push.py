"""Pushing to the Hub, against a stand-in of its HTTP API: what is there works as it is, or nothing has changed."""

import json
import os
import shutil

import huggingface_hub
import numpy as np
import pytest
import soundfile

import mt2_music
from hub import TOKEN, running_hub
from mt2_music.train.card.__main__ import main as card
from mt2_music.train.publish import push as pushing
from mt2_music.train.publish.__main__ import main as publish
from mt2_music.train.publish.facts import NEEDED_FILES
from support import RATE, ROOT, python, song

NAME = "me/mt2-small"

# As on a machine that has never seen the package, and gets everything from the Hub.
DOWNLOADED = """
import sys
sys.modules["mt2_music"] = None
import numpy as np, torch
from huggingface_hub import snapshot_download
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining
name, song, output = sys.argv[1:]
trust = {"trust_remote_code": True}
extractor = AutoFeatureExtractor.from_pretrained(name, **trust)
model, report = AutoModel.from_pretrained(name, output_loading_info=True, **trust)
assert not any(report.values()), report
with torch.no_grad():
    vectors = [model.eval()(**extractor(song, return_tensors="pt")).pooler_output[0].numpy()]
assert AutoModelForPreTraining.from_pretrained(name, **trust).config.key_calibration is not None
try:
    from sentence_transformers import SentenceTransformer
except ImportError:
    pass
else:
    vectors.append(SentenceTransformer(name, device="cpu", **trust).encode([song])[0])
np.save(output, vectors)
print(snapshot_download(name))
"""


@pytest.fixture
def hub(monkeypatch):
    """A Hub that the library of this process talks to, with a user who may write there."""
    with running_hub() as running:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for name, value in {"ENDPOINT": running.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        yield running


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A published model with scores. Its pictures are as they were: drawing them is tested elsewhere."""
    monkeypatch.setattr("mt2_music.train.publish.figures.draw", lambda *arguments: None)
    return shutil.copytree(ROOT / "model_cards" / "mt2-small", tmp_path / "mt2-small")


def test_what_was_pushed_works_as_it_is(hub, folder, tmp_path):
    assert card([str(folder), "--push", NAME]) == 0
    files = hub.files(NAME)
    assert len(hub.repos[NAME]) == 2  # all in one commit, after that which made the repository
    local = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {name: data for name, data in files.items() if name != ".gitattributes"} == local
    assert set(files) >= NEEDED_FILES and {name for name in files if "." in name} >= {"modules.json"}
    weights = [name for name in files if name.endswith((".safetensors", *pushing.UNSAFE_SUFFIXES))]
    assert weights == ["model.safetensors"]

    info = huggingface_hub.HfApi().model_info(NAME)
    assert (info.library_name, info.pipeline_tag) == ("transformers", "feature-extraction")
    assert {"mt2", "sentence-transformers"} <= set(info.card_data.tags)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))["models"]["mt2-small"]["tasks"]
    assert {result.task_name for result in info.card_data.eval_results} == set(results)
    assert "widget" not in info.card_data and info.card_data["inference"] is False
    assert f'from_pretrained("{NAME}"' in files["README.md"].decode()

    soundfile.write(tmp_path / "song.wav", song(1), RATE)
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache")}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}  # everybody may read
    output = tmp_path / "vectors.npy"
    said = python("-c", DOWNLOADED, NAME, tmp_path / "song.wav", output, cwd=tmp_path, env=env).stdout
    vectors = np.load(output)
    wanted = mt2_music.load(folder, device="cpu").embed(str(tmp_path / "song.wav")).mean
    assert len(vectors) and np.abs(vectors - wanted).max() < 1e-5
    snapshot = said.split()[-1]
    assert {name for name in local if open(os.path.join(snapshot, name), "rb").read() != local[name]} == set()


def test_pushing_again_sends_what_is_new_and_removes_what_is_gone(hub, folder, caplog):
    assert card([str(folder), "--push", NAME]) == 0
    mine = {**hub.files(NAME), "notebook.ipynb": b"{}", "figures/old.png": b"old"}
    hub.commit(NAME, "by hand", mine)
    hub.asked.clear()
    (folder / "figures" / "map.png").unlink()
    assert card([str(folder), "--push", NAME]) == 0
    assert set(mine) - set(hub.files(NAME)) == {"figures/old.png", "figures/map.png"}
    assert not [asked for asked in hub.asked if asked.startswith("PUT")]  # the weights are there
    before = list(hub.repos[NAME])
    hub.commit(NAME, "weights of another library", {**hub.files(NAME), "pytorch_model.bin": b"run me"})
    assert card([str(folder), "--push", NAME]) == 1
    assert "it holds pytorch_model.bin, weights that are no safetensors" in caplog.text
    assert len(hub.repos[NAME]) == len(before) + 1


@pytest.mark.parametrize(
    ("fail", "status", "doing", "says"),
    [
        ("POST /api/repos", 500, "making the repository", "does not want to"),
        ("GET /api/models", 404, "reading what it holds", "does not want to"),
        ("POST /api/validate", 400, "uploading the files", "Invalid metadata in README.md"),
        ("PUT /lfs", 403, "uploading the files", "'model.safetensors' to the Hub. 403 Forbidden"),
        ("POST /api/models/me/mt2-small/commit", 500, "uploading the files", "does not want to"),
    ],
)
def test_a_failure_in_the_middle_is_named_and_changes_nothing(hub, folder, caplog, fail, status, doing, says):
    hub.commit(NAME, "an older model", {"README.md": b"older"})
    shutil.rmtree(folder / "figures")  # so that the weights are all that is large
    hub.fail = {fail: status}
    assert card([str(folder), "--push", NAME]) == 1
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith(f"card: {doing} failed: ") and says in error and "\n" not in error
    assert f"{NAME} holds all of it or nothing new" in error
    command = f"python -m mt2_music.train.card {folder} --push {NAME}"
    assert error.endswith(command)
    assert hub.files(NAME) == {"README.md": b"older"}
    hub.fail = {}
    assert card(command.split()[3:]) == 0 and set(hub.files(NAME)) >= NEEDED_FILES


def test_without_a_token_without_a_hub_and_with_files_that_are_ignored(hub, folder, caplog, monkeypatch):
    hub.ignored = {"modules.json"}
    assert card([str(folder), "--push", NAME]) == 1
    assert "but not modules.json as it was sent; if its .gitignore names that" in caplog.text
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert card([str(folder), "--push", "you/mt2-small"]) == 1 and "you/mt2-small" not in hub.repos
    assert "Invalid username or password" in caplog.text and "`hf auth login` takes a token" in caplog.text
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    caplog.clear()
    assert card([str(folder), "--push", NAME]) == 1
    assert "making the repository failed: " in caplog.text and "Traceback" not in caplog.text


def test_who_stops_it_is_told_what_the_hub_holds(hub, folder, capsys, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", stopped)
    with pytest.raises(SystemExit) as stop:
        card([str(folder), "--push", NAME])
    assert stop.value.code == 130
    assert f"card: stopped; {NAME} holds all of {folder}, or nothing new" in capsys.readouterr().err


@pytest.mark.parametrize("strange", ["pytorch_model.bin", "figures/cache.npz", "thesis.txt"])
def test_a_folder_that_holds_something_else_is_not_pushed(hub, folder, caplog, strange):
    (folder / strange).write_bytes(b"precious")
    (folder / ".DS_Store").write_bytes(b"")  # what systems hide is left out
    assert card([str(folder), "--push", NAME]) == 2
    assert f"holds {strange}, which is no part of a published model; nothing was pushed" in caplog.text
    (folder / strange).unlink()
    (folder / "LICENSE").rename(folder.parent / "LICENSE")
    assert card([str(folder), "--push", NAME]) == 2 and "lacks LICENSE" in caplog.text
    assert not hub.asked


@pytest.mark.parametrize("name", ["mt2-small", "me/models/mt2-small", "me/mt2--small", "me/mt2 small"])
def test_a_name_that_is_none_is_refused_before_anything_is_written(hub, tmp_path, caplog, name):
    assert publish([str(tmp_path / "run"), str(tmp_path / "mt2-small"), "--push", name]) == 2
    assert name in caplog.text and not hub.asked and not list(tmp_path.iterdir())


def test_a_folder_is_published_although_the_hub_does_not_take_it(hub, folder, tmp_path, caplog, monkeypatch):
    def published(run_dir, target, *arguments, **options):  # as a run would be, in no time
        shutil.copytree(folder, target)

    monkeypatch.setattr("mt2_music.train.publish.__main__.publish", published)
    hub.fail = {"POST /api/repos": 500}
    target = tmp_path / "new" / "mt2-small"
    assert publish([str(tmp_path / "run"), str(target), "--push", NAME]) == 1
    assert (target / "model.safetensors").is_file()
    assert caplog.records[-1].getMessage().endswith(f"python -m mt2_music.train.card {target} --push {NAME}")
    hub.fail = {}
    assert publish([str(tmp_path / "run"), str(tmp_path / "again"), "--push", NAME]) == 0
    assert set(hub.files(NAME)) >= NEEDED_FILES
