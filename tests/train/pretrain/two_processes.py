"""One training step under torchrun; rank 0 writes losses, gradients and buffers. Used by test_trainer.py."""

import gc
import sys

import numpy as np
import torch
import torch.distributed

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.train.data.windows import NUM_DRAWS
from mt2_music.train.pretrain import trainer as trainer_module
from mt2_music.train.pretrain.config import MT2TrainingArguments
from support import RATE, song, tiny_config

SONGS = 8


def gather_without_gradient(rows):
    pieces = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(pieces, rows.detach().contiguous())
    pieces[torch.distributed.get_rank()] = rows
    return torch.cat(pieces)


def main(output, mode=""):
    torch.set_num_threads(1)
    arguments = MT2TrainingArguments(output_dir=output + ".run", use_cpu=True, max_steps=1)
    torch.manual_seed(0)
    model = MT2ForPreTraining(tiny_config()).train()
    trainer = trainer_module.MT2Trainer(model=model, args=arguments, processing_class=MT2FeatureExtractor())
    if mode == "no_gradient":
        trainer_module.gather_rows = gather_without_gradient
    wrapped = trainer.accelerator.prepare(model)
    rows = np.arange(SONGS).reshape(arguments.world_size, -1)[arguments.process_index]
    waveforms = np.stack([song(index, 4.0)[: 2 * RATE].reshape(2, RATE) for index in range(SONGS)])
    drawn = torch.randint(-8, 8, (SONGS, 3), generator=torch.Generator().manual_seed(0))
    batch = {"waveforms": torch.from_numpy(waveforms)[rows], "transpositions": drawn[rows]}
    batch |= {
        "augmentation": torch.zeros(len(rows), 2, NUM_DRAWS),
        "num_draws": torch.ones(len(rows)),
        "song": torch.from_numpy(rows),
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
