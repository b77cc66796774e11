"""Names of files in messages and tables."""

import os
from typing import Any

# Controls that would break a line or a column, or that a terminal would obey; the last are two other ends of lines.
_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
if os.sep != "\\":
    _ESCAPES[ord("\\")] = "\\\\"  # so that no two files have one name


def printable(path: str) -> str:
    """Return a path as it can be printed and stored, in one line and one column.

    Old archives hold names whose bytes are no UTF-8, and names may hold newlines and tabs: these are escaped as Python
    does. `path_of` gives the path back.
    """
    return path.translate(_ESCAPES).encode(errors="backslashreplace").decode()


def path_of(printed: str) -> str:
    """Return the path that `printable` was given."""
    if os.sep == "\\" or "\\" not in printed:
        return printed
    return printed.encode("ascii", "backslashreplace").decode("unicode_escape")


def name_of(file: Any) -> str:
    """Return what a file is called in messages: its path as it can be printed, or "audio bytes"."""
    return printable(os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else "audio bytes"
