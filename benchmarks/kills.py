"""Stop the scripts at random moments and see that nothing is lost: python benchmarks/kills.py [--times 30] [SCRIPT ...]

Each time, a script is started with --quick and 2 jobs, its whole process group gets SIGKILL at a random moment, and the
same command is given again. Then
  - no file under its final name is half-written: figures decode, tables, sections and arrays can be read;
  - no finished run was trained again: its file is the one that was there after the kill;
  - the final CSV is, byte for byte, that of a run nobody disturbed;
  - no worker is left behind.
With --ctrl-c the group gets SIGINT instead, as from a terminal; the script then also ends with one line and code 130.
Exit code 0 if that holds every time. About half a minute a kill.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from lab.run import interrupt  # noqa: E402

SCRIPTS = ("NN_tutorial", "cnn", "xg")


def start(script: str, out: Path) -> subprocess.Popen:
    command = [sys.executable, f"{script}.py", "--quick", "--jobs", "2", "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, text=True, **quiet)


def finish(script: str, out: Path) -> float:
    """Seconds that the script takes to end by itself; raises if it fails."""
    started = time.monotonic()
    process = start(script, out)
    _, messages = process.communicate(timeout=600)
    assert process.returncode == 0, f"{script} ends with {process.returncode}: {messages}"
    return time.monotonic() - started


def whole(out: Path) -> dict[Path, tuple[int, int]]:
    """Read every file in `out` to its end; {finished run: its inode and time of change}."""
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    for path in out.rglob("*.csv"):
        assert path.read_text().endswith("\n"), path
        assert len(pd.read_csv(path).columns) == 6, path
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    runs = list(out.rglob("*.npz"))
    for path in runs:
        with np.load(path) as arrays:
            for name in arrays:
                arrays[name]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in runs}


def alive(group: int) -> list[str]:
    """The processes of a session that still run."""
    listed = subprocess.run(["ps", "-s", str(group), "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if not line.lstrip().startswith("Z")]


def kill_once(script: str, out: Path, delay: float, sent: signal.Signals = signal.SIGKILL) -> str:
    process = start(script, out)
    time.sleep(delay)
    os.killpg(process.pid, sent)
    _, messages = process.communicate(timeout=60)
    if sent == signal.SIGINT and process.returncode:
        *warnings, line = messages.splitlines() or [""]
        assert (process.returncode, line) == (130, interrupt.LINE), f"{process.returncode}: {messages}"
        assert all(warning.startswith("warning: ") for warning in warnings), messages
    deadline = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < deadline:  # workers are in the session, not in the group
        time.sleep(0.2)
    assert not alive(process.pid), alive(process.pid)
    finished = whole(out)
    finish(script, out)
    after = whole(out)
    again = [path.name for path, state in finished.items() if after.get(path) != state]
    assert not again, f"trained again: {again}"
    return f"{len(finished)} runs kept"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)} (default: all)")
    parser.add_argument("--times", type=int, default=30, help="kills of each script (default: %(default)s)")
    parser.add_argument("--ctrl-c", action="store_true", help="press Ctrl-C instead")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments (default: %(default)s)")
    given = parser.parse_args()
    sent, done = (signal.SIGINT, "stopped") if given.ctrl_c else (signal.SIGKILL, "killed")
    moments, failures = random.Random(given.seed), 0
    for script in given.scripts or SCRIPTS:
        with tempfile.TemporaryDirectory() as place:
            undisturbed = Path(place) / "undisturbed"
            finish(script, undisturbed)  # also builds the demo faces, where they are needed
            duration = finish(script, Path(place) / "timed")
            expected = (undisturbed / f"{script}.csv").read_bytes()
            for number in range(given.times):
                out, after = Path(place) / f"killed{number}", moments.uniform(0, duration)
                try:
                    outcome = kill_once(script, out, after, sent)
                    assert (out / f"{script}.csv").read_bytes() == expected, "the CSV differs"
                except AssertionError as error:
                    failures += 1
                    outcome = f"FAILED: {error}"
                print(
                    f"{script} {number + 1}/{given.times}: {done} after {after:.1f} s of {duration:.1f}; {outcome}",
                    flush=True,
                )
    print(f"{failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
