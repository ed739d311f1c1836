"""Processes that do calls: this one, others of this machine, or the workers of a cluster; and what each is set to."""

import ctypes
import functools
import importlib.metadata
import multiprocessing
import os
import platform
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path

import joblib
import loky
import numpy as np
import psutil
import torch

from lab.errors import InputError, about, library_warnings, warn_once
from lab.run import cluster, interrupt, progress

DIES = "its process dies, perhaps for lack of memory: fewer processes on a machine may help"
SCRATCH = "make room there or name another one with TMPDIR"
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch in large pages: a step at 224 x 224 takes half the time
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
NO_WORKERS = OSError, AssertionError, RuntimeError  # where they can't be started, as in a daemonic process
Call = Callable[[tuple, Callable[[float], None]], dict[str, np.ndarray]]  # call(data, progress) -> arrays


@functools.cache
def machine() -> str:
    """What this process computes on, such as `AMD EPYC 9R14 (2 cores), Python 3.11.7, torch 2.14.1`."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    if torch.cuda.is_available():
        processor = f"{torch.cuda.get_device_name()}, {processor}"
    return f"{processor} ({joblib.cpu_count()} cores), Python {platform.python_version()}, torch {torch.__version__}"


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    return {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-learn")}


# ---------------------------------------------------------------------------- memory


def affordable(jobs: int, needed: float) -> int:
    """As many of `jobs` processes that need so much memory (GiB) as there is room for, or one; a line says so."""
    left = memory_left()
    fitting = int(left / needed) if needed else jobs
    if fitting >= jobs:
        return jobs
    count = f"{max(fitting, 1)} of {jobs} processes"
    print(f"{count}: one needs about {needed:.1f} GiB, and {left:.1f} GiB are free; --jobs overrides this", flush=True)
    return max(fitting, 1)


def memory_left() -> float:
    """The memory that processes may still take (GiB), of this machine and of the control group, as in a container."""
    left, group = [psutil.virtual_memory().available], Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no control group, or one without a limit
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        files = int(re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)[1])
        left.append(limit - used + files)  # what it holds of files is given back when it is needed
    return min(left) / 2**30


# ---------------------------------------------------------------------------- in the process of the script


@contextmanager
def executor(
    data: tuple, board: Path, processes: int, address: str | None
) -> Iterator[tuple[Callable[[Call, int], Future], int]]:
    """submit(call, number) -> Future of what `do` gives, and how many futures there may be at a time.

    With 0 processes, this one does the calls; with `address`, the workers of the Dask scheduler there.
    """
    if address:
        with cluster.executor(address, data, versions()) as submit:
            yield lambda call, number: submit(functools.partial(do, call, number, board, None)), sys.maxsize
    elif not processes or _alone(processes):

        def here(call: Call, number: int) -> Future:
            future = Future()
            future.set_result(do(call, number, board, None, data))
            return future

        yield here, 1
    else:
        stored = board.with_name("data")
        with about(board.parent, SCRATCH):
            _share(data, stored)
        try:
            yield lambda call, number: _submit(processes, do, call, number, board, os.getpid(), stored), 2 * processes
        except BaseException:
            with interrupt.hidden_from_children():  # nor does this process hear another Ctrl-C before they have ended
                loky.get_reusable_executor(processes, env=ONE_THREAD).shutdown(kill_workers=True)
            raise


def _share(data: tuple, stored: Path) -> None:
    """Put the data into a file, from which all processes map its arrays, this one too: one copy in memory for all."""
    joblib.dump(data, stored)
    for mine, mapped in zip(data, joblib.load(stored, mmap_mode="c"), strict=True):
        if is_dataclass(mine) and os.name == "posix":  # elsewhere a file that is mapped can't be removed
            vars(mine).update(vars(mapped))


def _submit(processes: int, *call) -> Future:
    with interrupt.hidden_from_children():
        return loky.get_reusable_executor(processes, env=ONE_THREAD).submit(*call)  # another one if it is broken


def end_workers() -> None:
    """The next calls get new worker processes, without what these have imported and hold."""
    with suppress(ImportError, *NO_WORKERS):
        loky.get_reusable_executor(1, env=ONE_THREAD).shutdown()


def _alone(processes: int) -> bool:
    """Whether worker processes can't be started, as in a daemonic one or without semaphores; a warning says so."""
    reason = "joblib is in its serial mode" if joblib.parallel.mp is None else ""
    try:
        if not reason:
            _submit(processes, one_thread)  # as loky measures growth from what a process has after its first call
    except NO_WORKERS as error:
        reason = str(error)
    if reason:
        warn_once(f"worker processes can't be started ({reason}), this machine, one process does the work")
    return bool(reason)


# ---------------------------------------------------------------------------- in the process that does a call


def one_thread() -> None:
    """Compute on one thread, in the same order each time, and with 0 for what is smaller than a float's 1e-38.

    Such numbers, of which a trained network's gradients are full, take Intel's processors many times as long as others.
    """
    torch.set_num_threads(1)
    np.finfo(np.float32), np.finfo(np.float64)  # NumPy before 2.4 warns if it first looks for such numbers later
    torch.set_flush_denormal(True)
    torch.backends.cudnn.deterministic = True


def _own_gpu() -> None:
    """Of several GPUs each process keeps to one of its own; loky numbers its processes."""
    if torch.cuda.device_count() > 1:
        worker = multiprocessing.current_process().name.rpartition("-")[2]
        torch.cuda.set_device(int(worker) % torch.cuda.device_count() if worker.isdecimal() else 0)


def _give_back_memory() -> None:
    """To the system what the last run has left, and from now on what is large as soon as it is free.

    Where the C library can: else each run needs more than the last, and training at 224 pixels 0.3 GiB more.
    """
    with suppress(OSError, AttributeError):
        library, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # as glibc's malloc.h numbers them
        library.mallopt(trim_threshold, 2**25)
        library.mallopt(mmap_threshold, 2**22)
        library.malloc_trim(0)


@functools.lru_cache(1)
def _load(stored: Path) -> tuple:
    return joblib.load(stored, mmap_mode="r")


def do(call: Call, number: int, board: Path, parent: int | None, data: tuple | Path) -> tuple:
    """Do a call: (its number, its arrays, what is wrong with it, the traceback, warnings). Raises InputError.

    `board` is where to write its progress, if it is on this machine; `parent` the process to end with; `data` may be
    the file that holds them. Warnings are those of libraries.
    """
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    one_thread()
    _give_back_memory()
    _own_gpu()
    rows = progress.read_board(board) if board.exists() else np.zeros((number + 1, progress.TOLD))

    def reach(fraction: float) -> None:
        progress.write(rows, number, fraction)
        if parent and os.getppid() != parent:  # the parent was killed
            os._exit(1)

    reach(1e-9)
    started, said = time.perf_counter(), []
    try:
        with library_warnings(said.append):
            arrays = call(_load(data) if isinstance(data, Path) else data, reach)
        arrays = {name: np.asarray(values) for name, values in arrays.items()}
        if odd := [name for name, values in arrays.items() if values.dtype.hasobject]:
            raise TypeError(f"it gives no array of numbers or texts for {' and '.join(odd)}")
    except InputError:
        raise
    except Exception as error:
        return number, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200], traceback.format_exc(), said
    made = {"made_on": np.array(machine()), "run_seconds": np.array(time.perf_counter() - started)}
    return number, arrays | made, "", "", said
