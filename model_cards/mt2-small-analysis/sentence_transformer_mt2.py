"""MT2 as the module of a `SentenceTransformer`: songs to one vector each. Only sentence-transformers loads this file.

Shapes: B songs, T frames, D hidden size, C class tokens.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor


class MT2Transformer(Transformer):
    """The encoder with its feature extractor, for songs of any kind and rate in one batch.

    `encode` takes, beside its own arguments, `readout`: "mean" of the class tokens, one of them ("equivariant",
    "contrastive"), or "concat", all of them one after the other. Without it, the output is returned that
    `sentence_bert_config.json` names, which is "mean" as published.
    """

    forward_kwargs = {"readout"}

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,  # noqa: ARG002 - the interface of sentence-transformers
        processing_kwargs: Any = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Compute the frames of songs.

        Args:
            inputs: songs, each in any form that `MT2FeatureExtractor` takes, or in a dict as its "audio". Samples that
                do not say their rate have that of the extractor.
            prompt: without meaning for music.
            processing_kwargs: options of the extractor as its "audio", such as `max_length` with `truncation`; a
                `sampling_rate` there is that of samples that do not say theirs.
            kwargs: of the model, not used here.

        Returns:
            `input_features` (B, T, input_size) and `attention_mask` (B, T).

        Raises:
            ValueError, FileNotFoundError: as `MT2FeatureExtractor`.
        """
        extractor = self.processor
        options = {**self.processing_kwargs.get("audio", {}), **(processing_kwargs or {}).get("audio", {})}
        rate = options.pop("sampling_rate", extractor.sampling_rate)
        waveforms = []
        for song in inputs:
            if isinstance(song, dict) and song.keys() == {"audio"}:
                song = song["audio"]
            says_no_rate = isinstance(song, np.ndarray | Tensor | list | tuple)
            waveforms.append(extractor.load(song, rate if says_no_rate else None))
        options = {"padding": True, "return_tensors": "pt", **options}
        return {**extractor(waveforms, extractor.sampling_rate, **options), "modality": "audio"}

    def forward(self, features: dict[str, Any], readout: str | None = None, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        """Encode songs.

        Args:
            features: of `preprocess`.
            readout: see the class.
            kwargs: of other modules, not used here.

        Returns:
            The features with `sentence_embedding`, (B, D), or (B, C * D) with "concat"; and `token_embeddings`, the
            frame tokens, (B, T, D).

        Raises:
            ValueError: there is no such readout, or the model has no such token.
        """
        outputs = self.model(input_features=features["input_features"], attention_mask=features["attention_mask"])
        features["token_embeddings"] = outputs.last_hidden_state
        features["sentence_embedding"] = self._read(outputs, readout)
        return features

    def _read(self, outputs: Any, readout: str | None) -> Tensor:
        if readout is None:
            return outputs[self.modality_config["audio"]["method_output_name"]]
        tokens = {name: outputs[f"{name}_embeds"] for name in self.config.class_tokens}
        readouts = {"mean": outputs.pooler_output, **tokens, "concat": torch.cat(list(tokens.values()), dim=1)}
        if readout not in readouts:
            raise ValueError(f"readout must be one of {', '.join(readouts)}, got {readout!r}")
        return readouts[readout]
