"""Who imports whom, in the installed package: nothing in a circle, no part a command, and data flows one way."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from support import PACKAGE, installed_modules, modules_of


def named_by(statement: ast.AST, module: str, is_package: bool) -> list[str]:
    """Return the full dotted names that a statement imports, each a module or something in one."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        base = statement.module or ""
        if statement.level:
            ancestors = module.split(".")[: None if is_package else -1]
            ancestors = ancestors[: len(ancestors) - statement.level + 1]
            base = ".".join([*ancestors, *filter(None, [base])])
        return [f"{base}.{alias.name}" for alias in statement.names]
    if isinstance(statement, ast.Call) and statement.args and isinstance(statement.args[0], ast.Constant):
        called = getattr(statement.func, "id", getattr(statement.func, "attr", ""))
        return [statement.args[0].value] if called == "import_module" else []
    return []


def imports_of(modules: dict[str, Path], defined_in=lambda name: None) -> dict[str, set[str]]:
    """Return what every module imports of the others, at its top or inside a function.

    An import runs the packages that hold what it names: these count too, except the ones that the module is in itself.

    Args:
        modules: by name.
        defined_in: tells for a name of the outermost package, which only passes names on, where it is from.
    """
    graph = {}
    for module, path in modules.items():
        found = set()
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in named_by(statement, module, path.name == "__init__.py"):
                place = defined_in(name) or name
                while place and place not in modules:
                    place = place.rpartition(".")[0]
                holders = place.split(".")
                run = {".".join(holders[:depth]) for depth in range(2, len(holders))}
                found |= {place, *(holder for holder in run if not f"{module}.".startswith(f"{holder}."))} - {""}
        graph[module] = found - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (Tarjan's strongly connected components)."""
    number, low, stack, found = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == number[module]:
            group = [stack.pop()]
            while group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def is_command(module: str) -> bool:
    return module.endswith(".__main__") or f"{module}.".startswith(f"{PACKAGE}.cli.")


def forbidden(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports that go the wrong way, as "who imports whom"."""
    wrong = []
    for module, imported in graph.items():
        train, front = (f"{module}.".startswith(f"{PACKAGE}.{part}.") for part in ("train", "feature_extraction"))
        for other in imported:
            into_train = f"{other}.".startswith(f"{PACKAGE}.train.")
            into_front = f"{other}.".startswith(f"{PACKAGE}.feature_extraction.")
            command = is_command(other) and not (is_command(module) and "cli" not in other.split("."))
            in_cli = f"{module}.".startswith(f"{PACKAGE}.cli.")  # commands may use everything, and nothing uses them
            wrong_command = command and not (in_cli and other.startswith(f"{PACKAGE}.cli"))
            if (into_train and not (train or in_cli)) or (front and not into_front) or wrong_command:
                wrong.append(f"{module} imports {other}")
    return sorted(wrong)


def defined_in(name: str) -> str | None:
    """Tell where a name that the outermost package passes on comes from."""
    package, _, name = name.rpartition(".")
    if package != PACKAGE or importlib.util.find_spec(f"{PACKAGE}.{name}") is not None:
        return None
    return getattr(getattr(importlib.import_module(PACKAGE), name, None), "__module__", None)


def test_nothing_is_imported_in_a_circle_or_against_the_stream():
    modules = installed_modules()
    assert {f"{PACKAGE}.cli.__main__", f"{PACKAGE}.modeling_mt2", f"{PACKAGE}.train.pretrain.losses"} <= modules.keys()
    graph = imports_of(modules, defined_in)
    assert f"{PACKAGE}.modeling_mt2" in graph[f"{PACKAGE}.loading"]  # it does see what is there
    assert f"{PACKAGE}.train.pretrain.losses" in graph[f"{PACKAGE}.train.pretrain.trainer"]
    assert circles(graph) == []
    assert forbidden(graph) == []


@pytest.mark.parametrize(
    ("files", "circle", "wrong"),
    [
        ({"a.py": "from .b import x", "b.py": "from mt2_music import c", "c.py": ""}, [], []),
        ({"a.py": "from . import b", "b.py": "def f():\n    from mt2_music.a import x"}, ["a", "b"], []),
        ({"a.py": "import mt2_music", "__init__.py": "def f():\n    from .a import x"}, ["", "a"], []),
        ({"a.py": "from mt2_music import x", "__init__.py": "from .a import y\nfrom .b import x", "b.py": ""}, [], []),
        ({"a.py": "from .b.c import x", "b/__init__.py": "from .d import x", "b/c.py": "", "b/d.py": ""}, [], []),
        (
            {
                "a.py": "from .b.c import x",
                "b/__init__.py": "from .d import x",
                "b/c.py": "",
                "b/d.py": "import mt2_music.a",
            },
            ["a", "b", "b.d"],
            [],
        ),
        ({"a.py": "import mt2_music.train.b", "train/b.py": ""}, [], ["a imports train", "a imports train.b"]),
        ({"a.py": "importlib.import_module('mt2_music.train')"}, [], ["a imports train"]),
        ({"train/b.py": "from mt2_music.a import x", "a.py": ""}, [], []),
        ({"feature_extraction/a.py": "from ..b import x", "b.py": ""}, [], ["feature_extraction.a imports b"]),
        ({"cli/__init__.py": "", "a.py": "from .cli import x"}, [], ["a imports cli"]),
        ({"cli/__init__.py": "", "cli/a.py": "from mt2_music.train.b import x", "train/b.py": ""}, [], []),
        ({"cli/__main__.py": "from . import b", "cli/b.py": "from mt2_music.a import x", "a.py": ""}, [], []),
        (
            {"train/p/__main__.py": "", "train/q.py": "def f():\n    from .p.__main__ import main"},
            [],
            ["train.q imports train.p.__main__"],
        ),
        ({"train/p/__main__.py": "", "train/q/__main__.py": "from mt2_music.train.p.__main__ import main"}, [], []),
    ],
)
def test_the_test_above_can_fail(tmp_path, files, circle, wrong):
    """Small packages with one fault each, and their likes without it."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for folder in {tmp_path, *(path.parent for path in tmp_path.rglob("*.py")), tmp_path / "train"}:
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
    graph = imports_of(modules_of(PACKAGE, tmp_path), {f"{PACKAGE}.x": f"{PACKAGE}.b"}.get)
    assert circles(graph) == ([[".".join(filter(None, [PACKAGE, name])) for name in circle]] if circle else [])
    assert [line.replace(f"{PACKAGE}.", "") for line in forbidden(graph)] == wrong
