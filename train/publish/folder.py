"""Write the Hub folder of a trained model, complete or not at all."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.loading import load_extractor, load_model
from mt2_music.train.run_folder import last_complete_checkpoint

from .calibrate import calibrate_key
from .card import write_card
from .facts import FACTS_FILE, PUBLISHED_FILES, training_facts, write_hub_files

logger = logging.getLogger(__name__)


def publish(
    run_dir: Path,
    target: Path,
    weights_license: str,
    training_data: str,
    name: str | None = None,
    replace: bool = False,
    half: bool = False,
    corpus: Path | None = None,
    note: str | None = None,
    hardware: str | None = None,
) -> None:
    """Calibrate a trained model and write its Hub folder; the folder appears complete or not at all.

    Args:
        run_dir: output folder of `pretrain`, or one of its checkpoints.
        target: folder to write.
        weights_license: licence of the weights, as the Hub spells it.
        training_data: what the model was trained on, and on what terms; Markdown.
        name: under which the card loads the model; the folder's name by default.
        replace: put the new model in the place of one published before.
        half: store the weights in half precision.
        corpus: rendered corpus whose composed pieces the profile is calibrated with, instead of plain tones.
        note: what else there is to say about the training, such as what the weights it started from had learned;
            Markdown.
        hardware: what the run computed on, such as "one H200 GPU".

    Raises:
        FileNotFoundError: `run_dir` holds no trained model, or `corpus` no corpus.
        ValueError: the model is not whole, or `target` exists and is not to be or must not be replaced.
    """
    if not (run_dir / "model.safetensors").is_file():
        checkpoint = last_complete_checkpoint(run_dir)
        hint = f"; its run was cut off, publish {checkpoint} instead" if checkpoint else ""
        raise FileNotFoundError(f"{run_dir} holds no model.safetensors{hint}")
    check_target(target, replace)
    model = load_model(MT2ForPreTraining, run_dir)
    extractor = load_extractor(run_dir)
    if half:
        model = model.half().float()  # calibrated as it will be loaded
    if "equivariant" in model.config.class_tokens:
        logger.info("C major lies %.2f fifths from profile index 0", calibrate_key(model, extractor, corpus))
    facts = {
        "name": name or target.name,
        "weights_license": weights_license,
        "training_data": training_data,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **({"note": note} if note else {}),
        **({"hardware": hardware} if hardware else {}),
        **training_facts(run_dir),
    }
    # The config keeps float32: half precision is how weights are stored, not how they are used.
    weights = {name: tensor.half() if half else tensor for name, tensor in model.state_dict().items()}
    write_folder(target, partial(model.save_pretrained, state_dict=weights), extractor, facts)


def check_target(target: Path, replace: bool) -> None:
    """Refuse to write over what is there.

    Raises:
        ValueError: the folder exists and is not to be replaced, or holds something else than a published model.
    """
    if target.exists():
        strange = (
            sorted({path.name for path in target.iterdir()} - PUBLISHED_FILES) if target.is_dir() else [target.name]
        )
        if strange:
            raise ValueError(f"{target} is no published model, it holds {strange[0]}; nothing was changed")
        if not replace:
            raise ValueError(f"{target} exists; --replace puts the new model in its place")


def write_folder(
    target: Path, save: Callable[[Path], Any], extractor: MT2FeatureExtractor, facts: dict[str, Any]
) -> None:
    """Write the folder of a model, in the place of one that `check_target` allows to replace.

    Args:
        target: folder to write; it appears complete or not at all.
        save: writes config, weights and code into a folder.
        extractor: the model's front end.
        facts: what its card says.
    """
    unfinished = target.with_name(f".{target.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        save(unfinished)
        extractor.save_pretrained(unfinished)
        write_hub_files(unfinished)
        (unfinished / "LICENSE").write_text(_code_license(), encoding="utf-8")
        facts = {**facts, "package_version": metadata.version("mt2-music")}
        (unfinished / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        write_card(unfinished)
        for path in unfinished.iterdir():
            path.chmod(0o644)  # weights are written for their owner alone
        if target.exists():
            shutil.rmtree(target)
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    logger.info("published %s", target)


def _code_license() -> str:
    # Started in a checkout, Python may first find the build's own notes there, which hold no licence.
    for distribution in metadata.distributions(name="mt2-music"):
        text = distribution.read_text("licenses/LICENSE")
        if text:
            return text
    raise FileNotFoundError("the licence of mt2-music is not where its installation put it; install the package again")
