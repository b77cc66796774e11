"""Callbacks of a training run: a checkpoint when it is stopped, and an online probe of the model."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from transformers import TrainerCallback

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.feature_extraction.decoding import read_audio
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.interrupts import SIGNALS, Stopped
from mt2_music.modeling_mt2 import MT2ForPreTraining
from mt2_music.music import signature
from mt2_music.song.keys import mean_profile, rotate_to_c
from mt2_music.train.publish.calibrate import calibrate_key
from mt2_music.train.synth.corpus import key_of, read_rows

logger = logging.getLogger(__name__)

PROBE_ROWS = 96  # pieces of the corpus that are probed
NEIGHBOURS = 5


class StopOnSignal(TrainerCallback):
    """Writes a checkpoint and ends the training on Ctrl-C and on SIGTERM, as when a machine is taken away.

    It waits for the next log entry, so that the run can be resumed exactly. All processes stop at the same step. A
    second signal ends the training at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self.number: int = signal.SIGTERM  # of the signal; another process may have been sent it

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals inside the `with` block."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:  # noqa: ARG002 - the interface of signal handlers
        if self.asked:
            raise Stopped(number)
        self.asked, self.number = True, number

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Save and stop, if any process was asked to."""
        if state.global_step % state.logging_steps:
            return control
        if torch.distributed.is_initialized():
            asked = torch.tensor(float(self.asked), device=args.device)
            torch.distributed.all_reduce(asked)
            self.asked = bool(asked)
        if self.asked and state.global_step < state.max_steps:
            logger.info("asked to stop: writing a checkpoint at step %d", state.global_step)
            control.should_save = control.should_training_stop = True
        return control


class OnlineProbe(TrainerCallback):
    """Probes the model on a fixed part of a rendered corpus at regular steps, and logs the scores.

    `probe_key` is the share of pieces whose key signature is estimated right, zero-shot, after calibration on composed
    pieces. `probe_key_fifth` is the share that is right or one fifth off. `probe_instruments` says how well a piece
    and its nearest others by the contrastive token share instruments: the mean Jaccard index over neighbours, divided
    by that over all pieces, so that 1 is chance. Neither the model nor its random state is changed.

    Args:
        corpus: folder of a rendered corpus; pieces of its validation split are taken.
        extractor: the front end.
        every: steps between two measurements.
        log: called with the scores, such as `Trainer.log`.
    """

    def __init__(self, corpus: str | Path, extractor: MT2FeatureExtractor, every: int, log: Any = None) -> None:
        self.every = every
        self.extractor = extractor
        self._log = log
        corpus = Path(corpus).expanduser()
        rows = [row for row in read_rows(corpus) if row["split"] == "validation" and key_of(row)]
        if len(rows) <= NEIGHBOURS:
            raise ValueError(f"{corpus} has only {len(rows)} validation pieces with a key: too few to probe")
        self.rows = rows[:: max(1, len(rows) // PROBE_ROWS)][:PROBE_ROWS]
        self.signatures = np.array([signature(row["key"]) for row in self.rows])
        self.features = []
        for row in self.rows:
            audio, rate = read_audio(corpus / row["file"])
            waveform = resample(audio, rate, extractor.sampling_rate)
            self.features.append(extractor.extract(torch.from_numpy(waveform)[None])[0].half())
        instruments = [set(row["instruments"]) for row in self.rows]
        self.overlap = np.array([[len(a & b) / max(1, len(a | b)) for b in instruments] for a in instruments])

    @torch.no_grad()
    def measure(self, model: MT2ForPreTraining) -> dict[str, float]:
        """Return the scores."""
        was_training, calibration = model.training, model.config.key_calibration
        model.eval()
        scores = {}
        try:
            if "equivariant" in model.config.class_tokens:
                offset = calibrate_key(model, self.extractor)
                estimates = [int(rotate_to_c(mean_profile(model, f.float()), offset).argmax()) for f in self.features]
                steps = (np.array(estimates) - self.signatures) % 12
                scores["probe_key"] = float(np.mean(steps == 0))
                scores["probe_key_fifth"] = float(np.mean(np.isin(steps, (0, 5, 7))))
            if "contrastive" in model.config.class_tokens:
                tokens = torch.cat(
                    [model.mt2(f.float()[None].to(model.device)).contrastive_embeds for f in self.features]
                )
                tokens = torch.nn.functional.normalize(tokens.float() - tokens.float().mean(0), dim=1).cpu()
                similarity = (tokens @ tokens.T).fill_diagonal_(-torch.inf)
                nearest = similarity.topk(NEIGHBOURS, dim=1).indices.numpy()
                others = ~np.eye(len(tokens), dtype=bool)
                near, chance = np.take_along_axis(self.overlap, nearest, axis=1).mean(), self.overlap[others].mean()
                if chance:  # else no two pieces share an instrument
                    scores["probe_instruments"] = float(near / chance)
        finally:
            model.config.key_calibration = calibration
            model.train(was_training)
        return {name: round(value, 4) for name, value in scores.items()}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Measure every `every` steps and after the last one, on the first process only."""
        if state.is_world_process_zero and (
            state.global_step % self.every == 0 or state.global_step == state.max_steps
        ):
            bare = getattr(kwargs["model"], "module", kwargs["model"])
            scores = self.measure(bare)
            logger.info("step %d: %s", state.global_step, scores)
            if self._log is not None:
                self._log(scores)
        return control
