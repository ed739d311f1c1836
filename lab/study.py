"""What a study is made of: an Experiment asks, its configurations are run, its report function is given the Runs.

A configuration is any frozen dataclass that has

    budget(arguments)    itself as the command line wants it, such as on --quick's tiny budget; None leaves it out
    work(name, data, arguments, given)    its runs, a lab.run.runs.Work
    needs                the configuration whose Result `work` is given, or None; it has a `name`
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from lab.errors import InputError

SPLITS = ("train", "validation", "test")
Cells = dict[tuple[str, str], np.ndarray]  # a row of a table: {(split, metric): one value per seed, or (seeds, n)}
Rows = dict[str, Cells]  # by label
CURVES = ("loss", "accuracy", "batch", "seconds", "gradient")  # how the names of arrays begin that have epochs
OF_FIRST = "film."  # how the names of arrays begin that are of the first seed alone

# ---------------------------------------------------------------------------- what is measured


class Condition:
    """Whether a measured value is where an explanation needs it, and in words what was measured."""

    def __init__(self, holds: bool, text: str):
        self.holds, self.text = bool(holds), text

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        return self.text

    def __and__(self, other: "Condition") -> "Condition":
        """Both; where one fails, in its words."""
        told = [one.text for one in (self, other) if one.holds == (self.holds and other.holds)]
        return Condition(self.holds and other.holds, "; ".join(told))

    def __invert__(self) -> "Condition":
        return Condition(not self.holds, self.text)


class Measured(float):
    """A number that knows its name, so that what it is held against can be told: `measured > 0.5` is a Condition."""

    name: str

    def __new__(cls, value: float, name: str) -> "Measured":
        measured = super().__new__(cls, value)
        measured.name = name
        return measured

    def _against(self, other: float, compare: Callable, word: str) -> Condition:
        holds = compare(float(self), float(other))
        beside = f" ({other.name})" if isinstance(other, Measured) else ""
        return Condition(holds, f"{self.name}: {self:.3g}, {'' if holds else 'not '}{word} {other:.3g}{beside}")

    def __gt__(self, other: float) -> Condition:
        return self._against(other, operator.gt, "above")

    def __lt__(self, other: float) -> Condition:
        return self._against(other, operator.lt, "below")

    def __ge__(self, other: float) -> Condition:
        return self._against(other, operator.ge, "at least")

    def __le__(self, other: float) -> Condition:
        return self._against(other, operator.le, "at most")


@dataclass(frozen=True)
class Column:
    """One number of every run: {label: its values by seed}; `column[label]` is their mean, as Measured."""

    name: str  # the metric, in words joined by _
    values: dict[str, np.ndarray]
    split: str = "train"

    def __getitem__(self, label: str) -> Measured:
        return Measured(np.mean(self.values[label]), f"{self.name.replace('_', ' ')} of {label}")


@dataclass
class Result:
    """What one configuration gave: arrays by name whose first axis is the seeds, and the configuration itself."""

    config: Any
    arrays: dict[str, np.ndarray]
    seconds: float = 0.0  # of all its runs
    machines: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @property
    def kept(self) -> list[int]:
        """The epochs whose parameters are among the arrays, in order."""
        return sorted({int(name.partition(".")[0]) for name in self.arrays if re.match(r"\d+\.", name)})

    def at(self, name: str, epoch: int | None = None) -> np.ndarray:
        """The values (seeds,) of a curve (seeds, epochs) after an epoch, counted from 1; by default the last one."""
        return self.arrays[name][:, -1 if epoch is None else epoch - 1]

    def until(self, epoch: int) -> "Result":
        """The same as if training had stopped after an epoch: its curves (seeds, epochs, ...) are cut there."""
        curves = {name for name in self.arrays if name.split("_")[0] in CURVES}
        return replace(self, arrays={n: v[:, :epoch] if n in curves else v for n, v in self.arrays.items()})


class Runs(dict[str, Result]):
    """{label: Result} of the configurations that an experiment compares, in its order."""

    def cut_to_shortest(self) -> "Runs":
        """The runs as if all had stopped when the shortest did."""
        epochs = min(result["loss_train"].shape[1] for result in self.values())
        return Runs({label: result.until(epochs) for label, result in self.items()})

    def each(self, measure: Callable[[Result], np.ndarray], split: str = "train") -> Column:
        """measure(result) of every run, (seeds,) each, as a column that has the function's name."""
        return Column(measure.__name__, {label: measure(result) for label, result in self.items()}, split)

    def only(self, labels: Sequence[str]) -> "Runs":
        """Some of the runs, in the order of the labels."""
        return Runs({label: self[label] for label in labels})


def join(config: Any, parts: Sequence[tuple[Sequence[int] | None, dict[str, np.ndarray]]]) -> Result:
    """One Result of the runs of a configuration: (seeds of the run, its arrays) each.

    Arrays are joined along their first axis, the seeds; a run whose seeds are None is of one, and its arrays have no
    such axis yet. What has no axis of seeds in a run of several, such as a number of your own, is repeated for each.
    """
    seconds = sum(float(given.get("run_seconds", 0.0)) for _, given in parts)
    machines = sorted({str(given["made_on"]) for _, given in parts if "made_on" in given})
    return Result(config, join_arrays(parts), seconds, tuple(machines))


def join_arrays(parts: Sequence[tuple[Sequence[int] | None, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """The arrays of `join`."""
    arrays: dict[str, np.ndarray] = {}
    for name in (name for name in parts[0][1] if name not in ("run_seconds", "made_on")):
        if name.startswith(OF_FIRST):
            arrays[name] = parts[0][1][name]
            continue
        pieces = []
        for seeds, given in parts:
            values = np.asarray(given[name])
            if seeds is None:
                values = values[None]
            elif values.ndim == 0 or len(values) != len(seeds):
                values = np.broadcast_to(values, (len(seeds), *values.shape))
            pieces.append(values)
        if len({piece.shape[1:] for piece in pieces}) > 1:  # of another shape in each run
            pieces = [np.fromiter(piece, dtype=object) for piece in pieces]
        arrays[name] = np.concatenate(pieces)
    return arrays


# ---------------------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class Experiment:
    """One section of the study: the configurations it compares, by label, and the function that reports on them.

    `report(runs, report)` gets its Runs and a lab.gallery.report.Report to fill; it neither prints nor saves. Its
    docstring says what is asked and what is varied. `beside` are further configurations, such as references and
    controls, whose Runs are `report.beside`. One that takes long is not done `by_default`, but where it is named.
    """

    section: str
    name: str
    summary: str
    configs: dict[str, Any]
    report: Callable[[Runs, Any], None]
    by_default: bool = True
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def needed(self) -> dict[str, Any]:
        """All configurations, by label."""
        return self.configs | self.beside

    def adapted(self, arguments: Any) -> "Experiment":
        """The same with the configurations that the command line wants."""
        configs, beside = (
            {label: wanted for label, config in given.items() if (wanted := config.budget(arguments)) is not None}
            for given in (self.configs, self.beside)
        )
        return replace(self, configs=configs, beside=beside)


def experiment(
    section: str,
    name: str,
    summary: str,
    configs: dict[str, Any],
    by_default: bool = True,
    beside: dict[str, Any] | None = None,
) -> Callable[[Callable], Experiment]:
    """Make a report function an Experiment, which stands in the script under the function's name."""
    return lambda report: Experiment(section, name, summary, configs, report, by_default, beside or {})


def experiments_in(script: dict[str, Any]) -> list[Experiment]:
    """The experiments among the names of a script, in the order in which they stand there."""
    return [value for value in script.values() if isinstance(value, Experiment)]


# ---------------------------------------------------------------------------- what is possible


def check(config: Any, where: str, **names: Iterable[str]) -> None:
    """See that the fields of a dataclass can be: of `names` one of these, others of the kind of their defaults.

    Numbers are above 0, or from 0 on where the default is 0; a tuple is of epochs. Raises InputError.
    """
    for each in fields(config):
        value, default = getattr(config, each.name), each.default
        if each.name in names:
            right = isinstance(value, str) and value in names[each.name]
            allowed = f"one of {', '.join(names[each.name])}"
        elif type(default) is float:
            right, allowed = isinstance(value, (int, float)) and 0 < value < math.inf, "a number above 0"
        elif type(default) is int:
            least = min(default, 1)
            right = isinstance(value, (int, np.integer)) and type(value) is not bool and value >= least
            allowed = f"a whole number from {least} on"
        elif type(default) is tuple:
            right = isinstance(value, tuple) and set(value) <= set(range(1, config.epochs + 1))
            allowed = f"a tuple of epochs from 1 to {config.epochs}"
        else:
            right, allowed = type(value) is bool, "True or False"
        if not right:
            raise InputError(f"{each.name}={value!r} is not possible", where, f"choose {allowed}")
