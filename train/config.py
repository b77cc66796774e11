"""Settings of pre-training, each with its only default and where it comes from, and presets for whole runs."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments


@dataclass
class PretrainArguments:
    """What to train on, and which model."""

    audio_dir: str | None = field(default=None, metadata={"help": "folder of music, searched with all folders below"})
    prepared_dir: str | None = field(
        default=None, metadata={"help": "instead of audio_dir: what mt2_music.train.prepare has written; no decoding"}
    )
    dataset: str | None = field(
        default=None, metadata={"help": "instead of audio_dir: name or path of a datasets data set, or of a saved one"}
    )
    dataset_split: str = field(default="train", metadata={"help": "split of the data set"})
    audio_column: str = field(default="audio", metadata={"help": "its column of audio"})
    probe_corpus: str | None = field(
        default=None, metadata={"help": "rendered corpus whose validation pieces are heard during training"}
    )
    probe_steps: int = field(default=100, metadata={"help": "steps between two such looks"})
    preset: str = field(default="base", metadata={"help": "defaults of a whole run: base, laptop or demo"})
    hidden_size: int = field(default=192, metadata={"help": "width of the encoder; paper"})
    num_hidden_layers: int = field(default=12, metadata={"help": "depth; paper"})
    num_attention_heads: int = field(default=3, metadata={"help": "heads; paper"})
    class_tokens: str = field(
        default="equivariant,contrastive", metadata={"help": "or only one of them: the paper's single-token baselines"}
    )
    window_seconds: float = field(default=4.0, metadata={"help": "length of a window; paper"})
    max_gap_seconds: float = field(default=8.0, metadata={"help": "most silence between two windows of a song; ours"})
    transpose_b: bool = field(
        default=True,
        metadata={"help": "transpose the second window apart from the first; ours, the paper keeps them equal"},
    )

    def __post_init__(self) -> None:
        """Check that there is one source of audio."""
        if sum(place is not None for place in (self.audio_dir, self.prepared_dir, self.dataset)) != 1:
            raise ValueError("give one of --audio_dir, --prepared_dir and --dataset")
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
    temperature: float = field(default=0.1, metadata={"help": "of the contrastive loss"})

    def __post_init__(self) -> None:
        """Check what the data and exact resumption need."""
        super().__post_init__()
        if self.max_steps < 1 or self.num_train_epochs != type(self).num_train_epochs:
            raise ValueError("the length of a run is max_steps, above 0; num_train_epochs means nothing here")
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        if self.save_steps >= 1 and self.logging_steps >= 1 and self.save_steps % self.logging_steps:
            raise ValueError(
                f"save_steps {self.save_steps:g} must be a multiple of logging_steps {self.logging_steps:g}: a log "
                "entry that straddles a checkpoint could not be resumed exactly"
            )


def base() -> dict[str, Any]:
    """Train the paper's size: 12 layers of 192, windows of 4 s, 128 songs a step. For a GPU and much music."""
    return {}


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
    """Train the demo's model for about twenty minutes on two cores, on a prepared corpus of several hours."""
    return {**demo(), "max_steps": 2500, "warmup_steps": 100, "save_steps": 250, "logging_steps": 25}


PRESETS = {"base": base, "laptop": laptop, "demo": demo}
