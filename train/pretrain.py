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
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed
from transformers import HfArgumentParser, set_seed

from mt2_music import MT2Config, MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.embed import load_model
from mt2_music.files import load_named_dataset, open_stream, write_whole

from .augment import Augmentation
from .callbacks import OnlineProbe, StopOnSignal
from .config import PRESETS, MT2TrainingArguments, PretrainArguments
from .data import Tracks, WindowPairs, Windows, find_files, find_rows, scan
from .functions import load_function
from .prepare import PreparedTracks
from .streaming import StreamedPairs
from .trainer import SETTINGS_FILE, MT2Trainer

logger = logging.getLogger(__name__)

LEFT_OUT_FILE = "left_out.json"
LOCK_FILE = ".lock"
LOCK_PATIENCE_SECONDS = 10.0  # in which the workers of a killed run notice, and let go
# May change in a run, as long as the tracks are the same.
PLACES = ("audio_dir", "prepared_dir", "preset", "probe_corpus", "probe_steps")
# Settings that decide what is computed: a run cannot go on under others.
BINDING = (
    "seed", "max_steps", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "optim",
    "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "bf16", "fp16",
    "cpsd_weight", "nt_xent_weight", "two_window_weight", "loss_weighting", "temperature", "mel_views",
    "augment_gain_db", "augment_equalizer_db", "augment_band_share", "augment_noise_share", "augment_mask_share",
    "augment_effect",
)  # fmt: skip


def parse_arguments(argv: list[str]) -> tuple[PretrainArguments, MT2TrainingArguments]:
    """Read command-line arguments over the defaults of the preset they name."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="base", choices=sorted(PRESETS))
    preset = first.parse_known_args(argv)[0].preset
    parser = HfArgumentParser((PretrainArguments, MT2TrainingArguments), description=__doc__)  # type: ignore[arg-type]
    parser.set_defaults(**PRESETS[preset]())
    return parser.parse_args_into_dataclasses(argv)  # type: ignore[return-value]


def load_audio(arguments: PretrainArguments) -> Tracks | Any:
    """Find the audio that the arguments name: tracks, or with `streaming` a stream of them."""
    if arguments.prepared_dir is not None:
        return PreparedTracks(arguments.prepared_dir, arguments.window_seconds)
    if arguments.audio_dir is not None:
        return scan(find_files(arguments.audio_dir), arguments.window_seconds)
    if arguments.streaming:
        return open_stream(str(arguments.dataset), arguments.dataset_split)
    dataset = load_named_dataset(str(arguments.dataset), arguments.dataset_split)
    return scan(find_rows(dataset, arguments.audio_column), arguments.window_seconds)


def last_complete_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint that is whole, or None.

    Raises:
        ValueError: a whole checkpoint is not of the run in this folder.
    """
    complete = []
    own = output_dir / SETTINGS_FILE
    for folder in output_dir.glob("checkpoint-*"):
        try:
            step = json.loads((folder / "trainer_state.json").read_text())["global_step"]
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
    return path.is_file() and path.read_text() == other.read_text()


@contextmanager
def only_run_in(output_dir: Path) -> Iterator[None]:
    """Keep other processes from training in the same folder: two writers would spoil each other's checkpoints.

    Raises:
        ValueError: another process trains there, such as one that outlived the launcher of a run that was killed.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (output_dir / LOCK_FILE).open("w") as file:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    message = f"another process trains in {output_dir}: wait for its end, or stop it"
                    raise ValueError(message) from error
                time.sleep(0.2)
        yield


def describe(audio: Tracks | Any) -> dict[str, Any]:
    """Return what tells one collection of tracks from another; of a stream nothing is known but its name."""
    if not isinstance(audio, Tracks):
        return {}
    names = "".join(f"{Path(track.name).name} {track.num_samples}\n" for track in audio.tracks)
    digest = hashlib.sha256(names.encode()).hexdigest()
    return {"num_tracks": len(audio), "hours": round(audio.hours, 3), "tracks_sha256": digest}


def check_settings(output_dir: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run; refuse to go on with a run that began under others.

    Raises:
        ValueError: the folder holds a run with other settings; the message names them.
    """
    path = output_dir / SETTINGS_FILE
    if not path.is_file():
        write_whole(path, json.dumps(settings, indent=1))
        return
    before = json.loads(path.read_text())
    changed = [
        f"{name}: {before.get(name)} became {value}" for name, value in settings.items() if before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{output_dir} holds a run with other settings ({'; '.join(changed)}); use another folder")


def load_model_and_extractor(arguments: PretrainArguments) -> tuple[MT2ForPreTraining, MT2FeatureExtractor]:
    """Make a new model, or take up a published one."""
    if arguments.init_from is not None:
        extractor = MT2FeatureExtractor.from_pretrained(arguments.init_from)
        model = load_model(MT2ForPreTraining, arguments.init_from)
        model.config.key_calibration = None  # training turns the profile
        return model.float(), extractor
    extractor = MT2FeatureExtractor(cqt_scale=arguments.cqt_scale, cqt_power=arguments.cqt_power)
    frames = extractor.num_frames(round(arguments.window_seconds * extractor.sampling_rate))
    return MT2ForPreTraining(MT2Config(**arguments.model_settings, max_frames=frames)), extractor


def make_trainer(arguments: PretrainArguments, training: MT2TrainingArguments, audio: Tracks | Any) -> MT2Trainer:
    """Put model, front end and data together; the same settings always give the same."""
    set_seed(training.seed)
    model, extractor = load_model_and_extractor(arguments)
    room = model.config.cqt_offset - model.config.num_transposition_bins, model.config.cqt_offset
    drawing: dict[str, Any] = {
        "windows": Windows(arguments.window_seconds, arguments.max_gap_seconds, extractor.sampling_rate),
        "transpositions": (max(room[0], -arguments.max_transposition), min(room[1], arguments.max_transposition)),
        "transpose_b": arguments.transpose_b,
        "seed": training.seed,
    }
    batch_size = training.train_batch_size
    pairs: Any
    if isinstance(audio, Tracks):
        batch_size *= training.world_size
        num_items = training.max_steps * training.gradient_accumulation_steps * batch_size
        pairs = WindowPairs(audio, num_items, batch_size, **drawing, minutes_per_draw=arguments.minutes_per_draw)
    else:
        place = {"rank": training.process_index, "world_size": training.world_size}
        pairs = StreamedPairs(audio, arguments.audio_column, batch_size, **drawing, **place)
    return MT2Trainer(
        model=model,
        args=training,
        train_dataset=pairs,
        data_collator=torch.utils.data.default_collate,
        processing_class=extractor,
        augmentation=Augmentation(
            training.augment_gain_db,
            training.augment_equalizer_db,
            training.augment_band_share,
            training.augment_noise_share,
            training.augment_mask_share,
            load_function(training.augment_effect)[0] if training.augment_effect else None,
        ),
    )


def main(argv: list[str] | None = None) -> None:
    """Train, and leave model, feature extractor, log and settings in the output folder."""
    arguments, training = parse_arguments(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO if training.process_index == 0 else logging.ERROR, format="%(message)s")
    output_dir = Path(str(training.output_dir))
    output_dir.mkdir(parents=True, exist_ok=True)
    with only_run_in(output_dir) if training.process_index == 0 else nullcontext():
        pretrain(arguments, training, output_dir)


def pretrain(arguments: PretrainArguments, training: MT2TrainingArguments, output_dir: Path) -> None:
    """Train from the start or from the last checkpoint, in a folder that no other process trains in."""
    audio = load_audio(arguments)
    with training.main_process_first(desc="settings"):
        if training.process_index == 0:
            if isinstance(audio, Tracks):
                audio.report(output_dir / LEFT_OUT_FILE)
            check_settings(
                output_dir,
                {
                    **{key: value for key, value in asdict(arguments).items() if key not in PLACES},
                    **{name: getattr(training, name) for name in BINDING},
                    "songs_per_step": training.train_batch_size * training.world_size,
                    **describe(audio),
                },
            )
    trainer = make_trainer(arguments, training, audio)
    extractor = trainer.processing_class
    logger.info("%.2f M parameters", sum(weights.numel() for weights in trainer.model.parameters()) / 1e6)
    stop = StopOnSignal()
    trainer.add_callback(stop)
    if arguments.probe_corpus is not None:
        trainer.add_callback(OnlineProbe(arguments.probe_corpus, extractor, arguments.probe_steps, trainer.log))
    checkpoint = last_complete_checkpoint(output_dir)
    if checkpoint is not None:
        logger.info("going on from %s", checkpoint)
    with stop.listening():
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        except Exception as error:
            # A worker that dies while it hands over a batch resets the connection before torch notices its death.
            lost = isinstance(error, (ConnectionError, EOFError)) or "DataLoader worker" in str(error)
            why = ": a data worker was killed, perhaps for lack of memory" if lost else ""
            kept = last_complete_checkpoint(output_dir)
            whole = f"{kept} is whole: start again to go on from it" if kept else "there is no checkpoint yet"
            logger.error("training broke off at step %d%s; %s", trainer.state.global_step, why, whole)
            raise
        if stop.asked and trainer.state.global_step < training.max_steps:
            step = trainer.state.global_step
            logger.info("stopped at step %d of %d; start again to go on", step, training.max_steps)
        else:
            trainer.save_model()
            trainer.save_state()
    del trainer
    gc.collect()  # gloo can hang at exit when the reducer that DDP made outlives the process group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
