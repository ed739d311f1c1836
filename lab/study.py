"""What a study is made of: an Experiment asks, its runs give Results, its report function makes a Report of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")
Cells = dict[tuple[str, str], np.ndarray]  # a row of a table: {(split, metric): one value per seed, or (seeds, n)}
Rows = dict[str, Cells]  # by label
CURVES = ("loss", "accuracy", "batch", "seconds", "gradient")  # how the names of arrays begin that have epochs


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


@dataclass
class Report:
    """What an experiment found.

    rows: the table; headline: the finding in one line; verdicts: sentences that cite rows; rules: how they were
    decided, as texts or as functions that have a `rule`; figures: {file name without suffix: figure}, in the order in
    which the gallery shows them; examples: how many each split has, where accuracies of one or two seeds shall have
    the interval over these; live: data of a figure that answers its reader in the page, see live.py; animations: as
    figures, of (title, frames).
    """

    rows: Rows
    headline: str
    verdicts: list[str]
    rules: Sequence[Any]
    figures: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    live: dict[str, Any] | None = None
    animations: dict[str, Any] = field(default_factory=dict)

    @property
    def definitions(self) -> list[str]:
        """The rules in parts, each once: where a rule has several, a semicolon and a new line are between them."""
        rules = (rule if isinstance(rule, str) else rule.rule for rule in self.rules)
        return list(dict.fromkeys(part for rule in rules for part in rule.split(";\n")))


@dataclass(frozen=True)
class Experiment:
    """One section of the study: the configurations it needs, by label, and the function that reports on them.

    `report(results, study)` gets {label: Result} and what its script calls the study, and returns a Report; it neither
    prints nor saves. Its docstring says what is asked, what is varied and what to look for. One that takes long is
    not done `by_default`, but where it is named.
    """

    section: str
    name: str
    summary: str
    configs: dict[str, Any]
    report: Callable[[dict[str, Result], Any], Report]
    by_default: bool = True

    def adapted(self, change: Callable[[str, Any], tuple[str, Any] | None]) -> "Experiment":
        """The same with other labels and configurations; where `change` gives None, one is left out."""
        changed = [change(label, config) for label, config in self.configs.items()]
        return replace(self, configs=dict(pair for pair in changed if pair))


def experiment(
    section: str, name: str, summary: str, configs: dict[str, Any], by_default: bool = True
) -> Callable[[Callable], Experiment]:
    """Make a report function an Experiment, which stands in the script under the function's name."""
    return lambda report: Experiment(section, name, summary, configs, report, by_default)


def experiments_in(script: dict[str, Any]) -> list[Experiment]:
    """The experiments among the names of a script, in the order in which they stand there."""
    return [value for value in script.values() if isinstance(value, Experiment)]
