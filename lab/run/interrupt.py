"""Ctrl-C ends a script with one line and exit code 130, at whatever moment it comes.

Python's own KeyboardInterrupt does not: nobody catches it while the modules are imported, which takes seconds, and
where it is raised in a finaliser or a callback, Python reports it and goes on. A script imports this module first, so
that even then Ctrl-C, and an InputError such as that of an impossible Config, end in one line.
"""

import logging
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

from lab.errors import InputError, say

STYLE = Path(__file__).parents[2] / "study.mplstyle"
LINE = "stopped: finished runs are kept, the same command goes on from here"


class _Handler:
    """Raises KeyboardInterrupt and remembers it.

    Once a second: what ends a script, such as timeout, may signal the process and then its group, and a second
    KeyboardInterrupt would cut short what the first one has begun to clear up.
    """

    pressed = postponed = False
    raised = -math.inf  # when, in seconds

    def __call__(self, *_) -> None:
        self.pressed, now = True, time.monotonic()
        if not self.postponed and now > self.raised + 1:
            self.raised = now
            raise KeyboardInterrupt


def _leave(*_) -> None:
    os.write(2, f"{LINE}\n".encode())
    os._exit(130)


def _tell(kind: type, error: BaseException, trace) -> None:
    if not issubclass(kind, InputError):
        return sys.__excepthook__(kind, error, trace)
    say(f"error: {error}")
    os._exit(2)


def _own_process() -> bool:
    """Whether Python was started with a script beside lab/, and not with a notebook or an editor that runs one."""
    main = sys.modules["__main__"]
    script = Path(getattr(getattr(main, "__loader__", None), "path", None) or "/")  # they replace __file__ alone
    return script.resolve().parent == Path(__file__).resolve().parents[2] and _in_main_thread()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # others hear no signal


if _own_process():
    signal.signal(signal.SIGINT, _leave)  # until `listening` is entered, when there is nothing to clear up yet
    sys.excepthook = _tell
    # What libraries say, or stop at, while they are imported: of joblib lab/run/pool.py says it. Matplotlib reads its
    # settings when it is imported first, by whomever; so here it is told to read no file but ours, which has no mistake
    # that would be printed, and to choose no backend.
    warnings.filterwarnings("ignore", ".*joblib will operate in serial mode")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ |= {"MATPLOTLIBRC": str(STYLE), "MPLBACKEND": "agg"}


@contextmanager
def listening() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt inside, and `check` raises it again where it was lost, without a word."""
    if not _in_main_thread():
        yield
        return
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


def check() -> None:
    """Raises KeyboardInterrupt if Ctrl-C was pressed since `listening` was entered."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _Handler) and handler.pressed:
        raise KeyboardInterrupt


@contextmanager
def _set(name: str, inside: bool) -> Iterator[None]:
    """What the handler of `listening`, if there is one, knows inside, and the opposite afterwards."""
    handler = signal.getsignal(signal.SIGINT)
    if not isinstance(handler, _Handler):
        yield
        return
    setattr(handler, name, inside)
    try:
        yield
    finally:
        setattr(handler, name, not inside)


@contextmanager
def postponed() -> Iterator[None]:
    """Ctrl-C waits for the end of what is inside, within `listening`."""
    with _set("postponed", True):
        yield
    check()


def once_more() -> AbstractContextManager:
    """Ctrl-C was heard, and what is inside still has to be done; a second Ctrl-C ends that too."""
    return _set("pressed", False)


@contextmanager
def hidden_from_children() -> Iterator[None]:
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
