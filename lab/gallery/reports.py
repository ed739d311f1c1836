"""Reports on each experiment as soon as its results are there: in words, in figures, in the table and the gallery."""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from lab.draw import charts
from lab.errors import RunsMissing
from lab.gallery import page, sections
from lab.run.progress import Display, Line, clock
from lab.study import Experiment, Result


class Reports:
    """The reports of a study under way, those that are made and those that still lack a result.

    study_of(results) gives what a script calls its study, with the results that are there so far. A report that finds
    another one missing in it raises RunsMissing, and is tried again when there are more.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        study_of: Callable[[dict[Any, Result]], Any],
        arguments: argparse.Namespace,
        script: str,
    ):
        self.left, self.count = list(experiments), len(experiments)
        self.study_of, self.arguments, self.script = study_of, arguments, script
        self.also_lacks: dict[str, list[str]] = {}  # by section: the runs that a report has found missing
        self.results: dict[Any, Result] = {}  # by configuration
        self.lines = {one.section: Line(one.section, one.name, {*one.configs.values()}) for one in experiments}
        self.display = Display(list(self.lines.values()))

    def add(self, results: dict[Any, Result]) -> None:
        """Take some more results, and report on all experiments that are complete with them."""
        self.results |= results
        self.display.done |= results.keys()
        for one in [one for one in self.left if not self.lacks(one)]:
            try:
                self.report(one)
            except RunsMissing as missing:
                self.also_lacks[one.section] = missing.runs

    def lacks(self, one: Experiment) -> list[str]:
        """The labels of the configurations whose results an experiment still needs."""
        return [label for label, config in one.configs.items() if config not in self.results]

    def report(self, one: Experiment) -> None:
        """Report on an experiment, draw it, add it to table and gallery, and say what it found."""
        given = {label: self.results[config] for label, config in one.configs.items()}
        made_in, out = sections.made_in(given.values()), self.arguments.out
        found = one.report(given, self.study_of(self.results))
        told = made_in, self.arguments.quick, self.arguments.again, self.arguments.read
        text = sections.describe(one, found, self.script, *told)
        with sections.writing(out):
            for name, fig in found.figures.items():
                charts.save(fig, out / f"{name}.png")
            for name, (_, frames) in found.animations.items():
                charts.save_animation(frames, out / f"{name}.webp")
            sections.save_reports(out, self.script, [one], {one.section: found}, {}, {one.section: text})
        self.left.remove(one)
        self.lines[one.section].headline = found.headline
        if not self.display.live:
            gone = clock(time.monotonic() - self.display.started)
            print(f"\n{self.count - len(self.left)} of {self.count} experiments after {gone}: {one.section} {one.name}")
        print(sections.brief(one, found), flush=True)

    def close(self) -> None:
        """Say where everything is and what is missing. Raises RunsFailed, or InputError if there is nothing at all."""
        out, redraw = self.arguments.out, self.arguments.redraw
        lacks = {one.section: self.lacks(one) or self.also_lacks[one.section] for one in self.left}
        lacking = {} if redraw else lacks
        if lacking or len(self.left) < self.count:
            where = f"{out / page.PAGE}, the same in {sections.PAGE}"
            print(f"\nGallery: {where}; all numbers: {self.script}.csv beside them.", flush=True)
            sections.warn_of_other_data(out, self.script, self.arguments.read)
        if lacking or len(self.left) == self.count:
            with sections.writing(out):
                sections.save_reports(out, self.script, self.left, {}, lacking, {})
