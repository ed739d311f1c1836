"""lab/stopping.py: Ctrl-C, and an impossible setting, end a script in one line at whatever moment they come."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import stopping

ROOT = Path(__file__).parents[1]
PROC = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="sees in /proc what a process is at")


def start(*command, **options) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], **quiet, **options)


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def alive(session: int) -> list[str]:
    """The processes of a session that still run."""
    listed = subprocess.run(["ps", "-s", str(session), "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if not line.lstrip().startswith("Z")]


def beside_lab(folder: Path, **scripts: str) -> Path:
    """A folder with lab/ and some scripts."""
    shutil.copytree(ROOT / "lab", folder / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in scripts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


# ---------------------------------------------------------------------------- from outside


@PROC
@pytest.mark.parametrize("script", ["NN_tutorial", "cnn", "xg"])
def test_ctrl_c_during_the_imports(script):
    process = start(ROOT / f"{script}.py", "--list")
    wait_for(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{stopping.LINE}\n")


def test_ctrl_c_ends_with_130_one_line_and_no_worker(tmp_path):
    kept = tmp_path / "runs" / "NN_tutorial"
    some = "epochs", "width", "--quick", "--seeds", 1, "--jobs", 2
    process = start(ROOT / "NN_tutorial.py", *some, "--out", tmp_path, start_new_session=True)
    wait_for(lambda: list(kept.glob("*.npz")))
    assert len(alive(process.pid)) > 2  # the script and its workers
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{stopping.LINE}\n")
    wait_for(lambda: not alive(process.pid), 10)


def test_an_impossible_configuration_is_one_line(tmp_path):
    text, label = (ROOT / "NN_tutorial.py").read_text(), '"lr 1": Config('
    assert text.count(label) == 1
    folder = beside_lab(tmp_path / "edited", NN_tutorial=text.replace(label, f'{label}init="xavier", '))
    for name in ("helpers.py", "study.mplstyle"):
        shutil.copy(ROOT / name, folder)
    process = start(folder / "NN_tutorial.py", "--list")
    _, errors = process.communicate(timeout=120)
    what = "init='xavier' is not possible, a Config in NN_tutorial.py, choose one of default, he"
    assert (process.returncode, errors) == (2, f"error: {what}\n")


def test_other_errors_keep_their_traceback(tmp_path):
    folder = beside_lab(tmp_path / "edited", script="import lab.stopping\nraise ValueError('a slip')\n")
    process = start(folder / "script.py")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("Traceback")
    assert errors.endswith("ValueError: a slip\n")


STATE = """
import signal, sys
before = signal.getsignal(signal.SIGINT), sys.excepthook
import lab.stopping
print((signal.getsignal(signal.SIGINT), sys.excepthook) == before, file=sys.stderr)
"""


@pytest.mark.parametrize(("place", "unchanged"), [("edited", False), ("elsewhere", True)])
def test_only_a_script_beside_lab_is_taken_over(tmp_path, place, unchanged):
    beside_lab(tmp_path / "edited")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / place / "script.py").write_text(STATE)
    process = start(tmp_path / place / "script.py", env={**os.environ, "PYTHONPATH": str(tmp_path / "edited")})
    assert process.communicate(timeout=60)[1] == f"{unchanged}\n"


def test_a_notebook_or_a_test_is_not_taken_over():
    process = start("-c", STATE, cwd=ROOT)
    assert process.communicate(timeout=60)[1] == "True\n"
    assert signal.getsignal(signal.SIGINT) in (
        signal.default_int_handler,
        signal.SIG_IGN,
    )  # the latter in the background
    assert sys.excepthook is not stopping._tell


# ---------------------------------------------------------------------------- inside


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_waits_for_the_end_of_what_is_not_to_be_cut():
    done = []

    def save() -> None:
        with stopping.listening(), stopping.postponed():
            press()
            done.append("saved")

    with pytest.raises(KeyboardInterrupt):
        save()
    assert done == ["saved"]


def test_ctrl_c_that_got_lost_is_raised_at_the_next_check(capfd):
    class Careless:
        def __del__(self):
            press()

    with stopping.listening():
        stopping.check()
        Careless()
        with pytest.raises(KeyboardInterrupt):
            stopping.check()
    assert capfd.readouterr().err == ""
    stopping.check()  # over


def test_listening_inside_listening_is_one():
    def nested() -> None:
        with stopping.listening():
            with stopping.listening():
                pass
            press()

    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        nested()
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
