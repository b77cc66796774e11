"""The Trainer that computes both losses of MT2 in one forward pass over all views of every song."""

import math
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining

from .losses import cpsd_loss, effective_rank, nt_xent_loss, profile_phase

# What counts as collapse, at that many log entries in a row: tokens that use fewer directions, or a mean profile
# nearer to the centre of the circle of fifths.
MIN_EFFECTIVE_RANK = 2.0
MIN_PROFILE_MAGNITUDE = 0.02
COLLAPSE_PATIENCE = 3
UNFINISHED = "unfinished"  # folder in which checkpoints are written before they are moved to their place


class RepresentationCollapseError(RuntimeError):
    """Training was stopped because the embeddings no longer tell songs apart."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; those before it are whole."""


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

    The front end runs on the training device. Views of a song are windows A and B as they sound, which carry the
    contrastive loss, and B and A again, A at another transposition, without their mel halves. Equivariance compares
    the first A with the last two. The mel half cannot be transposed, so next to a constant-Q half that is, it tells
    the transposition without any listening to harmony; but of two views compared, never both have it, so that a model
    that reads transpositions gains nothing (a test lets one try).

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
        self._writing_in: str | None = None

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
        bare: Any = self.accelerator.unwrap_model(model)
        features = self.processing_class.extract(inputs["waveforms"].transpose(0, 1).flatten(0, 1))
        window_a, window_b = features.split(num_songs)
        drawn_a, drawn_b, drawn_again = inputs["transpositions"].T
        views = [(window_a, drawn_a, 1.0)]  # frames, transposition, and whether the mel half is shown
        if "contrastive" in bare.config.class_tokens:
            views.append((window_b, drawn_b, 1.0))
        if "equivariant" in bare.config.class_tokens:
            views += [(window_b, drawn_b, 0.0), (window_a, drawn_again, 0.0)]
        outputs = model(
            input_features=torch.cat([frames for frames, _, _ in views]),
            transposition=torch.cat([transposition for _, transposition, _ in views]),
            mel_mask=torch.tensor([shown for _, _, shown in views], device=features.device).repeat_interleave(
                num_songs
            ),
        )
        losses = self.losses(bare, outputs, gather_rows(inputs["transpositions"]), len(views))
        total = torch.stack([weight * loss for weight, loss in losses.values()]).sum()
        self._note({name: loss for name, (_, loss) in losses.items()})
        draws = gather_rows(inputs["num_draws"].float())
        self._note({"share_windows_skipped": 1 - len(draws) / draws.sum()})
        for name in bare.config.class_tokens:
            self._tokens[name] = outputs[f"{name}_embeds"].detach()[: 2 * num_songs]
        self._num_batches += 1
        return (total, outputs) if return_outputs else total

    def losses(
        self, model: MT2ForPreTraining, outputs: Any, transpositions: Tensor, num_views: int
    ) -> dict[str, tuple[float, Tensor]]:
        """Compute each loss of the joined batch, with its weight.

        Args:
            model: the model without wrappers, whose key head centres the joined logits.
            outputs: of the forward pass over this process's songs, one view after the other.
            transpositions: of windows A and B and of A again, of all songs, (songs, 3).
            num_views: how many views of every song there are.
        """
        args: Any = self.args
        losses = {}
        if outputs.key_logits is not None:
            views = outputs.key_logits.chunk(num_views)
            views = gather_rows(torch.stack([views[0], views[-2], views[-1]], dim=1))  # (songs, 3, 12)
            profiles = model.key_head.profile(views.transpose(0, 1).flatten(0, 1), batch_statistics=model.training)
            profile_a, profile_b, profile_again = profiles.chunk(3)
            relative = (transpositions - transpositions[:, :1]).float()
            loss = cpsd_loss(
                profile_a, profile_b, profile_again, relative[:, 2], relative[:, 1], args.two_window_weight
            )
            losses["loss_cpsd"] = (args.cpsd_weight, loss)
            with torch.no_grad():
                self._note({"profile_magnitude": profile_phase(profiles).norm(dim=-1).mean()})
        if outputs.projection is not None:
            views = gather_rows(torch.stack(outputs.projection.chunk(num_views)[:2], dim=1))  # (songs, 2, P)
            loss = nt_xent_loss(views[:, 0], views[:, 1], args.temperature)
            losses["loss_nt_xent"] = (args.nt_xent_weight, loss)
        return losses

    def _get_output_dir(self, trial: Any) -> str:
        return self._writing_in or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint aside, and move it to its place when all processes have written their part."""
        output_dir = Path(str(self.args.output_dir))
        aside = output_dir / UNFINISHED
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._writing_in = str(aside)
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            raise CheckpointError(
                f"{output_dir / name} could not be written ({error}); the checkpoints before it are whole, and the "
                "run goes on from the last of them when it is started again"
            ) from error
        finally:
            self._writing_in = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            shutil.rmtree(output_dir / name, ignore_errors=True)  # one that an older version left half-written
            os.replace(aside / name, output_dir / name)
            aside.rmdir()
            rotate_checkpoints(str(output_dir), self.args.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _note(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] += value.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry and the effective rank of both tokens; stop if they have collapsed."""
        if not self._num_batches or "loss" not in logs:  # of a probe, or of the end
            super().log(logs, start_time)
            return
        health = {name: round(float(total) / self._num_batches, 6) for name, total in self._sums.items()}
        # Not logs["loss"]: transformers replaces a loss that is not finite by the mean of those before.
        if not all(map(math.isfinite, health.values())):
            raise RepresentationCollapseError(f"not finite by step {self.state.global_step}: {health}")
        for name, token in self._tokens.items():
            health[f"rank_{name}"] = round(float(effective_rank(gather_rows(token))), 4)
        self._sums.clear()
        self._num_batches = 0
        super().log({**logs, **health}, start_time)
        self._stop_if_collapsed(health)

    def _stop_if_collapsed(self, health: dict[str, float]) -> None:
        ranks = {name: value for name, value in health.items() if name.startswith("rank_")}
        # Two songs span one line, so a small batch cannot be asked for more.
        least = min(MIN_EFFECTIVE_RANK, 0.25 * min(map(len, self._tokens.values())))
        faults = [f"{name} is {value:.2f}" for name, value in ranks.items() if value < least]
        magnitude = health.get("profile_magnitude", 1.0)
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
