"""The frames of a song without its long silences: notes that are far apart are heard together."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mt2_music.configuration_mt2 import MT2Config
from mt2_music.modeling_mt2 import frame_levels

SECONDS_KEPT = 0.3  # of a silence: as long as the rests of a melody, which stay as they are


class WithoutSilence:
    """Frames of a song that follow one another, without what lies further in a silence than `SECONDS_KEPT`.

    A frame is silent by the rule of `sounding_frames`, beside the loudest one up to it: what follows changes nothing,
    so that it is the same in whatever pieces a song comes. No frame that holds sound beside the loudest of the whole
    song is left out.

    Args:
        pieces: each (frames, input_size).
        config: of the model; nothing is left out if it has no `silence_range`.
    """

    def __init__(self, pieces: Iterable[Tensor], config: MT2Config) -> None:
        self.pieces, self.config = pieces, config
        self.num_frames = self.num_kept = 0

    def __iter__(self) -> Iterator[Tensor]:
        longest = round(SECONDS_KEPT * self.config.frame_rate)
        loudest, silent = 0.0, 0  # up to the piece at hand, and how many silent frames it follows
        for piece in self.pieces:
            self.num_frames += len(piece)
            if self.config.silence_range is not None and len(piece):
                levels = frame_levels(piece, self.config).float().cpu()
                so_far = levels.cummax(0).values.clamp(min=loudest)
                sounds = levels >= (so_far - self.config.silence_range).clamp(min=self.config.silence_floor)
                places = torch.arange(len(levels))
                last = torch.where(sounds, places, -1 - silent).cummax(0).values
                since = places - last  # frames since the last one that sounds; 0 if it does
                loudest, silent = float(so_far[-1]), int(since[-1])
                piece = piece[(since <= longest).to(piece.device)]
            self.num_kept += len(piece)
            if len(piece):
                yield piece

    @property
    def share(self) -> float:
        """Share of the frames so far that were kept."""
        return self.num_kept / max(1, self.num_frames)
