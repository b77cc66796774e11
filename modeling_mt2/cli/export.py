"""`mt2 export`: a model as an ONNX file."""

import argparse
from pathlib import Path

from mt2_music.options import ONNX_INPUTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 export` takes."""
    parser.add_argument("model", metavar="MODEL", help="folder, Hub name or short name of a published model")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="onnx file to write")
    parser.add_argument(
        "--input",
        choices=ONNX_INPUTS,
        default=ONNX_INPUTS[0],
        help="what the file takes: mono samples, or frames of MT2FeatureExtractor (default: %(default)s)",
    )
    parser.add_argument("--int8", action="store_true", help="8-bit encoder: a smaller file, not quite as exact")


def run(arguments: argparse.Namespace) -> int:
    """Write a published model to one ONNX file.

    Returns:
        0.

    Raises:
        ValueError: the file cannot be written, or the model is none of ours.
    """
    from mt2_music.export import export_onnx

    export_onnx(arguments.model, arguments.output, arguments.input, arguments.int8)
    return 0
