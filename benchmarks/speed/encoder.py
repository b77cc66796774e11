"""Encoder forward in float32 against a bare stack of torch.nn.TransformerEncoderLayer of the same size."""

import torch
from timing import ROUNDS, best_in_turns
from torch import nn

from mt2_music import MT2Config, MT2Model


def main() -> None:
    """Print the best times, their ratio, and the floor of the matrix products."""
    config = MT2Config()
    model = MT2Model(config).eval()
    bare = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        ),
        config.num_hidden_layers,
        enable_nested_tensor=False,
    ).eval()
    features = torch.rand(16, config.max_frames, config.input_size)
    tokens = torch.rand(16, config.max_frames + 2, config.hidden_size)
    rows, width = tokens.shape[0] * tokens.shape[1], config.hidden_size
    with torch.no_grad():
        ours, peer = best_in_turns(lambda: model(features), lambda: bare(tokens))
        left, right = torch.randn(rows, width), torch.randn(width, config.intermediate_size)
        (product,) = best_in_turns(lambda: left @ right)
    rate = 2 * rows * width * config.intermediate_size / product
    weights = config.num_hidden_layers * (4 * width**2 + 2 * width * config.intermediate_size)
    attention = config.num_hidden_layers * 2 * rows * tokens.shape[1] * width * 2
    operations = 2 * rows * weights + attention
    print(f"{torch.get_num_threads()} threads; 16 windows of 4 s, best of {ROUNDS}, in turns")
    print(f"MT2 {ours * 1e3:.1f} ms, bare torch layers {peer * 1e3:.1f} ms: {ours / peer:.2f} times as long")
    print(
        f"floor: {operations / 1e9:.1f} Gflop at {rate / 1e9:.0f} Gflop/s = {operations / rate * 1e3:.1f} ms; ", end=""
    )
    print(f"MT2 takes {ours * rate / operations:.1f} times that")


if __name__ == "__main__":
    main()
