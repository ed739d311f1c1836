"""What the scripts tell: on the terminal, in the tables OUT/SCRIPT.csv and in the gallery OUT/README.md."""

import argparse
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

import helpers
from helpers import COLUMNS, SPLITS, Experiment, InputError, Report, RunsFailed, show

SECTION = r"\d+(\.\d+)*"
PAGE = "README.md"  # in OUT, where Git hosts show it
TITLE = "# Gallery: MLPs against CNNs"
INTRO = """\
What every experiment run so far asks and finds: figures, numbers and verdicts, written by `NN_tutorial.py`, `cnn.py`
and `xg.py` from their finished runs and added to with every call. `python NN_tutorial.py && python cnn.py && python
xg.py` makes all of it, the command at the end of a section that section; both train only what is not in `runs/` yet.

Numbers are means over n seeds ± their 95% interval: Student's t over the seeds; where n is 1 or 2, Wilson's over the
examples judged, of accuracies alone. [ ] is a 95% interval over examples, too; the rule names it. Verdicts cite the
rows of their table."""


# ---------------------------------------------------------------------------- files


def check_out(out: Path, script: str) -> None:
    """Make the output folder and see that results can be added to what is there. Raises InputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # of another script at the same time
    except OSError as error:
        raise InputError(f"can't write ({error.strerror})", str(out), "choose another folder with --out") from None
    for path in (out / f"{script}.csv", out / f"{script}.seconds.csv"):
        _read_results(path)
    _read_page(out / PAGE)


def writing(out: Path) -> FileLock:
    """To draw and save inside: a script that another terminal has started on the same folder waits for its turn."""
    return FileLock(out / "runs" / f"{PAGE}.lock")


def _read_results(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError):
        table = pd.DataFrame()
    if list(table.columns) != COLUMNS or not table["section"].str.fullmatch(SECTION).all():
        raise InputError("is not a table of results", str(path), "move it away or choose another folder with --out")
    return table


def _read_page(path: Path) -> dict[str, str]:
    """{section: its text} of a saved gallery."""
    if not path.exists():
        return {}
    try:
        start, *texts = path.read_text(encoding="utf-8").split("\n## ")
    except (ValueError, OSError):
        start, texts = "", []
    sections = {text.partition(" ")[0]: text.strip() for text in texts}
    if start.partition("\n")[0] != TITLE or not all(re.fullmatch(SECTION, section) for section in sections):
        raise InputError("is not a gallery of ours", str(path), "move it away or choose another folder with --out")
    return sections


def save_reports(
    arguments: argparse.Namespace, script: str, reports: dict[str, Report], lacking: dict[str, list[str]]
) -> None:
    """Write OUT/SCRIPT.csv, OUT/SCRIPT.seconds.csv and the gallery, inside `writing`; what else they hold stays.

    A section that lacks runs has a row with the metric `failed` for each and no other; if there are any, RunsFailed is
    raised at the end. Raises InputError where --redraw has found nothing to draw.
    """
    out = arguments.out
    if not reports and not lacking:
        remedy = "give the options that they were made with, or leave out --redraw"
        raise InputError("no experiment has all its finished runs", str(out / "runs" / script), remedy)
    for times, path in ((False, out / f"{script}.csv"), (True, out / f"{script}.seconds.csv")):
        rows = [
            (section, run, seed, split, metric, repr(float(value)))
            for section, report in reports.items()
            for run, cells in report.rows.items()
            for (split, metric), values in cells.items()
            if ("seconds" in metric) == times
            for seed, value in enumerate(values)
        ]
        if not times:
            rows += [(section, run, "", "", "failed", "1.0") for section, runs in lacking.items() for run in runs]
        kept = _read_results(path)
        kept = kept[~kept["section"].isin([*reports, *lacking])]
        table = pd.concat([kept, pd.DataFrame(rows, columns=COLUMNS)])
        table = table.sort_values("section", key=lambda ids: ids.map(_numbers), kind="stable")
        helpers.write_whole(path, table.to_csv(index=False, lineterminator="\n").encode())

    sections = _read_page(out / PAGE)
    for experiment in arguments.experiments:
        section = experiment.section
        if section in reports:
            text = describe(experiment, reports[section], script, out, arguments.quick)
        elif section in lacking:
            text = f"**Failed: {_markdown(', '.join(lacking[section]))}**"
        else:  # left out by --redraw
            continue
        sections[section] = f"{section} {experiment.name}\n\n{text}"
    helpers.write_whole(out / PAGE, _gallery(sections).encode())
    print(f"\nGallery: {out / PAGE}; all numbers: {script}.csv beside it.")
    if lacking:
        raise RunsFailed(lacking, out / f"{script}.csv")


def _numbers(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))


# ---------------------------------------------------------------------------- texts


def _gallery(sections: dict[str, str]) -> str:
    """The page: what it is, every finding in a table, the sections in order."""
    ordered = {section: sections[section] for section in sorted(sections, key=_numbers)}
    findings = [["section", "name", "finding"]]
    for section, text in ordered.items():
        heading = text.partition("\n")[0]
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        finding = re.search(r"^\*\*(.+)\*\*$", text, re.MULTILINE)
        findings.append([f"[{section}](#{anchor})", heading.partition(" ")[2], finding[1] if finding else ""])
    return "\n\n".join([TITLE, INTRO, _grid(findings), *(f"## {text}" for text in ordered.values())]) + "\n"


def describe(experiment: Experiment, report: Report, script: str, out: Path, quick: bool = False) -> str:
    """An experiment's section of the gallery in Markdown, with all figures OUT/SECTION_*.png."""
    headline = _markdown("QUICK RUN, NOT A RESULT: " * quick + report.headline)
    question = inspect.getdoc(experiment.report) or f"{experiment.summary[0].upper()}{experiment.summary[1:]}."
    figures = sorted(path.name for path in out.glob(f"{experiment.section}_*.png"))
    made_in = report.made_in and f" in {report.made_in}"
    together = "±\N{NO-BREAK SPACE}"  # where a cell is narrow it breaks before the sign
    return "\n\n".join(
        [
            re.sub(r"\n+(Varied|Look for):", r"\n\n*\1:*", question),
            *(f"![{headline}]({name})" for name in figures),
            f"**{headline}**",
            _grid([[_markdown(cell).replace("± ", together) for cell in line] for line in _table(report, 7, 4)]),
            "\n".join(f"- {_markdown(verdict)}" for verdict in report.verdicts),
            f"Rule: {_markdown(report.rule)}",
            f"Made with `python {script}.py {experiment.name}`{made_in}; all numbers: [{script}.csv]({script}.csv).",
        ]
    )


def brief(experiment: Experiment, report: Report) -> str:
    """The report as text for a terminal or a log: headline, as many columns of its tables as fit, verdicts."""
    width = shutil.get_terminal_size().columns
    whole = {"width": width, "break_long_words": False, "break_on_hyphens": False}
    title = textwrap.fill(f"{experiment.section} {experiment.name}: {report.headline}", **whole)
    tables, left_out = _tables(report, width)
    said = [f"Names: without {report.backbone}."] if any(_short(run, report) != run for run in report.rows) else []
    said += [f"{left_out} column{'s' * (left_out > 1)} more in the gallery and its CSV."] if left_out else []
    notes = [textwrap.fill(f"({' '.join(said)})", **whole), ""] if said else []
    verdicts = [textwrap.fill(f"- {verdict}", subsequent_indent="  ", **whole) for verdict in report.verdicts]
    return "\n".join(["", title, "", *(f"{table}\n" for table in tables), *notes, *verdicts])


def _tables(report: Report, width: int) -> tuple[list[str], int]:
    """The rows as tables for a terminal `width` characters wide, and the number of columns that have no room there.

    A table holds the rows that share a column with its first one and have any of the columns shown.
    """
    left = {run: (number, cells) for number, (run, cells) in enumerate(report.rows.items(), 1) if cells}
    tables, shown = [], set()
    while left:
        _, first = next(iter(left.values()))
        group = {run: cells for run, (_, cells) in left.items() if first.keys() & cells.keys()}
        for most in range(8, 0, -1):
            header, *lines = _table(replace(report, rows=group), most, 3)
            lines = [line for line in lines if any(line[3:])]
            lines = [[str(left[run][0]), _short(run, report), *cells] for _, run, *cells in lines]
            words = [[cell.partition(" ")[part] for cell in header] for part in (0, 2)]  # the header takes two lines
            widths = [max(map(len, column)) for column in zip(*words, *lines, strict=True)]
            if sum(widths) + 2 * (len(widths) - 1) <= width:
                break
        tables.append("\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in (*words, *lines)))
        shown |= set(header[3:])
        numbers = {line[0] for line in lines}
        left = {run: (number, cells) for run, (number, cells) in left.items() if str(number) not in numbers}
    return tables, len(_columns(report)) - len(shown)


def _short(run: str, report: Report) -> str:
    """The label without the backbone, which would take the room of a column."""
    return run.replace(f" {report.backbone}", "") if report.backbone else run


def _columns(report: Report) -> list[tuple[str, str]]:
    """(split, metric) of all columns; the ends of intervals stand in their metric's."""
    columns = list(dict.fromkeys(key for cells in report.rows.values() for key in cells))
    ends = {(split, f"{metric}_{end}") for split, metric in columns for end in ("low", "high")}
    return [column for column in columns if column not in ends]


def _table(report: Report, most: int, digits: int) -> list[list[str]]:
    """Header and rows, mean ± 95% interval, of the `most` columns that say most.

    Those are test and validation accuracy first, then what only this section measures.
    """
    columns = _columns(report)

    def weight(column: tuple[str, str]) -> tuple[int, int]:
        split, metric = column
        accurate, own = metric == "accuracy", sum(other == metric for _, other in columns) == 1
        return (0 if accurate and split != "train" else 1 if own else 2 if accurate else 3, -SPLITS.index(split))

    columns = [column for column in columns if column in sorted(columns, key=weight)[:most]]
    table = [["row", "run", "n", *(f"{split} {metric}".replace("_", " ") for split, metric in columns)]]
    for number, (run, cells) in enumerate(report.rows.items(), 1):
        table.append([str(number), run, str(max(len(values) for values in cells.values()))])
        table[-1] += [_cell(cells, *column, report.judged, digits) if column in cells else "" for column in columns]
    return table


def _cell(cells: dict, split: str, metric: str, judged: dict[str, int], digits: int) -> str:
    """Mean ± 95% interval, or mean [METRIC_low, METRIC_high] where the cells have these."""
    digits = 3 if "seconds" in metric else digits
    ends = [cells[split, f"{metric}_{end}"] for end in ("low", "high") if (split, f"{metric}_{end}") in cells]
    if len(ends) == 2:
        return "{} [{}, {}]".format(
            *(show(np.mean(x, keepdims=True), 0, digits) for x in (cells[split, metric], *ends))
        )
    return show(cells[split, metric], judged.get(split, 0) if metric == "accuracy" else 0, digits)


def _grid(table: list[list[str]]) -> str:
    """A Markdown table whose first line is the header."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in table]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _markdown(text: str) -> str:
    """The text in one line, shown as it is: names of countries and files are others' and may hold marks."""
    return re.sub(r"[\\`*_|]|<(?=\S)|(?<=\])\(", r"\\\g<0>", " ".join(text.split()))


def made_in(runs: Iterable[dict[str, np.ndarray]]) -> str:
    """`84.3 s of training on MACHINE`, from what the kept runs say of themselves; empty where they don't."""
    runs = list(runs)
    seconds = np.sum([np.sum(run.get("run_seconds", 0)) for run in runs], keepdims=True)
    machines = sorted({str(machine) for run in runs for machine in np.ravel(run.get("made_on", ()))})
    return f"{show(seconds, digits=3)} s of training on {'; '.join(machines)}" if machines else ""
