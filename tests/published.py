"""The released MT2 as code of others describes it, written anew in plain torch behind nnAudio's front end."""

import warnings

import torch
from torch import Tensor, nn


class ConstantQ(nn.Module):
    """1 + dB / 80 of nnAudio's VQT, over 80 dB; the lowest bins of it."""

    def __init__(self, num_bins: int, num_vqt_bins: int) -> None:
        super().__init__()
        from nnAudio.features.vqt import VQT

        self.num_bins = num_bins
        self.vqt = VQT(sr=16000, hop_length=512, fmin=27.5, n_bins=num_vqt_bins, verbose=False)

    def forward(self, audio: Tensor) -> Tensor:
        return (1 + decibels(self.vqt(audio), 80.0) / 80)[:, None, : self.num_bins]  # (b, 1, f, t)


class Mel(nn.Module):
    """dB of nnAudio's mel spectrogram over 100 dB, with the names and the scale of torchaudio's."""

    def __init__(self) -> None:
        super().__init__()
        from nnAudio.features.mel import MelSpectrogram

        settings = {"sr": 16000, "n_fft": 1024, "hop_length": 512, "n_mels": 128, "fmin": 0.0, "fmax": 11025.0}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Empty filters")  # above half the sampling rate
            self.__dict__["mel"] = MelSpectrogram(**settings, htk=False, norm=None, verbose=False)  # not among weights
        self.spectrogram, self.mel_scale = nn.Module(), nn.Module()
        self.spectrogram.register_buffer("window", torch.hann_window(1024))
        self.mel_scale.register_buffer("fb", self.mel.mel_basis.T.clone())

    def forward(self, audio: Tensor) -> Tensor:
        power = self.mel(audio) / self.spectrogram.window.square().sum()
        return decibels(power, 100.0)[:, None]  # (b, 1, e, t)


def decibels(values: Tensor, most_below: float) -> Tensor:
    values = 10 * values.clamp(min=1e-10).log10()
    return torch.maximum(values, values.amax((1, 2), keepdim=True) - most_below)


class Attention(nn.Module):
    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        b, t, size = x.shape
        heads = self.num_heads
        q, k, v = self.qkv(x).view(b, t, size // heads, heads, 3).permute(4, 0, 3, 1, 2)  # b t (e h qkv), to b h t e
        mixed = (q @ k.mT / (size // heads) ** 0.5).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(b, t, size))  # b t (h e)


class Mlp(nn.Module):
    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, inner), nn.Linear(inner, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, size: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(size), Attention(size, num_heads)
        self.norm2, self.mlp = nn.LayerNorm(size), Mlp(size, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Backbone(nn.Module):
    def __init__(self, size: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(size, num_heads, 3 * size) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Positions(nn.Module):
    def __init__(self, num_tokens: int, size: int) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.zeros(1, num_tokens, size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pos_emb


class PublishedMT2(nn.Module):
    """Two layers of it; random, or so that its profile is a chroma of the clip."""

    def __init__(self, size: int = 128, num_heads: int = 2, num_vqt_bins: int = 99, chroma: bool = False) -> None:
        super().__init__()
        self.hcqt, self.spec = ConstantQ(84, num_vqt_bins), Mel()
        self.norm_in_stone, self.linear_in_stone = nn.LayerNorm(84), nn.Linear(84, size)
        self.norm_in_contrastive, self.linear_in_contrastive = nn.LayerNorm(128), nn.Linear(128, size)
        self.cls_stone, self.cls_contrastive = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.pos_emb = Positions(128, size)
        self.backbone = Backbone(size, 2, num_heads)
        self.linear_out_stone = nn.Linear(size, 84)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            spread = 0.004 if chroma else 0.3 if parameter.ndim == 1 else 1.5 / parameter.shape[-1] ** 0.5
            centre = parameter.detach() if parameter.ndim == 1 else 0.0
            parameter.data = centre + spread * torch.randn(parameter.shape, generator=generator)
        if chroma:
            self.linear_in_stone.weight.data = torch.eye(size, 84)
            around = torch.ones(84, 84).tril(6).triu(-6)  # so that how loud low and high bins are says nothing
            self.linear_out_stone.weight.data = 20 * (torch.eye(84) - around / around.sum(1)) @ torch.eye(84, size)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Take (b, 64000); return tokens [stone, contrastive, frames], (b, 128, size), and the profile, (b, 12)."""
        stone = self.norm_in_stone(self.hcqt(audio)[:, 0].mT)
        stone = nn.functional.gelu(self.linear_in_stone(stone))
        contrastive = self.norm_in_contrastive(self.spec(audio)[:, 0].mT)
        contrastive = nn.functional.gelu(self.linear_in_contrastive(contrastive))
        first = self.cls_stone + stone.mean(1, keepdim=True)
        second = self.cls_contrastive + contrastive.mean(1, keepdim=True)
        tokens = self.backbone(self.pos_emb(torch.cat([first, second, contrastive + stone], 1)))
        by_octave = self.linear_out_stone(tokens[:, 0]).view(-1, 7, 12)
        return tokens, by_octave.mean(1).softmax(-1)
