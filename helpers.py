"""What the three lessons share: loading the data, an epoch of training, figures, and how a study is run and reported.

The laboratory behind it, which no lesson needs to be understood, is in lab/.
"""

import argparse
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab.data.photos import Photos, demo_faces, describe_photos, load_photos
from lab.data.places import Places, describe_places, draw_places, load_places
from lab.draw import charts
from lab.draw.charts import end_labels, figure
from lab.errors import InputError, printable, warn
from lab.gallery import sections
from lab.gallery.reports import Reports
from lab.run import command_line, runs
from lab.run.command_line import run_script
from lab.run.runs import Run
from lab.study import SPLITS, Cells, Experiment, Report, Result, Rows, experiment, experiments_in, join

__all__ = [
    "SPLITS",
    "Cells",
    "Experiment",
    "InputError",
    "Photos",
    "Places",
    "Report",
    "Reports",
    "Result",
    "Rows",
    "Run",
    "demo_faces",
    "draw_places",
    "end_labels",
    "experiment",
    "experiments_in",
    "figure",
    "finish",
    "load_photos",
    "load_places",
    "run_script",
    "start",
    "train_epoch",
    "warn",
]

# ---------------------------------------------------------------------------- training


def train_epoch(
    model: nn.Module,
    batches: Iterable,
    optimizer: torch.optim.Optimizer,
    loss_function: Callable,
    after_step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """One pass of gradient descent over (input, target) batches; returns each one's loss (nats), (batches,)."""
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        after_step()
        losses.append(loss.detach())
    return torch.stack(losses)


# ---------------------------------------------------------------------------- a study


def start(
    script: str,
    doc: str | None,
    experiments: Sequence[Experiment],
    argv: Sequence[str] | None,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """The command line of a script, whose output folder is ready; `.experiments` are the chosen ones."""
    arguments = command_line.parse_arguments(doc, experiments, argv, options)
    if arguments.quick:
        print("--quick: a tiny budget to walk every code path; none of the numbers is a result", flush=True)
    charts.output(arguments.format, arguments.quick)
    sections.check_out(arguments.out, script)
    return arguments


def say_what_was_read(data: Places | Photos, folder: Path, arguments: argparse.Namespace) -> None:
    """One line on the terminal, which the gallery shows too: half-read files and swapped axes can be seen there."""
    arguments.read = describe_places(data, folder) if isinstance(data, Places) else describe_photos(data, folder)
    print(f"read: {printable(arguments.read)}", flush=True)


def finish(
    planned: dict[Any, list[Run]], data: tuple, context: dict, reports: Reports, script: str = "", **how
) -> dict[Any, Result]:
    """{configuration: Result} of those whose runs could be done or are kept; planned: the runs of each, group by group.

    `context` is what stands for the data in the keys of the runs; `reports` gets every result as soon as it is there;
    `script` is the one that keeps the runs, by default that of the reports; `how` overrides the command line's jobs and
    others.
    """
    arguments = reports.arguments
    how = {name: getattr(arguments, name) for name in ("jobs", "by_memory", "fresh", "redraw", "cluster")} | how
    config_of = {run.name: config for config, group in planned.items() for run in group}
    finished, results = {}, {}

    def done(name: str, arrays: dict) -> None:
        finished[name], config = arrays, config_of[name]
        if all(run.name in finished for run in planned[config]):
            results[config] = join(config, [(run.seeds, finished[run.name]) for run in planned[config]])
            reports.add({config: results[config]})

    every = [run for group in planned.values() for run in group]
    watching = functools.partial(reports.display.watching, config_of)
    folder = arguments.out / "runs" / (script or reports.script)
    runs.finish_runs(every, data, context, folder, **how, done=done, watching=watching)
    return results
