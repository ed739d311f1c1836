"""The report of an experiment: it accumulates a table, figures and explanations, and what is added brings its rule."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.draw.save import figure
from lab.study import Cells, Column, Condition, Experiment, Measured, Result, Rows, Runs
from lab.tell import statistics
from lab.tell.statistics import Difference


@dataclass(frozen=True)
class Why:
    """An explanation and the measured condition under which it is true; short: it as a sentence of the summary."""

    text: str
    condition: Condition
    short: str = ""


class Report:
    """What an experiment found. A script's own report says how its runs are scored (`cells`) and called (`foot`)."""

    def __init__(self, experiment: Experiment, beside: Runs, arguments: argparse.Namespace):
        self.experiment, self.beside, self.arguments = experiment, beside, arguments
        self.headline = ""  # the finding in one line
        self.rows: Rows = {}
        self.differences: dict[str, Difference] = {}  # of rows to the reference, p by Holm's method
        self.reference = ""  # the label of the row that others are held against
        self.judged = ("test", "accuracy")  # split and metric of the differences
        self.whys: list[Why] = []
        self.said: list[str] = []
        self.figures: dict[str, Any] = {}  # {file name without suffix: figure}, in the gallery's order
        self.animations: dict[str, Any] = {}  # likewise, maps.Animation
        self.live: dict[str, Any] | None = None  # data of a figure that answers its reader, see live.py
        self.examples: dict[str, int] = {}  # how many each split has, for intervals over these
        self.rules: list[str] = []

    # ------------------------------------------------------------------------ for a script to say

    def cells(self, result: Result) -> Cells:
        """The table cells of a run."""
        raise NotImplementedError

    def called(self, label: str, result: Result) -> str:
        """How the run of a label is called in table and CSV."""
        return label

    def foot(self, note: str, **how: Any) -> str:
        """The foot of a figure: what was run, and a note; of a quick run it says so first."""
        return f"{'QUICK RUN, NOT A RESULT. ' * self.arguments.quick}{note}"

    # ------------------------------------------------------------------------ what accumulates

    def rule(self, *rules: str | Callable) -> None:
        """How something was decided: texts, or functions that have a `rule`; each is told once."""
        for rule in rules:
            for part in (rule if isinstance(rule, str) else rule.rule).split(";\n"):
                if part not in self.rules:
                    self.rules.append(part)

    def table(
        self,
        runs: Mapping[str, Result | Cells],
        *columns: Column,
        against: str | None = None,
        split: str = "test",
        metric: str = "accuracy",
    ) -> None:
        """Add a row for every run, of its cells and the columns, then for those beside; all are held against one.

        That is `against` or, by default, the run that validation chooses; the difference is in `metric` of `split`.
        """
        own: Rows = {}
        for label, run in runs.items():
            cells = self.cells(run) if isinstance(run, Result) else run
            name = self.called(label, run) if isinstance(run, Result) else label
            own[name] = cells | {
                (column.split, column.name): np.asarray(column.values[label], float)
                for column in columns
                if label in column.values
            }
        self.rows |= own | {label: self.cells(result) for label, result in self.beside.items()}
        self.reference = against or statistics.choose(own)
        self.judged = split, metric
        self.differences = statistics.compared(self.rows, self.reference, split, metric)
        self.rule(statistics.choose if against is None else f"held against: {against}", statistics.compared)

    def why(self, text: str, holds: Condition, short: str = "") -> None:
        """An explanation in plain words, true where the condition holds; elsewhere the gallery says `Not so here:`.

        short: what the summary says of it, where it holds. Raises TypeError for a condition that can't tell its values.
        """
        if not isinstance(holds, Condition):
            raise TypeError(f"holds={holds!r} is no Condition: compare what Column, of() or higher() give")
        self.whys.append(Why(text, holds, short))

    def say(self, text: str, *rules: str | Callable) -> None:
        """A fact for the numbers of the section."""
        self.said.append(text)
        self.rule(*rules)

    def figure(
        self,
        name: str,
        headline: str,
        note: str = "",
        rows: int = 1,
        columns: int = 1,
        size: tuple[float, float] = (9, 5),
        foot: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Axes of a new figure, as plt.subplots gives them; the first headline is the finding of the section."""
        fig, axes = figure(headline, self.foot(note, **(foot or {})), rows, columns, size, **options)
        self.add_figure(name, fig, headline)
        return axes

    def add_figure(self, name: str, fig: Any, headline: str = "") -> None:
        """A figure that is made elsewhere."""
        self.figures[name] = fig
        self.headline = self.headline or headline

    # ------------------------------------------------------------------------ what is read off it

    def column(self, metric: str = "accuracy", split: str = "test") -> Column:
        """A column of the table; its name is `test accuracy` for accuracies and losses."""
        values = {label: cells[split, metric] for label, cells in self.rows.items() if (split, metric) in cells}
        return Column(f"{split} {metric}" if metric in ("accuracy", "loss") else metric, values, split)

    def of(self, label: str, metric: str = "accuracy", split: str = "test") -> Measured:
        """The mean of a cell."""
        return self.column(metric, split)[label]

    def higher(self, a: str, b: str, metric: str = "accuracy", split: str = "test") -> Condition:
        """Whether row a is shown to be higher than row b by the one rule of the study."""
        difference = statistics.difference(self.rows, b, a, split, metric)
        if (split, metric) == self.judged:  # what the table says, with p for all its rows
            if b == self.reference and a in self.differences:
                difference = self.differences[a]
            elif a == self.reference and b in self.differences:
                difference = -self.differences[b]
        higher = difference.shown and difference.gain.mean() > 0
        told = f"{split} {metric} of {a} against {b}: {difference}"
        return Condition(higher, f"{told}, {'higher' if higher else 'not shown to be higher'}")

    @property
    def level(self) -> list[str]:
        """The reference and the rows beside it that show no difference to it."""
        own = [label for label in self.differences if label not in self.beside]
        return [self.reference, *(label for label in own if not self.differences[label].shown)]
