"""Where text is not UTF-8 unless one says so, as on Windows: files are, and no name of a song ends a command."""

import ast
import json
import os
import subprocess
import sys

import pytest
import soundfile

from support import RATE, ROOT, installed_modules, song

# Of the ways in which Python can be told, those that also systems with UTF-8 know.
SETTINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
NAME = "ümläut 音楽.wav"


@pytest.mark.parametrize("setting", SETTINGS)
def test_songs_of_any_name_are_named(setting, published, tmp_path):
    os.mkdir(tmp_path / "music")
    soundfile.write(tmp_path / "music" / NAME, song(0, 2.0), RATE)
    (tmp_path / "music" / "schlecht 音.wav").write_bytes(b"no audio")
    program = """
import sys
from mt2_music.cli import main
model = sys.argv[1]
assert main(["key", "music", "--model", model]) == 1
assert main(["embed", "music", "--model", model, "-o", "out.npz"]) == 1
assert main(["embed", "music", "--model", model, "-o", "archive", "--json"]) == 1
"""
    command = [sys.executable, "-c", program, str(published)]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | SETTINGS[setting], capture_output=True)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    assert b"out of" not in result.stderr
    from mt2_music.collection.tables import read_embeddings

    for place in ("out.npz", "archive"):
        (file,) = read_embeddings([tmp_path / place]).files
        assert file.endswith(NAME) or "\\udc" in file  # bytes that the C locale cannot name are escaped
    rows = json.loads(result.stdout[result.stdout.index(b"[") :])
    assert len(rows) == 2


def test_no_text_is_read_or_written_in_the_encoding_of_the_system():
    found = []
    others = [path for part in ("tests", "benchmarks", "model_cards/space") for path in (ROOT / part).rglob("*.py")]
    assert len(others) > 50
    for module, path in [*installed_modules().items(), *((str(path.relative_to(ROOT)), path) for path in others)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or "encoding" in {keyword.arg for keyword in node.keywords}:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            modes = [each.value for each in node.args if isinstance(each, ast.Constant)]
            modes += [
                each.value.value for each in node.keywords if each.arg == "mode" and hasattr(each.value, "value")
            ]
            in_bytes = any("b" in mode for mode in modes if isinstance(mode, str) and len(mode) < 4)
            if (
                (name in ("read_text", "write_text") and not _of_a_package(node))
                or (name == "open" and not in_bytes and _opens_text(node, modes))
                or (name == "NamedTemporaryFile" and any(mode in ("w", "w+", "r") for mode in modes))
            ):
                found.append(f"{module}:{node.lineno}")
    assert found == []


def _of_a_package(node: ast.Call) -> bool:
    """Tell `distribution.read_text(name)`, which reads UTF-8 and is not asked."""
    return getattr(node.func, "attr", "") == "read_text" and len(node.args) == 1


def _opens_text(node: ast.Call, modes: list) -> bool:
    """Tell `open(path)` and `path.open("w")` from what else is called so, such as `tarfile.open(file, "w")`."""
    if getattr(getattr(node.func, "value", None), "id", "") in ("Image", "tarfile"):
        return False
    return isinstance(node.func, ast.Name) or not node.args or any(mode in ("r", "w", "a", "x") for mode in modes)
