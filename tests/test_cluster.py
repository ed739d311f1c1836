"""lab/run/cluster.py: runs on a Dask cluster; real schedulers and workers as processes, some killed on the way."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest

import helpers
import NN_tutorial
from lab.errors import InputError
from lab.run import cluster as dask
from lab.run.pool import versions
from lab.run.runs import Run, finish_runs

ROOT = Path(__file__).parents[1]
COMMAND = ["width", "learning-rate", "--quick", "--seeds", "1"]


@contextmanager
def started(folder: Path, nanny: str) -> Iterator[SimpleNamespace]:
    """A scheduler and two workers that know nothing of this folder."""
    file = folder / "scheduler.json"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "1"

    def start(kind: str, *options: str) -> subprocess.Popen:
        command = sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", "--scheduler-file", file
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, *options], cwd=folder, env=clean, **quiet)

    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [start("worker", "--nthreads", "1", nanny) for _ in range(2)]
    yield SimpleNamespace(address=json.loads(file.read_text())["address"], scheduler=scheduler, workers=workers)
    for process in (*workers, scheduler):
        process.kill()  # a worker ends with its nanny
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers for all tests, of which the last one ends them."""
    with started(tmp_path_factory.mktemp("elsewhere"), "--no-nanny") as made:  # so that a killed worker stays away
        yield made


@pytest.fixture(scope="module", autouse=True)
def restarting(tmp_path_factory):
    """Another two, each with a nanny that starts it again when it is killed."""
    with started(tmp_path_factory.mktemp("elsewhere"), "--nanny") as made:
        yield made


def test_no_scheduler_is_one_line(tmp_path, capfd):
    for address in ("tcp://127.0.0.1:1", "x y"):
        arguments = [*COMMAND, "--cluster", address, "--out", str(tmp_path)]
        assert helpers.run_script(lambda arguments=arguments: NN_tutorial.main(arguments)) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: no Dask scheduler answers (")


ANSWER = """
import os, sys
from pathlib import Path
import numpy as np
from lab.nets import stack

def work(config, data, progress):
    files = [str(Path(m.__file__).parent) for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
    told = {"version": 1, "updates": stack.UPDATES, "data": data["x"].sum(), "process": os.getpid()}
    told |= {"files": [os.getcwd(), *sys.path, *files], "path": sys.path}
    return {name: np.array(value) for name, value in told.items()}
"""


def test_workers_need_no_file_of_the_repository_and_take_new_code(cluster, copied, tmp_path, monkeypatch):
    place = copied({})
    monkeypatch.setattr(dask, "ROOT", place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # its time stamps have whole seconds

    def answers(out: str) -> list[dict[str, np.ndarray]]:
        sys.modules.pop("answer", None)
        importlib.invalidate_caches()
        answer = importlib.import_module("answer")
        runs = [Run(f"run{number}", answer.work, None) for number in range(4)]
        return list(finish_runs(runs, ({"x": np.arange(4)},), {}, tmp_path / out, 1, cluster=cluster.address).values())

    (place / "answer.py").write_text(ANSWER)
    first = answers("first")
    assert [(int(a["version"]), int(a["updates"]), int(a["data"])) for a in first] == 4 * [(1, 4, 6)]
    assert os.getpid() not in {int(a["process"]) for a in first}
    files = {Path(path) for a in first for path in a["files"]}
    files = {path for path in files if not path.is_relative_to(sys.prefix)}  # the environment may lie in the clone
    assert not any(path.is_relative_to(folder) for path in files for folder in (ROOT, place))

    (place / "answer.py").write_text(ANSWER.replace('"version": 1', '"version": 2'))
    stack = place / "lab" / "nets" / "stack.py"
    stack.write_text(stack.read_text().replace("UPDATES = 4", "UPDATES = 5"))
    second = answers("second")
    assert [(int(a["version"]), int(a["updates"])) for a in second] == 4 * [(2, 5)]
    assert {int(a["process"]) for a in first} & {int(a["process"]) for a in second}  # that had the old code
    old, new = ({str(folder) for a in answers for folder in a["path"]} for answers in (first, second))
    assert old - new
    assert not any(Path(folder).exists() for folder in old - new)


def test_workers_of_other_versions_are_refused(cluster):
    with dask.executor(cluster.address, (), versions() | {"torch": "1.0"}) as submit:
        refused = submit(len).exception()
    assert isinstance(refused, InputError)
    assert re.fullmatch(r"it has .*torch .*, worker tcp://.*, install .*torch 1\.0.* there", str(refused))


def test_workers_of_several_threads_are_refused(monkeypatch):
    worker = SimpleNamespace(address="tcp://somewhere", state=SimpleNamespace(nthreads=1))
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    dask.check_worker(versions())
    worker.state.nthreads = 4
    with pytest.raises(InputError, match="several threads"):
        dask.check_worker(versions())


def work(fault: str, progress) -> dict[str, np.ndarray]:
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "raises":
        raise ValueError("a loss of nan,\nhere of all places")
    return {"done": np.array(1)}


def test_a_run_that_kills_its_workers_does_not_stop_the_others(restarting, tmp_path, capfd):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have no tests
    runs = [Run(f"bad-{fault}", work, fault, cost=9.0) for fault in ("killed", "raises")]
    runs += [Run(f"good{i}", work, "") for i in range(4)]
    try:
        finished = finish_runs(runs, (), {}, tmp_path, 1, cluster=restarting.address)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert set(finished) == {f"good{i}" for i in range(4)}
    messages = capfd.readouterr().err
    assert "the run bad-killed failed (its process dies, perhaps for lack of memory" in messages
    assert "the run bad-raises failed (ValueError: a loss of nan,; see " in messages


def kill_after_the_first_run(process: subprocess.Popen, out: Path) -> None:
    def wait() -> None:
        while not list(out.rglob("*.npz")):
            time.sleep(0.01)
        process.kill()

    threading.Thread(target=wait, daemon=True).start()


def test_a_lost_worker_and_a_lost_scheduler(cluster, tmp_path, capfd):
    NN_tutorial.main([*COMMAND, "--jobs", "1", "--out", str(tmp_path / "local")])
    local = (tmp_path / "local" / "NN_tutorial.csv").read_bytes()

    out = tmp_path / "one worker lost"
    kill_after_the_first_run(cluster.workers[0], out)
    NN_tutorial.main([*COMMAND, "--cluster", cluster.address, "--out", str(out)])
    assert cluster.workers[0].wait(10) < 0
    assert (out / "NN_tutorial.csv").read_bytes() == local
    assert capfd.readouterr().err == ""

    out = tmp_path / "scheduler lost"
    kill_after_the_first_run(cluster.scheduler, out)
    arguments = [*COMMAND, "--cluster", cluster.address, "--out", str(out)]
    assert helpers.run_script(lambda: NN_tutorial.main(arguments)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: the scheduler is lost, --cluster {cluster.address}, finished runs are kept")
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    assert kept
    NN_tutorial.main([*COMMAND, "--jobs", "1", "--out", str(out)])  # the rest, here
    assert (out / "NN_tutorial.csv").read_bytes() == local
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
