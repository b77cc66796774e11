"""Files that are complete or not there, the hash of what is in them, and locks that keep other processes away."""

import errno
import hashlib
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # what systems answer when another process has the lock
LOCKED_BYTE = 1 << 30  # Windows lets nobody read what is locked: this lies behind what the file says of its holder


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and move what was written there to `path` at the end of the block.

    After an error nothing is left of it; what was at `path` stays as it was. A process that is killed leaves a file
    that ends in ".part".

    Raises:
        OSError: it cannot be written, as where the disk is full; the message names it.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is either complete or not there."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_npz(path: Path, /, **arrays: np.ndarray) -> None:
    """Write arrays so that the file is either complete or not there.

    Raises:
        ValueError: an array of Python objects, which only pickle could store.
    """
    objects = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise ValueError(f"{objects[0]} holds Python objects, not numbers or text")
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        named: dict[str, Any] = arrays
        np.savez(file, **named)  # numpy 1.26 takes `allow_pickle=False` for one more array


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is not a file: opening a pipe would wait for someone to write to it.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{path} is not a file")
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def file_state(path: str | Path) -> tuple[int, int]:
    """Return size in bytes and time of the last change in nanoseconds: a file with the same ones is unchanged."""
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


def file_facts(path: str | Path) -> dict[str, int | str]:
    """Return "size", "mtime_ns" and "content_hash" of a file that is about to be read.

    If it changes meanwhile, they do not fit it afterwards, and so who compares them sees that. Empty if it cannot be
    read: reading it says why.
    """
    try:
        size, mtime_ns = file_state(path)
        return {"size": size, "mtime_ns": mtime_ns, "content_hash": file_hash(path)}
    except OSError:
        return {}


def content_hash(path: Path) -> str:
    """Return what `file_hash` does; computed once in a process, unless the file was written again."""
    facts = path.stat()
    return _remembered_hash(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@cache
def _remembered_hash(path: Path, *_: int) -> str:
    return file_hash(path)


@contextmanager
def only_process(path: Path, doing: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock file, so that no other process does the same at once.

    The system frees the lock when its holder ends, however that happens: a file that was left behind locks nobody out.

    Args:
        path: of the lock file, which is made, and removed at the end.
        doing: what other processes are kept from, for the message, such as "writes to music.npz".
        patience: seconds to wait for the holder.

    Raises:
        ValueError: another process holds it; the message says which, where, and since when.
    """
    deadline = time.monotonic() + patience
    while (lock := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise ValueError(f"another process {doing}{_holder(path)}: wait for its end, or stop it")
        time.sleep(min(0.2, patience))
    try:
        yield
    finally:
        if fcntl is None:  # Windows removes no file that is open, by us or by others
            _lock_byte(lock, False)
            os.close(lock)
        try:
            with suppress(OSError):
                path.unlink()
        finally:
            if fcntl is not None:
                os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Return the locked file, or None where another process has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is None:
            _lock_byte(lock, True)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            os.close(lock)
            return None
        logger.warning("%s cannot be locked (%s): see to it that no other process writes there", path, error)
    try:
        same = os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        same = False
    if not same:  # its holder has just removed it
        os.close(lock)
        return _try_lock(path)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(lock, 0)
    os.lseek(lock, 0, os.SEEK_SET)
    os.write(lock, json.dumps(holder).encode())
    return lock


def _lock_byte(lock: int, locked: bool) -> None:
    import msvcrt  # Windows alone has it

    os.lseek(lock, LOCKED_BYTE, os.SEEK_SET)
    msvcrt.locking(lock, msvcrt.LK_NBLCK if locked else msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is just writing it, or an older version wrote nothing
        return ""
