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
from .losses import (
    alignment,
    cepstral_statistics,
    cpsd_loss,
    effective_rank,
    frame_nt_xent_loss,
    nt_xent_loss,
    profile_phase,
    reading_loss,
    spectral_shape,
    spread,
    tempo_loss,
    uniformity,
)

# What counts as collapse, at that many log entries in a row: tokens that use fewer directions or hardly differ from
# song to song, or a mean profile nearer to the centre of the circle of fifths.
MIN_EFFECTIVE_RANK = 2.0
MIN_SPREAD = 0.05
MIN_PROFILE_MAGNITUDE = 0.02
COLLAPSE_PATIENCE = 3
MIN_FRAMES_PER_INSTANT = 4  # of the frame loss: nearer ones sound alike
KEPT_OUTPUTS = (  # what the losses need of a view
    "key_logits", "projection", "frame_projection", "tempo_logits", "cepstrum", "spectrum", "equivariant_embeds",
    "contrastive_embeds",
)  # fmt: skip
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


def _shown(outputs: dict[str, dict[str, Tensor]]) -> list[str]:
    """Name the views that show whole windows, with their mel half, of those that were encoded."""
    return [view for view in ("a", "b", "y") if view in outputs]


class MT2Trainer(Trainer):
    """Trains `MT2ForPreTraining` on items of `WindowPairs` or `QuadsAndSongs`; `args` is an `MT2TrainingArguments`.

    The front end runs on the training device. One forward pass encodes these views of every song:

    ========== ======================================= ============= ======== =============================
    view       what                                    transposition mel half losses
    ========== ======================================= ============= ======== =============================
    a          window A                                0             shown    CPSD, NT-Xent, frames, tempo
    b          window B of the same song               0             shown    NT-Xent, tempo
    y          A's instant by another orchestration    0             shown    NT-Xent, frames, tempo
    b_bare     window B                                drawn         hidden   CPSD
    c_bare     y where there is one, else A again      drawn         hidden   CPSD
    ========== ======================================= ============= ======== =============================

    The mel half cannot be transposed, so next to a constant-Q half that is, it tells the transposition whatever the
    harmony is; of two views compared, never both show it transposed, so that a model that reads
    transpositions gains nothing (a test lets one try). With `mel_views="all"`, as published, there are only A, B and
    A again, all transposed and with their mel halves.

    Only songs of quads have a view y: the first `args.songs_of_quads` of every process's batch (see `QuadsAndSongs`).
    For NT-Xent, y belongs to the other song of its quad, which the same orchestration plays; for its own song it is a
    negative.

    Args:
        augmentation: what is changed about windows before they are encoded.
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
        """Compute all losses of one batch, on the rows of all processes."""
        num_songs = len(inputs["waveforms"])
        bare: Any = self.accelerator.unwrap_model(model)
        features = self._features(inputs)
        outputs = self._forward(model, self._views(bare.config.class_tokens, features, inputs["transpositions"]))
        losses = self.losses(outputs, bare, inputs, features)
        self._note({name: loss for name, (_, loss) in losses.items()})
        total = torch.stack([weight * loss for weight, loss in losses.values()]).sum()
        draws = gather_rows(inputs["num_draws"].float())
        self._note({"share_windows_skipped": 1 - len(draws) / draws.sum()})
        for name in bare.config.class_tokens:
            self._tokens[name] = torch.cat([outputs[v][f"{name}_embeds"].detach() for v in "ab" if v in outputs])
        self._num_batches += 1
        self._num_songs += num_songs * max(1, self.args.world_size)
        return (total, outputs) if return_outputs else total

    @torch.no_grad()
    def _features(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Augment the windows and compute their frames, each (songs, T, values): "a", "b", and "y" of quads' songs."""
        args: Any = self.args
        windows: list[Tensor] = [*inputs["waveforms"].unbind(1)]
        draws = [*inputs["augmentation"].unbind(1)]
        names, sizes = ["a", "b"], [len(windows[0])] * 2
        if args.songs_of_quads:
            names, sizes = [*names, "y"], [*sizes, args.songs_of_quads]
        joined, joined_draws = (
            torch.cat([rows[:size] for rows, size in zip(values, sizes, strict=False)]) for values in (windows, draws)
        )
        joined = self.augmentation.waveforms(joined, joined_draws, self.processing_class.sampling_rate)
        frames = self.augmentation.frames(self.processing_class.extract(joined), joined_draws)
        return dict(zip(names, frames.split(sizes), strict=True))

    def _views(
        self, class_tokens: Any, features: dict[str, Tensor], transpositions: Tensor
    ) -> dict[str, dict[str, Tensor]]:
        """Choose what is encoded of every song: keyword arguments of the model by name of the view."""
        args: Any = self.args
        none = torch.zeros_like(transpositions[:, 0])
        of_a, of_b, of_c = transpositions.T
        again = features["a"]
        if "y" in features:
            again = torch.cat([features["y"], again[len(features["y"]) :]])
        # Frames, transposition, and whether the mel half is shown.
        if args.mel_views == "all":
            views = {"a": (features["a"], of_a, 1.0), "b": (features["b"], of_b, 1.0)}
            if "equivariant" in class_tokens:
                views["c_bare"] = (again, of_c, 1.0)
        else:
            views = {"a": (features["a"], none, 1.0)}
            if "contrastive" in class_tokens:
                views["b"] = (features["b"], none, 1.0)
            if "y" in features:
                views["y"] = (features["y"], none[: len(features["y"])], 1.0)
            if "equivariant" in class_tokens:
                views |= {"b_bare": (features["b"], of_b, 0.0), "c_bare": (again, of_c, 0.0)}
        return {
            name: {
                "input_features": frames,
                "transposition": drawn,
                "mel_mask": torch.full_like(drawn, shown, dtype=torch.float),
            }
            for name, (frames, drawn, shown) in views.items()
        }

    def _forward(self, model: nn.Module, views: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Encode all views of all songs; return what the losses need of every view.

        With `songs_per_forward` the encoder sees the views of so many songs at a time, and again in the backward pass:
        its memory is bounded, and losses and gradients are those of the whole batch.
        """
        args: Any = self.args
        first = next(iter(views.values()))
        joined = {name: torch.cat([view[name] for view in views.values()]) for name in first}
        sizes = [len(view["transposition"]) for view in views.values()]

        def encode(rows: slice) -> dict[str, Tensor]:
            outputs = model(**{name: value[rows] for name, value in joined.items()})
            return {name: outputs[name] for name in KEPT_OUTPUTS if outputs.get(name) is not None}

        rows_at_once = args.songs_per_forward * len(views)
        if 0 < rows_at_once < sum(sizes):
            slices = [slice(start, start + rows_at_once) for start in range(0, sum(sizes), rows_at_once)]
            pieces: list[Any] = [checkpoint(encode, rows, use_reentrant=False) for rows in slices]
        else:
            pieces = [encode(slice(None))]
        outputs = {name: torch.cat([piece[name] for piece in pieces]).split(sizes) for name in pieces[0]}
        return {view: {name: rows[place] for name, rows in outputs.items()} for place, view in enumerate(views)}

    def losses(
        self,
        outputs: dict[str, dict[str, Tensor]],
        model: MT2ForPreTraining,
        inputs: dict[str, Tensor],
        features: dict[str, Tensor],
    ) -> dict[str, tuple[float, Tensor]]:
        """Compute each loss of the joined batch, with its weight; a loss of weight 0 is left out.

        Args:
            outputs: of this process's songs, by view.
            model: the model without wrappers, whose key head centres the joined logits.
            inputs: this process's batch: "transpositions", "song", and of quads "sound" and "tempo".
            features: from `_features`.
        """
        args: Any = self.args
        losses = {}
        if "key_logits" in outputs["a"] and args.cpsd_weight:
            losses["loss_cpsd"] = (args.cpsd_weight, self._cpsd(outputs, model, inputs["transpositions"]))
        if "projection" in outputs["a"]:
            losses |= self._contrastive(outputs, inputs)
            if args.cepstrum_weight:
                losses["loss_cepstrum"] = args.cepstrum_weight, self._reading("cepstrum", outputs, features)
        if "key_logits" in outputs["a"] and args.spectrum_weight:
            losses["loss_spectrum"] = args.spectrum_weight, self._reading("spectrum", outputs, features)
        if args.songs_of_quads and args.tempo_weight:
            losses["loss_tempo"] = args.tempo_weight, self._tempo(outputs, inputs)
        if args.songs_of_quads and args.frame_weight:
            losses["loss_frame"] = (args.frame_weight, self._frame_nt_xent(outputs, inputs))
        return losses

    def _cpsd(self, outputs: dict[str, dict[str, Tensor]], model: MT2ForPreTraining, transpositions: Tensor) -> Tensor:
        args: Any = self.args
        compared = [
            outputs[view]["key_logits"] for view in ("a", "b" if args.mel_views == "all" else "b_bare", "c_bare")
        ]
        logits = gather_rows(torch.stack(compared, dim=1))  # (songs, 3, 12)
        profiles = model.key_head.profile(logits.transpose(0, 1).flatten(0, 1), batch_statistics=model.training)
        profile_a, profile_b, profile_c = profiles.chunk(3)
        of_a, of_b, of_c = gather_rows(transpositions).float().T
        if args.mel_views != "all":
            of_a = torch.zeros_like(of_a)
        self._note({"profile_magnitude": profile_phase(profiles.detach()).norm(dim=-1).mean()})
        return cpsd_loss(profile_a, profile_b, profile_c, of_c - of_a, of_b - of_a, args.two_window_weight)

    def _contrastive(
        self, outputs: dict[str, dict[str, Tensor]], inputs: dict[str, Tensor]
    ) -> dict[str, tuple[float, Tensor]]:
        """Compute the contrastive losses of the token of that name."""
        args: Any = self.args
        shown = _shown(outputs)
        song = inputs["song"]
        # The orchestration of y plays the other song of its quad; without such positives y is a negative for all.
        sound = inputs["sound"] if args.songs_of_quads and args.orchestration_positives else -1 - song
        sound = sound[: args.songs_of_quads]
        labels = {view: gather_rows(sound if view == "y" else song) for view in shown}
        rows = {view: gather_rows(outputs[view]["projection"]) for view in shown}
        self._projections = rows["a"].detach(), rows["b"].detach()
        losses = {}
        if args.nt_xent_weight:
            joined, joined_labels = (torch.cat(list(one.values())) for one in (rows, labels))
            losses["loss_nt_xent"] = args.nt_xent_weight, nt_xent_loss(joined, joined_labels, args.temperature)
        if args.songs_of_solos and args.solo_nt_xent_weight:  # single instruments alone: all negatives are hard
            count = args.songs_of_solos
            solos = torch.cat([gather_rows(outputs[view]["projection"][:count]) for view in shown])
            solo_labels = torch.cat([gather_rows((sound if view == "y" else song)[:count]) for view in shown])
            losses["loss_solo"] = args.solo_nt_xent_weight, nt_xent_loss(solos, solo_labels, args.temperature)
        return losses

    def _tempo(self, outputs: dict[str, dict[str, Tensor]], inputs: dict[str, Tensor]) -> Tensor:
        args: Any = self.args
        count = args.songs_of_quads
        shown = _shown(outputs)
        rows = torch.cat([gather_rows(outputs[view]["tempo_logits"][:count]) for view in shown])
        loss, accuracy = tempo_loss(rows, gather_rows(inputs["tempo"][:count]).repeat(len(shown)))
        self._note({"tempo_accuracy": accuracy})
        return loss

    def _reading(self, name: str, outputs: dict[str, dict[str, Tensor]], features: dict[str, Tensor]) -> Tensor:
        """Compare what the head of this name read off a token with the windows themselves."""
        config: Any = self.accelerator.unwrap_model(self.model).config

        def measure(frames: Tensor) -> Tensor:
            if name == "cepstrum":
                return cepstral_statistics(frames[:, :, -config.num_mel_bins :], config.num_cepstral_coefficients)
            return spectral_shape(frames[:, :, config.cqt_offset :][:, :, : config.num_spectrum_bins])

        shown = _shown(outputs)
        estimates = torch.cat([gather_rows(outputs[view][name]) for view in shown])
        with torch.no_grad():
            statistics = torch.cat([gather_rows(measure(features[view])) for view in shown])
        return reading_loss(estimates, statistics)

    def _frame_nt_xent(self, outputs: dict[str, dict[str, Tensor]], inputs: dict[str, Tensor]) -> Tensor:
        """Contrast instants of A and Y, evenly spaced from a start that is drawn with the batch's first item."""
        args: Any = self.args
        count = args.songs_of_quads
        num_frames = outputs["a"]["frame_projection"].shape[1]
        instants = max(1, min(args.instants_per_window, num_frames // MIN_FRAMES_PER_INSTANT))
        spacing = num_frames // instants
        draw = gather_rows(inputs["augmentation"][:1, 0, 0])[0]  # the same on all processes
        places = torch.arange(instants, device=draw.device) * spacing + (draw * spacing).long().clamp(max=spacing - 1)
        rows = [gather_rows(outputs[view]["frame_projection"][:count, places]) for view in ("a", "y")]
        loss, accuracy = frame_nt_xent_loss(rows[0], rows[1], args.temperature)
        self._note({"frame_accuracy": accuracy})
        return loss

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
