"""Ctrl-C ends a script with one line and exit code 130, at whatever moment it comes.

Python's own KeyboardInterrupt does not: nobody catches it while the modules are imported, which takes seconds, and
where it is raised in a finaliser or a callback, Python reports it and goes on.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

LINE = "stopped: finished runs are kept, the same command goes on from here"


class _Handler:
    """Raises KeyboardInterrupt and remembers it."""

    pressed = held = False

    def __call__(self, *_) -> None:
        self.pressed = True
        if not self.held:
            raise KeyboardInterrupt


def _leave(*_) -> None:
    os.write(2, f"{LINE}\n".encode())
    os._exit(130)


def leave_at_once() -> None:
    """Until `heard` is entered, for the imports at the start, when there is nothing to clear up."""
    signal.signal(signal.SIGINT, _leave)


@contextmanager
def heard() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt inside, and `heed` raises it again where it was lost, without a word."""
    before, tell = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if not isinstance(before, _Handler):
        signal.signal(signal.SIGINT, _Handler())
    sys.unraisablehook = lambda lost: lost.exc_type is KeyboardInterrupt or tell(lost)
    try:
        yield
    finally:
        over = before is _leave  # only Python's own end is left, a second that clears up
        signal.signal(signal.SIGINT, signal.SIG_IGN if over else before)
        sys.unraisablehook = tell


def heed() -> None:
    """Raises KeyboardInterrupt if Ctrl-C was pressed since `heard` was entered."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _Handler) and handler.pressed:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Ctrl-C waits for the end of what is inside; only within `heard`."""
    handler = signal.getsignal(signal.SIGINT)
    handler.held = True
    try:
        yield
    finally:
        handler.held = False
    heed()


@contextmanager
def kept_from_children() -> Iterator[None]:
    """A terminal sends Ctrl-C to all processes: those that are started inside never hear it, this one does."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would be started inside otherwise, and lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
