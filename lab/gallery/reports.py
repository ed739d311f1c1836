"""Reports on each experiment as soon as its results are there: in words, in figures, in the table and the gallery."""

import argparse
import inspect
import shutil
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab import files
from lab.draw import save
from lab.errors import InputError, RunsFailed, escaped, printable
from lab.gallery import markdown, page, sections
from lab.gallery.markdown import line
from lab.gallery.report import Report
from lab.run.progress import Display, Line, clock
from lab.study import Experiment, Result, Runs
from lab.tell.statistics import show


class Reports:
    """The reports of a study under way, those that are made and those that still lack a result.

    new_report(experiment, runs beside it) gives a report for the experiment to fill.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        new_report: Callable[[Experiment, Runs], Report],
        arguments: argparse.Namespace,
    ):
        self.left, self.count = list(experiments), len(experiments)
        self.new_report, self.arguments = new_report, arguments
        self.results: dict[Any, Result] = {}  # by configuration
        self.lines = {one.section: Line(one.section, one.name, {*one.needed.values()}) for one in experiments}
        self.display = Display(list(self.lines.values()))

    def add(self, results: dict[Any, Result]) -> None:
        """Take some more results, and report on all experiments that are complete with them."""
        self.results |= results
        self.display.done |= results.keys()
        for one in [one for one in self.left if not self.lacks(one)]:
            self.report(one)

    def lacks(self, one: Experiment) -> list[str]:
        """The labels of the configurations whose results an experiment still needs."""
        return [label for label, config in one.needed.items() if config not in self.results]

    def report(self, one: Experiment) -> None:
        """Report on an experiment, draw it, add it to table and gallery, and say what it found."""
        runs, beside = (
            Runs({label: self.results[config] for label, config in configs.items()})
            for configs in (one.configs, one.beside)
        )
        report = self.new_report(one, beside)
        one.report(runs, report)
        section = describe(one, report, self.arguments, made_in((runs | beside).values()))
        with sections.writing(self.arguments.out):
            for name, fig in report.figures.items():
                save.save(fig, self.arguments.out / f"{name}.png")
            for name, animation in report.animations.items():
                save.save_animation(animation.frames, self.arguments.out / f"{name}.webp")
            self._save(section, report)
        self.left.remove(one)
        self.lines[one.section].headline = section["headline"] or "done"
        if not self.display.live:
            gone = clock(time.monotonic() - self.display.started)
            print(f"\n{self.count - len(self.left)} of {self.count} experiments after {gone}: {one.section} {one.name}")
        print(brief(section, report), flush=True)

    def _save(self, section: sections.Section, report: Report) -> None:
        out = self.arguments.out
        sections.save(out, section, report)
        every, shared = sections.read(out)
        files.write_whole(out / sections.README, markdown.readme(every).encode())
        files.write_whole(out / sections.PAGE, page.page(every, shared, out).encode())

    def close(self) -> None:
        """Say where everything is and what is missing. Raises RunsFailed, or InputError if there is nothing at all."""
        out, script = self.arguments.out, self.arguments.script
        lacking = {} if self.arguments.redraw else {one.section: self.lacks(one) for one in self.left}
        if not lacking and len(self.left) == self.count:
            remedy = "give the options that they were made with, or leave out --redraw"
            raise InputError("no experiment has all its finished runs", str(out / "runs" / script), remedy)
        print(f"\nGallery: {out / sections.PAGE}, the same in {sections.README}; ", end="")
        print(f"all numbers: {script}.csv beside them.", flush=True)
        sections.warn_of_other_data(out, script, self.arguments.read)
        if lacking:
            with sections.writing(out):
                for one in self.left:
                    nothing = Report(one, Runs(), self.arguments)
                    self._save(describe(one, nothing, self.arguments, failed=lacking[one.section]), nothing)
            raise RunsFailed(lacking, out / f"{script}.csv")


# ---------------------------------------------------------------------------- in words


def describe(
    one: Experiment,
    report: Report,
    arguments: argparse.Namespace,
    made_in: str = "",
    failed: Sequence[str] = (),
) -> sections.Section:
    """An experiment's section of the gallery, without its live figure."""
    question, _, varied = (inspect.getdoc(one.report) or f"{one.summary[0].upper()}{one.summary[1:]}.").partition(
        "\n\nVaried:"
    )
    whys = [
        {
            "text": line(why.text),
            "holds": bool(why.condition),
            "condition": line(str(why.condition)),
            "short": line(why.short),
        }
        for why in report.whys
    ]
    return {
        "section": one.section,
        "name": one.name,
        "script": arguments.script,
        "question": line(question),
        "varied": line(varied),
        "headline": line(report.headline),
        "quick": arguments.quick,
        "figures": _figures(report),
        "whys": whys,
        "said": list(map(line, report.said)),
        "table": markdown.table(report),
        "rules": list(map(line, report.rules)),
        "command": printable(f"python {arguments.script}.py {one.name}{arguments.again}"),
        "made_in": made_in,
        "read": "" if failed else printable(arguments.read),
        "failed": list(failed),
        "live": None,
    }


def _figures(report: Report) -> list[sections.Figure]:
    figures = [{"file": f"{name}.png", "alt": save.alt_text(fig), "still": ""} for name, fig in report.figures.items()]
    for name, animation in report.animations.items():
        still = f"{name}.png" if name in report.figures else ""
        figures.append({"file": f"{name}.webp", "alt": line(animation.title), "still": still})
    return figures


def brief(section: sections.Section, report: Report) -> str:
    """A report as text for a terminal or a log: headline, table, whys, facts; others' names can't command it."""
    width = shutil.get_terminal_size().columns
    whole = {"width": width, "break_long_words": False, "break_on_hyphens": False}
    title = textwrap.fill(f"{section['section']} {section['name']}: {section['headline']}", **whole)
    cells = markdown.table(report, digits=3)
    names, header = [row[0] for row in cells["rows"]], cells["header"][2:]
    table = pd.DataFrame([row[2:] for row in cells["rows"]], names, header)
    table = table.to_string(line_width=max(width, 20), justify="left")
    table = [*(row.rstrip() for row in table.split("\n")), ""] if names else []
    whys = [why["text"] if why["holds"] else f"Not so here: {markdown.measured(why)}" for why in section["whys"]]
    texts = [textwrap.fill(f"- {text}", subsequent_indent="  ", **whole) for text in (*whys, *section["said"])]
    return escaped("\n".join(["", title, "", *table, *texts]))


def made_in(results: Iterable[Result]) -> str:
    """`84.3 s of training on MACHINE`, from what the kept runs say of themselves; empty where they don't."""
    results = list(results)
    seconds = np.array([sum(result.seconds for result in results)])
    machines = sorted({machine for result in results for machine in result.machines})
    return f"{show(seconds, digits=3)} s of training on {'; '.join(machines)}" if machines else ""
