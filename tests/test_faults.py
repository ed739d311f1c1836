"""What happens to the other runs when one fails or its process is killed, and that the failure is seen."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ctrl_c
import engine
import helpers
import NN_tutorial
from engine import Run

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Config:
    fault: str = ""


def work(config: Config, progress) -> dict[str, np.ndarray]:
    progress(0.5)
    if config.fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fault == "raises":
        raise ValueError("a loss of nan,\nhere of all places")
    return {"done": np.array(1)}


def runs(*faults: str) -> list[Run]:
    good = [Run(f"good{i}", work, Config(), 1.0) for i in range(4)]
    return [*(Run(f"bad-{fault}", work, Config(fault), 9.0) for fault in faults), *good]


def test_a_failing_run_is_reported_and_the_rest_goes_on(tmp_path, capfd):
    finished = engine.finish_runs(runs("killed", "raises"), (), {}, tmp_path, 2)
    assert set(finished) == {f"good{i}" for i in range(4)}
    messages = capfd.readouterr().err
    assert "a worker process died, perhaps for lack of memory; it had bad-killed" in messages
    assert "the run bad-killed failed (its process dies" in messages
    assert "the run bad-raises failed (ValueError: a loss of nan,; see " in messages
    assert "Traceback" not in messages
    assert "here of all places" in (tmp_path / "bad-raises.error.txt").read_text()
    assert not list(tmp_path.glob("*.tmp"))

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("good*.npz")}
    engine.finish_runs(runs("raises"), (), {}, tmp_path, 1)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.glob("good*.npz")}


def test_a_run_left_alone_that_is_killed_does_not_take_the_script_with_it(tmp_path):
    assert engine.finish_runs(runs("killed")[:1], (), {}, tmp_path, 2) == {}


def test_files_that_another_process_is_writing_are_left_alone(tmp_path):
    (tmp_path / "run-abc.1.tmp").touch()
    (tmp_path / "run-abc.2.tmp").touch()
    os.utime(tmp_path / "run-abc.2.tmp", (0, 0))  # of a process killed long ago
    engine.finish_runs(runs()[:1], (), {}, tmp_path, 1)
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["run-abc.1.tmp"]


def swallow(config: Config, progress) -> dict[str, np.ndarray]:
    """As a finaliser would, in which Ctrl-C happens to arrive."""
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    return {"done": np.array(1)}


def test_ctrl_c_is_heard_wherever_it_arrives(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        engine.finish_runs([Run("first", swallow, Config(), 9.0), *runs()], (), {}, tmp_path, 1)
    assert [path.name[:5] for path in tmp_path.glob("*.npz")] == ["first"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_that_is_lost_while_drawing(tmp_path, capfd):
    def main() -> None:
        fig, _ = helpers.figure("")
        swallow(Config(), print)
        helpers.save_figure(fig, tmp_path / "first.png", "")
        helpers.save_figure(helpers.figure("")[0], tmp_path / "second.png", "")

    assert helpers.run_script(main) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["first.png"]
    assert capfd.readouterr().err == f"{ctrl_c.LINE}\n"


@pytest.mark.parametrize("script", ["NN_tutorial", "cnn", "xg"])
def test_ctrl_c_during_the_imports(script):
    process = subprocess.Popen([sys.executable, ROOT / f"{script}.py", "--list"], stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{ctrl_c.LINE}\n")


def interrupt(config: Config, progress) -> dict[str, np.ndarray]:
    """Presses Ctrl-C for the process of the script."""
    progress(0.5)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(1)
    return {}


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")  # it would print a traceback
def test_ctrl_c_while_many_runs_wait(tmp_path, capfd):
    few, many = ([Run(f"{name}{i}", work, Config(), 1.0) for i in range(n)] for name, n in (("few", 8), ("many", 30)))
    with pytest.raises(KeyboardInterrupt):
        engine.finish_runs([*few, Run("ctrl-c", interrupt, Config(), 1.0), *many], (), {}, tmp_path, 2)
    assert not list(tmp_path.glob("many29*.npz"))
    assert not list(tmp_path.glob("*.tmp"))
    assert capfd.readouterr().err == ""


def test_one_job_reports_a_failing_run_too(tmp_path, capfd):
    assert len(engine.finish_runs(runs("raises"), (), {}, tmp_path, 1)) == 4
    assert "the run bad-raises failed" in capfd.readouterr().err


def test_the_exit_code_and_the_csv_say_which_run_is_missing(tmp_path, monkeypatch, capfd):
    arguments = ["width", "learning-rate", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]
    train = NN_tutorial.train

    def fails_at_1(config, *others):
        if config.lr == 1.0:
            raise MemoryError("no room")
        return train(config, *others)

    monkeypatch.setattr(NN_tutorial, "train", fails_at_1)
    assert helpers.run_script(lambda: NN_tutorial.main(arguments)) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "6.1.1 lacks lr 1" in line
    table = pd.read_csv(tmp_path / "NN_tutorial.csv", dtype=str, keep_default_na=False)
    failed = table[table.metric == "failed"]
    assert failed[["section", "run"]].to_numpy().tolist() == [["6.1.1", "lr 1"]]
    assert set(table.section) == {"6.1.1", "6.2.1.4"}  # the other experiment is complete
    assert (tmp_path / "6.2.1.4_width.png").exists()
    assert "## 6.1.1 learning-rate\n\n**Failed: lr 1**" in (tmp_path / "README.md").read_text()

    monkeypatch.undo()  # the same command again does the rest
    assert helpers.run_script(lambda: NN_tutorial.main(arguments)) == 0
    table = pd.read_csv(tmp_path / "NN_tutorial.csv", dtype=str)
    assert "failed" not in set(table.metric)
    assert "lr 1" in set(table.run)
