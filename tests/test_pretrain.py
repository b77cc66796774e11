"""The command: repeated, killed, resumed, refused, launched on two processes."""

import json
import signal
import subprocess
import sys
import time

import datasets
import pytest
import torch
from safetensors.torch import load_file

from mt2_music.train.config import PRESETS
from mt2_music.train.pretrain import last_complete_checkpoint, main, parse_arguments
from mt2_music.train.trainer import SPEED
from support import TINY, python

STEPS = ["--max_steps", "60", "--save_steps", "20"]


def log_of(folder):
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    volatile = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos", SPEED)
    return [{name: value for name, value in entry.items() if name not in volatile} for entry in entries]


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def test_killed_and_started_again_equals_an_uninterrupted_run(music_folder, run_dir, tmp_path):
    command = [sys.executable, "-m", "mt2_music.train.pretrain", "--audio_dir", str(music_folder)]
    command += ["--output_dir", str(tmp_path), *TINY, *STEPS]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while last_complete_checkpoint(tmp_path) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "model.safetensors").exists()
    (tmp_path / "checkpoint-59").mkdir()  # and one that was cut off while it was written
    (tmp_path / "checkpoint-59" / "trainer_state.json").write_text('{"global_st')
    output = python(*command[1:])
    assert "going on from" in output.stderr
    assert "checkpoint-59 was not written to its end" in output.stderr
    assert log_of(tmp_path) == log_of(run_dir)
    got, want = weights_of(tmp_path), weights_of(run_dir)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_run_does_not_go_on_under_other_settings(run_dir, music_folder):
    before = weights_of(run_dir)
    arguments = ["--audio_dir", str(music_folder), "--output_dir", str(run_dir), *TINY, *STEPS]
    with pytest.raises(ValueError, match=r"seed: 42 became 7.*use another folder"):
        main([*arguments, "--seed", "7"])
    assert all(torch.equal(before[name], value) for name, value in weights_of(run_dir).items())


def test_the_output_folder_is_whole(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "trainer_state.json"} <= names
    assert {"modeling_mt2.py", "configuration_mt2.py", "feature_extraction_mt2.py", "left_out.json"} <= names
    settings = json.loads((run_dir / "pretrain_settings.json").read_text())
    assert settings["num_tracks"] == 12
    assert settings["hours"] == pytest.approx(12 * 8 / 3600, rel=0.3)


def test_trains_on_a_data_set_and_under_accelerate_launch(music_folder, tmp_path):
    paths = sorted(str(path) for path in music_folder.rglob("*.*"))
    datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio()).save_to_disk(tmp_path / "data")
    command = ["mt2_music.train.pretrain", "--dataset", tmp_path / "data", *TINY, "--max_steps", 4, "--save_steps", 4]
    # On a CPU accelerate starts several processes through MPI only, so two are started by torchrun.
    two = ["torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m"]
    python("-m", *two, *command, "--output_dir", tmp_path / "two")
    one = ["accelerate.commands.launch", "--cpu", "--num_processes", 1, "--num_machines", 1, "-m"]
    python("-m", *one, *command, "--output_dir", tmp_path / "one", "--per_device_train_batch_size", 8)
    two = log_of(tmp_path / "two")
    one = log_of(tmp_path / "one")
    for name in ("loss_cpsd", "loss_nt_xent", "profile_magnitude"):
        assert [e[name] for e in two if name in e] == pytest.approx([e[name] for e in one if name in e], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --audio_dir, --prepared_dir and --dataset"),
        (["--audio_dir", "a", "--dataset", "b"], "give one of --audio_dir, --prepared_dir and --dataset"),
        (["--audio_dir", "a", "--window_seconds", "-1"], "window_seconds"),
        (["--audio_dir", "a", "--num_train_epochs", "5"], "max_steps"),
        (["--audio_dir", "a", "--max_steps", "-1"], "max_steps"),
    ],
)
def test_contradictions_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_arguments([*arguments, "--output_dir", str(tmp_path)])


def test_unknown_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--no_such_thing"):
        parse_arguments(["--audio_dir", "a", "--output_dir", str(tmp_path), "--no_such_thing", "1"])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_full_configurations(preset, tmp_path):
    arguments, training = parse_arguments(["--preset", preset, "--audio_dir", "a", "--output_dir", str(tmp_path)])
    for name, value in PRESETS[preset]().items():
        assert getattr(arguments, name, getattr(training, name, None)) == value
