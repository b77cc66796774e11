"""One training step under torchrun; rank 0 writes losses, gradients and buffers. Used by test_trainer.py."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.train.data.windows import NUM_DRAWS
from mt2_music.train.pretrain import trainer as trainer_module
from mt2_music.train.pretrain.config import MT2TrainingArguments

sys.path.append(str(Path(__file__).parents[2]))  # a launcher's processes know nothing of pytest's paths
from support import RATE, song, tiny_config  # noqa: E402

SONGS = 12  # a third of them are of single instruments, a third of other quads
WEIGHTS = {f"{name}_weight": 0.5 for name in ("frame", "tempo", "solo_nt_xent", "cepstrum", "spectrum")}
HEADS = {"frame_projection_size": 8, "num_tempo_classes": 8, "num_cepstral_coefficients": 5, "num_spectrum_bins": 84}


def gather_without_gradient(rows):
    pieces = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(pieces, rows.detach().contiguous())
    pieces[torch.distributed.get_rank()] = rows
    return torch.cat(pieces)


def main(output, mode=""):
    torch.set_num_threads(1)
    processes = int(os.environ["WORLD_SIZE"])
    each = {"per_device_train_batch_size": SONGS // processes, "quad_share": 2 / 3, "solo_share": 1 / 2}
    arguments = MT2TrainingArguments(output_dir=output + ".run", use_cpu=True, max_steps=1, **each, **WEIGHTS)
    assert (arguments.songs_of_quads, arguments.songs_of_solos) == (8 // processes, 4 // processes)
    torch.manual_seed(0)
    model = MT2ForPreTraining(tiny_config(**HEADS)).train()
    trainer = trainer_module.MT2Trainer(model=model, args=arguments, processing_class=MT2FeatureExtractor())
    if mode == "no_gradient":
        trainer_module.gather_rows = gather_without_gradient
    wrapped = trainer.accelerator.prepare(model)
    rows = np.arange(SONGS).reshape(3, processes, -1)[:, arguments.process_index].flatten()  # solos, quads, recordings
    waveforms = np.stack([song(index, 4.0)[: 3 * RATE].reshape(3, RATE) for index in range(SONGS)])
    drawn = torch.randint(-8, 8, (SONGS, 3), generator=torch.Generator().manual_seed(0))
    batch = {"waveforms": torch.from_numpy(waveforms)[rows], "transpositions": drawn[rows]}
    batch |= {
        "augmentation": torch.rand(SONGS, 3, NUM_DRAWS, generator=torch.Generator().manual_seed(1))[rows],
        "num_draws": torch.ones(len(rows)),
        "song": torch.from_numpy(rows),
        "sound": torch.from_numpy(rows ^ 1),
        "tempo": torch.from_numpy(100.0 + 10 * (rows % 3)),
    }
    loss = trainer.compute_loss(wrapped, batch)
    trainer.accelerator.backward(loss)
    if arguments.process_index == 0:
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        losses = {name: float(value) for name, value in trainer._sums.items()}
        torch.save({"losses": losses, "gradients": gradients, "buffers": dict(model.named_buffers())}, output)
    del trainer, wrapped, model, loss
    gc.collect()  # as in pretrain: the reducer must go before the process group
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
