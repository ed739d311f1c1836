"""Does the runs of a study: each once, in processes of this machine or of a cluster, and keeps what they give."""

import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import joblib
import loky
import numpy as np
import torch
from tqdm import tqdm

from lab import cluster as dask
from lab import keys, stopping
from lab.errors import InputError, warn
from lab.files import write_whole

DIES = "its process dies, perhaps for lack of memory: fewer processes on a machine may help"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One piece of work that is done once and kept: `function(config, *data, *arguments, progress) -> arrays`.

    A pure function: what it gives depends on nothing else, so that it may run anywhere. `arguments` are part of its
    identity, as the configuration is; `seeds` are those along the first axis of its arrays, None for an array of one
    without such an axis; `cost` is an estimate of its share of the work, in any unit.
    """

    name: str
    function: Callable[..., Arrays]
    config: Any
    arguments: tuple[Any, ...] = ()
    seeds: tuple[int, ...] | None = None
    cost: float = 1.0

    def path(self, folder: Path, data: tuple, context: dict) -> Path:
        """The file of the finished run; its name changes with all that its result depends on, see keys.py.

        `context` stands for the content of the data, whose classes count as code.
        """
        kinds = (type(thing) for thing in data)
        code = keys.fingerprint(one_thread, self.function, *kinds, self.config, self.arguments)
        key = json.dumps([code, context, _versions()], sort_keys=True)
        return folder / f"{self.name}-{keys.fingerprint(key)[:12]}.npz"


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


def finish_runs(
    runs: Sequence[Run],
    data: tuple,
    context: dict,
    folder: Path,
    jobs: int,
    fresh: bool = False,
    redraw: bool = False,
    cluster: str | None = None,
) -> dict[str, Arrays]:
    """Do the runs that are not in `folder` yet, the longest first, in `jobs` processes of one thread each.

    With `cluster`, the address of a Dask scheduler, its workers do them; with `redraw`, nobody does. A finished run is
    on disk as soon as this process, the only one that writes, has its arrays. A run that fails is reported on stderr
    and the rest goes on; its traceback is in `folder`.

    Returns {run name: its arrays}, and among these `made_on` (what `machine` says) and `run_seconds` (wall time).
    """
    folder.mkdir(parents=True, exist_ok=True)
    forgotten = [path for run in runs if fresh for path in folder.glob(f"{run.name}-*.npz")]
    for path in [*forgotten, *(path for path in folder.glob("*.tmp") if _left_behind(path))]:
        path.unlink(missing_ok=True)
    paths = {run.name: run.path(folder, data, context) for run in runs}
    missing = [run for run in sorted(runs, key=lambda run: -run.cost) if not _readable(paths[run.name])]
    damaged = [paths[run.name].name for run in missing if paths[run.name].exists()]
    for name in damaged:
        (folder / name).unlink()
    if damaged:
        what = f"{len(damaged)} of {len(runs)} finished runs are damaged"
        warn(f"{what}, {folder}, they are done again: {' '.join(damaged)}")
    left = "left out" if redraw else "to do"
    print(f"{len(runs)} runs: {len(runs) - len(missing)} kept in {folder}, {len(missing)} {left}", flush=True)
    if missing and not redraw:
        with tempfile.TemporaryDirectory() as scratch:
            board = Path(scratch) / "progress"  # one fraction per run; the workers write it, the bar reads it
            board.write_bytes(np.zeros(len(missing)).tobytes())
            with _Bar(missing, board), stopping.listening():
                problems = _do_all(missing, data, paths, board, jobs, cluster)
        for name, problem in problems.items():
            warn(f"the run {name} failed ({problem})")
    return {name: dict(np.load(path)) for name, path in paths.items() if path.exists()}


# ---------------------------------------------------------------------------- in the process of the script


def _do_all(
    runs: Sequence[Run], data: tuple, paths: dict[str, Path], board: Path, jobs: int, address: str | None
) -> dict[str, str]:
    """{name: what is wrong} of the runs that can't be done; the others are kept.

    A process that dies takes the pool with it and does not say which run it had. So the runs that were under way are
    tried again at the end, one at a time, and the others go on in a new pool. Dask goes on by itself, but gives up runs
    that were waiting for workers that died, too.
    """
    fractions = np.memmap(board, dtype=float, mode="r+")
    problems: dict[str, str] = {}
    left, alone = list(range(len(runs))), []

    def take(n: int, arrays: Arrays, problem: str, trace: str) -> None:
        fractions[n] = 1.0 if arrays else 0.0
        if arrays:
            with stopping.postponed():
                _keep(paths[runs[n].name], arrays)
        if trace:
            report = paths[runs[n].name].with_name(f"{runs[n].name}.error.txt")
            write_whole(report, trace.encode())
            problem = f"{problem}; see {report}"
        if problem:
            problems[runs[n].name] = problem
        stopping.check()

    processes = 1 if jobs == 1 else max(2, min(jobs, len(runs)))  # one run in this process could end it
    with _executor(data, board, processes, address) as (submit, ahead):

        def do(numbers: list[int]) -> None:
            waiting, under_way = iter(numbers), {}
            while True:  # what loky has not handed out, it trips over at Ctrl-C; so it gets few ahead
                for n in islice(waiting, ahead - len(under_way)):
                    under_way[submit(runs[n], n)] = n
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    n = under_way.pop(future)
                    try:
                        take(*future.result())
                    except dask.GaveUp:
                        alone.append(n)

        while left:
            try:
                do(left)
                break
            except BrokenExecutor:
                stopping.check()  # which may have ended a worker that was starting
                left = [n for n in left if not paths[runs[n].name].exists() and runs[n].name not in problems]
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
                stopping.check()
                alone.append(n)
    for n in alone:  # again
        fractions[n] = 0
        problems[runs[n].name] = DIES
    return problems


@contextmanager
def _executor(
    data: tuple, board: Path, jobs: int, address: str | None
) -> Iterator[tuple[Callable[[Run, int], Future], int]]:
    """submit(run, number) -> Future, and how many futures it may have at a time."""
    if address:
        with dask.executor(address, data, _versions()) as submit:
            yield lambda run, number: submit(functools.partial(_do, run, number, board, None)), sys.maxsize
    elif jobs == 1:

        def here(run: Run, number: int) -> Future:
            future = Future()
            future.set_result(_do(run, number, board, None, data))
            return future

        yield here, 1
    else:
        stored = board.with_name("data")
        joblib.dump(data, stored)  # the workers share its arrays, mapped from there

        pool = None

        def there(run: Run, number: int) -> Future:
            nonlocal pool
            with stopping.hidden_from_children():
                pool = loky.get_reusable_executor(jobs, env=ONE_THREAD)  # another one if it is broken
                return pool.submit(_do, run, number, board, os.getpid(), stored)

        try:
            yield there, 2 * jobs
        except BaseException:
            if pool:
                pool.shutdown(kill_workers=True)
            raise


def _readable(path: Path) -> bool:
    try:
        with np.load(path) as arrays:
            return len(dict(arrays)) > 0
    except Exception:  # reading a damaged archive raises nearly anything
        return False


def _keep(path: Path, arrays: Arrays) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:  # as np.savez, which takes no array named `file`
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _left_behind(unfinished: Path) -> bool:
    """Whether a temporary file is so old that nobody can be writing it still."""
    with suppress(OSError):
        return time.time() - unfinished.stat().st_mtime > 3600
    return False


# ---------------------------------------------------------------------------- in the process that does a run


def one_thread() -> None:
    """Compute on one thread, in the same order each time."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True


@functools.lru_cache(1)
def _load(stored: Path) -> tuple:
    return joblib.load(stored, mmap_mode="r")


def _do(run: Run, number: int, board: Path, parent: int | None, data: tuple | Path) -> tuple[int, Arrays, str, str]:
    """Do a run: (its number, its arrays, what is wrong with it, the traceback). Raises InputError.

    `board` is where to write its progress, if it is on this machine; `parent` the process to end with; `data` may be
    the file that holds them.
    """
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    one_thread()
    if torch.cuda.device_count() > 1:  # loky numbers its processes: each keeps to a GPU of its own
        worker = multiprocessing.current_process().name.rpartition("-")[2]
        torch.cuda.set_device(int(worker) % torch.cuda.device_count() if worker.isdecimal() else 0)
    fractions = np.memmap(board, dtype=float, mode="r+") if board.exists() else np.zeros(number + 1)

    def progress(fraction: float) -> None:
        fractions[number] = fraction
        if parent and os.getppid() != parent:  # the parent was killed
            os._exit(1)

    progress(1e-9)
    started = time.perf_counter()
    try:
        given = _load(data) if isinstance(data, Path) else data
        arrays = run.function(run.config, *given, *run.arguments, progress)
        arrays = {name: np.asarray(values) for name, values in arrays.items()}
        if odd := [name for name, values in arrays.items() if values.dtype.hasobject]:
            raise TypeError(f"it gives no array of numbers or texts for {' and '.join(odd)}")
    except InputError:
        raise
    except Exception as error:
        return number, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200], traceback.format_exc()
    made = {"made_on": np.array(machine()), "run_seconds": np.array(time.perf_counter() - started)}
    return number, arrays | made, "", ""


class _Bar:
    """A progress bar over all runs, weighted by cost, that names the running ones; silent off a terminal."""

    def __init__(self, runs: Sequence[Run], board: Path):
        self.names = [run.name for run in runs]
        self.costs = np.array([run.cost for run in runs])
        self.fractions = np.memmap(board, dtype=float, mode="r")
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        form = "{percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left{postfix}"
        with tqdm(total=float(self.costs.sum()), bar_format=form, dynamic_ncols=True) as bar:
            finished = False
            while not finished:
                finished = self.done.wait(0.5)
                done = float(self.costs @ self.fractions)
                bar.n = done if done > 0.01 * bar.total else 0  # no wild guess at the time left
                running = [n for n, f in zip(self.names, self.fractions, strict=True) if 0 < f < 1]
                bar.set_postfix_str(" ".join(running)[:60], refresh=True)

    def __enter__(self):
        if sys.stderr.isatty():
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        if self.thread.is_alive():
            self.thread.join()
