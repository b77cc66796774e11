"""The `mt2` command: keys, chords, beats, embeddings and similarity of sound files.

One file a command, imported when it is called.

Commands import what they need when they run, so that `mt2 --help` and `mt2 key --help` answer at once.
"""

import argparse
import sys
from importlib import import_module

from mt2_music.interrupts import command
from mt2_music.options import DEFAULT_MODEL

# Name, summary for `mt2 --help`, and how many files the command takes, if any.
COMMANDS: dict[str, tuple[str, str | None]] = {
    "key": ("name the keys of songs", "+"),
    "analyze": ("find key, chords, beats and tempo of songs", "+"),
    "embed": ("write embeddings of songs to a file or a folder", "*"),
    "index": ("make an index that `mt2 similar` searches, or bring it up to date", "*"),
    "similar": ("find the songs of an index that are most similar to a song", "+"),
    "convert": ("turn the weights that the authors of MT2 released into a model", None),
    "export": ("write a model to an ONNX file", None),
    "doctor": ("check what is installed and what does not work", None),
}


@command("mt2", "nothing was written")
def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 when every file could be used, 1 when some could not, 2 when nothing was tried, or the output cannot be
        written.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="mt2", description=__doc__.partition(".")[0] + ".")
    commands = parser.add_subparsers(required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name, (summary, files) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name not in words[:1]:
            continue  # its module is not needed
        module = import_module(f"mt2_music.cli.{name}")
        command.description = module.run.__doc__.partition("\n")[0]
        if files:
            command.add_argument("files", nargs=files, metavar="FILE", help="sound files, folders, globs")
            command.add_argument(
                "--model",
                default=DEFAULT_MODEL,
                help="folder, Hub name or short name of a published model (default: %(default)s)",
            )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, ImportError) as error:
        print(f"mt2: {error}", file=sys.stderr)
        return 2
