"""The wheel: every source file is in it, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support import ROOT, here, installed_modules, python

FOLDERS = {
    "modeling_mt2": "mt2_music",
    "feature_extraction": "mt2_music/feature_extraction",
    "train": "mt2_music/train",
    **{
        f"model_cards/{path.name}": f"mt2_music/model_cards/{path.name}"
        for path in (ROOT / "model_cards").glob("mt2-small*")
    },
}


def test_the_wheel_holds_the_tree(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        *{name.partition("/")[0]: None for name in FOLDERS},
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


def test_the_mt2_command_is_installed(tmp_path):
    command = shutil.which("mt2", path=Path(sys.executable).parent)
    said = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "usage: mt2" in said and "embed" in said
    assert "usage: mt2" in python("-m", "mt2_music.cli", "--help", cwd=tmp_path).stdout


def test_a_transformers_that_was_withdrawn_is_not_allowed():
    listed = [Requirement(text) for text in requires("mt2-music")]
    (allowed,) = [one.specifier for one in listed if one.name == "transformers" and not one.marker]
    assert "5.10.0" not in allowed and "5.10.1" in allowed and "5.23.0" in allowed and "6.0.0" not in allowed


def commands():
    """The modules of the package that are run, other than `mt2`."""
    return [name.removesuffix(".__main__") for name in installed_modules() if name.endswith(".__main__")]


@pytest.mark.slow
@pytest.mark.parametrize("module", commands())
def test_commands_run_from_any_folder(module, tmp_path):
    """In processes of their own, as they are started; what they do is tested elsewhere, in this process."""
    said = python("-m", module, "--help", cwd=tmp_path).stdout
    assert said.startswith("usage: ") and "--help" in said


def test_every_command_tells_what_it_takes(tmp_path):
    found = commands()
    assert {"mt2_music.train.pretrain", "mt2_music.train.publish", "mt2_music.train.synth.corpus"} < set(found)
    for module in found:
        said = here("-m", module, "--help", cwd=tmp_path).stdout
        assert said.startswith("usage: ") and "--help" in said, module
