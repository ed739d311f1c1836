"""What the scripts share: the command line, loading places, intervals and figures.

Nothing here knows an experiment or a model; those live in the script of their section.
"""

import argparse
import difflib
import errno
import gzip
import hashlib
import io
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy import stats

import ctrl_c

SPLITS = ("train", "validation", "test")
COLUMNS = ["section", "run", "seed", "split", "metric", "value"]
STYLE = matplotlib.rc_params_from_file(Path(__file__).with_name("study.mplstyle"), use_default_template=False)
matplotlib.rcParams.update(STYLE)
FORMATS = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no version, no date
# Okabe and Ito's colour-blind safe colours; the line styles keep them apart in grey.
LOOK = {
    "train": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "validation": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "test": {"color": "#000000", "linestyle": ":", "marker": "^"},
}


def rate_look(rate: float) -> dict[str, Any]:
    """Colour and line style of a learning rate, the same in all figures; larger rates are darker."""
    decade = float(np.clip(np.log10(rate), -5, 0))
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
    return {"color": matplotlib.colormaps["plasma"](-0.16 * decade), "linestyle": dashes[round(-decade)]}


class RunsFailed(Exception):
    """Some runs could not be done: {section: the runs it lacks}. All else is saved."""

    def __init__(self, lacking: dict[str, list[str]], table: Path):
        lacks = "; ".join(f"{section} lacks {', '.join(runs)}" for section, runs in lacking.items())
        super().__init__(f"not all runs could be done ({lacks}), {table}, the same command tries them again")


class InputError(Exception):
    """Bad usage or bad input: shown as the line `error: WHAT, WHERE, WHAT TO DO`, exit code 2."""

    def __init__(self, what: str, where: str, remedy: str):
        super().__init__(what, where, remedy)  # all three, or a worker could not send it

    def __str__(self) -> str:
        return " ".join(", ".join(self.args).splitlines())


# ---------------------------------------------------------------------------- command line


@dataclass(frozen=True)
class Experiment:
    """One section of the study: the configurations it needs and the function that reports on them.

    `report(results, study)` gets {label: arrays of the finished run}, draws the figures OUT/SECTION_*.png and returns a
    Report. Its docstring says what is asked, what is varied and what to look for, and opens the section in the gallery.
    """

    section: str
    name: str
    summary: str
    configs: dict[str, Any]
    report: Callable[..., "Report"]


@dataclass
class Report:
    """What an experiment found.

    rows: {label: {(split, metric): values}}, the values one per seed; judged: examples per split.
    headline: the finding in one line; verdicts: sentences that cite rows; rule: how they were decided.
    made_in: the training time and the machines. backbone: a part of the labels that is the same wherever it is.
    """

    rows: dict[str, dict[tuple[str, str], np.ndarray]]
    headline: str
    verdicts: list[str]
    rule: str
    judged: dict[str, int] = field(default_factory=dict)
    made_in: str = ""
    backbone: str = ""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message, "on the command line", f"see python {self.prog} --help")


def parse_arguments(
    doc: str,
    experiments: Sequence[Experiment],
    argv: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
):
    """The command line that all scripts share; `.experiments` holds the chosen ones. Raises InputError.

    The help shows the first two paragraphs of `doc`: title and examples. `options(parser)` adds a script's own options
    and sets other defaults.
    """
    parser = _Parser(
        usage="python %(prog)s [NAME ...] [OPTION ...]",
        description="\n\n".join(doc.split("\n\n")[:2]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="experiments to run (default: all)")
    add("--list", action="store_true", help="name the experiments and stop")
    add("--data", type=Path, default=Path(__file__).parent / "data", metavar="DIR", help="folder of your own data")
    add("--out", type=Path, default=Path("plots"), metavar="DIR", help="folder of the results (default: %(default)s)")
    add("--seeds", type=whole(1, 1000), default=5, metavar="N", help="repetitions of every run (default: %(default)s)")
    add("--jobs", type=whole(1, 1000), metavar="N", help="worker processes (default: one per core)")
    devices = ["auto", "cpu", "cuda", "mps"]
    add("--device", choices=devices, default="auto", metavar="NAME", help="cpu, cuda, mps or auto (default)")
    add(
        "--format", choices=FORMATS, default="png", metavar="NAME", help="svg or pdf: figures in it too, beside the PNG"
    )
    add("--quick", action="store_true", help="walk every code path on a tiny budget; no results")
    add("--fresh", action="store_true", help="forget the finished runs of these experiments")
    add("--redraw", action="store_true", help="draw what has been run again; train nothing")
    add("--cluster", metavar="ADDRESS", help="train on the workers of this Dask scheduler")
    if options:
        options(parser)
    arguments = parser.parse_args(argv)
    if arguments.list:
        width = max(len(experiment.name) for experiment in experiments)
        for experiment in experiments:
            print(f"{experiment.section:8} {experiment.name:{width}}  {experiment.summary}")
        sys.exit(0)
    if arguments.quick:
        print("--quick: a tiny budget to walk every code path; none of the numbers is a result", flush=True)
    by_name = {experiment.name: experiment for experiment in experiments}
    for name in arguments.names:
        if name not in by_name:
            near = "".join(f"did you mean {n}? " for n in difflib.get_close_matches(name, by_name, 1))
            remedy = f"{near}choose from {' '.join(by_name)}"
            raise InputError(f"unknown experiment '{name}'", "on the command line", remedy)
    arguments.experiments = [e for e in experiments if e.name in arguments.names or not arguments.names]
    arguments.device = device = choose_device(arguments.device)
    matplotlib.rcParams["savefig.format"] = arguments.format
    # Drawing is most of a quick run.
    matplotlib.rcParams["savefig.dpi"] = STYLE["savefig.dpi"] / (2 if arguments.quick else 1)
    if arguments.redraw and arguments.fresh:
        raise InputError("--redraw needs the runs that --fresh forgets", "on the command line", "give one of them")
    arguments.jobs = arguments.jobs or {"cpu": joblib.cpu_count(), "cuda": torch.cuda.device_count(), "mps": 1}[device]
    return arguments


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, not {text}")
        return number

    parse.__name__ = "whole number"  # argparse puts it into its message
    return parse


def choose_device(name: str) -> str:
    """`auto` takes CUDA, then the CPU; MPS only when asked. Raises InputError for a device that is not there."""
    from torch.backends import mps  # here, as cloudpickle cannot send what mentions torch.backends.mps as such

    there = {"cuda": torch.cuda.is_available(), "mps": mps.is_available(), "cpu": True}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[name]:
        raise InputError(f"no {name} device is available", f"--device {name}", "use --device auto or --device cpu")
    return name


# What the operating system says to saving where there is no room, no permission, or something in the way.
UNSAVED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def run_script(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code: 0 done, 1 runs failed, 2 bad usage or input, 130 stopped with Ctrl-C."""
    sys.stdout.reconfigure(errors="backslashreplace")  # for names that the terminal can't show
    sys.stdout.write, sys.stdout.flush = _unbroken(sys.stdout.write), _unbroken(sys.stdout.flush)
    try:
        with ctrl_c.heard():
            main()
            ctrl_c.heed()
    except RunsFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in UNSAVED:
            raise
        where = error.filename or "while saving"
        print(f"error: {error.strerror}, {where}, make room or choose another folder with --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(ctrl_c.LINE, file=sys.stderr)
        return 130
    return 0


def _unbroken(method: Callable) -> Callable:
    """A method of standard output that goes on in silence where nobody reads any more, as after `| head`."""

    def call(*arguments):
        try:
            return method(*arguments)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return call


def check_data(folder: Path, remedy: str) -> None:
    """Raises InputError for a folder of data that isn't there or can't be read."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        raise InputError("no such folder", str(folder), remedy) from None
    except OSError as error:
        raise InputError(f"can't be read as a folder ({error.strerror})", str(folder), remedy) from None


def warn_of_repeats(folder: Path, what: str, splits: dict[str, pd.DataFrame]) -> None:
    """Warn where rows of validation or test are in an earlier split too, since that flatters their accuracy."""
    hashes = {split: pd.util.hash_pandas_object(rows, index=False).to_numpy() for split, rows in splits.items()}
    late = np.isin(hashes["validation"], hashes["train"])
    late = [*late, *np.isin(hashes["test"], np.concatenate([hashes["train"], hashes["validation"]]))]
    if any(late):
        found = f"{sum(late)} of {len(late)} {what} of validation and test are in an earlier split too"
        print(f"warning: {found}, {folder}, remove them or distrust the accuracies", file=sys.stderr)


# ---------------------------------------------------------------------------- places


@dataclass
class Places:
    """Coordinates in degrees, x[split]: (n, 2) float32 as (long, lat), and labels y[split]: (n,) int64."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    countries: list[str]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.countries).encode())
        for split in SPLITS:
            digest.update(self.x[split].tobytes() + self.y[split].tobytes())
        return digest.hexdigest()

    def head(self, rows: int) -> "Places":
        """The first places of each split."""
        return Places(
            {split: x[:rows] for split, x in self.x.items()},
            {split: y[:rows] for split, y in self.y.items()},
            self.countries,
        )


def load_places(folder: Path) -> Places:
    """Read train.csv, validation.csv and test.csv (columns long, lat, country; others are ignored).

    Separated by commas, semicolons (with decimal points or commas) or tabs; gzipped or not.

    `country` is a name or an integer code; the labels are those of the training file, names in alphabetical
    and codes in numerical order. Raises InputError, which names the file and the line, for anything that
    can't be trained on.
    """
    check_data(folder, "give --data a folder with train.csv, validation.csv, test.csv")
    tables = {split: _read_places(folder / f"{split}.csv") for split in SPLITS}
    names = sorted(tables["train"]["country"].unique())
    if all(re.fullmatch(r"-?\d{1,4000}", name) for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise InputError("only one country", str(folder / "train.csv"), "give at least two to tell apart")
    code = {name: number for number, name in enumerate(names)}
    for split, table in tables.items():
        unseen = ~table["country"].isin(code)
        if unseen.any():
            raise InputError(
                f"country '{table['country'][unseen].iloc[0]}' is not in train.csv",
                f"{folder / split}.csv line {_line(unseen)}",
                "add places of it to train.csv or remove its rows",
            )
    warn_of_repeats(folder, "places", {split: t[["long", "lat", "country"]] for split, t in tables.items()})
    return Places(
        x={split: table[["long", "lat"]].to_numpy(np.float32) for split, table in tables.items()},
        y={split: table["country"].map(code).to_numpy(np.int64) for split, table in tables.items()},
        countries=names,
    )


def _line(bad: pd.Series) -> int:
    return int(bad.idxmax()) + 2  # the header is line 1


def _read_places(path: Path) -> pd.DataFrame:
    packed = path.with_name(f"{path.name}.gz")
    if packed.exists() and not path.exists():
        path = packed
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        if not data.strip():
            raise InputError("file is empty", str(path), "give it the columns long, lat, country and rows")
        header = io.BytesIO(data).readline()
        separator = max(",;\t", key=lambda character: header.count(character.encode()))
        table = pd.read_csv(
            io.BytesIO(data),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
            skip_blank_lines=False,  # they count in the line numbers of what is wrong
        )
    except FileNotFoundError:
        raise InputError("file is missing", str(path), "put it there or name another folder with --data") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"can't be read ({error})", str(path), "save it as a comma-separated UTF-8 text") from None
    table = table.reset_index(drop=True).fillna("")
    table = table[(table != "").any(axis=1)]
    table.columns = table.columns.str.strip().str.lower()
    for column in ("long", "lat", "country"):
        if list(table.columns).count(column) != 1:
            found = " ".join(table.columns)[:80]
            raise InputError(
                f"needs one column '{column}' but has '{found}'", str(path), "name the columns long, lat, country"
            )
    if table.empty:
        raise InputError("has no rows", str(path), "add at least one place")
    for column, limit in (("long", 180), ("lat", 90)):
        texts = table[column].str.replace(",", ".") if separator == ";" else table[column]
        numbers = pd.to_numeric(texts, errors="coerce")
        unusable = ~np.isfinite(numbers)
        if unusable.any():
            text = table[column][unusable].iloc[0]
            raise InputError(
                f"{column} '{text}' is not a number", f"{path} line {_line(unusable)}", "correct or remove the row"
            )
        outside = numbers.abs() > limit
        if outside.any():
            raise InputError(
                f"{column} {numbers[outside].iloc[0]:g} is outside -{limit} to {limit} degrees",
                f"{path} line {_line(outside)}",
                "correct or remove the row",
            )
        table[column] = numbers
    # A column of codes that once held a gap comes out of pandas as 3.0, 7.0, ...
    table["country"] = table["country"].str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    nameless = table["country"].str.lower().isin(["", "nan"])
    if nameless.any():
        raise InputError("country is missing", f"{path} line {_line(nameless)}", "fill it in or remove the row")
    return table


# ---------------------------------------------------------------------------- results


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95% interval (Student's t; nan for a single seed)."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n; the share may be a mean over seeds."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def show(values: np.ndarray, judged: int = 0, digits: int = 4) -> str:
    """`mean ± half of the 95% interval` over seeds; of one or two accuracies on `judged` examples, over those.

    Student's t of two seeds may reach beyond what is possible, so that other numbers of one or two stand alone.
    """
    mean, half = interval(values)
    if len(values) < 3:
        low, high = wilson(mean, judged) if judged else (np.nan, np.nan)
        half = (high - low) / 2
    size = np.ceil(np.log10(abs(mean))) if np.isfinite(mean) and mean else 0  # 1 looks like the accuracies below it
    form = ".1e" if 0 < abs(mean) < 1e-3 else f",.{int(np.clip(digits - size, 0, digits))}f"
    return f"{mean:{form}}" + (f" ± {half:{form}}" if np.isfinite(half) else "")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or, where the disk is full, leave the old one."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk names no file itself


# ---------------------------------------------------------------------------- figures


def figure(title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 5), **options):
    """A figure in the study's style whose title states the finding; axes always come as a (rows, columns) array."""
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", wrap=True)
    return fig, axes


def save_figure(fig: plt.Figure, path: Path, note: str) -> None:
    """Save with a small note (what bands and n are) below; the same numbers give the same bytes.

    Always as PNG, which the gallery shows, and beside it in the format of --format.
    """
    fig.supxlabel(note, x=0.01, ha="left", fontsize="small", color="0.35", wrap=True)
    for kind in dict.fromkeys(("png", matplotlib.rcParams["savefig.format"])):
        picture = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # of names in other scripts: a box is drawn
            fig.savefig(picture, format=kind, metadata=FORMATS[kind])
        write_whole(path.with_suffix(f".{kind}"), picture.getvalue())
    plt.close(fig)
    ctrl_c.heed()


def band(ax: plt.Axes, x: np.ndarray, curves: np.ndarray, **look) -> plt.Line2D:
    """Median over seeds as a line, smallest to largest as a band; curves: (seeds, points)."""
    look = {key: value for key, value in look.items() if key != "marker"}
    (line,) = ax.plot(x, np.median(curves, axis=0), **look)
    ax.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def accuracy_axis(ax: plt.Axes, floor: float = 1e-3) -> None:
    """Accuracy on a log scale of the error 1 - accuracy, 0.9 to 0.99 takes as much room as 0 to 0.9."""

    def forward(accuracy):
        return -np.log10(np.clip(1 - np.asarray(accuracy, float), floor, 1.0))

    def back(height):
        return 1 - 10.0 ** -np.asarray(height, float)

    highest = min(ax.dataLim.y1, 1.0)
    ticks = [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
    ax.set_yscale("function", functions=(forward, back))
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(0, 1 - max(floor, 0.7 * (1 - highest)))


def end_labels(ax: plt.Axes, labels: Sequence[tuple[float, str, str]], gap: float = 0.045) -> None:
    """Write (y, text, colour) right of the axes at the height y, moved apart where they would overlap."""
    bottom, top = ax.get_ylim()
    scale = ax.yaxis.get_transform().transform
    low, high = scale([bottom, top])
    heights = [float(np.clip((scale([y])[0] - low) / (high - low), 0, 1)) for y, _, _ in labels]
    order = np.argsort(heights, kind="stable")
    placed = [heights[i] for i in order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed)):  # what was pushed over the top comes down again
        placed[i] = min(placed[i], 1.0 - (len(placed) - 1 - i) * gap)
    for height, i in zip(placed, order, strict=True):
        _, text, colour = labels[i]
        ax.text(1.015, height, text, transform=ax.transAxes, color=colour, va="center", fontsize="small")
