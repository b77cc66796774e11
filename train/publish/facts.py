"""The files of a published folder: which they are, and what a run's own files tell for them."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from mt2_music import configuration_mt2, modeling_mt2
from mt2_music.feature_extraction import feature_extraction_mt2
from mt2_music.storage import write_text_atomic
from mt2_music.train.pretrain.trainer import SPEED
from mt2_music.train.run_folder import SETTINGS_FILE

_MODEL = Path(modeling_mt2.__file__)
_CODE = (Path(configuration_mt2.__file__), _MODEL, Path(feature_extraction_mt2.__file__))
# The last one cannot be imported without sentence-transformers.
CODE_FILES = {path.name: path for path in (*_CODE, _MODEL.with_name("sentence_transformer_mt2.py"))}
# What sentence-transformers reads: first its module, which is the whole of it, then how that is called, then the rest.
SENTENCE_FILES: dict[str, Any] = {
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformer_mt2.MT2Transformer"}],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {"audio": {"method": "forward", "method_output_name": "pooler_output"}},
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        "requirements": {"sentence-transformers": ">=6.2"},  # the first that takes music
        "similarity_fn_name": "cosine",
    },
}
FACTS_FILE, RESULTS_FILE, FIGURES_FOLDER, MISTAKES_FILE = "training.json", "results.json", "figures", "mistakes.json"
RESULTS_TABLE_FILE = "results.md"  # all readouts of all models in results.json
NEEDED_FILES = {"README.md", "LICENSE", "config.json", "preprocessor_config.json", "model.safetensors", FACTS_FILE}
NEEDED_FILES |= {*CODE_FILES, *SENTENCE_FILES}
PUBLISHED_FILES = {*NEEDED_FILES, RESULTS_FILE, RESULTS_TABLE_FILE, FIGURES_FOLDER}


def write_hub_files(folder: Path) -> None:
    """Write what is the same in the folders of all models: code, and what sentence-transformers reads."""
    for name, path in CODE_FILES.items():
        write_text_atomic(folder / name, path.read_text(encoding="utf-8"))
    for name, content in SENTENCE_FILES.items():
        write_text_atomic(folder / name, json.dumps(content, indent=2) + "\n")


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
