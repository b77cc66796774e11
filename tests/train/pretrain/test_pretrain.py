"""The command: repeated, killed, resumed, refused, launched on two processes."""

import json
import multiprocessing
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import soundfile
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mt2_music import MT2Config
from mt2_music.train import run_folder
from mt2_music.train.finetune.__main__ import main as finetune
from mt2_music.train.prepare.__main__ import main as prepare
from mt2_music.train.pretrain.__main__ import main
from mt2_music.train.pretrain.config import PRESETS, MT2TrainingArguments, PretrainArguments
from mt2_music.train.pretrain.run import load_model_and_extractor, parse_arguments
from mt2_music.train.pretrain.trainer import SPEED, MT2Trainer
from mt2_music.train.run_folder import (
    SETTINGS_FILE,
    CheckpointError,
    last_complete_checkpoint,
    only_run_in,
    refuse_divided_weights,
)
from support import RATE, STEPS, TINY, after_saving, log_of, python, same_weights, song, weights_of

FULL = 100_000  # bytes: smaller than what any checkpoint holds


def test_killed_and_started_again_equals_an_uninterrupted_run(music_folder, run_dir, tmp_path):
    """By the command in a process of its own, which is really killed."""
    command = ["-m", "mt2_music.train.pretrain", "--audio_dir", str(music_folder)]
    command += ["--output_dir", str(tmp_path), *TINY, *STEPS]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while last_complete_checkpoint(tmp_path) is None:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "model.safetensors").exists()
    (tmp_path / "checkpoint-59").mkdir()  # and one that was cut off while it was written
    (tmp_path / "checkpoint-59" / "trainer_state.json").write_text('{"global_st', encoding="utf-8")
    output = python(*command)
    assert "going on from" in output.stderr
    assert "checkpoint-59 was not written to its end" in output.stderr
    assert log_of(tmp_path) == log_of(run_dir)
    assert same_weights(tmp_path, run_dir)


def test_a_run_does_not_go_on_under_other_settings(run_dir, music_folder, tmp_path, caplog):
    folder = shutil.copytree(run_dir, tmp_path / "run")
    arguments = ["--audio_dir", str(music_folder), "--output_dir", str(folder), *TINY, *STEPS]
    assert main([*arguments, "--seed", "7"]) == 2
    assert re.search(r"pretrain: .*seed: 42 became 7.*use another folder", caplog.text)
    assert same_weights(folder, run_dir)


def test_the_output_folder_is_whole(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "trainer_state.json"} <= names
    assert {"modeling_mt2.py", "configuration_mt2.py", "feature_extraction_mt2.py", "left_out.json"} <= names
    settings = json.loads((run_dir / "pretrain_settings.json").read_text(encoding="utf-8"))
    assert settings["num_tracks"] == 12
    assert settings["hours"] == pytest.approx(12 * 8 / 3600, rel=0.3)


@pytest.mark.slow
def test_trains_on_a_data_set_and_under_accelerate_launch(music_folder, tmp_path):
    paths = sorted(str(path) for path in music_folder.rglob("*.*"))
    datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio()).save_to_disk(tmp_path / "data")
    command = ["mt2_music.train.pretrain", "--dataset", tmp_path / "data", *TINY, "--max_steps", 4, "--save_steps", 4]
    augmented = ["--augment_gain_db", 6, "--augment_band_share", 0.5, "--augment_noise_share", 0.5]
    launch = ["accelerate.commands.launch", "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no"]
    # Two processes without a GPU are asked for like two GPUs; --use_cpu, part of TINY, makes them talk through gloo.
    two = [*launch, "--multi_gpu", "--num_processes", 2, "-m", *command, *augmented, "--output_dir", tmp_path / "two"]
    python("-m", *two)
    one = [*launch, "--num_processes", 1, "-m", *command, *augmented, "--output_dir", tmp_path / "one"]
    python("-m", *one, "--per_device_train_batch_size", 8)
    two, one = log_of(tmp_path / "two"), log_of(tmp_path / "one")
    for name in ("loss_cpsd", "loss_nt_xent", "profile_magnitude", "alignment"):
        want = [entry[name] for entry in one if name in entry]
        assert len(want) == 2
        assert [entry[name] for entry in two if name in entry] == pytest.approx(want, abs=1e-4)


def test_a_torn_checkpoint_is_passed_over_and_that_of_another_run_is_refused(run_dir, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    for name in ("model.safetensors", "optimizer.pt"):
        file = folder / "checkpoint-60" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert last_complete_checkpoint(folder).name == "checkpoint-40"
        assert "checkpoint-60 was not written to its end" in caplog.text
        file.write_bytes(whole)
    assert last_complete_checkpoint(folder).name == "checkpoint-60"
    settings = json.loads((folder / "checkpoint-60" / SETTINGS_FILE).read_text(encoding="utf-8"))
    (folder / "checkpoint-60" / SETTINGS_FILE).write_text(json.dumps({**settings, "seed": 1}), encoding="utf-8")
    with pytest.raises(ValueError, match="checkpoint-60 is a checkpoint of another run"):
        last_complete_checkpoint(folder)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model_fsdp_0/.metadata",
        "pytorch_model_fsdp.bin",
        "global_step60/zero.pt",
        "model.safetensors.index.json",
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_with_divided_weights_is_refused_by_name(name, whole, run_dir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    (folder / "checkpoint-60" / name).parent.mkdir(exist_ok=True)
    (folder / "checkpoint-60" / name).touch()
    if not whole:  # as it is where each process writes its share
        (folder / "checkpoint-60" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"checkpoint-60 is a checkpoint of FSDP, DeepSpeed.*{name.split('/')[0]}"):
        last_complete_checkpoint(folder)


@pytest.mark.parametrize("kind", ["fsdp", "deepspeed"])
def test_training_does_not_begin_with_divided_weights(kind, tmp_path, monkeypatch, caplog):
    options = ["--audio_dir", str(tmp_path), "--output_dir", str(tmp_path / "run"), *TINY]
    monkeypatch.setenv(f"ACCELERATE_USE_{kind.upper()}", "true")
    with pytest.raises(ValueError, match=f"training with {kind} is not supported"):
        refuse_divided_weights(SimpleNamespace(fsdp=None, deepspeed=None))
    monkeypatch.delenv(f"ACCELERATE_USE_{kind.upper()}")
    refuse_divided_weights(SimpleNamespace(fsdp=None, deepspeed=None))
    with pytest.raises(ValueError, match=f"training with {kind} is not supported"):
        refuse_divided_weights(SimpleNamespace(**{kind: True}))
    if kind == "fsdp":
        with caplog.at_level("ERROR"):
            assert main([*options, "--fsdp", "full_shard"]) == 2
        assert "training with fsdp is not supported" in caplog.text
        caplog.clear()
        options = ["--model", "mt2-small", "--data", str(tmp_path), "--output_dir", str(tmp_path / "run")]
        with caplog.at_level("ERROR"):
            assert finetune([*options, "--use_cpu", "true", "--fsdp", "full_shard"]) == 2
        assert "training with fsdp is not supported" in caplog.text
    assert not (tmp_path / "run").exists()


def test_two_runs_do_not_write_into_one_folder(music_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_folder, "LOCK_PATIENCE_SECONDS", 0.5)
    with only_run_in(tmp_path):
        assert main(["--audio_dir", str(music_folder), "--output_dir", str(tmp_path), *TINY, *STEPS]) == 2
    assert "another process trains in" in caplog.text
    with only_run_in(tmp_path):
        assert not (tmp_path / SETTINGS_FILE).exists()


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_from_it(
    music_folder, run_dir, tmp_path, monkeypatch, caplog
):
    """A real refusal of the system: no file may grow beyond some size once the first checkpoint is there."""
    resource = pytest.importorskip("resource", reason="no limits of this kind on Windows")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    options = ["--audio_dir", str(music_folder), "--output_dir", str(tmp_path), *TINY, *STEPS]
    try:
        with monkeypatch.context() as patch:
            after_saving(patch, MT2Trainer, 20, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, before[1])))
            with pytest.raises(CheckpointError, match="checkpoint-40 could not be written"):
                main(options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{tmp_path / 'checkpoint-20'} is whole: start again to go on from it" in caplog.text
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-20"]
    main(options)
    assert same_weights(tmp_path, run_dir)


def test_a_worker_killed_by_the_kernel_ends_the_run_with_its_last_checkpoint(
    music_folder, tmp_path, monkeypatch, caplog
):
    others = set(multiprocessing.active_children())

    def kill_a_worker():
        (worker,) = set(multiprocessing.active_children()) - others
        worker.kill()
        worker.join()

    after_saving(monkeypatch, MT2Trainer, 20, kill_a_worker)
    options = ["--audio_dir", str(music_folder), "--output_dir", str(tmp_path), *TINY, *STEPS]
    with pytest.raises((RuntimeError, ConnectionError, EOFError)):
        main([*options, "--dataloader_num_workers", "1"])
    assert "a data worker was killed, perhaps for lack of memory" in caplog.text
    assert "checkpoint-20 is whole: start again to go on from it" in caplog.text


def test_starts_from_a_published_model(published, music_folder, tmp_path):
    options = ["--audio_dir", str(music_folder), *TINY, "--max_steps", "2", "--save_steps", "2"]
    main([*options, "--init_from", str(published), "--output_dir", str(tmp_path), "--learning_rate", "0"])
    got, want = weights_of(tmp_path), weights_of(published)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want if "running" not in name)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["key_calibration"] is None


def test_watching_with_tensorboard_and_on_a_prepared_archive(music_folder, tmp_path, monkeypatch):
    prepare(["--audio_dir", str(music_folder), "--output_dir", str(tmp_path / "prepared")])
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    options = ["--prepared_dir", str(tmp_path / "prepared"), *TINY, "--max_steps", "4", "--save_steps", "4"]
    main([*options, "--output_dir", str(tmp_path / "run"), "--report_to", "tensorboard"])
    written = EventAccumulator(str(next((tmp_path / "board").rglob("events*")).parent)).Reload()
    names = {name.removeprefix("train/") for name in written.Tags()["scalars"]}
    watched = {"loss_cpsd", "loss_nt_xent", "profile_magnitude", "share_windows_skipped", "alignment", "uniformity"}
    tokens = {f"{kind}_{token}" for kind in ("rank", "std") for token in ("equivariant", "contrastive")}
    assert watched | tokens | {SPEED} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --audio_dir, --prepared_dir and --dataset"),
        (["--audio_dir", "a", "--dataset", "b"], "give one of --audio_dir, --prepared_dir and --dataset"),
        (["--audio_dir", "a", "--window_seconds", "-1"], "window_seconds"),
        (["--audio_dir", "a", "--num_train_epochs", "5"], "max_steps"),
        (["--audio_dir", "a", "--max_steps", "-1"], "max_steps"),
        (["--audio_dir", "a", "--frame_weight", "1"], "need quads: give --quads_dir"),
        (["--quads_dir", "a", "--quad_share", "2"], "quad_share and solo_share must be from 0 to 1"),
        (["--dataset", "a", "--streaming", "true", "--quads_dir", "b"], "--streaming goes neither with --quads_dir"),
        (["--audio_dir", "a", "--shortest_window_seconds", "9"], "from 0 to window_seconds"),
        (["--audio_dir", "a", "--mel_views", "none"], "untransposed or all"),
        (["--audio_dir", "a", "--mel_level", "-0.8"], "mel_level must not be negative"),
    ],
)
def test_contradictions_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_arguments([*arguments, "--output_dir", str(tmp_path)])


def test_unknown_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--no_such_thing"):
        parse_arguments(["--audio_dir", "a", "--output_dir", str(tmp_path), "--no_such_thing", "1"])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_read_and_what_is_said_beside_them_counts_more(preset, tmp_path):
    given = ["--preset", preset, "--audio_dir", "a", "--output_dir", str(tmp_path)]
    arguments, training = parse_arguments(given)
    settings = PRESETS[preset]()
    for name, value in settings.items():
        assert getattr(arguments, name, getattr(training, name, None)) == value
    plain = vars(PretrainArguments(audio_dir="a")) | vars(MT2TrainingArguments(output_dir=str(tmp_path), use_cpu=True))
    assert preset == "base" or any(plain[name] != value for name, value in settings.items())
    model, extractor = load_model_and_extractor(arguments, training)  # the sizes fit each other
    window = np.zeros(round(arguments.window_seconds * RATE), np.float32)
    features = extractor(window, sampling_rate=RATE, return_tensors="pt")["input_features"]
    assert features.shape[1] == model.config.max_frames
    arguments, training = parse_arguments([*given, "--hidden_size", "96", "--max_steps", "7"])
    assert (arguments.hidden_size, training.max_steps) == (96, 7)


def test_the_base_preset_is_the_size_of_the_paper(tmp_path):
    arguments, training = parse_arguments(["--audio_dir", "a", "--output_dir", str(tmp_path)])
    model, _ = load_model_and_extractor(arguments, training)
    assert sum(weights.numel() for weights in model.mt2.parameters()) == pytest.approx(5.4e6, rel=0.05)
    assert (len(model.mt2.layers), training.per_device_train_batch_size) == (12, 128)


def test_the_paper_preset_is_the_architecture_of_the_paper(tmp_path):
    """All of `MT2Config.paper()`, whatever it will say; and a plain run has the defaults of `MT2Config`."""
    given = ["--audio_dir", "a", "--output_dir", str(tmp_path)]
    model, extractor = load_model_and_extractor(*parse_arguments(["--preset", "paper", *given]))
    written_by_models = {"architectures", "dtype"}
    assert {
        name: value
        for name, value in model.config.to_dict().items()
        if value != MT2Config.paper().to_dict().get(name) and name not in written_by_models
    } == {}
    assert extractor.cqt_scale == "decibel"
    arguments, training = parse_arguments([*given, "--mel_level", "0"])
    config = load_model_and_extractor(arguments, training)[0].config
    assert (config.silence_range, config.mel_level) == (MT2Config().silence_range, None)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_too_little_music_is_one_sentence(workers, tmp_path, caplog):
    """Fewer songs than a batch, in a folder and in a stream; and no usable song at all."""
    music = tmp_path / "music"
    music.mkdir()
    for index in range(2):
        soundfile.write(music / f"{index}.wav", song(index, 4.0), RATE)
    arguments = ["--output_dir", str(tmp_path / "run"), *TINY, *STEPS, "--dataloader_num_workers", workers]
    assert main([*arguments, "--audio_dir", str(music)]) == 2
    assert "pretrain: a batch of 4 songs needs at least 2 and at most as many as there are tracks (2)" in caplog.text
    cells = [{"bytes": path.read_bytes(), "path": None} for path in sorted(music.iterdir())]
    data = datasets.Dataset.from_dict({"audio": cells}).cast_column("audio", datasets.Audio(decode=False))
    data.to_parquet(tmp_path / "data" / "train.parquet")
    stream = ["--dataset", str(tmp_path / "data"), "--streaming", "true"]
    assert main([*arguments[2:], *stream, "--output_dir", str(tmp_path / "other")]) == 2
    assert "pretrain: the stream gave 2 usable tracks of 2 in a whole pass, and a batch needs 4" in caplog.text
    for path in music.iterdir():
        path.write_text("<html>", encoding="utf-8")
    assert main([*arguments, "--audio_dir", str(music)]) == 2
    assert "pretrain: cannot train on" in caplog.text and "HTML, not audio" in caplog.text
    assert "Traceback" not in caplog.text
