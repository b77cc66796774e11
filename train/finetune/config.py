"""Settings of fine-tuning, each with its only default."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from mt2_music.train.data.label_sources import TASKS


@dataclass
class FinetuneArguments:
    """What to tune, on what, and how."""

    model: str = field(metadata={"help": "folder or Hub name of a published model"})
    data: str = field(metadata={"help": "folder of labels, CSV table, or name or path of a datasets data set"})
    task: str = field(default="single", metadata={"help": "single, multi (several labels), regression, or frames"})
    audio_column: str = field(default="audio", metadata={"help": "audio of a data set"})
    label_column: str | None = field(
        default=None, metadata={"help": "label of a CSV or data set; of regression several, with commas between them"}
    )
    validation_share: float = field(default=0.15, metadata={"help": "of the recordings, where no splits are given"})
    test_share: float = field(default=0.15, metadata={"help": "the same; 0 for none"})
    seconds: float = field(default=10.0, metadata={"help": "longest excerpt in training; another one in every epoch"})
    eval_seconds: float = field(default=60.0, metadata={"help": "longest excerpt in evaluation, from the middle"})
    pooling: str = field(
        default="concat", metadata={"help": "what the head reads, as in MT2Config; unused for task frames"}
    )
    class_weights: str = field(
        default="none", metadata={"help": "balanced: rare labels count more, and balanced accuracy chooses the epoch"}
    )
    freeze: str = field(
        default="none", metadata={"help": "none, encoder, or layers:N, embeddings and N lowest layers"}
    )
    lora: int = field(
        default=0,
        metadata={
            "help": "rank of adapters (LoRA) that are trained beside the weights of the encoder's layers, and merged "
            "into them at the end; 0: the weights themselves are trained"
        },
    )
    encoder_learning_rate: float = field(
        default=1e-3, metadata={"help": "learning rate of the encoder's last layer; learning_rate is the head's"}
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "factor on the encoder's rate from each layer to the one below"}
    )
    patience: int = field(
        default=15,
        metadata={"help": "evaluations without a better validation score before training stops; 0: never stop"},
    )
    gain_db: float = field(default=6.0, metadata={"help": "largest change of an excerpt's level, up or down"})
    transpose_semitones: float = field(
        default=0.0,
        metadata={
            "help": "excerpts are played faster or slower, up to so many semitones higher or lower: 3 helps where "
            "neither pitch nor tempo matters, as for instruments, and spoils labels that say which key or tempo it is"
        },
    )

    def __post_init__(self) -> None:
        """Check what has a range."""
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if self.class_weights not in ("none", "balanced"):
            raise ValueError(f"class_weights must be none or balanced, got {self.class_weights!r}")
        if self.class_weights == "balanced" and self.task == "regression":
            raise ValueError("class_weights balanced means nothing for regression")
        if self.seconds <= 0 or self.eval_seconds <= 0:
            raise ValueError(f"seconds and eval_seconds must be above 0, got {self.seconds} and {self.eval_seconds}")
        if not 0 < self.validation_share < 1 or not 0 <= self.test_share < 1 - self.validation_share:
            raise ValueError(
                f"validation_share must lie between 0 and 1, and test_share from 0 to what is left, got "
                f"{self.validation_share} and {self.test_share}"
            )
        if min(self.gain_db, self.transpose_semitones, self.patience, self.lora) < 0:
            raise ValueError("gain_db, transpose_semitones, patience and lora must not be negative")


@dataclass
class TuningArguments(TrainingArguments):
    """Training arguments with defaults for fine-tuning. All others are those of transformers."""

    num_train_epochs: float = field(default=40, metadata={"help": "passes over the recordings"})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "excerpts in a step of one process"})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "recordings evaluated at once"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate of the head"})
    weight_decay: float = field(default=0.05, metadata={"help": "weight decay of matrices"})
    warmup_steps: float = field(default=0.1, metadata={"help": "steps to the peak, or their share of all steps"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "schedule of the learning rates"})
    eval_strategy: str = field(default="epoch", metadata={"help": "when to validate; save_strategy must agree"})
    save_strategy: str = field(default="epoch", metadata={"help": "when checkpoints are written"})
    logging_strategy: str = field(default="epoch", metadata={"help": "when the loss is logged"})
    save_total_limit: int | None = field(default=1, metadata={"help": "checkpoints kept besides the best"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "must stay on: the best epoch is kept"})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "must stay on: a resumed run keeps its patience"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "must stay off: items are excerpts"})
    dataloader_num_workers: int = field(default=2, metadata={"help": "processes that decode while others train"})
    report_to: str | None = field(default="none", metadata={"help": "tensorboard: also log to TensorBoard"})
    disable_tqdm: bool | None = field(default=True, metadata={"help": "no progress bar; every epoch is logged"})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "must stay so"})

    def __post_init__(self) -> None:
        """Pin memory only where there is a device that gains by it."""
        super().__post_init__()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
