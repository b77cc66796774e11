"""The tests that every model and feature extractor of transformers must pass, run on ours.

They are in the source distribution of transformers alone, so that of the installed version is fetched from the package
index, once: pytest's cache keeps it. `adapter.py` says what they run on, and where we differ on purpose.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

from support import python

ADAPTER = Path(__file__).with_name("adapter.py")
FETCH = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--disable-pip-version-check"]
FETCH += ["--retries", "1"]


@pytest.fixture
def source(request, tmp_path):
    """Return a folder with the folder `tests` of the installed version of transformers."""
    version = metadata.version("transformers")
    name = f"transformers-{version}"
    archive = Path(request.config.cache.mkdir("transformers"), f"{name}.tar.gz")
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as partial:  # so that the archive is whole or not there
            command = [sys.executable, "-m", "pip", "download", *FETCH, "--dest", partial, f"transformers=={version}"]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                reason = (result.stderr or result.stdout).strip().rpartition("\n")[2]
                pytest.skip(f"the source distribution of transformers {version} was not fetched: {reason}")
            os.replace(Path(partial, archive.name), archive)
    with tarfile.open(archive) as stored:
        members = [member for member in stored if re.fullmatch(rf"{re.escape(name)}/tests/\w+\.py", member.name)]
        if not members:
            pytest.skip(f"the source distribution of transformers {version} has no tests")
        stored.extractall(tmp_path, members)
    (tmp_path / name / "tests" / "__init__.py").touch()  # left out too
    return tmp_path / name


@pytest.mark.slow
def test_the_common_tests_of_transformers_pass(source, tmp_path):
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\n", encoding="utf-8")  # neither our settings nor theirs
    options = ["--quiet", "--noconftest", "-p", "no:cacheprovider", "-W", "ignore", "-c", settings]
    paths = [str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    told = python("-m", "pytest", ADAPTER, *options, f"--basetemp={tmp_path / 'inner'}", cwd=source, env=environment)
    assert int(re.search(r"(\d+) passed", told.stdout)[1]) > 100, told.stdout[-3000:]  # not skipped, for some reason
