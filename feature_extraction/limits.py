"""What sounds have at most: a header may claim anything, and what it asks for may not fit into memory."""

from .feature_extraction_mt2 import RATES

MAX_CHANNELS = 256  # of a file
MISSING_SECONDS = 0.1  # fewer are not worth a word: headers and decoders count a little differently
BLOCK_VALUES = 1 << 23  # of all channels that are decoded at a time; 30 s of stereo at 96 kHz are fewer


class ImplausibleError(ValueError):
    """A header claims what no sound has."""


def check_claims(rate: int, channels: int) -> None:
    """Refuse what no sound has.

    Args:
        rate: in hertz.
        channels: how many.

    Raises:
        ImplausibleError: it is absurd; the message says what the header claims.
    """
    least, most = RATES
    if not least <= rate <= most:
        raise ImplausibleError(f"its header claims {rate} samples a second, and sounds have from {least} to {most}")
    if channels > MAX_CHANNELS:
        raise ImplausibleError(f"its header claims {channels} channels, and sounds have up to {MAX_CHANNELS}")
