"""Runs on a Dask cluster: a real scheduler and two real workers as processes, some of them killed on the way."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import test_faults
from test_faults import runs

import cnn
import engine
import faces
import helpers
import NN_tutorial
import ranks
import xg

MODULES = NN_tutorial, xg, cnn, helpers, engine, faces, ranks
COMMAND = ["width", "learning-rate", "--quick", "--seeds", "1"]


class Cluster:
    """A scheduler and workers that know nothing of this folder."""

    def __init__(self, folder: Path, *workers: str, count: int = 2):
        self.folder, self.file = folder, folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        deadline = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < deadline:
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


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path, "--no-nanny")  # so that a killed worker stays away
    yield made
    made.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> bytes:
    """The table of a run on this machine alone."""
    out = tmp_path_factory.mktemp("local")
    NN_tutorial.main([*COMMAND, "--jobs", "1", "--out", str(out)])
    return (out / "NN_tutorial.csv").read_bytes()


def kill_after_the_first_run(process: subprocess.Popen, out: Path) -> None:
    def wait() -> None:
        while not list(out.rglob("*.npz")):
            time.sleep(0.01)
        process.kill()

    threading.Thread(target=wait, daemon=True).start()


def test_a_lost_worker_and_a_lost_scheduler(cluster, local, tmp_path, capfd):
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


def test_a_run_that_kills_its_workers_does_not_stop_the_others(tmp_path, capfd):
    cloudpickle.register_pickle_by_value(test_faults)
    cluster = Cluster(tmp_path, "--nanny")  # which starts a killed worker again
    try:
        finished = engine.finish_runs(runs("killed", "raises"), (), {}, tmp_path, 1, cluster=cluster.address)
    finally:
        cluster.stop()
    assert set(finished) == {f"good{i}" for i in range(4)}
    messages = capfd.readouterr().err
    assert "the run bad-killed failed (its process dies, perhaps for lack of memory" in messages
    assert "the run bad-raises failed (ValueError: a loss of nan,; see " in messages
    assert "here of all places" in (tmp_path / "bad-raises.error.txt").read_text()


def test_no_scheduler_is_one_line(tmp_path, capfd):
    arguments = [*COMMAND, "--cluster", "tcp://127.0.0.1:1", "--out", str(tmp_path)]
    assert helpers.run_script(lambda: NN_tutorial.main(arguments)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: no Dask scheduler answers (")
    assert helpers.run_script(lambda: NN_tutorial.main([*arguments[:-4], "--cluster", "x y", *arguments[-2:]])) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("function", [
    NN_tutorial.train, NN_tutorial.fit_references, NN_tutorial.fit_forests, xg.train, cnn.train_network,
    cnn.extract_features, engine._do,
])  # fmt: skip
def test_what_runs_do_can_be_sent_whole(function):
    for module in MODULES:
        cloudpickle.register_pickle_by_value(module)
    try:
        sent = cloudpickle.loads(cloudpickle.dumps(function))
    finally:
        for module in MODULES:
            cloudpickle.unregister_pickle_by_value(module)
    assert sent is not function  # by value: a worker need not have the file


def test_workers_that_might_give_other_results_are_refused(monkeypatch):
    class Worker:
        address = "tcp://somewhere"

        class state:
            nthreads = 1

    monkeypatch.setattr("distributed.get_worker", Worker)
    engine._check_worker(engine._versions())
    with pytest.raises(helpers.InputError, match=r"it has .*torch .*install .*torch 1\.0"):
        engine._check_worker({**engine._versions(), "torch": "1.0"})
    Worker.state.nthreads = 4
    with pytest.raises(helpers.InputError, match="several threads"):
        engine._check_worker(engine._versions())


def test_each_process_keeps_to_a_gpu_of_its_own(monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    for name in ("MainProcess", "LokyProcess-1", "LokyProcess-2", "LokyProcess-3"):
        monkeypatch.setattr("multiprocessing.current_process", lambda name=name: type("P", (), {"name": name}))
        _, arrays, problem, _ = engine._do(runs()[0], 0, tmp_path / "none", None, None)
        assert (int(arrays["done"]), problem) == (1, "")
    assert taken == [0, 1, 0, 1]


def test_auto_never_takes_mps(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert helpers.choose_device("auto") == "cpu"
    assert helpers.choose_device("mps") == "mps"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert helpers.choose_device("auto") == "cuda"


def test_what_a_machine_is_called():
    assert f"torch {__import__('torch').__version__}" in engine.machine()
    assert np.array(engine.machine()).dtype.kind == "U"  # kept without pickle
