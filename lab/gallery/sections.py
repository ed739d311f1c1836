"""What the scripts tell: on the terminal, in the tables OUT/SCRIPT.csv and in OUT/index.html and README.md."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd

from lab import files
from lab.draw import charts
from lab.errors import InputError, RunsFailed, escaped, printable, warn
from lab.gallery import page
from lab.study import SPLITS, Experiment, Report, Result
from lab.tell.statistics import show

COLUMNS = ["section", "run", "seed", "split", "metric", "value"]
SECTION = r"\d+(\.\d+)*"
PAGE = "README.md"  # in OUT, where Git hosts show it
TITLE = "# Gallery: MLPs against CNNs"
INTRO = """\
What every experiment run so far asks and finds: figures, numbers and verdicts, written by `NN_tutorial.py`, `cnn.py`
and `xg.py` from their finished runs and added to with every call. `python NN_tutorial.py && python cnn.py && python
xg.py` makes all of it, the command at the end of a section that section; both train only what is not in `runs/` yet.

Numbers are means over n seeds ± their 95% interval, Student's t over the seeds. [ ] is a 95% interval over examples:
Wilson's, of accuracies where n is 1 or 2, or what the rule names. Verdicts cite the rows of their table."""


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
    page.read_data(out / page.PAGE)


def writing(out: Path) -> AbstractContextManager:
    """To draw and save inside: a script that another terminal has started on the same folder waits for its turn."""
    return files.lock(out / "runs" / f"{PAGE}.lock")


def _read_results(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, IsADirectoryError):
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
    except (ValueError, IsADirectoryError):
        start, texts = "", []
    sections = {text.partition(" ")[0]: text.strip() for text in texts}
    if start.partition("\n")[0] != TITLE or not all(re.fullmatch(SECTION, section) for section in sections):
        raise InputError("is not a gallery of ours", str(path), "move it away or choose another folder with --out")
    return sections


def save_reports(
    out: Path,
    script: str,
    experiments: Sequence[Experiment],
    reports: dict[str, Report],
    lacking: dict[str, list[str]],
    texts: dict[str, str],
) -> None:
    """Write OUT/SCRIPT.csv, OUT/SCRIPT.seconds.csv and the gallery, inside `writing`; what else they hold stays.

    texts: {section: what `describe` says of it}. A section that lacks runs has a row with the metric `failed` for each
    and no other; if there are any, RunsFailed is raised at the end. Raises InputError where --redraw has found nothing
    to draw.
    """
    if not reports and not lacking:
        remedy = "give the options that they were made with, or leave out --redraw"
        raise InputError("no experiment has all its finished runs", str(out / "runs" / script), remedy)
    for times, path in ((False, out / f"{script}.csv"), (True, out / f"{script}.seconds.csv")):
        rows = [
            (section, run, seed, split, metric, repr(float(value)))
            for section, report in reports.items()
            for run, cells in report.rows.items()
            for (split, metric), values in cells.items()
            if is_time(metric) == times and values.ndim == 1
            for seed, value in enumerate(values)
        ]
        if not times:
            rows += [(section, run, "", "", "failed", "1.0") for section, runs in lacking.items() for run in runs]
        kept = _read_results(path)
        kept = kept[~kept["section"].isin([*reports, *lacking])]
        table = pd.concat([kept, pd.DataFrame(rows, columns=COLUMNS)])
        table = table.sort_values("section", key=lambda ids: ids.map(_numbers), kind="stable")
        files.write_whole(path, table.to_csv(index=False, lineterminator="\n").encode())

    sections, data = _read_page(out / PAGE), page.read_data(out / page.PAGE)
    for experiment in experiments:
        section = experiment.section
        if section in lacking:
            texts[section] = f"**Failed: {_markdown(', '.join(lacking[section]))}**"
        if section in texts:  # else left out by --redraw
            sections[section] = f"{section} {experiment.name}\n\n{texts[section]}"
            page.add_data(data, section, reports[section].live if section in reports else None)
    sections = {section: sections[section] for section in sorted(sections, key=_numbers)}
    files.write_whole(out / PAGE, _gallery(sections).encode())
    text = page.page(TITLE.removeprefix("# "), INTRO, sections, data, out)
    files.write_whole(out / page.PAGE, text.encode())
    if lacking:
        raise RunsFailed(lacking, out / f"{script}.csv")


def warn_of_other_data(out: Path, script: str, read: str) -> None:
    """Warn where the page keeps sections of this script of other data than what was read now, lest they be compared."""
    mine = {s: text for s, text in _read_page(out / PAGE).items() if f"Made with `python {script}.py" in text}
    lines = {section: re.findall("^Data: .+$", text, re.MULTILINE) for section, text in mine.items()}
    other = [section for section, line in lines.items() if line and line != [_data(read)]]
    if other:
        what = f"{'sections' if len(other) > 1 else 'section'} {', '.join(other)} {'are' if len(other) > 1 else 'is'}"
        warn(f"{what} of other data, see the line Data there, {out / PAGE}, choose another --out to keep them apart")


def _data(read: str) -> str:
    return f"Data: {_markdown(printable(read))}."


def is_time(metric: str) -> bool:
    """Whether a metric is a time, which never repeats; their names start so: seconds, seconds_per_epoch, ..."""
    return metric.split("_")[0] == "seconds"


def _numbers(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))


# ---------------------------------------------------------------------------- texts


def _gallery(sections: dict[str, str]) -> str:
    """README.md: what it is, every finding in a table, the sections, which are in order."""
    findings = [["section", "name", "finding"]]
    for section, text in sections.items():
        heading = text.partition("\n")[0]
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        finding = re.search(r"^\*\*(.+)\*\*$", text, re.MULTILINE)
        findings.append([f"[{section}](#{anchor})", heading.partition(" ")[2], finding[1] if finding else ""])
    return "\n\n".join([TITLE, INTRO, _grid(findings), *(f"## {text}" for text in sections.values())]) + "\n"


def describe(
    experiment: Experiment,
    report: Report,
    script: str,
    made_in: str = "",
    quick: bool = False,
    again: str = "",
    read: str = "",
) -> str:
    """An experiment's section of the gallery in Markdown, with the report's figures.

    again: the options that made it; read: what data were read.
    """
    headline = _markdown("QUICK RUN, NOT A RESULT: " * quick + report.headline)
    question = inspect.getdoc(experiment.report) or f"{experiment.summary[0].upper()}{experiment.summary[1:]}."
    figures = [(charts.alt_text(figure), f"{name}.png") for name, figure in report.figures.items()]
    figures += [(animation.title, f"{name}.webp") for name, animation in report.animations.items()]
    together = "±\N{NO-BREAK SPACE}"  # where a cell is narrow it breaks before the sign
    return "\n\n".join(
        [
            re.sub(r"\n+(Varied|Look for):", r"\n\n*\1:*", question),
            *(f"![{_markdown(shown)}]({name})" for shown, name in figures),
            f"**{headline}**",
            _grid([[_markdown(cell).replace("± ", together) for cell in line] for line in _table(report, 7, 4)]),
            "\n".join(f"- {_markdown(verdict)}" for verdict in report.verdicts),
            "Rule: " + ";\n".join(map(_markdown, report.definitions)),
            f"Made with `{printable(f'python {script}.py {experiment.name}{again}')}`{made_in and f' in {made_in}'}; "
            f"all numbers: [{script}.csv]({script}.csv).",
            *([_data(read)] if read else []),
        ]
    )


def brief(experiment: Experiment, report: Report) -> str:
    """The report as text for a terminal or a log: headline, table, verdicts; others' names can't command it."""
    width = shutil.get_terminal_size().columns
    whole = {"width": width, "break_long_words": False, "break_on_hyphens": False}
    title = textwrap.fill(f"{experiment.section} {experiment.name}: {report.headline}", **whole)
    header, *lines = _table(report, 7, 3)
    cells = [line[3:] for line in lines]
    names = [f"{number}  {' '.join(run.split())}" for number, run, *_ in lines]
    table = pd.DataFrame(cells, names, header[3:]).to_string(line_width=max(width, 20), justify="left")
    table = [re.sub(" +$", "", table, flags=re.MULTILINE), ""] if lines else []
    verdicts = [textwrap.fill(f"- {verdict}", subsequent_indent="  ", **whole) for verdict in report.verdicts]
    return escaped("\n".join(["", title, "", *table, *verdicts]))


def _columns(report: Report) -> list[tuple[str, str]]:
    """(split, metric) of all columns; the ends of intervals stand in their metric's."""
    columns = list(dict.fromkeys(key for cells in report.rows.values() for key in cells if cells[key].ndim == 1))
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
        table.append([str(number), run, str(max(map(len, cells.values()), default=0))])
        table[-1] += [_cell(cells, *column, report.examples, digits) if column in cells else "" for column in columns]
    return table


def _cell(cells: dict, split: str, metric: str, examples: dict[str, int], digits: int) -> str:
    """Mean ± 95% interval, or mean [METRIC_low, METRIC_high] where the cells have these."""
    digits = 3 if is_time(metric) else digits
    ends = [cells[split, f"{metric}_{end}"] for end in ("low", "high") if (split, f"{metric}_{end}") in cells]
    if len(ends) == 2:
        return "{} [{}, {}]".format(
            *(show(np.mean(x, keepdims=True), 0, digits) for x in (cells[split, metric], *ends))
        )
    return show(cells[split, metric], examples.get(split, 0) if metric == "accuracy" else 0, digits)


def _grid(table: list[list[str]]) -> str:
    """A Markdown table whose first line is the header."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in table]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _markdown(text: str) -> str:
    """The text in one line, shown as it is: names of countries and files are others' and may hold marks."""
    return re.sub(r"[\\`*_|]|<(?=\S)|&(?=[#\w]+;)|(?<=\])\(", r"\\\g<0>", " ".join(text.split()))


def made_in(results: Iterable[Result]) -> str:
    """`84.3 s of training on MACHINE`, from what the kept runs say of themselves; empty where they don't."""
    results = list(results)
    seconds = np.array([sum(result.seconds for result in results)])
    machines = sorted({machine for result in results for machine in result.machines})
    return f"{show(seconds, digits=3)} s of training on {'; '.join(machines)}" if machines else ""
