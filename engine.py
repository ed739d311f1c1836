"""Does the runs of a study: each once, in processes of this machine or of a cluster, and keeps what they give."""

import hashlib
import importlib.metadata
import inspect
import json
import logging
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
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from tqdm import tqdm

import ctrl_c
from helpers import InputError, write_whole

DIES = "its process dies, perhaps for lack of memory: fewer processes on a machine may help"


@dataclass(frozen=True)
class Run:
    """One piece of work that is done once and kept: `function(config, *data, *arguments, progress) -> arrays`.

    A pure function: what it gives depends on nothing else, so that it may run anywhere. `arguments` are part of its
    identity, as the configuration is, and can be written as JSON; `cost` is an estimate of its share of the work, in
    any unit; `code` is what else its result depends on.
    """

    name: str
    function: Callable[..., dict[str, np.ndarray]]
    config: Any
    cost: float
    code: tuple[Any, ...] = ()
    arguments: tuple[Any, ...] = ()

    def path(self, folder: Path, context: dict, source: Callable[[Any], str]) -> Path:
        """The file of the finished run; its name changes with configuration, context, code and libraries."""
        code = "".join(map(source, (self.function, *self.code)))
        key = json.dumps([asdict(self.config), self.arguments, context, code, _versions()], sort_keys=True)
        return folder / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-learn")}


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
) -> dict[str, dict[str, np.ndarray]]:
    """Do the runs that are not in `folder` yet, the longest first, in `jobs` processes of one thread each.

    With `cluster`, the address of a Dask scheduler, its workers do them, and `data` is sent to each of them once; with
    `redraw`, nobody does. A finished run is on disk as soon as this process, the only one that writes, has its arrays.
    A run that fails is reported on stderr and the rest goes on; its traceback is in `folder`.

    Returns {run name: its arrays}, and among these `made_on` (what `machine` says) and `run_seconds` (wall time).
    """
    folder.mkdir(parents=True, exist_ok=True)
    forgotten = [path for run in runs if fresh for path in folder.glob(f"{run.name}-*.npz")]
    for path in [*forgotten, *(path for path in folder.glob("*.tmp") if _left_behind(path))]:
        path.unlink(missing_ok=True)
    source = cache(inspect.getsource)  # it parses a whole module to find a class
    paths = {run.name: run.path(folder, context, source) for run in runs}
    missing = [run for run in sorted(runs, key=lambda run: -run.cost) if not _readable(paths[run.name])]
    damaged = [paths[run.name].name for run in missing if paths[run.name].exists()]
    for name in damaged:
        (folder / name).unlink()
    if damaged:
        what = f"{len(damaged)} of {len(runs)} finished runs are damaged"
        print(f"warning: {what}, {folder}, they are done again: {' '.join(damaged)}", file=sys.stderr)
    left = "left out" if redraw else "to do"
    print(f"{len(runs)} runs: {len(runs) - len(missing)} kept in {folder}, {len(missing)} {left}", flush=True)
    if missing and not redraw:
        with tempfile.TemporaryDirectory() as scratch:
            board = Path(scratch) / "progress"  # one fraction per run; the workers write it, the bar reads it
            board.write_bytes(np.zeros(len(missing)).tobytes())
            with _Bar(missing, board), ctrl_c.heard():
                problems = _do_all(missing, data, paths, board, jobs, cluster)
        for name, problem in problems.items():
            print(f"warning: the run {name} failed ({problem})", file=sys.stderr)
    return {name: dict(np.load(path)) for name, path in paths.items() if path.exists()}


def _do_all(
    runs: Sequence[Run], data: tuple, paths: dict[str, Path], board: Path, jobs: int, cluster: str | None
) -> dict[str, str]:
    """{name: what is wrong} of the runs that can't be done; the others are kept.

    A process that dies takes the pool with it and does not say which run it had. So the runs that were under way are
    tried again at the end, one at a time, and the others go on in a new pool. Dask goes on by itself, but gives up runs
    that were waiting for workers that died, too.
    """
    fractions = np.memmap(board, dtype=float, mode="r+")
    parent = os.getpid() if jobs > 1 and not cluster else None
    problems: dict[str, str] = {}
    left, alone = list(range(len(runs))), []

    def take(n: int, arrays: dict[str, np.ndarray], problem: str, trace: str) -> None:
        fractions[n] = 1.0 if arrays else 0.0
        if arrays:
            with ctrl_c.held():
                _keep(paths[runs[n].name], arrays)
        if trace:
            report = paths[runs[n].name].with_name(f"{runs[n].name}.error.txt")
            write_whole(report, trace.encode())
            problem = f"{problem}; see {report}"
        if problem:
            problems[runs[n].name] = problem
        ctrl_c.heed()

    def do(numbers: list[int]) -> None:
        processes = jobs if jobs == 1 else max(2, min(jobs, len(numbers)))  # joblib would do one job in this process
        calls = [partial(_do, runs[n], n, board, parent, _versions() if cluster else None) for n in numbers]
        if cluster:  # whose workers need not have this file
            calls = [joblib.wrap_non_picklable_objects(call, keep_wrapper=False) for call in calls]
        with (
            warnings.catch_warnings(),
            _workers_of(cluster, data) if cluster else joblib.parallel_config(n_jobs=processes),
        ):
            warnings.filterwarnings("ignore", r"\d+ tasks")  # joblib's, of what Ctrl-C leaves undone
            ahead = "all" if cluster else "2*n_jobs"  # what loky has not handed out, it trips over at Ctrl-C
            parallel = joblib.Parallel(batch_size=1, pre_dispatch=ahead, return_as="generator_unordered")
            try:
                with ctrl_c.kept_from_children():
                    outcomes = parallel(joblib.delayed(call)(*data) for call in calls)
                with closing(outcomes):
                    for outcome in outcomes:
                        take(*outcome)
            except BrokenProcessPool:
                ctrl_c.heed()  # which may have ended a worker that was starting
                raise
        if len(numbers) > 1:
            alone.extend(n for n in numbers if problems.get(runs[n].name) == DIES)

    while left:
        try:
            do(left)
            break
        except BrokenProcessPool:
            left = [n for n in left if not paths[runs[n].name].exists()]
            under_way = [n for n in left if fractions[n]] or left
            names = " or ".join(runs[n].name for n in under_way)
            print(f"warning: a worker process died, perhaps for lack of memory; it had {names}", file=sys.stderr)
            alone += under_way
            left = [n for n in left if n not in under_way]
            fractions[under_way] = 0
    for n in alone:
        problems.pop(runs[n].name, None)
        try:
            do([n])
        except BrokenProcessPool:
            fractions[n] = 0
            problems[runs[n].name] = DIES
    return problems


def _readable(path: Path) -> bool:
    try:
        with np.load(path) as arrays:
            return len(dict(arrays)) > 0
    except Exception:  # reading a damaged archive raises nearly anything
        return False


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, **arrays)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _left_behind(unfinished: Path) -> bool:
    """Whether a temporary file is so old that nobody can be writing it still."""
    with suppress(OSError):
        return time.time() - unfinished.stat().st_mtime > 3600
    return False


@contextmanager
def _workers_of(cluster: str, data: tuple) -> Iterator[None]:
    """Let joblib use the workers of a Dask cluster, each of which gets `data` once. Raises InputError."""
    try:
        import cloudpickle
        from distributed import Client, KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError
        from joblib._dask import DaskDistributedBackend
    except ImportError:
        remedy = 'python -m pip install -e ".[cluster]"'
        raise InputError("dask.distributed is not installed", f"--cluster {cluster}", remedy) from None

    class Backend(DaskDistributedBackend):
        """joblib's own waits for ever for a run that Dask has given up, as all workers that had it were lost.

        And it takes a cluster of one worker for this process.
        """

        def effective_n_jobs(self, n_jobs):
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func, callback=None):
            call = func.items[0][0]
            cloudpickle.dumps(call)  # what can't be sent is to raise here and not in a thread of joblib's
            number = call.args[1]  # see _do

            def end(future):
                if error := future.exception():
                    why = DIES if isinstance(error, KilledWorker) else f"{type(error).__name__}: {error}"[:200]
                    callback([(number, {}, why, "")])

            future = super().submit(func, callback)
            future.add_done_callback(end)
            return future

    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # one line will say it
    where = f"--cluster {cluster}"
    try:
        client = Client(cluster, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start it with `dask scheduler`, and `dask worker ADDRESS --nthreads 1` on each machine"
        raise InputError(f"no Dask scheduler answers ({error})", where, remedy) from None
    folder = Path(__file__).parent
    ours = [m for m in sys.modules.values() if folder == Path(getattr(m, "__file__", None) or "/").parent]
    ours = [module for module in ours if module.__name__ != "__main__"]  # which is sent whole in any case
    for module in ours:
        cloudpickle.register_pickle_by_value(module)
    with client:
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError:
            remedy = f"start some with `dask worker {cluster} --nthreads 1`"
            raise InputError("the scheduler has no workers", where, remedy) from None
        try:
            with joblib.parallel_config(Backend(client=client, scatter=list(data))):
                yield
        except (FutureCancelledError, CommClosedError):
            remedy = "finished runs are kept, the same command goes on from here"
            raise InputError("the scheduler is lost", where, remedy) from None
        finally:
            for module in ours:
                cloudpickle.unregister_pickle_by_value(module)


def one_thread() -> None:
    """Compute on one thread, in the same order each time."""
    from torch import backends, set_num_threads  # here, as cloudpickle cannot send what mentions torch.backends.cudnn

    set_num_threads(1)
    backends.cudnn.deterministic = True


def _check_worker(versions: dict[str, str]) -> None:
    """Raises InputError for a worker of a cluster that might give other results than this machine."""
    from distributed import get_worker

    where = f"worker {get_worker().address} on {platform.node()}"
    if versions != _versions():
        here, there = (" ".join(f"{n} {v}" for n, v in found.items()) for found in (_versions(), versions))
        raise InputError(f"it has {here}", where, f"install {there} there")
    if get_worker().state.nthreads > 1:
        raise InputError("it runs several threads", where, "start it with --nthreads 1 --nworkers N")


def _do(
    run: Run, number: int, board: Path, parent: int | None, versions: dict[str, str] | None, *data
) -> tuple[int, dict[str, np.ndarray], str, str]:
    """Do a run: (its number, its arrays, what is wrong with it, the traceback). Raises InputError.

    `board` is where to write its progress, if it is on this machine; `parent` the process to end with; `versions`
    those that a worker of a cluster must have.
    """
    if versions:
        _check_worker(versions)
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    one_thread()
    if torch.cuda.device_count() > 1:  # joblib numbers its processes: each keeps to a GPU of its own
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
        arrays = run.function(run.config, *data, *run.arguments, progress)
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
