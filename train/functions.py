"""Functions of users that are named on the command line."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_function(source: str) -> tuple[Callable[..., Any], str]:
    """Find a function by "module:function" or "file.py:function".

    Returns:
        The function, and the code of its module.

    Raises:
        ValueError: there is no such file or function.
        ImportError: there is no such module, or it cannot be imported.
    """
    place, _, function = source.rpartition(":")
    if place.endswith(".py"):
        # A name of its own, so that a file called evaluate.py does not stand in for the library.
        name = f"mt2_user_{hashlib.sha256(str(Path(place).resolve()).encode()).hexdigest()[:20]}"
        specification = importlib.util.spec_from_file_location(name, place)
        if specification is None or specification.loader is None or not Path(place).is_file():
            raise ValueError(f"cannot read {place}")
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        sys.path.append(str(Path(place).resolve().parent))  # for what it imports from beside it
        specification.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    if not callable(getattr(module, function, None)):
        raise ValueError(f"{place} has no function {function!r}")
    return getattr(module, function), inspect.getsource(module)
