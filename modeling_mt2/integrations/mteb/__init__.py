"""MT2 for MTEB, whose audio part is called MAEB; the package mteb is imported when the encoder is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoder import MT2Encoder

__all__ = ["MT2Encoder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .encoder import MT2Encoder
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mteb":
            raise
        raise ImportError('MTEB needs Python 3.11 and the package mteb: pip install "mt2-music[mteb]"') from error
    return MT2Encoder
