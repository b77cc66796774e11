"""Upload the folder of a model to the Hub, in one commit."""

import logging
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import validate_repo_id

from mt2_music.interrupts import advise

from .facts import NEEDED_FILES, PUBLISHED_FILES

logger = logging.getLogger(__name__)

# Weights that run code when they are read, or that are read in the place of ours.
UNSAFE_SUFFIXES = (".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")


class PushError(Exception):
    """The Hub did not take the folder; the message says why, what is there now, and how to go on."""


def check_name(name: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        ValueError: it is not USER/NAME as the Hub spells names.
    """
    if name.count("/") != 1:
        raise ValueError(f"--push takes USER/NAME, got {name}")
    validate_repo_id(name)


def push(folder: Path, name: str) -> None:
    """Upload a published folder to the Hub, in one commit: the repository holds all of it, or what it held before.

    Files of a model that was pushed there before and are no part of this one are removed; others stay.

    Args:
        folder: of the model.
        name: USER/NAME; the repository is made if there is none.

    Raises:
        ValueError: the folder is not whole, or holds something else; nothing was sent.
        PushError: the Hub did not take it.
    """
    files = _files_of(folder)
    again = f"python -m mt2_music.train.card {shlex.quote(str(folder))} --push {name}"
    doing = "making the repository"
    api = HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        doing = "reading what it holds"
        before = api.model_info(name)
        there = [file.rfilename for file in before.siblings or []]
        unsafe = [path for path in there if path.endswith(UNSAFE_SUFFIXES)]
        if unsafe:
            raise ValueError(f"it holds {unsafe[0]}, weights that are no safetensors: delete that first")
        old = [path for path in there if path.split("/")[0] in PUBLISHED_FILES and path not in files]
        operations: list[Any] = [CommitOperationDelete(path) for path in old]
        operations += [CommitOperationAdd(path, str(local)) for path, local in files.items()]
        doing = "uploading the files"
        # Not by `upload_folder`, which makes several commits of one folder: who loads it meanwhile gets half of it.
        commit = api.create_commit(name, operations, commit_message=f"Publish {folder.name}", parent_commit=before.sha)
        doing = "checking what is there"
        tree = api.list_repo_tree(name, recursive=True, revision=commit.oid)
        sizes = {entry.path: getattr(entry, "size", None) for entry in tree}  # folders have none
        lost = [path for path, local in files.items() if sizes.get(path) != local.stat().st_size]
    except KeyboardInterrupt as stop:
        raise advise(stop, f"{name} holds all of {folder}, or nothing new. Push it again: {again}") from None
    except Exception as error:
        raise PushError(
            f"{doing} failed: {_reason(error)}. {folder} is as it was, and {name} holds all of it or nothing new, "
            f"since the files come in one commit. Push it again: {again}"
        ) from error
    if lost:
        raise PushError(
            f"{name} holds the folder, but not {lost[0]} as it was sent; if its .gitignore names that, remove the "
            f"line. Push it again: {again}"
        )
    logger.info("pushed to %s", commit.commit_url)


def _files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a published folder, but for hidden ones, by their names in the repository."""
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if not any(part.startswith(".") for part in name.parts)}
    strange = [name for name in files if name.parts[0] not in PUBLISHED_FILES or name.suffix in UNSAFE_SUFFIXES]
    if strange:
        raise ValueError(f"{folder} holds {strange[0]}, which is no part of a published model; nothing was pushed")
    missing = sorted(NEEDED_FILES - {str(name) for name in files})
    if missing:
        raise ValueError(f"{folder} lacks {missing[0]}; nothing was pushed")
    return {name.as_posix(): path for name, path in files.items()}


def _reason(error: Exception) -> str:
    """Say in one line what went wrong, with what caused it, and how to be let in."""
    kind = "" if isinstance(error, OSError | RuntimeError | ValueError) else f"{type(error).__name__}: "
    said = " ".join(f"{kind}{error}{f' {error.__cause__}' if error.__cause__ else ''}".split())
    statuses = {getattr(getattr(e, "response", None), "status_code", None) for e in (error, error.__cause__)}
    hint = "; `hf auth login` takes a token that may write there" if statuses & {401, 403} else ""
    return f"{said.rstrip('.')}{hint}"
