"""MT2 for MTEB, whose audio part is called MAEB; needs the package mteb."""

from .encoder import READOUTS, MT2Encoder

__all__ = ["READOUTS", "MT2Encoder"]
