"""The files of a published folder, and what a run's own files tell about it."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from mt2_music import configuration_mt2, modeling_mt2
from mt2_music.feature_extraction import feature_extraction_mt2
from mt2_music.train.pretrain.trainer import SPEED
from mt2_music.train.run_folder import SETTINGS_FILE

CODE_FILES = {
    f"{module.__name__.rpartition('.')[2]}.py": module
    for module in (configuration_mt2, modeling_mt2, feature_extraction_mt2)
}
FACTS_FILE, RESULTS_FILE, FIGURES_FOLDER, MISTAKES_FILE = "training.json", "results.json", "figures", "mistakes.json"
RESULTS_TABLE_FILE = "results.md"  # all readouts of all models in results.json


def training_facts(run_dir: Path) -> dict[str, Any]:
    """Return what the files of a run tell about it: settings, steps, the last log entry, and hours of computing."""
    settings, state = (read_json(run_dir / name) for name in (SETTINGS_FILE, "trainer_state.json"))
    facts: dict[str, Any] = {"settings": settings} if settings else {}
    entries = [entry for entry in state.get("log_history", ()) if SPEED in entry]
    if entries:
        # Songs of one step, on all processes and in all batches whose gradients are accumulated: what speed counts.
        accumulated = settings.get("gradient_accumulation_steps", 1)
        songs_per_step = settings.get("songs_per_step", state["train_batch_size"]) * accumulated
        steps = [0, *(entry["step"] for entry in entries)]
        seconds = sum(
            (step - before) * songs_per_step / entry[SPEED]
            for (before, step), entry in zip(pairwise(steps), entries, strict=True)
        )
        facts |= {
            "steps": state["global_step"],
            "songs_per_process": state["train_batch_size"] * accumulated,
            "last": entries[-1],
            "hours": round(seconds / 3600, 2),
        }
    return facts


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file holds, or nothing if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
