"""The gallery's sections are data: OUT/sections/SECTION.json, of which README.md and index.html are two views.

Every number is in OUT/SCRIPT.csv beside them, times in OUT/SCRIPT.seconds.csv.
"""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import UnionType
from typing import Any, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pandas as pd

from lab import files
from lab.errors import InputError, printable, warn
from lab.gallery.report import Report

COLUMNS = ["section", "run", "seed", "split", "metric", "value"]
SECTION = r"\d+(\.\d+)*"
FOLDER = "sections"  # in OUT
README, PAGE = "README.md", "index.html"  # in OUT; Git hosts show the first one
NAME = "MLPs against CNNs"
TITLE = f"Gallery: {NAME}"
MARK = f'<meta name="generator" content="{NAME}">'  # a line of a page of ours
INTRO = (
    "What every experiment run so far asks, what it finds and why, written by `NN_tutorial.py`, `cnn.py` and `xg.py` "
    "from their finished runs and added to with every call. `python NN_tutorial.py && python cnn.py && python xg.py` "
    "makes all of it, the command at the end of a section that section; both train only what is not in `runs/` yet.",
    "A reason is given with the measured condition under which it is true; where a run doesn't meet it, the section "
    "says so. Numbers are means over n seeds ± their 95% interval, Student's t over the seeds. [ ] is a 95% interval "
    "over examples: Wilson's, of accuracies where n is 1 or 2, or what the rule names.",
)
ELSEWHERE = "move it away or choose another folder with --out"

# ---------------------------------------------------------------------------- what a section is


class Figure(TypedDict):
    file: str
    alt: str
    still: str  # of an animation, a file that doesn't move


class Why(TypedDict):
    text: str
    holds: bool
    condition: str  # what was measured
    short: str


class Table(TypedDict):
    header: list[str]
    rows: list[list[str]]
    against: str  # the label that the last column compares with; empty where there is no such column


class Live(TypedDict):
    kind: str  # of figure, see page.html
    uses: list[str]  # names of what sections share, in files of their own
    data: dict


class Section(TypedDict):
    """Texts are plain, of one line each. One that lacks runs has their labels in `failed`, and nothing to show."""

    section: str
    name: str
    script: str
    question: str
    varied: str
    headline: str
    quick: bool
    figures: list[Figure]
    whys: list[Why]
    said: list[str]
    table: Table
    rules: list[str]
    command: str
    made_in: str
    read: str  # which data
    failed: list[str]
    live: Live | None


class Shared(TypedDict):
    shared: dict


def _fits(value: Any, kind: Any) -> bool:
    """Whether JSON is what a type says."""
    if is_typeddict(kind):
        parts = get_type_hints(kind)
        same = isinstance(value, dict) and value.keys() == parts.keys()
        return same and all(_fits(value[name], part) for name, part in parts.items())
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(one, *get_args(kind)) for one in value)
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    return isinstance(value, kind)


# ---------------------------------------------------------------------------- files


def check_out(out: Path, script: str) -> None:
    """Make the output folder and see that results can be added to what is there. Raises InputError."""
    try:
        for folder in (out, out / FOLDER):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # of another script at the same time
    except OSError as error:
        where = str(error.filename or out)
        raise InputError(f"can't write ({error.strerror})", where, "choose another folder with --out") from None
    for path in (out / f"{script}.csv", out / f"{script}.seconds.csv"):
        _read_numbers(path)
    _check_line(out / README, f"# {TITLE}", "is not a gallery of ours")
    _check_line(out / PAGE, MARK, "is not a page of ours")
    sections, _ = read(out)
    if (out / README).exists() and not sections:  # of an older version, or they were taken away
        raise InputError(f"is a gallery without its {FOLDER}/, which would be lost", str(out / README), ELSEWHERE)


def _check_line(path: Path, line: str, otherwise: str) -> None:
    """Raises InputError for a file that has no such line near its start."""
    try:
        ours = not path.exists() or line in path.read_text(encoding="utf-8").splitlines()[:9]
    except (ValueError, OSError):
        ours = False
    if not ours:
        raise InputError(otherwise, str(path), ELSEWHERE)


def writing(out: Path) -> AbstractContextManager:
    """To draw and save inside: a script that another terminal has started on the same folder waits for its turn."""
    return files.lock(out / "runs" / f"{README}.lock")


def read(out: Path) -> tuple[list[Section], dict[str, dict]]:
    """All sections, in their order, and by name what live figures share. Raises InputError for files of others."""
    held = {path.stem: _load(path) for path in (out / FOLDER).glob("*.json")}
    sections = [held[name] for name in sorted(filter(_is_number, held), key=_numbers)]
    shared = {name: one["shared"] for name, one in sorted(held.items()) if not _is_number(name)}
    for one in sections:
        for name in one["live"]["uses"] if one["live"] else ():
            if name not in shared:
                where = str(out / FOLDER / f"{name}.json")
                raise InputError(f"is missing, section {one['section']} uses it", where, "restore it or change --out")
    return sections, shared


def _load(path: Path) -> dict:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        ours = held.pop("gallery") == NAME
    except (ValueError, OSError, LookupError, AttributeError, TypeError, RecursionError):
        ours = False
    if ours and _is_number(path.stem):
        ours = _fits(held, Section) and held["section"] == path.stem
        ours = ours and all(len(row) == len(held["table"]["header"]) for row in held["table"]["rows"])
    elif ours:
        ours = _fits(held, Shared)
    if not ours:
        raise InputError("is not a section of ours, or damaged", str(path), ELSEWHERE)
    return held


def save(out: Path, section: Section, report: Report) -> None:
    """Keep a section, its live figure and its numbers, inside `writing`; what else the files hold stays."""
    live = dict(report.live or {})
    shared = live.pop("shared", {})
    section["live"] = {"kind": live.pop("kind"), "uses": [*shared], "data": live} if live else None
    for name, data in shared.items():
        _write(out / FOLDER / f"{name}.json", {"shared": data})
    _write(out / FOLDER / f"{section['section']}.json", section)
    sections, kept = read(out)
    for name in kept.keys() - {name for one in sections if one["live"] for name in one["live"]["uses"]}:
        (out / FOLDER / f"{name}.json").unlink()
    _save_numbers(out, section, report)


def _write(path: Path, held: Section | Shared) -> None:
    text = json.dumps({"gallery": NAME} | held, indent=1, ensure_ascii=False, allow_nan=False)
    files.write_whole(path, f"{text}\n".encode())


def warn_of_other_data(out: Path, script: str, data: str) -> None:
    """Warn where the gallery keeps sections of this script of other data than what was read now."""
    mine = [one for one in read(out)[0] if one["script"] == script and one["read"]]
    other = [one["section"] for one in mine if one["read"] != printable(data)]
    if other:
        what = f"{'sections' if len(other) > 1 else 'section'} {', '.join(other)} {'are' if len(other) > 1 else 'is'}"
        warn(f"{what} of other data, see the line Data there, {out / README}, choose another --out to keep them apart")


def _is_number(name: str) -> bool:
    return re.fullmatch(SECTION, name) is not None


def _numbers(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))


# ---------------------------------------------------------------------------- numbers


def is_time(metric: str) -> bool:
    """Whether a metric is a time, which never repeats; their names start so: seconds, seconds_per_epoch, ..."""
    return metric.split("_")[0] == "seconds"


def _read_numbers(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, IsADirectoryError):
        table = pd.DataFrame()
    if list(table.columns) != COLUMNS or not table["section"].str.fullmatch(SECTION).all():
        raise InputError("is not a table of results", str(path), ELSEWHERE)
    return table


def _save_numbers(out: Path, section: Section, report: Report) -> None:
    """Put the rows of a section in the place of those that it had; each failed run has one with the metric `failed`."""
    rows = [*_rows(report), *((run, "", "", "failed", 1.0) for run in section["failed"])]
    for times, end in ((False, ""), (True, ".seconds")):
        path = out / f"{section['script']}{end}.csv"
        own = [(section["section"], *row[:-1], repr(float(row[-1]))) for row in rows if is_time(row[-2]) == times]
        kept = _read_numbers(path)
        table = pd.concat([kept[kept["section"] != section["section"]], pd.DataFrame(own, columns=COLUMNS)])
        table = table.sort_values("section", key=lambda ids: ids.map(_numbers), kind="stable")
        files.write_whole(path, table.to_csv(index=False, lineterminator="\n").encode())


def _rows(report: Report) -> Iterator[tuple]:
    """(run, seed, split, metric, value): all cells of each run, then its difference to the reference."""
    for run, cells in report.rows.items():
        for (split, metric), values in cells.items():
            if values.ndim == 1:
                yield from ((run, seed, split, metric, value) for seed, value in enumerate(values))
        if run in report.differences:
            found, (split, _) = report.differences[run], report.judged
            ends = {"gain": np.mean(found.gain), "gain_low": found.low, "gain_high": found.high, "gain_holm_p": found.p}
            if np.isfinite(ends["gain"]):
                yield from ((run, "", split, end, value) for end, value in ends.items() if np.isfinite(value))
