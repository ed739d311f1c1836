"""README.md of the gallery, rendered from its sections, and the cells of a report's table as text."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from lab.gallery.report import Report
from lab.gallery.sections import INTRO, TITLE, Section, Table, Why, is_time
from lab.study import SPLITS
from lab.tell.statistics import Difference, show

# ---------------------------------------------------------------------------- cells


def table(report: Report, most: int = 8, digits: int = 4) -> Table:
    """A row for each of the report's: name, n, mean ± 95% interval of what says most, difference; `most` columns.

    Test and validation accuracy say most, then what only this section measures; least what is the same everywhere.
    """
    columns, room = _columns(report), most - 2 - bool(report.differences)

    def weight(column: tuple[str, str]) -> tuple[int, int]:
        split, metric = column
        accurate, own = metric == "accuracy", sum(other == metric for _, other in columns) == 1
        means = [float(np.mean(cells[column])) for cells in report.rows.values() if column in cells]
        same = own and len(means) > 1 and len({*means}) == 1
        kinds = [accurate and split != "train", own and not same, accurate, not same, True]
        return kinds.index(True), -SPLITS.index(split)

    columns = [column for column in columns if column in sorted(columns, key=weight)[:room]]
    judged = "" if report.judged == ("test", "accuracy") else f" in {' '.join(report.judged)}"
    against = f"against {report.reference}{judged}"
    header = ["run", "n", *(f"{split} {metric}" for split, metric in columns)]
    rows = []
    for run, cells in report.rows.items():
        own = [_cell(cells, *column, report.examples, digits) if column in cells else "" for column in columns]
        n = max((len(values) for values in cells.values() if values.ndim), default=0)
        rows.append([line(run), str(n), *own, *([_against(report, run)] if report.differences else [])])
    header = [line(name.replace("_", " ")) for name in header] + [line(against)] * bool(report.differences)
    return {"header": header, "rows": rows, "against": report.reference if report.differences else ""}


def line(text: str) -> str:
    """The text in one line."""
    return " ".join(text.split())


def _columns(report: Report) -> list[tuple[str, str]]:
    """(split, metric) of all columns; the ends of intervals stand in their metric's."""
    columns = list(dict.fromkeys(key for cells in report.rows.values() for key in cells if cells[key].ndim == 1))
    ends = {(split, f"{metric}_{end}") for split, metric in columns for end in ("low", "high")}
    return [column for column in columns if column not in ends]


def _cell(cells: dict, split: str, metric: str, examples: dict[str, int], digits: int) -> str:
    """Mean ± 95% interval, or mean [METRIC_low, METRIC_high] where the cells have these."""
    digits = 3 if is_time(metric) else digits
    ends = [cells[split, f"{metric}_{end}"] for end in ("low", "high") if (split, f"{metric}_{end}") in cells]
    if len(ends) == 2:
        three = (show(np.mean(x, keepdims=True), 0, digits) for x in (cells[split, metric], *ends))
        return "{} [{}, {}]".format(*three)
    return show(cells[split, metric], examples.get(split, 0) if metric == "accuracy" else 0, digits)


def _against(report: Report, run: str) -> str:
    """Gain, interval and whether a difference to the reference is shown."""
    if run == report.reference:
        return "reference"
    return difference(report.differences[run], report.judged[1]) if run in report.differences else ""


def difference(found: Difference, metric: str = "accuracy") -> str:
    """`+0.012 [+0.003, +0.021] better`; of another metric than accuracy `higher` or `lower`."""
    gain = np.mean(found.gain)
    if not np.isfinite(gain):
        return "not shown"
    up, down = ("better", "worse") if metric == "accuracy" else ("higher", "lower")
    known = np.isfinite(found.low) and np.isfinite(found.high)
    digits = 4 if known and found.high - found.low < 0.01 else 3  # of a narrow interval, or its ends look the same
    ends = f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]" if known else ""
    return f"{gain:+.{digits}f}{ends} {('not shown' if not found.shown else up if gain > 0 else down)}"


# ---------------------------------------------------------------------------- README.md


def readme(sections: Sequence[Section]) -> str:
    """What it is, the study in short, every finding, and the sections, which are in order."""
    findings, shorts = [["section", "name", "finding"]], []
    for one in sections:
        anchor = re.sub(r"[^\w -]", "", f"{one['section']} {one['name']}".lower()).replace(" ", "-")
        link = f"[{one['section']}](#{anchor})"
        findings.append([link, escape(one["name"]), escape(finding(one))])
        shorts += [f"- {escape(short)} ({link})" for short in short_of(one)]
    texts = [f"# {TITLE}", *(["\n".join(shorts)] if shorts else []), grid(findings), *INTRO]
    return "\n\n".join(chain(texts, *map(_section, sections))) + "\n"


def finding(one: Section) -> str:
    """A section in a line."""
    if one["failed"]:
        return f"Failed: {', '.join(one['failed'])}"
    return "QUICK RUN, NOT A RESULT: " * one["quick"] + one["headline"]


def short_of(one: Section) -> list[str]:
    """What the summary says of a section: of whys that hold, and where a run was quick, that it was."""
    shorts = [why["short"] for why in one["whys"] if why["holds"] and why["short"]]
    return [f"{'Quick run, not a result: ' * one['quick']}{short}" for short in shorts]


def measured(why: Why) -> str:
    """A reason that doesn't hold, and what was measured instead."""
    return f"{why['text']} (Measured: {why['condition']}.)"


def _section(one: Section) -> Iterator[str]:
    """Its paragraphs; the numbers can be folded on Git hosts too, and are open."""
    yield f"## {one['section']} {one['name']}"
    yield one["question"]
    if one["failed"]:
        yield f"**{escape(finding(one))}**"
        return
    yield from (f"![{escape(figure['alt'])}]({figure['file']})" for figure in one["figures"])
    yield f"**{escape(finding(one))}**"
    for why in one["whys"]:
        yield escape(why["text"]) if why["holds"] else f"**Not so here:** {escape(measured(why))}"
    yield "<details open>\n<summary>Numbers</summary>"
    if one["varied"]:
        yield f"*Varied:* {one['varied']}"
    if one["table"]["rows"]:
        lines = [one["table"]["header"], *one["table"]["rows"]]
        yield grid([[escape(together(cell)) for cell in cells] for cells in lines])
    yield from _list("", one["said"])
    yield from _list("What the reasons rest on:", [why["condition"] for why in one["whys"] if why["holds"]])
    yield from _list("Rules:", one["rules"])
    if one["read"]:
        yield f"Data: {escape(one['read'])}."
    numbers = f"{one['script']}.csv"
    made_in = one["made_in"] and f" in {escape(one['made_in'])}"
    yield f"Made with `{one['command']}`{made_in}; all numbers: [{numbers}]({numbers})."
    yield "</details>"


def _list(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield from [title] * bool(title)
        yield "\n".join(f"- {escape(item)}" for item in items)


def together(cell: str) -> str:
    """A cell that, where it is narrow, breaks before ± and around an interval."""
    return re.sub(r"± |(?<=\[)[^ ]+, (?=[^ ]+\])", lambda part: part[0].replace(" ", "\N{NO-BREAK SPACE}"), cell)


def grid(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first line is the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in lines]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)


def escape(text: str) -> str:
    """The text shown as it is: names of countries and files are others' and may hold marks."""
    return re.sub(r"[\\`*_|~$]|<(?=\S)|&(?=[#\w]+;)|(?<=\])\(", r"\\\g<0>", text)
