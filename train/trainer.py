"""The Trainer that computes both losses of MT2 in one forward pass over three views of every song."""

import math
from collections import defaultdict
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from transformers import Trainer

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining

from .losses import cpsd_loss, effective_rank, nt_xent_loss, profile_phase

# What counts as collapse, at that many log entries in a row: tokens that use fewer directions, or a mean profile
# nearer to the centre of the circle of fifths.
MIN_EFFECTIVE_RANK = 2.0
MIN_PROFILE_MAGNITUDE = 0.02
COLLAPSE_PATIENCE = 3


class RepresentationCollapseError(RuntimeError):
    """Training was stopped because the embeddings no longer tell songs apart."""


class _GatherWithGradient(torch.autograd.Function):
    """Rows of all processes in order of rank; gradients flow back to the process each row came from."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        pieces = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(pieces, rows.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        torch.distributed.all_reduce(gradient)
        start = torch.distributed.get_rank() * ctx.num_rows
        return gradient[start : start + ctx.num_rows]


def gather_rows(rows: Tensor) -> Tensor:
    """Join the rows of all processes, (B, ...) to (processes * B, ...), with gradient; the same rows on one process.

    Every process then computes the loss of the whole batch. The backward sum over processes and DDP's mean over
    them cancel, so the gradients are those of one process with the joined batch.

    Args:
        rows: as many on every process.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return rows
    return _GatherWithGradient.apply(rows)


class MT2Trainer(Trainer):
    """Trains `MT2ForPreTraining` on items of `WindowPairs`; `args` is an `MT2TrainingArguments`.

    The front end runs on the training device. Views of a song are window A, window B and window A at another
    transposition. The third is seen without its mel half: the mel spectrogram cannot be transposed, and next to a
    transposed constant-Q half it would tell the transposition without any listening to harmony. The first two have
    both halves, carry the contrastive loss, and can only agree with the third through what the constant-Q halves
    share.

    Raises:
        RepresentationCollapseError: from `train`, when one of the tokens has collapsed or the loss is not finite.
    """

    processing_class: MT2FeatureExtractor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.args.device))
        self._num_batches = 0
        self._tokens: dict[str, Tensor] = {}
        self._suspicious_logs = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        # Items come in their order: `WindowPairs` shuffles by itself, so that item i is the same in every run.
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return torch.utils.data.SequentialSampler(dataset)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 - part of the interface; our losses are means
    ) -> Tensor | tuple[Tensor, Any]:
        """Compute both losses of one batch, on the rows of all processes."""
        num_songs = len(inputs["waveforms"])
        features = self.processing_class.extract(inputs["waveforms"].transpose(0, 1).flatten(0, 1))
        window_a, window_b = features.split(num_songs)
        mel_mask = torch.ones(3 * num_songs, device=features.device)
        mel_mask[2 * num_songs :] = 0
        outputs = model(
            input_features=torch.cat([window_a, window_b, window_a]),
            transposition=inputs["transpositions"].T.flatten(),
            mel_mask=mel_mask,
        )
        losses = self.losses(self.accelerator.unwrap_model(model), outputs, gather_rows(inputs["transpositions"]))
        total = torch.stack([weight * loss for weight, loss in losses.values()]).sum()
        self._note({name: loss for name, (_, loss) in losses.items()})
        draws = inputs["num_draws"].float().sum()
        self._note({"share_windows_skipped": (draws - num_songs) / draws})
        for name in model_tokens(outputs):
            self._tokens[name] = getattr(outputs, name).detach()[: 2 * num_songs]
        self._num_batches += 1
        return (total, outputs) if return_outputs else total

    def losses(
        self, model: MT2ForPreTraining, outputs: Any, transpositions: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Compute each loss of the joined batch, with its weight.

        Args:
            model: the model without wrappers, whose key head centres the joined logits.
            outputs: of the forward pass over views A, B and A transposed of this process's songs.
            transpositions: of the three views of all songs, (songs, 3).
        """
        args: Any = self.args
        losses = {}
        if outputs.key_logits is not None:
            views = gather_rows(_by_song(outputs.key_logits, 3))  # (songs, 3, 12)
            profiles = model.key_head.profile(views.transpose(0, 1).flatten(0, 1), batch_statistics=model.training)
            profile_a, profile_b, profile_t = profiles.chunk(3)
            relative = (transpositions - transpositions[:, :1]).float()
            loss = cpsd_loss(profile_a, profile_b, profile_t, relative[:, 2], relative[:, 1], args.two_window_weight)
            losses["loss_cpsd"] = (args.cpsd_weight, loss)
            with torch.no_grad():
                self._note({"profile_magnitude": profile_phase(profiles).norm(dim=-1).mean()})
        if outputs.projection is not None:
            views = gather_rows(_by_song(outputs.projection, 3)[:, :2])
            loss = nt_xent_loss(views[:, 0], views[:, 1], args.temperature)
            losses["loss_nt_xent"] = (args.nt_xent_weight, loss)
        return losses

    def _note(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] += value.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry and the effective rank of both tokens; stop if they have collapsed."""
        if self._num_batches and "loss" in logs:
            health = {name: round(float(total) / self._num_batches, 6) for name, total in self._sums.items()}
            # Not logs["loss"]: transformers replaces a loss that is not finite by the mean of those before.
            if not all(map(math.isfinite, health.values())):
                raise RepresentationCollapseError(f"not finite by step {self.state.global_step}: {health}")
            for name, token in self._tokens.items():
                health[f"rank_{name.removesuffix('_embeds')}"] = round(float(effective_rank(gather_rows(token))), 4)
            logs = {**logs, **health}
            self._sums.clear()
            self._num_batches = 0
            super().log(logs, start_time)
            self._stop_if_collapsed(logs)
        else:
            super().log(logs, start_time)

    def _stop_if_collapsed(self, logs: dict[str, float]) -> None:
        ranks = {name: value for name, value in logs.items() if name.startswith("rank_")}
        faults = [f"{name} is {value:.2f}" for name, value in ranks.items() if value < MIN_EFFECTIVE_RANK]
        magnitude = logs.get("profile_magnitude", 1.0)
        if magnitude < MIN_PROFILE_MAGNITUDE and self.state.global_step > self.args.get_warmup_steps(
            self.state.max_steps
        ):
            faults.append(f"profile_magnitude is {magnitude:.3f}: every key is equally likely for every song")
        self._suspicious_logs = self._suspicious_logs + 1 if faults else 0
        if self._suspicious_logs >= COLLAPSE_PATIENCE:
            raise RepresentationCollapseError(
                f"the representation has collapsed by step {self.state.global_step}: {'; '.join(faults)}. Try a lower "
                "learning rate, a longer warm-up, a larger batch or more varied music"
            )


def model_tokens(outputs: Any) -> list[str]:
    """Names of the class-token embeddings that a model's outputs hold."""
    return [name for name in ("equivariant_embeds", "contrastive_embeds") if getattr(outputs, name) is not None]


def _by_song(rows: Tensor, num_views: int) -> Tensor:
    """Rows in blocks of one view each, (views * B, ...), to (B, views, ...)."""
    return rows.unflatten(0, (num_views, -1)).transpose(0, 1)
