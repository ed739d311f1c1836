"""Does the runs of a study: each once, in processes of this machine or of a cluster, and keeps what they give."""

import ctypes
import errno
import functools
import heapq
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import joblib
import loky
import numpy as np
import psutil
import torch

from lab.errors import InputError, about, library_warnings, warn, warn_once
from lab.files import write_whole
from lab.run import cache_key, interrupt, progress
from lab.run import cluster as dask

DIES = "its process dies, perhaps for lack of memory: fewer processes on a machine may help"
SCRATCH = "make room there or name another one with TMPDIR"
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch in large pages: a step at 224 x 224 takes half the time
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
NO_WORKERS = OSError, AssertionError, RuntimeError  # where they can't be started, as in a daemonic process
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One piece of work that is done once and kept: `function(config, *data, *arguments, progress) -> arrays`.

    A pure function: what it gives depends on nothing else, so that it may run anywhere. `arguments` are part of its
    identity, as the configuration is; `seeds` are those along the first axis of its arrays, None for an array of one
    without such an axis; `cost` is an estimate of its share of the work, in any unit, `memory` of what it needs (GiB);
    `unfinished` is set when it is done: the file for what it may leave behind on its way, see resuming.py.
    """

    name: str
    function: Callable[..., Arrays]
    config: Any
    arguments: tuple[Any, ...] = ()
    seeds: tuple[int, ...] | None = None
    cost: float = 1.0
    memory: float = 0.0
    unfinished: Path | None = None

    def path(self, folder: Path, data: tuple, context: dict) -> Path:
        """The file of the finished run; its name changes with all that its result depends on, see cache_key.py.

        `context` stands for the content of the data, whose classes count as code.
        """
        kinds = (type(thing) for thing in data)
        code = cache_key.fingerprint(one_thread, self.function, *kinds, self.config, self.arguments)
        key = json.dumps([code, context, _versions()], sort_keys=True)
        return folder / f"{self.name}-{cache_key.fingerprint(key)[:12]}.npz"


def in_groups(
    name: str, function: Callable, config: Any, seeds: Sequence[int], size: int, cost: float, *also: Any
) -> list[Run]:
    """The runs function(config, *data, seeds, *also, progress) of a configuration, each of at most `size` seeds.

    cost: of one seed.
    """
    runs, name = [], re.sub("[ ,]+", "_", name)
    for first in range(0, len(seeds), size):
        part = tuple(seeds[first : first + size])
        full = f"{name}-{part[0]}-{part[-1]}"
        runs.append(Run(full, function, config, (part, *also), part, cost * len(part)))
    return runs


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-learn")}


@functools.cache
def machine() -> str:
    """What this process computes on, such as `AMD EPYC 9R14 (2 cores), Python 3.11.7, torch 2.14.1`."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    if torch.cuda.is_available():
        processor = f"{torch.cuda.get_device_name()}, {processor}"
    return f"{processor} ({joblib.cpu_count()} cores), Python {platform.python_version()}, torch {torch.__version__}"


def in_turn(runs: Sequence[Run], jobs: int) -> list[Run]:
    """The order in which `jobs` processes do the runs: the given one, so that what comes first is done first.

    But the whole shall take at most 5% longer than with the longest first, the order that is best for the whole: a long
    run goes before its turn where it would end too late otherwise.
    """
    longest_first = sorted(runs, key=lambda run: -run.cost)
    most = 1.05 * _makespan(longest_first, jobs)
    for tenths in range(10, 0, -1):
        order = _by_deadline(runs, jobs, most * tenths / 10)
        if _makespan(order, jobs) <= most:
            return order
    return longest_first


def affordable(jobs: int, runs: Sequence[Run]) -> int:
    """As many of `jobs` worker processes as there is memory for, or one; where these are fewer, a line says so."""
    needed, left = max(run.memory for run in runs), memory_left()
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


def _by_deadline(runs: Sequence[Run], jobs: int, end: float) -> list[Run]:
    """The given order, but that the longest run goes first where it would not be done by `end` if it went next."""
    order, left, free = [], list(runs), [0.0] * jobs
    while left:
        start = heapq.heappop(free)
        longest, run = max(left, key=lambda run: run.cost), left[0]
        if min([start + run.cost, *free]) + longest.cost > end:
            run = longest
        heapq.heappush(free, start + run.cost)
        order.append(run)
        left.remove(run)
    return order


def _makespan(runs: Sequence[Run], jobs: int) -> float:
    """The cost after which the last of the runs is done, when each goes to the first process that is free."""
    free = [0.0] * jobs
    for run in runs:
        heapq.heapreplace(free, free[0] + run.cost)
    return max(free)


def finish_runs(
    runs: Sequence[Run],
    data: tuple,
    context: dict,
    folder: Path,
    jobs: int,
    fresh: bool = False,
    redraw: bool = False,
    cluster: str | None = None,
    apart: bool = False,
    by_memory: bool = False,
    done: Callable[[str, Arrays], None] = lambda name, arrays: None,
    watching: Callable[[Sequence[Run], np.ndarray], AbstractContextManager] = lambda runs, board: nullcontext(),
) -> dict[str, Arrays]:
    """Do the runs that are not in `folder` yet, in turn, in `jobs` processes of one thread each.

    One job is done in this process but with `apart`, for runs that may abort; `by_memory` takes no more processes than
    there is memory for. With `cluster`, the address of a Dask scheduler, its workers do them; with `redraw`, nobody
    does. A finished run is on disk as soon as this process, the only one that writes, has its arrays. A run that fails
    is reported on stderr and the rest goes on; its traceback is in `folder`.

    done(name, arrays) is called for every kept and every finished run, here and in between, so that what it takes
    time for goes on beside the other runs; after Ctrl-C once more for those that were finished in this call. Runs are
    under way inside watching(runs, board), see progress.py.

    Returns {run name: its arrays}, and among these `made_on` (what `machine` says) and `run_seconds` (wall time).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {run.name: run.path(folder, data, context) for run in runs}
    missing = _missing(runs, paths, folder, fresh)
    left = "left out" if redraw else "to do"
    print(f"{len(runs)} runs: {len(runs) - len(missing)} kept in {folder}, {len(missing)} {left}", flush=True)
    names = {run.name for run in missing}
    kept, told = [name for name in paths if name not in names], {}

    def tell(name: str) -> None:
        arrays = dict(np.load(paths[name]))
        done(name, arrays)
        told[name] = arrays

    if missing and not redraw:
        jobs = affordable(jobs, missing) if by_memory and not cluster else jobs
        missing = in_turn(missing, jobs)
        processes = max(2, min(jobs, len(missing))) if jobs > 1 else int(apart)  # one run here could end this process
        with ExitStack() as scratch, interrupt.listening():
            with about("the temporary folder", SCRATCH):
                board = Path(scratch.enter_context(tempfile.TemporaryDirectory())) / "board"
                rows = progress.make_board(board, len(missing))
            try:
                with watching(missing, rows):
                    _do_all(missing, data, paths, board, processes, cluster, kept, tell)
            except KeyboardInterrupt:
                with interrupt.once_more():
                    for name in names - told.keys():
                        if paths[name].exists():
                            tell(name)
                raise
    for name, path in paths.items():
        if name not in told and path.exists():
            tell(name)
    return {name: told[name] for name in paths if name in told}


def _missing(runs: Sequence[Run], paths: dict[str, Path], folder: Path, fresh: bool) -> list[Run]:
    """The runs that are not kept, or no longer: damaged ones and, where `fresh`, all are removed."""
    kinds = ("npz", "part") if fresh else ()
    forgotten = [path for run in runs for kind in kinds for path in folder.glob(f"{run.name}-*.{kind}")]
    for path in [*forgotten, *(path for path in folder.glob("*.tmp") if _left_behind(path))]:
        path.unlink(missing_ok=True)
    missing = [run for run in runs if not _readable(paths[run.name])]
    damaged = [paths[run.name].name for run in missing if paths[run.name].exists()]
    for name in damaged:
        (folder / name).unlink()
    if damaged:
        what = f"{len(damaged)} of {len(runs)} finished runs are damaged"
        warn(f"{what}, {folder}, they are done again: {' '.join(damaged)}")
    return missing


# ---------------------------------------------------------------------------- in the process of the script


def _do_all(
    runs: Sequence[Run],
    data: tuple,
    paths: dict[str, Path],
    board: Path,
    processes: int,
    address: str | None,
    kept: list[str],
    tell: Callable[[str], None],
) -> None:
    """Do the runs, and tell of each when it is done, and of those in `kept`, which is emptied, when there is time.

    With 0 processes, this one does them.
    A process that dies takes the pool with it and does not say which run it had. So the runs that were under way are
    tried again at the end, one at a time, and the others go on in a new pool. Dask goes on by itself, but gives up runs
    that were waiting for workers that died, too.
    """
    runs = [replace(run, unfinished=paths[run.name].with_suffix(".part")) for run in runs]
    fractions = progress.read_board(board)[:, 0]
    failed, told = set(), set()
    left, alone = list(range(len(runs))), []

    def fail(n: int, problem: str) -> None:
        fractions[n] = 0
        failed.add(n)
        warn(f"the run {runs[n].name} failed ({problem})")

    def take(n: int, finished: bool, problem: str, trace: str, said: list[str]) -> None:
        fractions[n] = 1.0 if finished else 0.0
        for text in said:
            if text not in told:
                warn(text)
        told.update(said)
        if trace:
            report = paths[runs[n].name].with_name(f"{runs[n].name}.error.txt")
            report.parent.mkdir(parents=True, exist_ok=True)
            write_whole(report, trace.encode())
            problem = f"{problem}; see {report}"
        if problem:
            fail(n, problem)
        interrupt.check()
        if finished:
            tell(runs[n].name)

    with _executor(data, board, processes, address) as (submit, ahead):

        def do(numbers: list[int]) -> None:
            waiting, under_way = iter(numbers), {}
            while True:  # what loky has not handed out, it trips over at Ctrl-C; so it gets few ahead
                for n in islice(waiting, ahead - len(under_way)):
                    under_way[_on_disk(submit(runs[n], n), paths[runs[n].name])] = n
                if not under_way:
                    return
                finished = wait(under_way, 0 if kept else None, FIRST_COMPLETED).done
                for future in finished:
                    n = under_way.pop(future)
                    try:
                        take(*future.result())
                    except dask.GaveUp:
                        alone.append(n)
                if kept:
                    tell(kept.pop(0))

        while left:
            try:
                do(left)
                break
            except BrokenExecutor:
                interrupt.check()  # which may have ended a worker that was starting
                left = [n for n in left if not paths[runs[n].name].exists() and n not in failed]
                under_way = [n for n in left if fractions[n]] or left
                names = " or ".join(runs[n].name for n in under_way)
                warn(f"a worker process died, perhaps for lack of memory; it had {names}")
                alone += under_way
                left = [n for n in left if n not in under_way]
                fractions[under_way] = 0
        for n in list(alone):
            alone.remove(n)
            try:
                do([n])
            except BrokenExecutor:
                interrupt.check()
                alone.append(n)
    for n in alone:  # again
        fail(n, DIES)


def _on_disk(future: Future, path: Path) -> Future:
    """What `_do` gives, but whether there are arrays in place of these, once they are on disk.

    Nothing waits for this thread, which may be busy with what a finished run is used for.
    """
    kept = Future()

    def keep(given: Future) -> None:
        try:
            number, arrays, *others = given.result()
            if arrays:
                with interrupt.postponed():
                    _keep(path, arrays)
            kept.set_result((number, bool(arrays), *others))
        except BaseException as error:  # Ctrl-C, too
            kept.set_exception(error)

    future.add_done_callback(keep)
    return kept


@contextmanager
def _executor(
    data: tuple, board: Path, processes: int, address: str | None
) -> Iterator[tuple[Callable[[Run, int], Future], int]]:
    """submit(run, number) -> Future, and how many futures it may have at a time."""
    if address:
        with dask.executor(address, data, _versions()) as submit:
            yield lambda run, number: submit(functools.partial(_do, run, number, board, None)), sys.maxsize
    elif not processes or _alone(processes):

        def here(run: Run, number: int) -> Future:
            future = Future()
            future.set_result(_do(run, number, board, None, data))
            return future

        yield here, 1
    else:
        stored = board.with_name("data")
        with about(board.parent, SCRATCH):
            _share(data, stored)
        try:
            yield lambda run, number: _submit(processes, _do, run, number, board, os.getpid(), stored), 2 * processes
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
    """The next runs get new worker processes, without what these have imported and hold."""
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


def _readable(path: Path) -> bool:
    try:
        with np.load(path) as arrays:
            return len(dict(arrays)) > 0
    except Exception as error:  # reading a damaged archive raises nearly anything
        if getattr(error, "errno", None) not in (None, errno.ENOENT):  # it isn't damaged, and so not to be deleted
            raise
        return False


def _keep(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:  # as np.savez, which takes no array named `file`
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
        os.replace(unfinished, path)
        path.with_suffix(".part").unlink(missing_ok=True)
    finally:
        unfinished.unlink(missing_ok=True)


def _left_behind(unfinished: Path) -> bool:
    """Whether a temporary file is so old that nobody can be writing it still."""
    with suppress(OSError):
        return time.time() - unfinished.stat().st_mtime > 3600
    return False


# ---------------------------------------------------------------------------- in the process that does a run


def one_thread() -> None:
    """Compute on one thread, in the same order each time, and with 0 for what is smaller than a float's 1e-38.

    Such numbers, of which a trained network's gradients are full, take Intel's processors many times as long as others.
    """
    torch.set_num_threads(1)
    np.finfo(np.float32), np.finfo(np.float64)  # NumPy before 2.4 warns if it first looks for such numbers later
    torch.set_flush_denormal(True)
    torch.backends.cudnn.deterministic = True


@functools.lru_cache(1)
def _load(stored: Path) -> tuple:
    return joblib.load(stored, mmap_mode="r")


def _give_back_memory() -> None:
    """To the system what the last run has left, and from now on what is large as soon as it is free.

    Where the C library can: else each run needs more than the last, and training at 224 pixels 0.3 GiB more.
    """
    with suppress(OSError, AttributeError):
        library, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # as glibc's malloc.h numbers them
        library.mallopt(trim_threshold, 2**25)
        library.mallopt(mmap_threshold, 2**22)
        library.malloc_trim(0)


def _do(run: Run, number: int, board: Path, parent: int | None, data: tuple | Path) -> tuple:
    """Do a run: (its number, its arrays, what is wrong with it, the traceback, libraries' warnings). Raises InputError.

    `board` is where to write its progress, if it is on this machine; `parent` the process to end with; `data` may be
    the file that holds them.
    """
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    one_thread()
    _give_back_memory()
    if torch.cuda.device_count() > 1:  # loky numbers its processes: each keeps to a GPU of its own
        worker = multiprocessing.current_process().name.rpartition("-")[2]
        torch.cuda.set_device(int(worker) % torch.cuda.device_count() if worker.isdecimal() else 0)
    rows = progress.read_board(board) if board.exists() else np.zeros((number + 1, progress.TOLD))

    def reach(fraction: float) -> None:
        progress.write(rows, number, fraction)
        if parent and os.getppid() != parent:  # the parent was killed
            os._exit(1)

    reach.unfinished = run.unfinished
    reach(1e-9)
    started, said = time.perf_counter(), []
    try:
        given = _load(data) if isinstance(data, Path) else data
        with library_warnings(said.append):
            arrays = run.function(run.config, *given, *run.arguments, reach)
        arrays = {name: np.asarray(values) for name, values in arrays.items()}
        if odd := [name for name, values in arrays.items() if values.dtype.hasobject]:
            raise TypeError(f"it gives no array of numbers or texts for {' and '.join(odd)}")
    except InputError:
        raise
    except Exception as error:
        return number, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200], traceback.format_exc(), said
    made = {"made_on": np.array(machine()), "run_seconds": np.array(time.perf_counter() - started)}
    return number, arrays | made, "", "", said
