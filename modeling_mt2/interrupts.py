"""Ctrl-C and SIGTERM: a command stops at a safe place, keeps what is done, says how to go on, and exits 130 or 143.

A signal raises `Stopped`, except inside `finishing`, where it is noted, and `check` raises at the next safe place. A
second signal always raises. Workers of a `process_pool` stop when their parent does.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 3.0  # in which a song that is being worked on may be finished
Main = TypeVar("Main", bound=Callable[..., Any])


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class _State:
    asked: int | None = None  # number of the signal
    since = 0.0
    depth = 0  # of `finishing`
    parent: Any = None  # in a worker: is set when the parent stops


def _handle(number: int, frame: Any) -> None:  # noqa: ARG001 - the interface of signal handlers
    first, _State.asked = _State.asked is None, number
    if first:
        _State.since = time.monotonic()
    if not (first and _State.depth):
        raise Stopped(number)


@contextmanager
def signals_handled() -> Iterator[None]:
    """Handle signals inside the block; in other threads than the main one, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.asked = None
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.asked = None


@contextmanager
def finishing() -> Iterator[None]:
    """Let the first signal wait for the next `check` inside the block."""
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1


def check(patience_seconds: float = 0.0) -> None:
    """Stop here if a signal came, or came longer than this ago.

    Raises:
        Stopped: it did.
    """
    if _State.asked is not None and time.monotonic() - _State.since >= patience_seconds:
        raise Stopped(_State.asked)
    if _State.parent is not None and _State.parent.is_set():
        raise Stopped


@contextmanager
def process_pool(workers: int | None) -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose workers leave signals to this process, and stop at their next `check` when it stops."""
    stopped = multiprocessing.Event()
    with ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(stopped,)) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker(stopped: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a pool ends its workers so when one of them has died
    _State.parent, _State.asked, _State.depth = stopped, None, 0


def advise(stop: KeyboardInterrupt, advice: str) -> KeyboardInterrupt:
    """Attach what is kept, and how to go on, for the command to say."""
    stop.advice = advice  # type: ignore[attr-defined]
    return stop


def _let_go_of_output() -> None:
    """Let nobody complain that what is still to be printed cannot be."""
    with suppress(OSError, ValueError):  # it is no file, as in tests
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def command(name: str, advice: str) -> Callable[[Main], Main]:
    """Make a function the main function of a command.

    Names that the console cannot show are escaped. On Ctrl-C and SIGTERM one sentence is printed, and the exit code
    is 130 or 143. Where nobody reads the output any more, it ends without a word, with 141, as other tools do.

    Args:
        name: of the command.
        advice: how to go on after it was stopped, unless `advise` said more.
    """

    def decorate(main: Main) -> Main:
        @wraps(main)
        def run(*arguments: Any, **options: Any) -> Any:
            for stream in (sys.stdout, sys.stderr):
                if hasattr(stream, "reconfigure"):
                    stream.reconfigure(errors="backslashreplace")
            try:
                with signals_handled():
                    result = main(*arguments, **options)
                if sys.stdout is not None:
                    sys.stdout.flush()
                return result
            except BrokenPipeError:  # who read the output, such as `head`, has enough of it
                _let_go_of_output()
                raise SystemExit(128 + getattr(signal, "SIGPIPE", 13)) from None
            except KeyboardInterrupt as stop:
                sys.stderr.write(f"{name}: stopped; {getattr(stop, 'advice', advice)}\n")
                raise SystemExit(128 + getattr(stop, "number", signal.SIGINT)) from None

        return run  # type: ignore[return-value]

    return decorate
