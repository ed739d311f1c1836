"""How time and memory grow with workers, seeds, places, photos: python benchmarks/scaling.py [PART ...] [--out DIR]

    workers   NN_tutorial.py depth with 1 and 2 processes, and with 1 and 2 workers of a Dask cluster; on paper beyond
    seeds     one epoch of the standard net with 1 to 100 seeds, in groups as the script does it and as one stack
    places    one epoch of the standard net on 10^4 to 10^7 places: the committed ones, repeated and moved a little
    photos    cnn.py linear-probe, of at most 0.25 GiB of photos in memory, on 10^2 to 10^5 photos of 64 x 64 pixels

Writes scaling.csv (what, variant, size, seconds, gib), scaling.md and scaling.png. Seconds are wall time for workers,
which wants a quiet machine, and processor time for the others, each a process of its own on one thread. Twenty minutes,
2 GB of disk; needs the extra cluster.
"""

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab.draw import save
from lab.run.pool import machine
from lab.study import SPLITS

ROOT = Path(__file__).parents[1]
SEEDS = (1, 2, 5, 10, 20, 50, 100)
PLACES = (10**4, 10**5, 10**6, 10**7)
PHOTOS = (10**2, 10**3, 10**4, 10**5)
WORKERS = (1, 2, 4, 8, 16, 32, 64)  # measured up to 2
STUDY = ("NN_tutorial.py", "depth", "--seeds", 5)  # 4 networks and the references
Row = tuple[str, float, float, float]  # variant, size, seconds, gib

START = """
import argparse, json, pathlib, sys, time, torch, helpers, NN_tutorial
from lab.run.pool import one_thread
one_thread()
torch.optim.Adam([torch.zeros(1)])  # the first one of a process imports for a second
start = time.process_time()
places = helpers.load_places(pathlib.Path(sys.argv[1]))
loaded = time.process_time()
silent, config = lambda fraction: None, NN_tutorial.Config(epochs=1)
"""
IN_GROUPS = """
work = config.work("standard", places, argparse.Namespace(seeds=int(sys.argv[2]), device="cpu"), None)
for run in work.runs:
    run.call(work.data, silent)
"""
ONE_STACK = 'NN_tutorial.train(config, places, "cpu", range(int(sys.argv[2])), silent)\n'
END = "print(json.dumps([loaded - start, time.process_time() - loaded]))\n"

# A small process in between, as a process starts with the largest resident size of the one that started it.
BETWEEN = """
import json, os, sys, time
start = time.monotonic()
_, status, usage = os.wait4(os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ), 0)
print(json.dumps([time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(*command) -> tuple[float, float, float, str]:
    """Wall and processor seconds, largest resident size (GiB) of a Python process, and the last line it printed."""
    command = [sys.executable, "-c", BETWEEN, *map(str, command)]
    *said, measured = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return *json.loads(measured), said[-1] if said else ""


@contextmanager
def cluster(folder: Path, count: int) -> Iterator[str]:
    """The address of a Dask scheduler with `count` workers, which know nothing of this repository."""
    file = folder / "scheduler.json"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def start(kind: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", "--scheduler-file", file]
        return subprocess.Popen([*command, *options], cwd=folder, env=clean, stderr=subprocess.DEVNULL)

    processes = [start("scheduler", "--host", "127.0.0.1", "--port", "0")]
    processes += [start("worker", "--nthreads", "1", "--no-nanny") for _ in range(count)]
    try:
        while not (file.exists() and file.read_text()):
            assert processes[0].poll() is None, "the scheduler does not start: is dask's distributed installed?"
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def workers(scratch: Path) -> list[Row]:
    rows = []
    for count in (1, 2):
        out = scratch / f"jobs{count}"
        seconds, _, gib, _ = measure(*STUDY, "--jobs", count, "--out", out)
        rows.append(("--jobs", count, seconds, gib))
        if count == 1:
            runs = {path.name: float(np.load(path)["run_seconds"]) for path in out.rglob("*.npz")}
            serial = seconds - sum(runs.values())
            rows.append(("not in runs", 1, serial, np.nan))
        with tempfile.TemporaryDirectory() as elsewhere, cluster(Path(elsewhere), count) as address:
            seconds, _, gib, _ = measure(*STUDY, "--cluster", address, "--out", scratch / f"cluster{count}")
        rows.append(("--cluster", count, seconds, gib))
    for repeats in (1, 20):  # of the runs of five seeds; those of seed 0 alone draw nothing at random
        many = [seconds for name, seconds in runs.items() for _ in range(1 if "-0-0-" in name else repeats)]
        rows += [(f"on paper, {5 * repeats} seeds", n, serial + makespan(many, n), np.nan) for n in WORKERS]
    return rows


def makespan(runs: list[float], count: int) -> float:
    """Seconds that `count` workers take for the runs, the longest first, each to the worker that is free first."""
    free = [0.0] * count
    for run in sorted(runs, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + run)
    return max(free)


def seeds(scratch: Path) -> list[Row]:
    rows = []
    for variant, code in (("groups", IN_GROUPS), ("one stack", ONE_STACK)):
        for count in SEEDS:
            _, _, gib, said = measure("-c", START + code + END, ROOT / "data", count)
            rows.append((variant, count, json.loads(said)[1], gib))
    return rows


def tile(count: int, folder: Path) -> None:
    """Write a folder of `count` places in all: the committed ones, as often as needed, moved a little."""
    folder.mkdir()
    draws = np.random.default_rng(0)
    tables = {split: pd.read_csv(ROOT / "data" / f"{split}.csv") for split in SPLITS}
    total = sum(len(table) for table in tables.values())
    for split, table in tables.items():
        size = round(count * len(table) / total)
        order = np.concatenate([draws.permutation(len(table)) for _ in range(-(-size // len(table)))])[:size]
        many = table.iloc[order].copy()
        many[["long", "lat"]] += draws.uniform(-0.01, 0.01, (size, 2))
        many.round(5).to_csv(folder / f"{split}.csv", index=False)


def places(scratch: Path) -> list[Row]:
    rows = []
    for count in PLACES:
        folder = scratch / f"places{count}"
        tile(count, folder)
        _, _, gib, said = measure("-c", START + IN_GROUPS + END, folder, 1)
        load, train = json.loads(said)
        rows += [("reading the CSV", count, load, gib), ("one epoch", count, train, gib)]
    return rows


def photos(scratch: Path) -> list[Row]:
    rows = []
    study = ("cnn.py", "linear-probe", "--backbone", "efficientnet-lite0", "--size", 32, "--memory", 0.25, "--jobs", 1)
    for count in PHOTOS:
        folder = scratch / f"photos{count}"
        measure("benchmarks/make_many_photos.py", count, folder)
        _, seconds, gib, _ = measure(*study, "--seeds", 1, "--data", folder, "--out", scratch / f"cnn{count}")
        rows.append(("linear probe", count, seconds, gib))
    return rows


PARTS = {"workers": workers, "seeds": seeds, "places": places, "photos": photos}
# Of the lines of a panel, in their order: measured, then on paper. Where two lie on each other, both are seen.
LOOKS = (
    {"color": "#0072B2", "marker": "o", "markersize": 8},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "black", "linestyle": ":"},
    {"color": "0.55", "linestyle": "-."},
)


def draw(table: pd.DataFrame, out: Path) -> None:
    """scaling.png: time above, memory below, one column per quantity that grows."""
    title = "Time grows in proportion; memory not with seeds, little with photos, with places from a million on"
    fig, axes = save.figure(title, machine(), 2, len(PARTS), (15, 7.5), sharex="col")
    for (above, below), what in zip(axes.T, PARTS, strict=True):
        mine, looks = table[table.what == what], iter(LOOKS)
        for variant, rows in mine.groupby("variant", sort=False):
            if variant == "not in runs":
                above.axhline(rows.seconds.item(), color="0.6", linewidth=1, linestyle=":")
                above.text(WORKERS[-1], rows.seconds.item() * 1.06, "serial part", ha="right", fontsize="small")
                continue
            look = next(looks)
            above.plot(rows["size"], rows.seconds, label=variant, **look)
            if rows.gib.notna().all():
                below.plot(rows["size"], rows.gib, **look)
        above.set(xscale="log", yscale="log", title=what)
        above.set_ylabel(f"{'wall' if what == 'workers' else 'processor'} time (s)")
        above.set_xticks(sorted(set(mine["size"])))
        above.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x <= 100 else f"$10^{{{np.log10(x):.0f}}}$")
        above.xaxis.minorticks_off()
        if len(mine):
            above.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1), fontsize="small")
            below.set(ylim=(0, 1.1 * mine.gib.max()))
        below.set(xlabel=what)
    axes[1, 0].set_ylabel("largest process (GiB resident)")
    save.save(fig, out / "scaling.png")


def markdown(table: pd.DataFrame) -> str:
    lines = [machine(), "", "| what | variant | size | seconds | GiB |", "|---|---|---|---|---|"]
    for row in table.itertuples():
        gib = "" if np.isnan(row.gib) else f"{row.gib:.2f}"
        lines.append(f"| {row.what} | {row.variant} | {row.size:,.0f} | {row.seconds:,.1f} | {gib} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "plots")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "scaling.csv"
    kept = dict(list(pd.read_csv(path).groupby("what"))) if path.exists() else {}
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            rows = pd.DataFrame(PARTS[part](Path(scratch)), columns=["variant", "size", "seconds", "gib"])
        print(rows.to_string(index=False), flush=True)
        rows.insert(0, "what", part)
        kept[part] = rows
        table = pd.concat([kept[what] for what in PARTS if what in kept])
        table.round(3).to_csv(path, index=False)
    (given.out / "scaling.md").write_text(markdown(table))
    draw(table, given.out)


if __name__ == "__main__":
    main()
