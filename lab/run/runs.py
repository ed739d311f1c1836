"""Does the runs of a study: each once, in turn, and keeps what they give; pool.py has the processes that do them."""

import errno
import heapq
import json
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lab.errors import about, warn
from lab.files import write_whole
from lab.run import cache_key, interrupt, pool, progress
from lab.run.cluster import GaveUp

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One piece of work that is done once and kept: `function(config, *data, *arguments, progress) -> arrays`.

    A pure function: what it gives depends on nothing else, so that it may run anywhere. `arguments` are part of its
    identity, as the configuration is; `seeds` are those along the first axis of its arrays, None for an array of one
    without such an axis; `cost` is an estimate of its share of the work, in any unit, `memory` of what it needs (GiB);
    `unfinished` is set when it is done: the file for what it may leave behind on its way, see lab/nets/checkpoint.py.
    """

    name: str
    function: Callable[..., Arrays]
    config: Any
    arguments: tuple[Any, ...] = ()
    seeds: tuple[int, ...] | None = None
    cost: float = 1.0
    memory: float = 0.0
    unfinished: Path | None = None

    def call(self, data: tuple, progress: Callable[[float], None]) -> Arrays:
        progress.unfinished = self.unfinished
        return self.function(self.config, *data, *self.arguments, progress)

    def path(self, folder: Path, data: tuple, context: dict) -> Path:
        """The file of the finished run; its name changes with all that its result depends on, see cache_key.py.

        `context` stands for the content of the data, whose classes count as code.
        """
        kinds = (type(thing) for thing in data)
        code = cache_key.fingerprint(pool.one_thread, self.function, *kinds, self.config, self.arguments)
        key = json.dumps([code, context, pool.versions()], sort_keys=True)
        return folder / f"{self.name}-{cache_key.fingerprint(key)[:12]}.npz"


@dataclass(frozen=True)
class Work:
    """The runs of a configuration and how they are done.

    `data` is what their functions are given after the configuration, `context` what stands for it in their keys;
    `script` is the one whose folder keeps them, if not the one that asks; `here` is for what takes less time than the
    start of a worker process, `apart` for what may abort its process.
    """

    runs: list[Run]
    data: tuple
    context: dict
    script: str = ""
    here: bool = False
    apart: bool = False


def in_groups(name: str, function: Callable, config: Any, seeds: Sequence[int], size: int, cost: float) -> list[Run]:
    """The runs function(config, *data, seeds, progress) of a configuration, each of at most `size` seeds.

    cost: of one seed.
    """
    runs = []
    for first in range(0, len(seeds), size):
        part = tuple(seeds[first : first + size])
        full = file_name(f"{name}-{part[0]}-{part[-1]}")
        runs.append(Run(full, function, config, (part,), part, cost * len(part)))
    return runs


def file_name(name: str) -> str:
    """A name without spaces and commas."""
    return re.sub("[ ,]+", "_", name)


# ---------------------------------------------------------------------------- their order


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


# ---------------------------------------------------------------------------- how they are done


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
    does. A run that fails is reported on stderr and the rest goes on; its traceback is in `folder`. done(name, arrays)
    is called for every kept and every finished run, here and in between, so that what it takes time for goes on beside
    the others, after Ctrl-C too. Runs are under way inside watching(runs, board), see progress.py.

    Returns {run name: its arrays}, and among these `made_on` (what `machine` says) and `run_seconds` (wall time).
    """
    files = _Files(folder, {run.name: run.path(folder, data, context) for run in runs}, done)
    missing = files.missing(runs, fresh)
    left = f"{len(missing)} {'left out' if redraw else 'to do'}"
    print(f"{len(runs)} runs: {len(runs) - len(missing)} kept in {folder}, {left}", flush=True)
    if missing and not redraw:
        if by_memory and not cluster:
            jobs = pool.affordable(jobs, max(run.memory for run in missing))
        missing = in_turn(missing, jobs)
        processes = max(2, min(jobs, len(missing))) if jobs > 1 else int(apart)  # one run here could end this process
        names = [run.name for run in missing]
        with interrupt.listening(), files.told_after_ctrl_c(names), _board(len(names)) as board:
            rows = progress.read_board(board)
            with watching(missing, rows):
                _Doing(missing, files, rows[:, 0]).do_all(data, board, processes, cluster)
    files.tell_all(files.paths)
    return {name: files.told[name] for name in files.paths if name in files.told}


@contextmanager
def _board(runs: int) -> Iterator[Path]:
    """A new board for so many runs, in a folder that goes."""
    with ExitStack() as scratch:
        with about("the temporary folder", pool.SCRATCH):
            board = Path(scratch.enter_context(tempfile.TemporaryDirectory())) / "board"
            progress.make_board(board, runs)
        yield board


class _Doing:
    """The runs that are being done, by their numbers in turn; this process, the only one that writes, keeps them.

    A process that dies takes the pool with it and does not say which run it had. So the runs that were under way are
    tried again at the end, one at a time, and the others go on in a new pool. Dask goes on by itself, but gives up runs
    that were waiting for workers that died, too.
    """

    def __init__(self, runs: Sequence[Run], files: "_Files", fractions: np.ndarray):
        self.runs = [replace(run, unfinished=files.paths[run.name].with_suffix(".part")) for run in runs]
        self.files, self.fractions = files, fractions  # (runs,), how much of each is done
        self.left: list[int] = list(range(len(runs)))
        self.alone: list[int] = []  # to be tried one at a time
        self.failed: set[int] = set()
        self.said: set[str] = set()  # warnings of libraries

    def do_all(self, data: tuple, board: Path, processes: int, address: str | None) -> None:
        """See pool.executor."""
        with pool.executor(data, board, processes, address) as (submit, ahead):
            while self.left:
                try:
                    self.do(self.left, submit, ahead)
                    break
                except BrokenExecutor:
                    interrupt.check()  # which may have ended a worker that was starting
                    self.set_apart()
            for n in list(self.alone):
                self.alone.remove(n)
                try:
                    self.do([n], submit, ahead)
                except BrokenExecutor:
                    interrupt.check()
                    self.alone.append(n)
        for n in self.alone:  # again
            self.fail(n, pool.DIES)

    def do(self, numbers: Sequence[int], submit: Callable[[pool.Call, int], Future], ahead: int) -> None:
        """Do runs, and tell of each when it is done, and of those that are kept, when there is time."""
        waiting, under_way, kept = iter(numbers), {}, self.files.kept
        while True:  # what loky has not handed out, it trips over at Ctrl-C; so it gets few ahead
            for n in islice(waiting, ahead - len(under_way)):
                future = submit(self.runs[n].call, n)
                under_way[_on_disk(future, self.files.paths[self.runs[n].name])] = n
            if not under_way:
                return
            for future in wait(under_way, 0 if kept else None, FIRST_COMPLETED).done:
                n = under_way.pop(future)
                try:
                    self.take(*future.result())
                except GaveUp:
                    self.alone.append(n)
            if kept:
                self.files.tell(kept.pop(0))

    def take(self, n: int, finished: bool, problem: str, trace: str, said: list[str]) -> None:
        """What pool.do gives of a run, but whether there are arrays."""
        self.fractions[n] = 1.0 if finished else 0.0
        for text in said:
            if text not in self.said:
                warn(text)
        self.said.update(said)
        if trace:
            report = self.files.folder / f"{self.runs[n].name}.error.txt"
            report.parent.mkdir(parents=True, exist_ok=True)
            write_whole(report, trace.encode())
            problem = f"{problem}; see {report}"
        if problem:
            self.fail(n, problem)
        interrupt.check()
        if finished:
            self.files.tell(self.runs[n].name)

    def fail(self, n: int, problem: str) -> None:
        self.fractions[n] = 0
        self.failed.add(n)
        warn(f"the run {self.runs[n].name} failed ({problem})")

    def set_apart(self) -> None:
        """Of the runs that are left, those that were under way when a worker process died."""
        left = [n for n in self.left if not self.files.paths[self.runs[n].name].exists() and n not in self.failed]
        under_way = [n for n in left if self.fractions[n]] or left
        names = " or ".join(self.runs[n].name for n in under_way)
        warn(f"a worker process died, perhaps for lack of memory; it had {names}")
        self.alone += under_way
        self.left = [n for n in left if n not in under_way]
        self.fractions[under_way] = 0


# ---------------------------------------------------------------------------- how they are kept


class _Files:
    """The files of runs by name, and what `done` has been told: the arrays by name."""

    def __init__(self, folder: Path, paths: dict[str, Path], done: Callable[[str, Arrays], None]):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.paths, self.done = folder, paths, done
        self.kept: list[str] = []  # from before, and not told yet
        self.told: dict[str, Arrays] = {}

    def missing(self, runs: Sequence[Run], fresh: bool) -> list[Run]:
        """The runs that are not kept, or no longer: damaged ones and, where `fresh`, all are removed."""
        kinds = ("npz", "part") if fresh else ()
        forgotten = [path for run in runs for kind in kinds for path in self.folder.glob(f"{run.name}-*.{kind}")]
        for path in [*forgotten, *(path for path in self.folder.glob("*.tmp") if _left_behind(path))]:
            path.unlink(missing_ok=True)
        missing = [run for run in runs if not _readable(self.paths[run.name])]
        damaged = [self.paths[run.name] for run in missing if self.paths[run.name].exists()]
        for path in damaged:
            path.unlink()
        if damaged:
            what = f"{len(damaged)} of {len(runs)} finished runs are damaged"
            warn(f"{what}, {self.folder}, they are done again: {' '.join(path.name for path in damaged)}")
        names = {run.name for run in missing}
        self.kept = [name for name in self.paths if name not in names]
        return missing

    def tell(self, name: str) -> None:
        arrays = dict(np.load(self.paths[name]))
        self.done(name, arrays)
        self.told[name] = arrays

    def tell_all(self, names: Iterable[str]) -> None:
        """Of those that are there and not told yet."""
        for name in names:
            if name not in self.told and self.paths[name].exists():
                self.tell(name)

    @contextmanager
    def told_after_ctrl_c(self, names: Iterable[str]) -> Iterator[None]:
        """Ctrl-C ends what is inside, but of these runs those that were finished there are told first."""
        try:
            yield
        except KeyboardInterrupt:
            with interrupt.once_more():
                self.tell_all(names)
            raise


def _on_disk(future: Future, path: Path) -> Future:
    """What `pool.do` gives, but whether there are arrays in place of these, once they are on disk.

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


def _readable(path: Path) -> bool:
    try:
        with np.load(path) as arrays:
            return len(dict(arrays)) > 0
    except Exception as error:  # reading a damaged archive raises nearly anything
        if getattr(error, "errno", None) not in (None, errno.ENOENT):  # it isn't damaged, and so not to be deleted
            raise
        return False


def _left_behind(unfinished: Path) -> bool:
    """Whether a temporary file is so old that nobody can be writing it still."""
    with suppress(OSError):
        return time.time() - unfinished.stat().st_mtime > 3600
    return False
