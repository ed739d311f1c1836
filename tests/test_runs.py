"""lab/run/runs.py and pool.py: what a run is given, and what becomes of the others when one fails or is killed."""

import errno
import importlib.metadata
import multiprocessing
import os
import re
import shutil
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lab.data.places import Places
from lab.errors import InputError
from lab.run import interrupt, pool, runs
from lab.run.runs import Run, finish_runs, in_turn

# Workers import this file: what takes long is imported by the tests that need it.


def work(fault: str, progress) -> dict[str, np.ndarray]:
    progress(0.5)
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "raises":
        raise ValueError("a loss of nan,\nhere of all places")
    if fault == "gives nothing":
        return {"file": np.array(1), "nothing": None}
    if fault == "input":
        raise InputError("odd photos", "some/folder", "remove them")
    return {"done": np.array(1)}


def some(*faults: str) -> list[Run]:
    good = [Run(f"good{i}", work, "") for i in range(4)]
    return [*(Run(f"bad-{fault}", work, fault, cost=9.0) for fault in faults), *good]


def tiny(fault: str, progress) -> dict[str, np.ndarray]:
    import torch

    np.finfo(np.float32)  # of which older versions of NumPy would warn
    return {"product": (torch.tensor([1e-30]) * torch.tensor([1e-10 if fault == "small" else 1.0])).numpy()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_too_small_for_a_float_is_0_in_a_run(jobs, tmp_path, capfd):
    import torch

    if not torch.set_flush_denormal(False):
        pytest.skip("this processor knows no such numbers, or can't leave them out")
    assert (torch.tensor([1e-30]) * torch.tensor([1e-10]) > 0).all()
    found = finish_runs([Run(name, tiny, name) for name in ("small", "usual")], (), {}, tmp_path, jobs)
    assert found["small"]["product"] == 0
    assert found["usual"]["product"] == np.float32(1e-30)
    assert capfd.readouterr().err == ""


def swallow(fault: str, progress) -> dict[str, np.ndarray]:
    """Has a finaliser in which Ctrl-C happens to arrive."""

    class Careless:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    Careless()
    return {"done": np.array(1)}


def press_ctrl_c(fault: str, progress) -> dict[str, np.ndarray]:
    """Presses Ctrl-C for the process of the script."""
    progress(0.5)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(1)
    return {}


def look(fault: str, places: Places, table: dict, progress) -> dict[str, np.ndarray]:
    """What a run can tell of the arrays that it is given."""
    arrays = [places.x["train"], table["large"]]
    told = {"sum": [array.sum() for array in arrays], "writeable": [array.flags.writeable for array in arrays]}
    told |= {"file": [str(getattr(array, "filename", "")) for array in arrays], "process": os.getpid()}
    return {name: np.array(values) for name, values in told.items()}


def test_workers_map_large_data_and_copy_none(tmp_path):
    places = Places({"train": np.ones((1000, 2), np.float32)}, {"train": np.zeros(1000)}, ["A", "B"])
    data = places, {"large": np.ones(3_000_000)}
    found = finish_runs([Run(f"look{i}", look, "") for i in range(4)], data, {}, tmp_path, 2)
    assert len(found) == 4
    for arrays in found.values():
        assert arrays["process"] != os.getpid()
        assert arrays["sum"].tolist() == [2000, 3_000_000]
        assert not arrays["writeable"].any()
        assert all(arrays["file"])
    files = {str(name) for arrays in found.values() for name in arrays["file"]}
    assert len(files) == 1  # all processes share its pages
    assert not Path(*files).exists()  # any more


def test_each_process_keeps_to_a_gpu_of_its_own(monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    for name in ("MainProcess", "LokyProcess-1", "LokyProcess-2", "LokyProcess-3"):
        monkeypatch.setattr("multiprocessing.current_process", lambda name=name: SimpleNamespace(name=name))
        finish_runs([Run(name, work, "")], (), {}, tmp_path, 1)
    assert taken == [0, 1, 0, 1]


def test_an_error_of_a_worker_arrives_whole(tmp_path):
    with pytest.raises(InputError, match=r"^odd photos, some/folder, remove them$"):
        finish_runs(some("input"), (), {}, tmp_path, 2)


def test_a_failing_run_is_reported_and_the_rest_goes_on(tmp_path, capfd):
    finished = finish_runs(some("killed", "raises"), (), {}, tmp_path, 2)
    assert set(finished) == {f"good{i}" for i in range(4)}
    messages = capfd.readouterr().err
    assert "a worker process died, perhaps for lack of memory; it had bad-killed" in messages
    assert "the run bad-killed failed (its process dies" in messages
    assert "the run bad-raises failed (ValueError: a loss of nan,; see " in messages
    assert "Traceback" not in messages
    assert "here of all places" in (tmp_path / "bad-raises.error.txt").read_text()
    assert not list(tmp_path.glob("*.tmp"))

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("good*.npz")}
    finish_runs(some("raises", "gives nothing"), (), {}, tmp_path, 1)
    messages = capfd.readouterr().err
    assert "the run bad-raises failed" in messages
    assert "the run bad-gives nothing failed (TypeError: it gives no array of numbers or texts for nothing" in messages
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.glob("good*.npz")}
    assert finish_runs(some("killed")[:1], (), {}, tmp_path, 2) == {}  # it does not take the script with it when alone


def test_the_exit_code_and_the_csv_say_which_run_is_missing(tmp_path, monkeypatch, capfd):
    import helpers
    import NN_tutorial
    from lab.nets import references

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
    table = (tmp_path / "NN_tutorial.csv").read_text()
    assert re.findall("(.+),failed", table) == ["6.1.1,lr 1,,"]
    assert "\n6.2.1.4," in table  # the other experiment is complete
    assert (tmp_path / "6.2.1.4_width.png").exists()
    page = (tmp_path / "README.md").read_text()
    assert re.search(r"\n## 6.1.1 learning-rate\n\n.+\n\n\*\*Failed: lr 1\*\*\n", page)
    assert "| Failed: lr 1 " in page  # in the table of findings

    monkeypatch.undo()  # the same command again does the rest
    assert helpers.run_script(lambda: NN_tutorial.main(arguments)) == 0
    table = (tmp_path / "NN_tutorial.csv").read_text()
    assert ",failed," not in table
    assert "\n6.1.1,lr 1," in table

    monkeypatch.setitem(references.CLASSIFIERS, "random forest", None)  # 6.1.1 shows none
    assert helpers.run_script(lambda: NN_tutorial.main(arguments)) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "(6.2.1.4 lacks random forest), " in line
    table = (tmp_path / "NN_tutorial.csv").read_text()
    assert re.findall("(.+),failed", table) == ["6.2.1.4,random forest,,"]
    assert "\n6.1.1,lr 1," in table


def of_whom(fault: str, progress) -> dict[str, np.ndarray]:
    for _ in range(3):
        warnings.warn("a class of one place", UserWarning, stacklevel=1)
    return {"process": np.array(os.getpid())}


@pytest.mark.parametrize("why", ["serial mode", "daemonic", "Resource temporarily unavailable"])
def test_where_no_process_can_be_started_this_one_does_the_work_with_one_warning(why, tmp_path, monkeypatch, capfd):
    def refuse(*_, **__):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    if why == "serial mode":
        monkeypatch.setattr(pool.joblib.parallel, "mp", None)
    elif why == "daemonic":
        pool.loky.get_reusable_executor(2).shutdown(wait=True)  # or its processes are taken
        monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    else:
        monkeypatch.setattr(pool.loky, "get_reusable_executor", refuse)
    pool.warn_once.cache_clear()
    for folder in ("first", "second"):
        done = finish_runs([Run(f"run{n}", of_whom, "") for n in range(3)], (), {}, tmp_path / folder, 2)
        assert {int(arrays["process"]) for arrays in done.values()} == {os.getpid()}
    said = [line for line in capfd.readouterr().err.splitlines() if "a class of one place" not in line]
    assert len(said) == 1
    assert re.fullmatch(f"warning: worker processes can't be started \\(.*{why}.*\\), .* one process does .*", said[0])


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_libraries_warn_of_in_several_runs_is_one_line_in_a_thread_too(jobs, tmp_path, capfd):
    with ThreadPoolExecutor(1) as thread:
        runs = [Run(f"run{n}", of_whom, "") for n in range(3)]
        assert len(thread.submit(finish_runs, runs, (), {}, tmp_path, jobs).result()) == 3
    (line,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"warning: a class of one place \(UserWarning\), .*test_runs.py line \d+", line)


def test_one_job_is_done_apart_where_it_may_abort(tmp_path, capfd):
    aborts = Run("aborts", work, "killed", cost=9.0)
    assert set(finish_runs([aborts, *some()], (), {}, tmp_path, 1, apart=True)) == {f"good{i}" for i in range(4)}
    assert "the run aborts failed (its process dies" in capfd.readouterr().err


def removes(fault: Path, progress) -> dict[str, np.ndarray]:
    """Somebody removes OUT while a run is under way."""
    shutil.rmtree(fault)
    return {"done": np.array(1)}


def test_out_that_is_removed_is_made_again_and_what_cannot_be_saved_is_about_out(tmp_path, monkeypatch):
    out = tmp_path / "out"
    finished = finish_runs([*some()[:1], Run("removes", removes, out)], (), {}, out, 1)
    assert set(finished) == {"good0", "removes"}
    assert [path.name[:7] for path in out.iterdir()] == ["removes"]
    monkeypatch.setenv("TMPDIR", "/proc/none")
    monkeypatch.setattr(runs.tempfile, "tempdir", "/proc/none")
    with pytest.raises(InputError, match=r"No such file or directory, /proc/none/\w+, make room there or .* TMPDIR"):
        finish_runs(some()[:1], (), {}, out, 1)


def test_a_finished_run_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    finish_runs(some()[:1], (), {}, tmp_path, 1)
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(OSError, match=r"Input/output error: .*good0-.*npz"):
        finish_runs(some()[:1], (), {}, tmp_path, 1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_files_that_another_process_is_writing_are_left_alone(tmp_path):
    (tmp_path / "run-abc.1.tmp").touch()
    (tmp_path / "run-abc.2.tmp").touch()
    os.utime(tmp_path / "run-abc.2.tmp", (0, 0))  # of a process killed long ago
    finish_runs(some()[:1], (), {}, tmp_path, 1)
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["run-abc.1.tmp"]


def test_a_finished_run_of_another_version_is_not_used(tmp_path, monkeypatch, capsys):
    def kept(**changes) -> bool:
        run = Run(**{"name": "run", "function": work, "config": "", **changes})
        finish_runs([run], (), {"data": "some"}, tmp_path, jobs=1)
        return "1 kept" in capsys.readouterr().out

    def rewritten(fault: str, progress) -> dict[str, np.ndarray]:
        return work(fault, progress)

    assert [kept(), kept()] == [False, True]
    assert [kept(function=rewritten), kept(function=rewritten), kept()] == [False, True, True]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0")
    assert [kept(), kept()] == [False, True]


def test_ctrl_c_is_heard_wherever_it_arrives(tmp_path, capfd):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        finish_runs([Run("first", swallow, "", cost=9.0), *some()], (), {}, tmp_path, 1)
    assert [path.name[:5] for path in tmp_path.glob("*.npz")] == ["first"]
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == ""


def test_ctrl_c_that_is_lost_while_drawing(tmp_path, capfd):
    from lab.draw import save
    from lab.run import command_line

    def main() -> None:
        fig, _ = save.figure("")
        swallow("", print)
        save.save(fig, tmp_path / "first.png")
        save.save(save.figure("")[0], tmp_path / "second.png")

    assert command_line.run_script(main) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["first.png"]
    assert capfd.readouterr().err == f"{interrupt.LINE}\n"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")  # it would print a traceback
def test_ctrl_c_while_many_runs_wait(tmp_path, capfd):
    few, many = ([Run(f"{name}{i}", work, "") for i in range(n)] for name, n in (("few", 8), ("many", 30)))
    with pytest.raises(KeyboardInterrupt):
        finish_runs([*few, Run("ctrl-c", press_ctrl_c, ""), *many], (), {}, tmp_path, 2)
    assert not list(tmp_path.glob("many29*.npz"))
    assert not list(tmp_path.glob("*.tmp"))
    assert capfd.readouterr().err == ""


def makespan(costs: list[float], jobs: int) -> float:
    free = [0.0] * jobs
    for cost in costs:
        free[free.index(min(free))] += cost
    return max(free)


@pytest.mark.parametrize("jobs", [1, 2, 3, 16])
@pytest.mark.parametrize("costs", [[3, 1, 1, 2, 1, 5, 1, 3, 9], [1] * 40, [1] * 30 + [40], [40] + [1] * 30, [7], []])
def test_runs_keep_their_order_as_far_as_the_whole_takes_no_longer(costs, jobs):
    runs = [Run(f"run{number}", work, "", cost=float(cost)) for number, cost in enumerate(costs)]
    found = in_turn(runs, jobs)
    assert sorted(found, key=runs.index) == runs
    times = [makespan([run.cost for run in order], jobs) for order in (found, sorted(runs, key=lambda run: -run.cost))]
    assert times[0] <= 1.05 * times[1]
    if makespan(costs, jobs) <= 1.05 * times[1]:
        assert found == runs


def test_there_are_as_many_processes_as_memory_allows_and_one_at_least(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pool, "memory_left", lambda: 7.0)
    for memory, jobs, fitting in ((0.0, 9, 9), (1.0, 7, 7), (2.0, 7, 3), (8.0, 7, 1)):
        assert pool.affordable(jobs, memory) == fitting
        said = f"{fitting} of {jobs} processes: one needs about {memory} GiB, and 7.0 GiB are free; --jobs overrides"
        assert capsys.readouterr().out.startswith(said) == (fitting < jobs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_run_is_told_once_while_the_others_go_on(jobs, tmp_path):
    told = []

    def done(name: str, arrays: dict) -> None:
        told.append((name, bool(arrays["done"]), len(list(tmp_path.glob("*.npz")))))

    first, second = some()[:2], [*some(), *some("raises")[:1]]
    finish_runs(first, (), {}, tmp_path, jobs, done=done)
    finish_runs(second, (), {}, tmp_path, jobs, done=done)
    names, arrays, files = zip(*told[2:], strict=True)
    assert (sorted(names), all(arrays)) == ([f"good{number}" for number in range(4)], True)
    assert files[0] < 4 or jobs > 1
    finish_runs(second, (), {}, tmp_path, jobs, redraw=True, done=done)
    assert [name for name, *_ in told[6:]] == list(dict.fromkeys(run.name for run in some()))
