"""lab/run/interrupt.py: Ctrl-C, and an impossible setting, end a script in one line at whatever moment they come."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.run import interrupt

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


@PROC
@pytest.mark.parametrize("script", ["NN_tutorial", "cnn", "xg"])
def test_ctrl_c_during_the_imports(script):
    process = start(ROOT / f"{script}.py", "--list")
    wait_for(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{interrupt.LINE}\n")


def test_ctrl_c_ends_with_130_one_line_no_worker_and_all_that_the_finished_runs_allow(tmp_path, capsys):
    some = "epochs", "learning-rate", "width", "best-model", "--quick", "--seeds", "1", "--jobs", "2", "--out"
    process = start(ROOT / "NN_tutorial.py", *some, tmp_path, start_new_session=True)
    wait_for((tmp_path / "README.md").exists)  # one is complete
    assert len(alive(process.pid)) > 2  # the script and its workers
    process.send_signal(signal.SIGINT)  # as timeout(1) does it: to the script,
    os.killpg(process.pid, signal.SIGINT)  # and then, like a terminal, to the workers too
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{interrupt.LINE}\n")
    wait_for(lambda: not alive(process.pid), 10)

    import NN_tutorial

    again = tmp_path / "again"
    shutil.copytree(tmp_path / "runs", again / "runs")
    NN_tutorial.main([*some, str(again), "--redraw"])
    assert capsys.readouterr().out.count(" experiments after ") in (1, 2, 3)  # of four

    def made(out: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    assert made(tmp_path) == made(again)


def test_an_impossible_configuration_is_one_line(copied, python):
    label = '"lr 1": Config('
    done = python(copied({label: f'{label}init="xavier", '}) / "NN_tutorial.py", "--list")
    what = "init='xavier' is not possible, a Config in NN_tutorial.py, choose one of default, he"
    assert (done.returncode, done.stderr) == (2, f"error: {what}\n")


STATE = """
import signal, sys
before = signal.getsignal(signal.SIGINT), sys.excepthook
import lab.run.interrupt
print((signal.getsignal(signal.SIGINT), sys.excepthook) == before, file=sys.stderr)
raise ValueError("a slip")
"""


@pytest.mark.parametrize("place", ["beside lab", "elsewhere", "a notebook", "an editor"])
def test_only_a_script_beside_lab_is_taken_over_and_other_errors_keep_their_traceback(place, copied, python, tmp_path):
    code = copied({})
    script = (code if place == "beside lab" else tmp_path) / "script.py"
    script.write_text(STATE)
    commands = {
        "a notebook": ("-c", STATE),
        "an editor": ("-c", f"__file__ = {str(code / 'NN_tutorial.py')!r}\n{STATE}"),  # as %run, Spyder and IDLE do it
    }
    command = commands.get(place, (script,))
    done = python(*command, env={**os.environ, "PYTHONPATH": str(code)})
    first, *others = done.stderr.splitlines()
    assert (first, done.returncode) == (str(place != "beside lab"), 1)
    assert (others[0], others[-1]) == ("Traceback (most recent call last):", "ValueError: a slip")


def test_ctrl_c_waits_for_the_end_of_what_is_not_to_be_cut_and_listening_inside_listening_is_one():
    done, before = [], (signal.getsignal(signal.SIGINT), sys.unraisablehook)

    def save() -> None:
        with interrupt.listening():
            with interrupt.listening():
                pass
            with interrupt.postponed():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("saved")

    with pytest.raises(KeyboardInterrupt):
        save()
    assert done == ["saved"]
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_a_second_ctrl_c_at_once_does_not_cut_short_what_the_first_has_begun_to_clear_up():
    cleared = []

    def work() -> None:
        with interrupt.listening():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                cleared.append("workers")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleared == ["workers"]
