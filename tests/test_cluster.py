"""lab/cluster.py: runs on a Dask cluster, real schedulers and workers as processes, some of them killed on the way."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import helpers
import NN_tutorial
from lab import cluster as dask
from lab.errors import InputError
from lab.runs import Run, _versions, finish_runs

ROOT = Path(__file__).parents[1]
COMMAND = ["width", "learning-rate", "--quick", "--seeds", "1"]


class Cluster:
    """A scheduler and workers that know nothing of this folder."""

    def __init__(self, folder: Path, *workers: str, count: int = 2):
        self.folder, self.file = folder, folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        deadline = time.monotonic() + 60
        while not (self.file.exists() and self.file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.address = json.loads(self.file.read_text())["address"]
        self.workers = [self.start("worker", "--nthreads", "1", *workers) for _ in range(count)]

    def start(self, kind: str, *options: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            f"distributed.cli.dask_{kind}",
            "--no-dashboard",
            "--scheduler-file",
            self.file,
        ]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        clean["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "1"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, *options], cwd=self.folder, env=clean, **quiet)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()  # a worker ends with its nanny
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers for all tests, of which the last one ends them."""
    made = Cluster(tmp_path_factory.mktemp("elsewhere"), "--no-nanny")  # so that a killed worker stays away
    yield made
    made.stop()


@pytest.fixture(scope="module", autouse=True)
def restarting(tmp_path_factory):
    """Another two, each with a nanny that starts it again when it is killed."""
    made = Cluster(tmp_path_factory.mktemp("elsewhere"), "--nanny")
    yield made
    made.stop()


def test_no_scheduler_is_one_line(tmp_path, capfd):
    for address in ("tcp://127.0.0.1:1", "x y"):
        arguments = [*COMMAND, "--cluster", address, "--out", str(tmp_path)]
        assert helpers.run_script(lambda arguments=arguments: NN_tutorial.main(arguments)) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: no Dask scheduler answers (")


# ---------------------------------------------------------------------------- the code that is sent

ANSWER = """
import os, sys
from pathlib import Path
import numpy as np
from lab import stack

def work(config, data, progress):
    files = [str(Path(m.__file__).parent) for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
    told = {"version": 1, "updates": stack.UPDATES, "data": data["x"].sum(), "process": os.getpid()}
    told |= {"files": [os.getcwd(), *sys.path, *files], "path": sys.path}
    return {name: np.array(value) for name, value in told.items()}
"""


def test_workers_need_no_file_of_the_repository_and_take_new_code(cluster, tmp_path, monkeypatch):
    place = tmp_path / "edited"
    shutil.copytree(ROOT / "lab", place / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "study.mplstyle", place)
    monkeypatch.setattr(dask, "ROOT", place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # its time stamps have whole seconds

    def answers(out: str, **edited: tuple[Path, str, str]) -> list[dict[str, np.ndarray]]:
        sys.modules.pop("answer", None)
        importlib.invalidate_caches()
        answer = importlib.import_module("answer")
        runs = [Run(f"run{number}", answer.work, None) for number in range(4)]
        return list(finish_runs(runs, ({"x": np.arange(4)},), {}, tmp_path / out, 1, cluster=cluster.address).values())

    (place / "answer.py").write_text(ANSWER)
    first = answers("first")
    assert [(int(a["version"]), int(a["updates"]), int(a["data"])) for a in first] == 4 * [(1, 4, 6)]
    assert os.getpid() not in {int(a["process"]) for a in first}
    for path in {path for a in first for path in a["files"]}:
        assert not Path(path).is_relative_to(ROOT)
        assert not Path(path).is_relative_to(place)

    (place / "answer.py").write_text(ANSWER.replace('"version": 1', '"version": 2'))
    stack = (place / "lab" / "stack.py").read_text()
    (place / "lab" / "stack.py").write_text(stack.replace("UPDATES = 4", "UPDATES = 5"))
    second = answers("second")
    assert [(int(a["version"]), int(a["updates"])) for a in second] == 4 * [(2, 5)]
    assert {int(a["process"]) for a in first} & {int(a["process"]) for a in second}  # that had the old code
    old = {str(folder) for a in first for folder in a["path"]} - {str(folder) for a in second for folder in a["path"]}
    assert old
    assert not any(Path(folder).exists() for folder in old)


# ---------------------------------------------------------------------------- what is refused


def test_workers_of_other_versions_are_refused(cluster):
    versions = _versions() | {"torch": "1.0"}
    with dask.executor(cluster.address, (), versions) as submit:
        refused = submit(len).exception()
    assert isinstance(refused, InputError)
    assert re.fullmatch(r"it has .*torch .*, worker tcp://.*, install .*torch 1\.0.* there", str(refused))


def test_workers_of_several_threads_are_refused(monkeypatch):
    class Worker:
        address = "tcp://somewhere"

        class state:
            nthreads = 1

    monkeypatch.setattr("distributed.get_worker", Worker)
    dask.check_worker(_versions())
    Worker.state.nthreads = 4
    with pytest.raises(InputError, match="several threads"):
        dask.check_worker(_versions())


# ---------------------------------------------------------------------------- what is lost


@dataclass(frozen=True)
class Config:
    fault: str = ""


def work(config: Config, progress) -> dict[str, np.ndarray]:
    if config.fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fault == "raises":
        raise ValueError("a loss of nan,\nhere of all places")
    return {"done": np.array(1)}


def test_a_run_that_kills_its_workers_does_not_stop_the_others(restarting, tmp_path, capfd):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have no tests
    bad = [Run(f"bad-{fault}", work, Config(fault), cost=9.0) for fault in ("killed", "raises")]
    try:
        runs = [*bad, *(Run(f"good{i}", work, Config()) for i in range(4))]
        finished = finish_runs(runs, (), {}, tmp_path, 1, cluster=restarting.address)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert set(finished) == {f"good{i}" for i in range(4)}
    messages = capfd.readouterr().err
    assert "the run bad-killed failed (its process dies, perhaps for lack of memory" in messages
    assert "the run bad-raises failed (ValueError: a loss of nan,; see " in messages
    assert "here of all places" in (tmp_path / "bad-raises.error.txt").read_text()


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
