"""Settings of pre-training, each with its only default and where it comes from, and presets for whole runs."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from mt2_music import MT2Config


@dataclass
class PretrainArguments:
    """What to train on, and which model."""

    audio_dir: str | None = field(default=None, metadata={"help": "folder of music, searched with all folders below"})
    prepared_dir: str | None = field(
        default=None, metadata={"help": "instead of audio_dir: what mt2_music.train.prepare has written; no decoding"}
    )
    quads_dir: str | None = field(
        default=None,
        metadata={"help": "folder of quads that mt2_music.train.synth.quads has rendered; with quad_share, or alone"},
    )
    dataset: str | None = field(
        default=None, metadata={"help": "instead of audio_dir: name or path of a datasets data set, or of a saved one"}
    )
    dataset_split: str = field(default="train", metadata={"help": "split of the data set"})
    streaming: bool = field(
        default=False, metadata={"help": "read the data set as a stream, for corpora larger than a disk"}
    )
    audio_column: str = field(default="audio", metadata={"help": "its column of audio"})
    probe_corpus: str | None = field(
        default=None, metadata={"help": "rendered corpus whose validation pieces are scored during training"}
    )
    probe_steps: int = field(default=100, metadata={"help": "steps between two such looks"})
    preset: str = field(
        default="base", metadata={"help": "defaults of a whole run: base, paper, gpu, small, laptop or demo"}
    )
    init_from: str | None = field(
        default=None, metadata={"help": "folder or Hub name of a published model to start from; it decides all sizes"}
    )
    hidden_size: int = field(default=192, metadata={"help": "width of the encoder; paper"})
    num_hidden_layers: int = field(default=12, metadata={"help": "depth; paper"})
    num_attention_heads: int = field(default=3, metadata={"help": "heads; paper"})
    class_tokens: str = field(
        default="equivariant,contrastive", metadata={"help": "or only one of them: the paper's single-token baselines"}
    )
    projection_layers: int = field(default=2, metadata={"help": "of the contrastive token's projection; ours"})
    contrastive_layer: int = field(
        default=0, metadata={"help": "layer whose output is the contrastive token; 0: the last, as published"}
    )
    contrastive_deviation: bool = field(
        default=False,
        metadata={"help": "start this token from mean and deviation over time, not the mean alone; ours"},
    )
    chroma_init: bool = field(default=True, metadata={"help": "start as a chroma; ours, see MT2Config"})
    center_profile: bool = field(default=True, metadata={"help": "centre the logits of a batch; S-KEY, see MT2Config"})
    profile_gain: float = field(default=2.0, metadata={"help": "factor on the centred logits; ours, see MT2Config"})
    silence_range: float = field(
        default=MT2Config.silence_range or 0.0,
        metadata={"help": "how far below the loudest a frame is silent, 1 is 100 dB; 0: never; ours, see MT2Config"},
    )
    mel_level: float = field(
        default=MT2Config.mel_level or 0.0,
        metadata={"help": "level that mel halves are shifted to, 1 is 100 dB; 0: they are not; ours, see MT2Config"},
    )
    cqt_scale: str = field(default="power", metadata={"help": "power or decibel; ours, the paper has decibel"})
    cqt_power: float = field(default=0.5, metadata={"help": "exponent of the constant-Q magnitude; ours"})
    window_seconds: float = field(default=4.0, metadata={"help": "length of a window; paper"})
    shortest_window_seconds: float = field(
        default=0.0, metadata={"help": "in half of all steps windows last from this to window_seconds; 0: never; ours"}
    )
    max_gap_seconds: float = field(default=8.0, metadata={"help": "most silence between two windows of a song; ours"})
    minutes_per_draw: float = field(
        default=0.0,
        metadata={"help": "draw long tracks once a pass for every so many begun minutes; 0: every track once; ours"},
    )
    max_transposition: int = field(
        default=8,
        metadata={
            "help": "most semitones that a view is transposed by, up or down; paper: what the room of 15 allows"
        },
    )
    transpose_b: bool = field(
        default=True,
        metadata={"help": "transpose the second window apart from the first; ours, the paper keeps them equal"},
    )

    def __post_init__(self) -> None:
        """Check that there is one source of recordings at most, and of music at least one."""
        given = sum(place is not None for place in (self.audio_dir, self.prepared_dir, self.dataset))
        if given > 1 or not (given or self.quads_dir):
            raise ValueError("give one of --audio_dir, --prepared_dir and --dataset, or --quads_dir, or both")
        if self.streaming and (self.quads_dir or self.shortest_window_seconds):
            raise ValueError("--streaming goes neither with --quads_dir nor with --shortest_window_seconds")
        if not 0 <= self.shortest_window_seconds <= self.window_seconds:
            raise ValueError(
                f"shortest_window_seconds must be from 0 to window_seconds, got {self.shortest_window_seconds}"
            )
        if self.streaming and self.dataset is None:
            raise ValueError("--streaming needs --dataset: a folder lies on the disk already")
        if self.streaming and self.minutes_per_draw:
            raise ValueError("minutes_per_draw needs tracks whose length is known: it does not go with --streaming")
        if self.minutes_per_draw < 0:
            raise ValueError(f"minutes_per_draw must not be negative, got {self.minutes_per_draw}")
        if self.silence_range < 0 or self.mel_level < 0:
            raise ValueError(
                f"silence_range and mel_level must not be negative, got {self.silence_range}, {self.mel_level}"
            )
        if self.window_seconds <= 0:
            raise ValueError(f"window_seconds must be above 0, got {self.window_seconds}")

    @property
    def model_settings(self) -> dict[str, Any]:
        """Fields of `MT2Config` that follow from these settings."""
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": 4 * self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "class_tokens": self.class_tokens.split(","),
            "projection_layers": self.projection_layers,
            "contrastive_layer": self.contrastive_layer or None,
            "contrastive_deviation": self.contrastive_deviation,
            "chroma_init": self.chroma_init,
            "center_profile": self.center_profile,
            "profile_gain": self.profile_gain,
            "silence_range": self.silence_range or None,
            "mel_level": self.mel_level or None,
        }


@dataclass
class MT2TrainingArguments(TrainingArguments):
    """Training arguments with the defaults of MT2's recipe. All others are those of transformers."""

    max_steps: int = field(
        default=20_000, metadata={"help": "optimizer steps; the paper's family takes about 511,000"}
    )
    per_device_train_batch_size: int = field(default=128, metadata={"help": "songs in a step of one process; paper"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak, as in STONE and S-KEY"})
    adam_beta2: float = field(default=0.98, metadata={"help": "as in STONE and S-KEY"})
    weight_decay: float = field(default=0.04, metadata={"help": "as in STONE and S-KEY at their start"})
    warmup_steps: float = field(default=500, metadata={"help": "steps to the peak, or a share of max_steps; ours"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "as in STONE and S-KEY"})
    logging_steps: float = field(default=10, metadata={"help": "steps between two log entries"})
    save_steps: float = field(default=500, metadata={"help": "steps between two checkpoints"})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept"})
    dataloader_num_workers: int = field(default=2, metadata={"help": "processes that decode while others train; ours"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "must stay off: items hold raw windows"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "must stay on: every process has as many rows"})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "every parameter is used"})

    cpsd_weight: float = field(default=1.0, metadata={"help": "weight of the equivariance loss; paper: plain sum"})
    nt_xent_weight: float = field(default=1.0, metadata={"help": "weight of the contrastive loss; paper: plain sum"})
    two_window_weight: float = field(
        default=1.0, metadata={"help": "weight of the CPSD terms between different windows, against 1 within one"}
    )
    frame_weight: float = field(
        default=0.0, metadata={"help": "weight of the loss between orchestrations, frame by frame; ours, needs quads"}
    )
    tempo_weight: float = field(
        default=0.0,
        metadata={"help": "weight of reading the tempo of scores off the equivariant token; ours, needs quads"},
    )
    solo_nt_xent_weight: float = field(
        default=0.0, metadata={"help": "weight of NT-Xent among single instruments alone; ours, needs quads"}
    )
    cepstrum_weight: float = field(
        default=0.0, metadata={"help": "weight of reading the cepstrum off the contrastive token; ours"}
    )
    spectrum_weight: float = field(
        default=0.0, metadata={"help": "weight of reading the mean spectrum off the equivariant token; ours"}
    )
    orchestration_positives: bool = field(
        default=True,
        metadata={"help": "other music by the same orchestration is a positive of the contrastive token; ours"},
    )
    quad_share: float = field(default=0.0, metadata={"help": "share of the songs of a step that are of quads"})
    solo_share: float = field(
        default=0.0,
        metadata={"help": "share of these that are of single instruments; as many must be among the quads"},
    )
    instants_per_window: int = field(default=14, metadata={"help": "frames of a window that the frame loss compares"})
    temperature: float = field(default=0.1, metadata={"help": "of the contrastive loss; paper's family"})
    mel_views: str = field(
        default="untransposed",
        metadata={
            "help": "views that show their mel half: untransposed ones, or all, as published, which lets the model "
            "compare pitches of the two halves instead of hearing keys"
        },
    )
    songs_per_forward: int = field(
        default=0,
        metadata={
            "help": "encode the views of so many songs at a time, twice, with the same gradients; 0: all at once"
        },
    )
    augment_gain_db: float = field(default=0.0, metadata={"help": "change levels by up to so much; paper: nothing"})
    augment_equalizer_db: float = field(
        default=0.0, metadata={"help": "change levels of bands by up to so much, window by window; paper: nothing"}
    )
    augment_band_share: float = field(default=0.0, metadata={"help": "share of windows with cut bands; paper: none"})
    augment_noise_share: float = field(default=0.0, metadata={"help": "share of windows with noise; paper: none"})
    augment_mask_share: float = field(default=0.0, metadata={"help": "most of a window to hide; paper: nothing"})
    augment_effect: str | None = field(
        default=None,
        metadata={"help": "file.py:function or module:function, as mt2_music.train.pretrain.augment describes"},
    )

    def __post_init__(self) -> None:
        """Check what the data and exact resumption need."""
        super().__post_init__()
        if self.max_steps < 1 or self.num_train_epochs != type(self).num_train_epochs:
            raise ValueError("the length of a run is max_steps, above 0; num_train_epochs means nothing here")
        if self.mel_views not in ("untransposed", "all"):
            raise ValueError(f"mel_views must be untransposed or all, got {self.mel_views!r}")
        if not (0 <= self.quad_share <= 1 and 0 <= self.solo_share <= 1):
            raise ValueError(
                f"quad_share and solo_share must be from 0 to 1, got {self.quad_share}, {self.solo_share}"
            )
        if self.spectrum_weight and self.mel_views == "all":
            raise ValueError("spectrum_weight needs views that are not transposed: it does not go with mel_views all")
        if self.instants_per_window < 1:
            raise ValueError(f"instants_per_window must be at least 1, got {self.instants_per_window}")
        of_quads = ("frame_weight", "tempo_weight", "solo_nt_xent_weight")
        if not self.songs_of_quads and any(getattr(self, name) for name in of_quads):
            raise ValueError(
                f"{', '.join(of_quads)} need quads: give --quads_dir and a --quad_share that fills two songs"
            )
        if self.songs_per_forward < 0:
            raise ValueError(f"songs_per_forward must not be negative, got {self.songs_per_forward}")
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        if self.save_steps >= 1 and self.logging_steps >= 1 and self.save_steps % self.logging_steps:
            raise ValueError(
                f"save_steps {self.save_steps:g} must be a multiple of logging_steps {self.logging_steps:g}: a log "
                "entry that straddles a checkpoint could not be resumed exactly"
            )

    @property
    def songs_of_quads(self) -> int:
        """Songs of quads in a step of one process, two of a quad; they come first in its batch."""
        return 2 * round(self.train_batch_size * self.quad_share / 2)

    @property
    def songs_of_solos(self) -> int:
        """Those of them that one instrument plays; they come first of all."""
        return 2 * round(self.songs_of_quads * self.solo_share / 2)


# Defaults of every preset when --quads_dir is given.
WITH_QUADS: dict[str, Any] = {
    "quad_share": 0.5,
    "solo_share": 0.25,
    "frame_weight": 1.0,
    "nt_xent_weight": 0.5,
    "solo_nt_xent_weight": 0.5,
    "tempo_weight": 0.5,
    "cepstrum_weight": 1.0,
    "spectrum_weight": 0.25,
}


# Defaults of every preset with --streaming: nothing that needs the length of a track or the number of a step.
STREAMED: dict[str, Any] = {"shortest_window_seconds": 0.0, "minutes_per_draw": 0.0}


# How the published models came to theirs: windows of random length, and a contrastive token that is taken early and
# starts from mean and deviation of its branch. benchmarks/checkpoint/recipe.md says what some of it is worth.
PUBLISHED: dict[str, Any] = {
    "contrastive_layer": 2,
    "contrastive_deviation": True,
    "projection_layers": 3,
    "shortest_window_seconds": 0.75,
    "max_gap_seconds": 12.0,
    "minutes_per_draw": 1.0,
    "augment_gain_db": 20.0,
    "tf32": True if torch.cuda.is_available() else None,
    "logging_nan_inf_filter": False,
    "logging_steps": 100,
    "save_steps": 1000,
}


def base() -> dict[str, Any]:
    """Train mt2-base: the paper's size, 12 layers of 192, windows of 4 s, 128 songs a step; minutes of a large GPU."""
    return {
        **PUBLISHED,
        "contrastive_layer": 3,
        "max_steps": 4500,
        "warmup_steps": 180,
        "bf16": torch.cuda.is_available(),
        "dataloader_num_workers": 3,
    }


def paper() -> dict[str, Any]:
    """Train the architecture and the losses as published, for the steps of the paper's family: days of one GPU.

    Windows share one transposition, every view shows its mel half, at its own level, every frame counts, and the
    profile is a plain softmax of a plain start. On a small model and in few steps this stays on CPSD's plateaus, or
    finds the shortcut past harmony.
    """
    return {
        "chroma_init": False,
        "center_profile": False,
        "profile_gain": 1.0,
        "silence_range": 0.0,
        "mel_level": 0.0,
        "cqt_scale": "decibel",
        "transpose_b": False,
        "mel_views": "all",
        "max_steps": 999 * 512,
        "warmup_steps": 10 * 512,
        "save_steps": 5120,
        "logging_steps": 64,
    }


def demo() -> dict[str, Any]:
    """Train a model of half a million parameters for two minutes on two cores.

    Enough to see the profile leave the chroma it starts from; not enough for timbre or for hard music.
    """
    return {
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "window_seconds": 3.0,
        "max_gap_seconds": 12.0,
        "max_steps": 300,
        "per_device_train_batch_size": 24,
        "learning_rate": 2e-3,
        "nt_xent_weight": 0.3,
        "dataloader_num_workers": 0,
        "warmup_steps": 30,
        "logging_steps": 10,
        "save_steps": 150,
    }


def laptop() -> dict[str, Any]:
    """Train the demo's model for about ten minutes on two cores, on a prepared archive of several hours.

    On the training split of the corpus of benchmarks/probes/baselines.sh, 1,553 tracks and 7 hours, it names 85 % of
    the key signatures of test pieces right, and 98 % within a fifth: benchmarks/probes/laptop.md, with one seed.
    """
    return {**demo(), "max_steps": 1500, "warmup_steps": 75, "save_steps": 250, "logging_steps": 25}


def small() -> dict[str, Any]:
    """Train a model of the size of mt2-small on two cores: in about an hour, with small batches and shorter windows.

    On recordings, quads, or both; `gpu` is the recipe of mt2-small itself. Long recordings come as often as they are
    long, so that they are not lost among short pieces.
    """
    return {
        **PUBLISHED,
        **demo(),
        "hidden_size": 128,
        "num_attention_heads": 4,
        "max_steps": 3000,
        "learning_rate": 1.5e-3,
        "warmup_steps": 150,
        "save_steps": 250,
        "logging_steps": 25,
    }


def gpu() -> dict[str, Any]:
    """Train mt2-small by its recipe: 128 songs a step, windows of 4 s; minutes of a large GPU."""
    return {
        **small(),
        "window_seconds": 4.0,
        "per_device_train_batch_size": 128,
        "max_steps": 7500,
        "warmup_steps": 300,
        "save_steps": 1000,
        "logging_steps": 100,
        "dataloader_num_workers": 4,
    }


PRESETS = {"base": base, "paper": paper, "gpu": gpu, "small": small, "laptop": laptop, "demo": demo}
