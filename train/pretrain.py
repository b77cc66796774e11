"""Pre-train MT2 on a folder of music: `python -m mt2_music.train.pretrain --audio_dir DIR --output_dir OUT`.

The same line under `accelerate launch -m` trains on several processes. Killed and started again, it goes on from the
last complete checkpoint in OUT and ends with the same weights.
"""

import argparse
import gc
import hashlib
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from transformers import HfArgumentParser, set_seed

from mt2_music import MT2Config, MT2FeatureExtractor, MT2ForPreTraining

from .callbacks import OnlineProbe, StopOnSignal
from .config import PRESETS, MT2TrainingArguments, PretrainArguments
from .data import Tracks, WindowPairs, find_files, find_rows, load_named_dataset, scan
from .prepare import PreparedTracks
from .trainer import MT2Trainer

logger = logging.getLogger(__name__)

SETTINGS_FILE = "pretrain_settings.json"
LEFT_OUT_FILE = "left_out.json"
# May change in a run, as long as the tracks are the same.
PLACES = ("audio_dir", "prepared_dir", "preset", "probe_corpus", "probe_steps")
# Settings that decide what is computed: a run cannot go on under others.
BINDING = (
    "seed", "max_steps", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "optim",
    "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "bf16", "fp16",
    "cpsd_weight", "nt_xent_weight", "two_window_weight", "temperature",
)  # fmt: skip


def parse_arguments(argv: list[str]) -> tuple[PretrainArguments, MT2TrainingArguments]:
    """Read command-line arguments over the defaults of the preset they name."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="base", choices=sorted(PRESETS))
    preset = first.parse_known_args(argv)[0].preset
    parser = HfArgumentParser((PretrainArguments, MT2TrainingArguments), description=__doc__)  # type: ignore[arg-type]
    parser.set_defaults(**PRESETS[preset]())
    return parser.parse_args_into_dataclasses(argv)  # type: ignore[return-value]


def load_tracks(arguments: PretrainArguments) -> Tracks:
    """Find the audio that the arguments name."""
    if arguments.prepared_dir is not None:
        return PreparedTracks(arguments.prepared_dir, arguments.window_seconds)
    if arguments.audio_dir is not None:
        return scan(find_files(arguments.audio_dir), arguments.window_seconds)
    dataset = load_named_dataset(str(arguments.dataset), arguments.dataset_split)
    return scan(find_rows(dataset, arguments.audio_column), arguments.window_seconds)


def last_complete_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end, or None.

    The Trainer writes its state file last, so a checkpoint without a readable one was cut off.
    """
    complete = []
    for folder in output_dir.glob("checkpoint-*"):
        try:
            step = json.loads((folder / "trainer_state.json").read_text())["global_step"]
        except (OSError, ValueError, KeyError):
            logger.warning("%s was not written to its end and is passed over", folder)
            continue
        complete.append((step, folder))
    return max(complete)[1] if complete else None


def check_settings(output_dir: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run; refuse to go on with a run that began under others.

    Raises:
        ValueError: the folder holds a run with other settings; the message names them.
    """
    path = output_dir / SETTINGS_FILE
    if not path.is_file():
        path.write_text(json.dumps(settings, indent=1))
        return
    before = json.loads(path.read_text())
    changed = [
        f"{name}: {before.get(name)} became {value}" for name, value in settings.items() if before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{output_dir} holds a run with other settings ({'; '.join(changed)}); use another folder")


def main(argv: list[str] | None = None) -> None:
    """Train, and leave model, feature extractor, log and settings in the output folder."""
    arguments, training = parse_arguments(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO if training.process_index == 0 else logging.ERROR, format="%(message)s")
    output_dir = Path(str(training.output_dir))
    output_dir.mkdir(parents=True, exist_ok=True)
    set_seed(training.seed)

    tracks = load_tracks(arguments)
    extractor = MT2FeatureExtractor()
    frames = extractor.num_frames(round(arguments.window_seconds * extractor.sampling_rate))
    config = MT2Config(**arguments.model_settings, max_frames=frames)
    batch_size = training.train_batch_size * training.world_size
    names = "".join(f"{Path(track.name).name} {track.num_samples}\n" for track in tracks.tracks)
    with training.main_process_first(desc="settings"):
        if training.process_index == 0:
            tracks.report(output_dir / LEFT_OUT_FILE)
            check_settings(
                output_dir,
                {
                    **{key: value for key, value in asdict(arguments).items() if key not in PLACES},
                    **{name: getattr(training, name) for name in BINDING},
                    "songs_per_step": batch_size,
                    "num_tracks": len(tracks),
                    "hours": round(tracks.hours, 3),
                    "tracks_sha256": hashlib.sha256(names.encode()).hexdigest(),
                },
            )
    pairs = WindowPairs(
        tracks,
        num_items=training.max_steps * training.gradient_accumulation_steps * batch_size,
        batch_size=batch_size,
        window_seconds=arguments.window_seconds,
        max_gap_seconds=arguments.max_gap_seconds,
        sampling_rate=extractor.sampling_rate,
        transpositions=(config.cqt_offset - config.num_transposition_bins, config.cqt_offset),
        transpose_b=arguments.transpose_b,
        seed=training.seed,
    )
    model = MT2ForPreTraining(config)
    logger.info("%.2f M parameters", sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    trainer = MT2Trainer(
        model=model,
        args=training,
        train_dataset=pairs,
        data_collator=torch.utils.data.default_collate,
        processing_class=extractor,
    )
    stop = StopOnSignal()
    trainer.add_callback(stop)
    if arguments.probe_corpus is not None:
        trainer.add_callback(OnlineProbe(arguments.probe_corpus, extractor, arguments.probe_steps, trainer.log))
    checkpoint = last_complete_checkpoint(output_dir)
    if checkpoint is not None:
        logger.info("going on from %s", checkpoint)
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        if stop.asked and trainer.state.global_step < training.max_steps:
            step = trainer.state.global_step
            logger.info("stopped at step %d of %d; start again to go on", step, training.max_steps)
        else:
            trainer.save_model()
            trainer.save_state()
    del trainer, model
    gc.collect()  # gloo can hang at exit when the reducer that DDP made outlives the process group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
