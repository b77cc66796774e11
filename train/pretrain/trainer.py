"""The Trainer that computes both losses of MT2 in one forward pass over all views of every song."""

import math
import os
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining
from mt2_music.train.run_folder import SETTINGS_FILE, UNFINISHED, CheckpointError

from .augment import Augmentation
from .losses import alignment, cpsd_loss, effective_rank, nt_xent_loss, profile_phase, spread, uniformity

# What counts as collapse, at that many log entries in a row: tokens that use fewer directions or hardly differ from
# song to song, or a mean profile nearer to the centre of the circle of fifths.
MIN_EFFECTIVE_RANK = 2.0
MIN_SPREAD = 0.05
MIN_PROFILE_MAGNITUDE = 0.02
COLLAPSE_PATIENCE = 3
MAX_LOSS_WEIGHT = 10.0  # most that weighting by gradient norm lifts the contrastive loss, or lowers it
SPEED = "songs_per_second"  # the one entry of the log that is not the same when a run is repeated


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

    The front end runs on the training device. Views of a song are windows A and B as they sound, which carry the
    contrastive loss, and B and A again, A at another transposition, without their mel halves. Equivariance compares
    the first A with the last two. The mel half cannot be transposed, so next to a constant-Q half that is, it tells
    the transposition without any listening to harmony; but of two views compared, never both have it, so that a model
    that reads transpositions gains nothing (a test lets one try). With `mel_views="all"`, as published, there are only
    A, B and A again, with their mel halves.

    Args:
        augmentation: what is changed about windows before the model hears them.
        args, kwargs: as for `Trainer`.

    Raises:
        RepresentationCollapseError: from `train`, when one of the tokens has collapsed or the loss is not finite.
    """

    processing_class: MT2FeatureExtractor
    model: MT2ForPreTraining

    def __init__(self, *args: Any, augmentation: Augmentation = Augmentation(), **kwargs: Any) -> None:  # noqa: B008
        super().__init__(*args, **kwargs)
        self.augmentation = augmentation
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.args.device))
        self._num_batches = 0
        self._num_songs = 0
        self._logged_at = time.perf_counter()
        self._tokens: dict[str, Tensor] = {}
        self._projections: tuple[Tensor, Tensor] | None = None
        self._suspicious_logs = 0
        self._writing_in: str | None = None

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Name the parameters that weight decay pulls on: matrices, but not class tokens or positions."""
        matrices = {name for name, parameter in model.named_parameters() if parameter.ndim == 2}
        return [name for name in super().get_decay_parameter_names(model) if name in matrices]

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        # Items come in their order: `WindowPairs` shuffles by itself, so that item i is the same in every run.
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return torch.utils.data.SequentialSampler(dataset)

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Return the batches of this process; a stream is split among processes already, and not once more."""
        dataset: Any = self.train_dataset
        if not isinstance(dataset, torch.utils.data.IterableDataset):
            return super().get_train_dataloader()
        return torch.utils.data.DataLoader(
            dataset,
            batch_size=self.args.train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            drop_last=True,
        )

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
        views = self._views(bare.config.class_tokens, self._features(inputs), inputs["transpositions"])
        outputs = self._forward(model, views)
        losses = self.losses(outputs, bare, gather_rows(inputs["transpositions"]))
        self._note({name: loss for name, (_, loss) in losses.items()})
        total = torch.stack([weight * loss for weight, loss in self._weighted(bare, losses)]).sum()
        draws = gather_rows(inputs["num_draws"].float())
        self._note({"share_windows_skipped": 1 - len(draws) / draws.sum()})
        for name in bare.config.class_tokens:
            self._tokens[name] = torch.cat([view[f"{name}_embeds"].detach() for view in outputs[:2]])
        self._num_batches += 1
        self._num_songs += num_songs * max(1, self.args.world_size)
        return (total, outputs) if return_outputs else total

    @torch.no_grad()
    def _features(self, inputs: dict[str, Tensor]) -> Tensor:
        """Augment the windows and compute their frames, (2, songs, T, values): window A of all songs, then B."""
        num_songs = len(inputs["waveforms"])
        waveforms = inputs["waveforms"].transpose(0, 1).flatten(0, 1)
        draws = inputs["augmentation"].transpose(0, 1).flatten(0, 1)
        waveforms = self.augmentation.waveforms(waveforms, draws, self.processing_class.sampling_rate)
        features = self.augmentation.frames(self.processing_class.extract(waveforms), draws)
        return features.unflatten(0, (2, num_songs))

    def _views(self, class_tokens: Any, features: Tensor, transpositions: Tensor) -> list[dict[str, Tensor]]:
        """Choose what the model hears of every song, as keyword arguments of the model, one set a view."""
        args: Any = self.args
        window_a, window_b = features
        drawn_a, drawn_b, drawn_again = transpositions.T
        views = [(window_a, drawn_a, 1.0)]  # frames, transposition, and whether the mel half is shown
        if args.mel_views == "all":
            views += [(window_b, drawn_b, 1.0), (window_a, drawn_again, 1.0)]
            views = views if "equivariant" in class_tokens else views[:2]
        else:
            if "contrastive" in class_tokens:
                views.append((window_b, drawn_b, 1.0))
            if "equivariant" in class_tokens:
                views += [(window_b, drawn_b, 0.0), (window_a, drawn_again, 0.0)]
        return [
            {
                "input_features": frames,
                "transposition": drawn,
                "mel_mask": torch.full_like(drawn, shown, dtype=torch.float),
            }
            for frames, drawn, shown in views
        ]

    def _forward(self, model: nn.Module, views: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Encode all views of all songs; return what the losses need of every view.

        With `songs_per_forward` the encoder sees so many songs at a time, and again in the backward pass: its memory
        is bounded, and losses and gradients are those of the whole batch.
        """
        args: Any = self.args
        num_songs = len(views[0]["input_features"])
        joined = {name: torch.stack([view[name] for view in views], dim=1) for name in views[0]}  # (songs, views, ...)

        def encode(songs: slice) -> dict[str, Tensor]:
            outputs = model(**{name: value[songs].flatten(0, 1) for name, value in joined.items()})
            kept = ("key_logits", "projection", "equivariant_embeds", "contrastive_embeds")
            return {name: outputs[name] for name in kept if outputs.get(name) is not None}

        if args.songs_per_forward and args.songs_per_forward < num_songs:
            starts = range(0, num_songs, args.songs_per_forward)
            slices = [slice(start, start + args.songs_per_forward) for start in starts]
            pieces: list[Any] = [checkpoint(encode, songs, use_reentrant=False) for songs in slices]
        else:
            pieces = [encode(slice(None))]
        outputs = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        by_view = {name: value.unflatten(0, (num_songs, len(views))).unbind(1) for name, value in outputs.items()}
        return [{name: value[view] for name, value in by_view.items()} for view in range(len(views))]

    def _weighted(self, bare: Any, losses: dict[str, tuple[float, Tensor]]) -> list[tuple[float | Tensor, Tensor]]:
        """Weight the losses as the settings say, or so that both pull on the encoder with the same strength.

        Source: the ratio of gradient norms at the last shared layer, as for the adversarial loss of Esser et al. 2021
            (arXiv:2012.09841); ours without a running mean, so that a run resumes exactly.
        """
        args: Any = self.args
        if args.loss_weighting == "fixed" or len(losses) < 2:
            return list(losses.values())
        shared = bare.mt2.layers[-1].mlp.fc2.weight
        norms = []
        for _, loss in losses.values():
            gradient = torch.autograd.grad(loss, shared, retain_graph=True)[0].detach().float().clone()
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(gradient)
            norms.append(gradient.norm())
        ratio = (norms[0] / norms[1].clamp(min=1e-12)).clamp(1 / MAX_LOSS_WEIGHT, MAX_LOSS_WEIGHT)
        self._note({"contrastive_loss_weight": ratio})
        (weight_e, loss_e), (weight_c, loss_c) = losses.values()
        return [(weight_e, loss_e), (weight_c * ratio, loss_c)]

    def losses(
        self, outputs: list[dict[str, Tensor]], model: MT2ForPreTraining, transpositions: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Compute each loss of the joined batch, with its weight.

        Args:
            outputs: of this process's songs, one set a view.
            model: the model without wrappers, whose key head centres the joined logits.
            transpositions: of windows A and B and of A again, of all songs, (songs, 3).
        """
        args: Any = self.args
        losses = {}
        if "key_logits" in outputs[0]:
            compared = [outputs[view]["key_logits"] for view in (0, -2, -1)]
            logits = gather_rows(torch.stack(compared, dim=1))  # (songs, 3, 12)
            profiles = model.key_head.profile(logits.transpose(0, 1).flatten(0, 1), batch_statistics=model.training)
            profile_a, profile_b, profile_again = profiles.chunk(3)
            relative = (transpositions - transpositions[:, :1]).float()
            loss = cpsd_loss(
                profile_a, profile_b, profile_again, relative[:, 2], relative[:, 1], args.two_window_weight
            )
            losses["loss_cpsd"] = (args.cpsd_weight, loss)
            with torch.no_grad():
                self._note({"profile_magnitude": profile_phase(profiles).norm(dim=-1).mean()})
        if "projection" in outputs[0]:
            rows = gather_rows(torch.stack([outputs[view]["projection"] for view in (0, 1)], dim=1))  # (songs, 2, P)
            self._projections = rows[:, 0].detach(), rows[:, 1].detach()
            loss = nt_xent_loss(rows[:, 0], rows[:, 1], args.temperature)
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
            if self.args.should_save and (output_dir / SETTINGS_FILE).is_file():
                shutil.copy(output_dir / SETTINGS_FILE, aside / name)
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
            rows = gather_rows(token)
            health[f"rank_{name}"] = round(float(effective_rank(rows)), 4)
            health[f"std_{name}"] = round(float(spread(rows)), 4)
        if self._projections is not None:
            health["alignment"] = round(float(alignment(*self._projections)), 4)
            health["uniformity"] = round(float(uniformity(self._projections[0])), 4)
        now = time.perf_counter()
        speed = {SPEED: round(self._num_songs / (now - self._logged_at), 2)}
        self._logged_at, self._num_songs = now, 0
        self._sums.clear()
        self._num_batches = 0
        super().log({**logs, **health, **speed}, start_time)
        self._stop_if_collapsed(health)

    def _stop_if_collapsed(self, health: dict[str, float]) -> None:
        ranks = {name: value for name, value in health.items() if name.startswith("rank_")}
        # Two songs span one line, so a small batch cannot be asked for more.
        least = min(MIN_EFFECTIVE_RANK, 0.25 * min(map(len, self._tokens.values())))
        faults = [f"{name} is {value:.2f}" for name, value in ranks.items() if value < least]
        spreads = {name: value for name, value in health.items() if name.startswith("std_")}
        faults += [f"{name} is {value:.3f}" for name, value in spreads.items() if value < MIN_SPREAD]
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
