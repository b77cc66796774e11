"""Make a complete Hub folder of a trained model: `python -m mt2_music.train.publish OUT model_cards/NAME`.

The folder holds card, licence, configs, weights and code, and loads with every Auto class on a machine without this
package. Nothing is uploaded unless `--push USER/NAME` says so.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.embed import load_model

from .calibrate import calibrate_key
from .pretrain import SETTINGS_FILE, last_complete_checkpoint

logger = logging.getLogger(__name__)

CODE_FILES = {"configuration_mt2.py", "modeling_mt2.py", "feature_extraction_mt2.py"}
PUBLISHED_FILES = CODE_FILES | {"README.md", "LICENSE", "config.json", "preprocessor_config.json", "model.safetensors"}
CALIBRATED = "The profile was calibrated with composed pieces in all keys (`key_calibration` in the config)."
CARD_TEMPLATE = Path(__file__).with_name("model_card.md")


def publish(
    run_dir: Path,
    target: Path,
    weights_license: str,
    training_data: str,
    name: str | None = None,
    replace: bool = False,
) -> None:
    """Calibrate a trained model and write its Hub folder; the folder appears complete or not at all.

    Args:
        run_dir: output folder of `pretrain`, or one of its checkpoints.
        target: folder to write.
        weights_license: licence of the weights, as the Hub spells it.
        training_data: what the model was trained on, and on what terms.
        name: under which the card loads the model; the folder's name by default.
        replace: put the new model in the place of one published before.

    Raises:
        FileNotFoundError: `run_dir` holds no trained model.
        ValueError: the model is not whole, or `target` exists and is not to be or must not be replaced.
    """
    if not (run_dir / "model.safetensors").is_file():
        checkpoint = last_complete_checkpoint(run_dir)
        hint = f"; its run was cut off, publish {checkpoint} instead" if checkpoint else ""
        raise FileNotFoundError(f"{run_dir} holds no model.safetensors{hint}")
    if target.exists():
        strange = (
            sorted({path.name for path in target.iterdir()} - PUBLISHED_FILES) if target.is_dir() else [target.name]
        )
        if strange:
            raise ValueError(f"{target} is no published model, it holds {strange[0]}; nothing was changed")
        if not replace:
            raise ValueError(f"{target} exists; --replace puts the new model in its place")
    model = load_model(MT2ForPreTraining, run_dir)
    extractor = MT2FeatureExtractor.from_pretrained(run_dir)
    if "equivariant" in model.config.class_tokens:
        logger.info("C major lies %.2f fifths from profile index 0", calibrate_key(model, extractor))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        model.save_pretrained(partial)
        extractor.save_pretrained(partial)
        (partial / "LICENSE").write_text(_code_license())
        (partial / "README.md").write_text(
            fill_card(run_dir, name or target.name, model, weights_license, training_data)
        )
        for path in partial.iterdir():
            path.chmod(0o644)  # weights are written for their owner alone
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("published %s", target)


def _code_license() -> str:
    # Started in a checkout, Python may first find the build's own notes there, which hold no licence.
    for distribution in metadata.distributions(name="mt2-music"):
        text = distribution.read_text("licenses/LICENSE")
        if text:
            return text
    raise FileNotFoundError("the licence of mt2-music is not where its installation put it; install the package again")


def fill_card(run_dir: Path, name: str, model: MT2ForPreTraining, weights_license: str, training_data: str) -> str:
    """Fill the model card with what the run's own files say."""
    calibrated = model.config.key_calibration is not None
    return Template(CARD_TEMPLATE.read_text()).substitute(
        name=name,
        title=name.rsplit("/", 1)[-1],
        weights_license=weights_license,
        training_data=training_data,
        parameters=f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M",
        layers=model.config.num_hidden_layers,
        hidden_size=model.config.hidden_size,
        window_seconds=f"{model.config.max_frames / model.config.frame_rate:.1f}",
        frame_rate=f"{model.config.frame_rate:g}",
        class_tokens=" and ".join(f"`{token}`" for token in model.config.class_tokens),
        procedure=_procedure(run_dir),
        calibration=CALIBRATED if calibrated else "",
        version=metadata.version("mt2-music"),
    )


def _procedure(run_dir: Path) -> str:
    """Say how long and on how much the model was trained, as far as the run's files tell."""
    settings, state = _read_json(run_dir / SETTINGS_FILE), _read_json(run_dir / "trainer_state.json")
    lines = []
    if settings:
        if "num_tracks" in settings:
            lines.append(f"- {settings['num_tracks']} tracks, {settings['hours']:g} hours of audio")
        else:
            lines.append(f"- a stream of the data set {settings['dataset']}")
        lines.append(f"- learning rate {settings['learning_rate']:g}, seed {settings['seed']}")
    if state:
        lines.insert(1, f"- {state['global_step']} steps of {state['train_batch_size']} songs per process")
        entries = [entry for entry in state["log_history"] if "profile_magnitude" in entry or "loss_nt_xent" in entry]
        if entries:
            values = ", ".join(
                f"{key} {entries[-1][key]:.3f}"
                for key in ("loss_cpsd", "loss_nt_xent", "profile_magnitude")
                if key in entries[-1]
            )
            lines.append(f"- last log entry: {values}")
    return "\n".join(lines) or "The run's log is not part of the published folder."


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def main(argv: list[str] | None = None) -> int:
    """Publish a folder; return 0, or 2 when nothing was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, help="output folder of pretrain, or a checkpoint in it")
    parser.add_argument("target", type=Path, help="folder to write, such as model_cards/NAME")
    parser.add_argument("--weights_license", default="apache-2.0", help="licence of the weights, as the Hub spells it")
    parser.add_argument(
        "--training_data",
        default="A private collection of music; the publisher gives no details of its licences.",
        help="what the model was trained on, and on what terms",
    )
    parser.add_argument("--push", metavar="USER/NAME", help="upload the folder to the Hub; nothing is without this")
    parser.add_argument("--replace", action="store_true", help="replace a model published to that folder before")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        publish(
            arguments.run_dir,
            arguments.target,
            arguments.weights_license,
            arguments.training_data,
            name=arguments.push,
            replace=arguments.replace,
        )
    except (OSError, ValueError) as error:
        logger.error("publish: %s", error)
        return 2
    if arguments.push:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(arguments.push, exist_ok=True)
        api.upload_folder(repo_id=arguments.push, folder_path=arguments.target)
        logger.info("pushed to %s", arguments.push)
    return 0


if __name__ == "__main__":
    sys.exit(main())
