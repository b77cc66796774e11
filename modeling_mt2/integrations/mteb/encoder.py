"""A published model by MTEB's protocol of encoders.

Clips reach the model as they are stored, and are decoded by this package: MTEB's own way to hand over audio needs
torchaudio and torchcodec.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from tqdm.auto import tqdm

from mt2_music.audio.datasets import audio_column
from mt2_music.loading import list_models
from mt2_music.music_model import MusicModel, load
from mt2_music.song.embed import SONG_ERRORS, SongEmbedding, embed_audio, reason_of

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, PromptType
    from torch.utils.data import DataLoader

ORGANISATION = "mt2-music"  # MTEB's names have one; models that are not on the Hub have none


class MT2Encoder(AbsEncoder):
    """A published model, for `mteb.evaluate`: one vector a clip, of any length, rate and number of channels.

    Args:
        model_name: folder, Hub name or short name.
        revision: that the model must have; None for whichever it has. Of a Hub model it is the commit, of others it
            is a hash of weights and settings.
        device: where to compute, such as "cpu" or "cuda" (default: a GPU where there is one).
        readout: which vector: "mean", "equivariant", "contrastive", or "both" of these, one after the other.
        **kwargs: what MTEB passes to encoders of other kinds; ignored.

    Raises:
        ValueError: the model has no such readout, or another revision.
        OSError: nothing is there.
    """

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        model_name: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        readout: str = "mean",
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.model: MusicModel = load(model_name, device)
        tokens = self.model.config.class_tokens
        known = ["mean", *tokens, *(["both"] if len(tokens) > 1 else [])]
        if readout not in known:
            raise ValueError(f"{model_name} has the readouts {', '.join(known)}, and no {readout!r}")
        self.readout = readout
        self.mteb_model_meta = describe(self.model, readout)
        if revision not in (None, self.mteb_model_meta.revision):
            raise ValueError(f"{model_name} has the revision {self.mteb_model_meta.revision}, not {revision}")

    def encode(
        self,
        inputs: "DataLoader[BatchedInput]",
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: "PromptType | None" = None,  # noqa: ARG002
        show_progress_bar: bool = True,
        **kwargs: Any,  # noqa: ARG002
    ) -> np.ndarray:
        """Embed the clips of a part of a task.

        Args:
            inputs: its data set has a column "audio".
            task_metadata, hf_split, hf_subset: of the task, to be named in errors.
            prompt_type: for models of text; ignored.
            show_progress_bar: whether to show how far it is.
            **kwargs: such as the batch size, which changes no result here; ignored.

        Returns:
            Vectors, float32 (clips, size), in the order of the data set.

        Raises:
            ValueError: there is no audio, or a clip cannot be used: a score without it would be another score.
        """
        dataset: Any = inputs.dataset
        part = f"{task_metadata.name}, {hf_subset}, {hf_split}"
        if "audio" not in dataset.column_names:
            raise ValueError(f"{part}: there is no column of audio, only {', '.join(dataset.column_names)}")
        cells = audio_column(dataset, "audio")
        vectors = []
        for number, cell in enumerate(tqdm(cells, disable=not show_progress_bar)):
            try:
                song = embed_audio(self.model.encoder, self.model.extractor, cell["audio"])
            except SONG_ERRORS as error:
                raise ValueError(f"{part}: clip {number} cannot be used: {reason_of(error)}") from error
            vectors.append(self._read(song))
        return np.stack(vectors)

    def _read(self, song: SongEmbedding) -> np.ndarray:
        if self.readout == "both":
            return np.concatenate([song.vectors[name] for name in self.model.config.class_tokens])
        return song.vectors[self.readout]


def describe(model: MusicModel, readout: str) -> ModelMeta:
    """Return what MTEB stores beside the scores of a model.

    The name has "mt2-music/" in front if the model is not from the Hub. Other readouts than the mean are an
    experiment, so that their scores have files of their own.
    """
    weights = list(model.encoder.parameters())
    tokens = len(model.config.class_tokens) if readout == "both" else 1
    return ModelMeta(
        loader=None,  # `mteb.evaluate` takes the encoder; MTEB's own loading asks for torchaudio
        name=model.name if "/" in model.name else f"{ORGANISATION}/{model.name}",
        revision=getattr(model.config, "_commit_hash", None) or "-".join(model.source[1:]),
        release_date=None,
        languages=None,
        n_parameters=sum(weight.numel() for weight in weights),
        n_embedding_parameters=0,
        memory_usage_mb=sum(weight.nbytes for weight in weights) / 2**20,
        max_tokens=None,
        embed_dim=tokens * model.config.hidden_size,
        license="apache-2.0" if model.name in list_models() else None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "Transformers", "safetensors"],
        reference=f"https://huggingface.co/{model.name}" if "/" in model.name else None,
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=set() if model.name in list_models() else None,  # ours saw no data set of MTEB
        modalities=["audio"],
        experiment_kwargs=None if readout == "mean" else {"readout": readout},
        citation=None,
    )
