"""A pre-training run: from arguments to a Trainer, and from the last checkpoint to the end."""

import argparse
import gc
import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from transformers import HfArgumentParser, set_seed

from mt2_music import MT2Config, MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.audio.datasets import load_named_dataset, open_stream
from mt2_music.interrupts import Stopped, advise
from mt2_music.loading import load_extractor, load_model
from mt2_music.train.data.prepared import PreparedTracks
from mt2_music.train.data.quads import QUADS_FILE, Quads, QuadsAndSongs
from mt2_music.train.data.streaming import StreamedPairs, TooFewTracksError
from mt2_music.train.data.tracks import Tracks, find_files, find_rows, scan
from mt2_music.train.data.windows import Transpositions, WindowPairs, Windows
from mt2_music.train.functions import load_function
from mt2_music.train.run_folder import check_settings, last_complete_checkpoint

from .augment import Augmentation
from .callbacks import OnlineProbe, StopOnSignal
from .config import PRESETS, STREAMED, WITH_QUADS, MT2TrainingArguments, PretrainArguments
from .trainer import MT2Trainer

logger = logging.getLogger(__name__)

LEFT_OUT_FILE = "left_out.json"
HEAD_SIZE, CEPSTRAL_COEFFICIENTS, TEMPO_CLASSES = 64, 20, 64  # outputs of the heads of three losses
# May change in a run, as long as the tracks are the same.
PLACES = ("audio_dir", "prepared_dir", "quads_dir", "preset", "probe_corpus", "probe_steps")
# Settings that decide what is computed: a run cannot go on under others.
BINDING = (
    "seed", "max_steps", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "optim",
    "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "bf16", "fp16",
    "cpsd_weight", "nt_xent_weight", "two_window_weight", "frame_weight", "tempo_weight", "solo_nt_xent_weight",
    "cepstrum_weight", "spectrum_weight", "orchestration_positives", "quad_share", "solo_share", "instants_per_window",
    "temperature", "mel_views",
    "augment_gain_db", "augment_equalizer_db", "augment_band_share", "augment_noise_share", "augment_mask_share",
    "augment_effect",
)  # fmt: skip


def parse_arguments(argv: list[str]) -> tuple[PretrainArguments, MT2TrainingArguments]:
    """Read command-line arguments over the defaults of the preset they name, and of quads and streams if there are."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="base", choices=sorted(PRESETS))
    preset = first.parse_known_args(argv)[0].preset
    parser = HfArgumentParser((PretrainArguments, MT2TrainingArguments), description=__doc__)  # type: ignore[arg-type]
    settings = PRESETS[preset]()
    if any(word.partition("=")[0] == "--quads_dir" for word in argv):
        settings |= WITH_QUADS
        if settings.get("mel_views") == "all":
            settings["spectrum_weight"] = 0.0
    if any(word.partition("=")[0] == "--streaming" for word in argv):
        settings |= STREAMED
    parser.set_defaults(**settings)
    return parser.parse_args_into_dataclasses(argv)  # type: ignore[return-value]


def load_audio(arguments: PretrainArguments) -> Tracks | Any:
    """Find the recordings that the arguments name: tracks, with `streaming` a stream of them, or None."""
    if arguments.prepared_dir is not None:
        return PreparedTracks(arguments.prepared_dir, arguments.window_seconds)
    if arguments.audio_dir is not None:
        return scan(find_files(arguments.audio_dir), arguments.window_seconds)
    if arguments.dataset is None:
        return None
    if arguments.streaming:
        return open_stream(str(arguments.dataset), arguments.dataset_split)
    dataset = load_named_dataset(str(arguments.dataset), arguments.dataset_split)
    return scan(find_rows(dataset, arguments.audio_column), arguments.window_seconds)


def describe(audio: Tracks | Any) -> dict[str, Any]:
    """Return what tells one collection of tracks from another; of a stream nothing is known but its name."""
    if not isinstance(audio, Tracks):  # a stream, or quads alone
        return {}
    names = "".join(f"{Path(track.name).name} {track.num_samples}\n" for track in audio.tracks)
    digest = hashlib.sha256(names.encode()).hexdigest()
    return {"num_tracks": len(audio), "hours": round(audio.hours, 3), "tracks_sha256": digest}


def describe_quads(quads_dir: str | None) -> dict[str, Any]:
    """Return what tells one folder of quads from another, and how long they are; nothing where there is none."""
    listed = Path(quads_dir).expanduser() / QUADS_FILE if quads_dir is not None else None
    if listed is None or not listed.is_file():  # `Quads` says what is wrong with it
        return {}
    hours = PreparedTracks(listed.parent, 0.0).hours
    return {"quads_sha256": hashlib.sha256(listed.read_bytes()).hexdigest(), "quad_hours": round(hours, 3)}


def load_model_and_extractor(
    arguments: PretrainArguments, training: MT2TrainingArguments
) -> tuple[MT2ForPreTraining, MT2FeatureExtractor]:
    """Make a new model, or take up a published one; heads of losses that it lacks are new."""
    heads: dict[str, Any] = {
        "frame_projection_size": HEAD_SIZE * bool(training.frame_weight),
        "num_tempo_classes": TEMPO_CLASSES * bool(training.tempo_weight),
        "num_cepstral_coefficients": CEPSTRAL_COEFFICIENTS * bool(training.cepstrum_weight),
        "num_spectrum_bins": MT2Config.num_cqt_bins * bool(training.spectrum_weight),
    }
    if arguments.init_from is None:
        extractor = MT2FeatureExtractor(cqt_scale=arguments.cqt_scale, cqt_power=arguments.cqt_power)
        frames = extractor.num_frames(round(arguments.window_seconds * extractor.sampling_rate))
        return MT2ForPreTraining(MT2Config(**arguments.model_settings, **heads, max_frames=frames)), extractor
    published = load_model(MT2ForPreTraining, arguments.init_from)
    config = MT2Config.from_dict({**published.config.to_dict(), **heads, "key_calibration": None})  # training turns it
    model = MT2ForPreTraining(config)
    own = model.state_dict()
    model.load_state_dict(
        {name: weight for name, weight in published.state_dict().items() if name in own}, strict=False
    )
    return model, load_extractor(arguments.init_from)


def make_dataset(
    arguments: PretrainArguments,
    training: MT2TrainingArguments,
    audio: Tracks | Any,
    config: MT2Config,
    sampling_rate: int,
) -> Any:
    """Put recordings and quads together to items, so many as the run has songs.

    Raises:
        ValueError: too little music of a kind for a batch.
    """
    windows = Windows(
        arguments.window_seconds, arguments.max_gap_seconds, sampling_rate, arguments.shortest_window_seconds
    )
    transpositions = Transpositions(
        max(config.cqt_offset - config.num_transposition_bins, -arguments.max_transposition),
        min(config.cqt_offset, arguments.max_transposition),
        of_a=training.mel_views == "all",
        of_b=arguments.transpose_b,
    )
    drawing: dict[str, Any] = {"windows": windows, "transpositions": transpositions, "seed": training.seed}
    batch_size = training.train_batch_size
    if audio is not None and not isinstance(audio, Tracks):
        place = {"rank": training.process_index, "world_size": training.world_size}
        return StreamedPairs(audio, arguments.audio_column, batch_size, **drawing, **place)
    of_songs = batch_size - training.songs_of_quads
    num_steps = training.max_steps * training.gradient_accumulation_steps
    pairs = None
    if of_songs:
        if audio is None:
            raise ValueError(
                f"{of_songs} songs of a batch of {batch_size} are recordings: give some, or --quad_share 1"
            )
        each = of_songs * training.world_size
        pairs = WindowPairs(audio, num_steps * each, each, **drawing, minutes_per_draw=arguments.minutes_per_draw)
    if not training.songs_of_quads:
        return pairs
    if arguments.quads_dir is None:
        raise ValueError("quad_share is above 0: give --quads_dir")
    return QuadsAndSongs(
        Quads(arguments.quads_dir),
        pairs,
        batch_size,
        training.songs_of_quads,
        training.songs_of_solos,
        training.world_size,
        num_steps,
        **drawing,
    )


def make_trainer(arguments: PretrainArguments, training: MT2TrainingArguments, audio: Tracks | Any) -> MT2Trainer:
    """Put model, front end and data together; the same settings always give the same."""
    set_seed(training.seed)
    model, extractor = load_model_and_extractor(arguments, training)
    pairs = make_dataset(arguments, training, audio, model.config, extractor.sampling_rate)
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


def begin(arguments: PretrainArguments, training: MT2TrainingArguments, output_dir: Path) -> MT2Trainer:
    """Make the trainer of a new run, or of one that goes on, in a folder that no other process trains in.

    Raises:
        ValueError, OSError, ImportError: something of the data or the settings is not as it should be.
    """
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
                    **describe_quads(arguments.quads_dir),
                },
            )
    trainer = make_trainer(arguments, training, audio)
    extractor = trainer.processing_class
    logger.info("%.2f M parameters", sum(weights.numel() for weights in trainer.model.parameters()) / 1e6)
    if arguments.probe_corpus is not None:
        trainer.add_callback(OnlineProbe(arguments.probe_corpus, extractor, arguments.probe_steps, trainer.log))
    return trainer


def train(trainer: MT2Trainer, training: MT2TrainingArguments, output_dir: Path) -> None:
    """Train from the start or from the last checkpoint.

    Raises:
        Stopped: a signal came, and a checkpoint was written.
        TooFewTracksError: a stream gives too little music for a batch.
    """
    stop = StopOnSignal()
    trainer.add_callback(stop)
    checkpoint = last_complete_checkpoint(output_dir)
    if checkpoint is not None:
        logger.info("going on from %s", checkpoint)
    with stop.installed():
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        except TooFewTracksError:
            raise
        except Exception as error:
            # A worker that dies while it hands over a batch resets the connection before torch notices its death.
            lost = isinstance(error, (ConnectionError, EOFError)) or "DataLoader worker" in str(error)
            why = ": a data worker was killed, perhaps for lack of memory" if lost else ""
            kept = last_complete_checkpoint(output_dir)
            whole = f"{kept} is whole: start again to go on from it" if kept else "there is no checkpoint yet"
            logger.error("training broke off at step %d%s; %s", trainer.state.global_step, why, whole)
            raise
        step = trainer.state.global_step
        if stop.asked and step < training.max_steps:
            place = f"step {step} of {training.max_steps} is in {output_dir}; the same command goes on from there"
            raise advise(Stopped(stop.number), place)
        trainer.save_model()
        trainer.save_state()
    del trainer
    gc.collect()  # gloo can hang at exit when the reducer that DDP made outlives the process group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
