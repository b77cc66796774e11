"""What a training run stores in its folder; settings, checkpoints and lock, which both kinds of runs share, are here.

Both kinds of runs:

    pretrain_settings.json  settings under which the run began: `check_settings` here
    .lock                   held while a process trains: `only_run_in` here
    checkpoint-N/           model.safetensors, optimizer, schedule, random state, trainer_state.json, and a copy of the
                            settings: the Trainer, in pretrain/trainer.py and finetune/trainer.py
    model.safetensors, config.json, preprocessor_config.json, *.py
                            the model at the end, its front end, and their code

Pre-training, in pretrain/run.py:

    left_out.json           files that cannot be used, with reasons: `Tracks.report` of data/tracks.py
    trainer_state.json      the log, at the end; `publish` reads it and the settings
    training_args.bin       arguments of the Trainer, which writes it
    unfinished/             a checkpoint that is being written: pretrain/trainer.py

Fine-tuning, at the end, in finetune/run.py; settings and checkpoints are then removed:

    metrics.json            scores, settings, labels, recordings left out; written last: with it, the run is over
    confusion.png           which labels are taken for which, where a recording has one label
    README.md               the card
    .unfinished/            these files while they are being written
"""

import json
import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
from transformers import TrainingArguments

from mt2_music.storage import only_process, write_text_atomic

# Of a run of either kind, and in each of its checkpoints, so that none is taken for another's. The name is from the
# time when there was pre-training alone; under another one, runs that have begun could not go on or be published.
SETTINGS_FILE = "pretrain_settings.json"
UNFINISHED = "unfinished"  # folder in which checkpoints are written before they are moved to their place


# In checkpoints of FSDP and DeepSpeed, which divide weights among processes, and of weights in several files.
DIVIDED = ("pytorch_model_fsdp*", "global_step*", "zero_to_fp32.py", "*.index.json", "*-of-*.safetensors")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; those before it are whole."""


logger = logging.getLogger(__name__)
LOCK_FILE = ".lock"
LOCK_PATIENCE_SECONDS = 10.0  # in which the workers of a killed run notice, and let go


def last_complete_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint that is whole, or None.

    Raises:
        ValueError: a whole checkpoint is not of the run in this folder, or its weights are divided.
    """
    complete = []
    own = output_dir / SETTINGS_FILE
    for folder in sorted(output_dir.glob("checkpoint-*")):
        divided = sorted(path.name for pattern in DIVIDED for path in folder.glob(pattern))
        if divided:
            raise ValueError(
                f"{folder} is a checkpoint of FSDP, DeepSpeed or another that divides the weights ({divided[0]}): a "
                "run cannot go on from it. Move it away, or use another folder"
            )
        try:
            step = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
            with safetensors.safe_open(folder / "model.safetensors", "pt"):
                pass  # a file that was cut off does not open
            torn = [path.name for path in folder.glob("*.pt*") if not zipfile.is_zipfile(path)]
            if torn:
                raise OSError(f"{torn[0]} is cut off")
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            logger.warning("%s was not written to its end and is passed over: %s", folder, error)
            continue
        if own.is_file() and not _same_text(folder / SETTINGS_FILE, own):
            raise ValueError(f"{folder} is a checkpoint of another run: move it away, or use another folder")
        complete.append((step, folder))
    return max(complete)[1] if complete else None


def _same_text(path: Path, other: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == other.read_text(encoding="utf-8")


@contextmanager
def only_run_in(output_dir: Path) -> Iterator[None]:
    """Keep other processes from training in the same folder: two writers would spoil each other's checkpoints.

    Raises:
        ValueError: another process trains there, such as one that outlived the launcher of a run that was killed.
    """
    doing = f"trains in {output_dir}"
    with only_process(output_dir / LOCK_FILE, doing, LOCK_PATIENCE_SECONDS):
        yield


def refuse_divided_weights(training: TrainingArguments) -> None:
    """Refuse to train with FSDP or DeepSpeed: the losses need whole weights, which also fit on any device.

    Raises:
        ValueError: the arguments or `accelerate launch` ask for one of them.
    """
    for name in ("fsdp", "deepspeed"):
        asked = os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() in ("1", "true", "yes")
        if asked or getattr(training, name, None):
            raise ValueError(f"training with {name} is not supported: several processes train without it")


def check_settings(output_dir: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run; refuse to go on with a run that began under others.

    Raises:
        ValueError: the folder holds a run with other settings; the message names them.
    """
    path = output_dir / SETTINGS_FILE
    if not path.is_file():
        write_text_atomic(path, json.dumps(settings, indent=1))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [
        f"{name}: {before.get(name)} became {value}" for name, value in settings.items() if before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{output_dir} holds a run with other settings ({'; '.join(changed)}); use another folder")
