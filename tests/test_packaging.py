"""The wheel: every source file is in it, and nothing else."""

import shutil
import sys
import zipfile
from pathlib import Path

from support import python

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "modeling_mt2": "mt2_music",
    "feature_extraction": "mt2_music/feature_extraction",
    "train": "mt2_music/train",
    **{
        f"model_cards/{path.name}": f"mt2_music/model_cards/{path.name}"
        for path in (ROOT / "model_cards").glob("mt2-*")
    },
}


def test_the_wheel_holds_the_tree(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        *(name.partition("/")[0] for name in FOLDERS),
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):  # built from a copy: no build folder is left here
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    python("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "figures" not in path.parts
    }
    assert packed == wanted


def test_commands_run_from_any_folder(tmp_path):
    for module in ("cli", "train.demo"):
        assert "usage" in python("-m", f"mt2_music.{module}", "--help", cwd=tmp_path).stdout
    assert (Path(sys.executable).parent / "mt2").is_file()
