"""Songs that commands are given, and results that they print, also when they are stopped."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mt2_music.audio.files import find_audio, printable_names
from mt2_music.interrupts import advise


def named_files(places: Iterable[str]) -> list[tuple[str, str]]:
    """Find audio files, with printable names first, and say which hidden ones are passed over."""
    found = find_audio(places)
    if line := found.say_hidden():
        print(line, file=sys.stderr)
    return printable_names(found.files)


@contextmanager
def listed(results: list[dict[str, Any]], as_json: bool) -> Iterator[None]:
    """Print results as one list at the end of the block, or when it is stopped; what is not JSON was printed before.

    Args:
        results: that the block appends to.
        as_json: print them.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if as_json:
            print(json.dumps(results, indent=1))
        raise advise(stop, f"files that were done before: {len(results)}") from None
    if as_json:
        print(json.dumps(results, indent=1))
