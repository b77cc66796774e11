"""Configuration of MT2: a small transformer over spectrogram frames with two class tokens."""

import difflib
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

CLASS_TOKENS = ("equivariant", "contrastive")
POOLINGS = ("equivariant", "contrastive", "mean", "frames", "concat")


class MT2Config(PreTrainedConfig):
    """Everything that shapes an MT2 model; the defaults are the base model.

    Sizes are the paper's (Kong et al. 2025, arXiv:2507.12996, and its relatives); fields marked "ours" fill what it
    leaves open or replace what did not train. `MT2Config.paper()` gives the published architecture.

    Raises:
        ValueError: values that do not fit together; the message names them.
    """

    model_type = "mt2"

    hidden_size: int = 192
    num_hidden_layers: int = 12
    num_attention_heads: int = 3
    intermediate_size: int = 768
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    qkv_bias: bool = True

    sampling_rate: int = 16000  # hertz
    hop_length: int = 512  # samples from frame to frame
    max_frames: int = 126  # frames the encoder sees at once: 4 seconds; longer input is cut into such windows
    num_cqt_bins: int = 84  # constant-Q bins the encoder sees: 7 octaves
    num_transposition_bins: int = 15  # further bins in the input, room to shift those 84
    bins_per_octave: int = 12
    num_mel_bins: int = 128
    # ours: frames whose loudest mel band lies further below that of the recording's loudest frame, or below the floor,
    # are silent: they have no weight. In units of the mel half, of which 1 is 100 dB; None: every frame counts.
    silence_range: float | None = 0.45
    silence_floor: float = 0.15
    # ours: the mel half of a window is shifted so that its loudest band lies here, in the same units, and what lay at
    # its floor stays there: so levels change nothing. None: as it is.
    mel_level: float | None = 0.8

    class_tokens: list[str] | tuple[str, ...] = CLASS_TOKENS  # one of them alone is the paper's single-token baseline
    projection_size: int = 128  # ours; the paper does not say how its contrastive token is projected
    projection_layers: int = 2  # linear layers of that projection; ours
    contrastive_layer: int | None = None  # layer whose output is the contrastive token; None: the last, as published
    contrastive_deviation: bool = False  # ours: this token also starts from the deviation of its branch over time
    # Outputs of heads that only pre-training has, 0 for none; ours, see mt2_music.train.pretrain.losses.
    frame_projection_size: int = 0
    num_tempo_classes: int = 0
    num_cepstral_coefficients: int = 0
    num_spectrum_bins: int = 0

    chroma_init: bool = True  # ours: the untrained profile is a chroma; see MT2PreTrainedModel._init_weights
    center_profile: bool = True  # S-KEY: batch normalisation of the pooled logits, so no constant profile survives
    profile_gain: float | int = 2.0  # ours: factor on the logits before the softmax
    key_calibration: float | int | None = None  # fifths from profile index 0 to C major; train/publish/calibrate.py

    pooling: str = "mean"  # what the classification head reads, one of POOLINGS
    classifier_dropout: float | int = 0.0
    # ours, of the head of MT2ForMusicAnalysis: what it says of every frame, its convolutions, each of which looks
    # twice as far as the one before, and their width.
    frame_labels: list[str] | tuple[str, ...] = ()
    num_context_layers: int = 7
    context_size: int = 64

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that the values fit together."""
        for name in kwargs:  # transformers keeps any name that it does not know, so a misspelt one would do nothing
            settings = list(type(self).__annotations__)
            meant = difflib.get_close_matches(name, settings, n=1, cutoff=0.8)
            # Of other models, such as "num_layers" or "attention_dropout": the same words, or some of them.
            meant = meant or [setting for setting in settings if set(name.split("_")) <= set(setting.split("_"))]
            if meant and name not in dir(PreTrainedConfig):
                logger.warning(
                    "MT2Config has no setting %r, which is kept without effect; did you mean %r?", name, meant[0]
                )
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_frames")
        counts = (
            "num_cqt_bins",
            "bins_per_octave",
            "num_mel_bins",
            "projection_size",
            "projection_layers",
            "context_size",
            "sampling_rate",
            "hop_length",
        )
        for name in (*sizes, *counts):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.num_cqt_bins % self.bins_per_octave:
            raise ValueError(
                f"num_cqt_bins {self.num_cqt_bins} is not a multiple of bins_per_octave {self.bins_per_octave}"
            )
        if self.num_transposition_bins < 0:
            raise ValueError(f"num_transposition_bins must not be negative, got {self.num_transposition_bins}")
        tokens = tuple(self.class_tokens)
        if not tokens or tokens != tuple(name for name in CLASS_TOKENS if name in tokens):
            raise ValueError(f"class_tokens must be one or both of {CLASS_TOKENS}, in that order, got {tokens}")
        for name in (
            "frame_projection_size", "num_tempo_classes", "num_cepstral_coefficients", "num_spectrum_bins",
            "num_context_layers",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.contrastive_layer is not None and not 1 <= self.contrastive_layer <= self.num_hidden_layers:
            raise ValueError(
                f"contrastive_layer must be None or from 1 to {self.num_hidden_layers}, got {self.contrastive_layer}"
            )
        if self.pooling not in POOLINGS or (self.pooling in CLASS_TOKENS and self.pooling not in tokens):
            raise ValueError(f"pooling {self.pooling!r} is not one of {POOLINGS} with class tokens {tokens}")
        if self.chroma_init and self.hidden_size < self.num_cqt_bins:
            raise ValueError(
                f"chroma_init needs hidden_size {self.hidden_size} to hold num_cqt_bins {self.num_cqt_bins}; make it "
                "larger or set chroma_init=False"
            )
        if self.bins_per_octave != 12:
            raise ValueError(
                f"bins_per_octave must be 12, got {self.bins_per_octave}: a profile has 12 key signatures"
            )
        if self.silence_range is not None and self.silence_range <= 0:
            raise ValueError(f"silence_range must be None or above 0, got {self.silence_range}")
        if self.key_calibration is not None and not 0 <= self.key_calibration < 12:
            raise ValueError(f"key_calibration must be None or from 0 to below 12 fifths, got {self.key_calibration}")
        if self.label2id is not None:  # transformers' own example stores the numbers as strings
            self.label2id = {name: int(index) for name, index in self.label2id.items()}
        kwargs.setdefault("auto_map", dict(AUTO_MAP))
        super().__post_init__(**kwargs)

    @classmethod
    def paper(cls, **kwargs: Any) -> "MT2Config":
        """Return the architecture as published: ordinary initialisation, plain softmax, every frame counts.

        Give the feature extractor `cqt_scale="decibel"` with it; `front_end="published"` is for published weights.
        """
        published = {"chroma_init": False, "center_profile": False, "profile_gain": 1.0}
        return cls(**{**published, "silence_range": None, "mel_level": None, **kwargs})

    @property
    def input_size(self) -> int:
        """Values in one frame of `input_features`."""
        return self.num_cqt_bins + self.num_transposition_bins + self.num_mel_bins

    @property
    def cqt_offset(self) -> int:
        """First of the input's constant-Q bins that the encoder sees when nothing is transposed."""
        return self.num_transposition_bins // 2

    @property
    def frame_rate(self) -> float:
        """Frames per second of audio."""
        return self.sampling_rate / self.hop_length


# So that every save, also of a fine-tuned head, can be loaded by every Auto class.
AUTO_MAP = {
    "AutoConfig": "configuration_mt2.MT2Config",
    "AutoFeatureExtractor": "feature_extraction_mt2.MT2FeatureExtractor",
    "AutoModel": "modeling_mt2.MT2Model",
    "AutoModelForPreTraining": "modeling_mt2.MT2ForPreTraining",
    "AutoModelForAudioClassification": "modeling_mt2.MT2ForAudioClassification",
    "AutoModelForAudioFrameClassification": "modeling_mt2.MT2ForAudioFrameClassification",
}

__all__ = ["MT2Config"]
