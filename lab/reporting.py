"""Reports on each experiment as soon as its results are there: in words, in figures, in the table and the gallery."""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from lab import charts, gallery
from lab.progress import Display, Line, clock
from lab.results import Experiment, Result


class Reports:
    """The reports of a study under way, those that are made and those that still lack a result.

    make_study(results) gives what a script calls its study; it is called once, when the first report needs it. `always`
    is {label: configuration} that every experiment needs.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        make_study: Callable[[dict[Any, Result]], Any],
        arguments: argparse.Namespace,
        script: str,
        always: dict[str, Any] | None = None,
    ):
        self.left, self.count, self.always = list(experiments), len(experiments), always or {}
        self.make_study, self.arguments, self.script = make_study, arguments, script
        self.results: dict[Any, Result] = {}  # by configuration
        self.lines = {one.section: Line(one.section, one.name, {*one.configs.values()}) for one in experiments}
        self.display = Display(list(self.lines.values()))

    @cached_property
    def study(self) -> Any:
        return self.make_study(self.results)

    def add(self, results: dict[Any, Result]) -> None:
        """Take some more results, and report on all experiments that are complete with them."""
        self.results |= results
        self.display.done |= results.keys()
        for one in [one for one in self.left if not self.lacks(one)]:
            self.report(one)

    def lacks(self, one: Experiment) -> list[str]:
        """The labels of the configurations whose results an experiment still needs."""
        return [label for label, config in (one.configs | self.always).items() if config not in self.results]

    def report(self, one: Experiment) -> None:
        """Report on an experiment, draw it, add it to table and gallery, and say what it found."""
        given = {label: self.results[config] for label, config in one.configs.items()}
        made_in, out = gallery.made_in(given.values()), self.arguments.out
        found = one.report(given, self.study)
        text = gallery.describe(one, found, self.script, made_in, self.arguments.quick)
        with gallery.writing(out):
            for name, fig in found.figures.items():
                charts.save(fig, out / f"{name}.png")
            gallery.save_reports(out, self.script, [one], {one.section: found}, {}, {one.section: text})
        self.left.remove(one)
        self.lines[one.section].headline = found.headline
        if not self.display.live:
            gone = clock(time.monotonic() - self.display.started)
            print(f"\n{self.count - len(self.left)} of {self.count} experiments after {gone}: {one.section} {one.name}")
        print(gallery.brief(one, found), flush=True)

    def close(self) -> None:
        """Say where everything is and what is missing. Raises RunsFailed, or InputError if there is nothing at all."""
        out, redraw = self.arguments.out, self.arguments.redraw
        lacking = {} if redraw else {one.section: self.lacks(one) for one in self.left}
        if lacking or len(self.left) < self.count:
            print(f"\nGallery: {out / gallery.PAGE}; all numbers: {self.script}.csv beside it.", flush=True)
        if lacking or len(self.left) == self.count:
            with gallery.writing(out):
                gallery.save_reports(out, self.script, self.left, {}, lacking, {})
