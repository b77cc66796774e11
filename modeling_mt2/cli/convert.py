"""`mt2 convert`: the weights that the authors of MT2 released, as a model of ours."""

import argparse
from pathlib import Path

from mt2_music.options import RELEASED_ACTIVATION, RELEASED_LAYER_NORM_EPS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 convert` takes."""
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, help="file of the state dict: model_state_dict.pt")
    parser.add_argument("target", metavar="FOLDER", type=Path, help="to write, complete or not at all")
    parser.add_argument("--weights_license", required=True, help="of the weights, as the Hub spells it, for the card")
    parser.add_argument("--source", required=True, help="where the weights come from, for the card")
    parser.add_argument("--num_attention_heads", type=int, help="which a file does not say (default: of 64 numbers)")
    parser.add_argument("--num_vqt_bins", type=int, help="of the transform, if not all are used (default: all)")
    parser.add_argument("--layer_norm_eps", type=float, default=RELEASED_LAYER_NORM_EPS, help="(default: %(default)s)")
    parser.add_argument("--hidden_act", default=RELEASED_ACTIVATION, help="activation (default: %(default)s)")
    parser.add_argument("--replace", action="store_true", help="replace a model published to that folder before")
    parser.add_argument("--unchecked", action="store_true", help="also write weights whose key profile does not turn")


def run(arguments: argparse.Namespace) -> int:
    """Turn weights that the authors of MT2 released into a folder that `--model` takes, and check that they work.

    Returns:
        0.

    Raises:
        ValueError: the file holds something else than is known of these weights, or the folder cannot be written.
        ImportError: the training tools, which write folders, are not installed.
    """
    options = {name: value for name, value in vars(arguments).items() if name != "run"}
    try:
        from mt2_music.train.publish.convert import convert
    except ModuleNotFoundError as error:
        raise ImportError(f'mt2 convert needs the training tools: pip install "mt2-music[train]" ({error})') from error
    turns = convert(**options)
    print(f"{arguments.target}: its key profile turns with transposed music, {turns:.2f} of 1")
    return 0
