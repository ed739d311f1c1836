"""What the three lessons share: loading the data, an epoch of training, figures, and how a study is run and reported.

The laboratory behind it, which no lesson needs to be understood, is in lab/.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from lab import charts, commands, gallery, runs
from lab.charts import end_labels, figure
from lab.commands import run_script
from lab.errors import InputError, warn
from lab.photos import Photos, demo_faces, load_photos
from lab.places import Places, load_places
from lab.results import SPLITS, Cells, Experiment, Report, Result, Rows, experiment, experiments_in, join
from lab.runs import Run

__all__ = [
    "SPLITS",
    "Cells",
    "Experiment",
    "InputError",
    "Photos",
    "Places",
    "Report",
    "Result",
    "Rows",
    "Run",
    "demo_faces",
    "end_labels",
    "experiment",
    "experiments_in",
    "figure",
    "finish",
    "load_photos",
    "load_places",
    "report",
    "run_script",
    "start",
    "train_epoch",
    "warn",
]

# ---------------------------------------------------------------------------- training


def train_epoch(model: nn.Module, batches: Iterable, optimizer: torch.optim.Optimizer, loss_function: Callable):
    """One pass of gradient descent over (input, target) batches; returns each one's loss (nats), (batches,)."""
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


# ---------------------------------------------------------------------------- a study


def start(
    script: str,
    doc: str,
    experiments: Sequence[Experiment],
    argv: Sequence[str] | None,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """The command line of a script, whose output folder is ready; `.experiments` are the chosen ones."""
    arguments = commands.parse_arguments(doc, experiments, argv, options)
    if arguments.quick:
        print("--quick: a tiny budget to walk every code path; none of the numbers is a result", flush=True)
    charts.output(arguments.format, arguments.quick)
    gallery.check_out(arguments.out, script)
    return arguments


def finish(
    planned: dict[Any, list[Run]], data: tuple, context: dict, arguments: argparse.Namespace, script: str, **how
) -> dict[Any, Result]:
    """{configuration: Result} of those whose runs could be done or are kept; planned: the runs of each, group by group.

    `context` is what stands for the data in the keys of the runs; `how` overrides the command line's jobs and others.
    """
    how = {name: getattr(arguments, name) for name in ("jobs", "fresh", "redraw", "cluster")} | how
    folder = arguments.out / "runs" / script
    finished = runs.finish_runs([run for group in planned.values() for run in group], data, context, folder, **how)
    return {
        config: join(config, [(run.seeds, finished[run.name]) for run in group])
        for config, group in planned.items()
        if all(run.name in finished for run in group)
    }


def report(
    experiments: Sequence[Experiment],
    results: dict[Any, Result],
    study: Any,
    arguments: argparse.Namespace,
    script: str,
    always: dict[str, Any] | None = None,
) -> None:
    """Report on the experiments, draw them and write table and gallery. Raises RunsFailed if some lack a run.

    always: {label: configuration} that every one needs.
    """
    reports, lacking, texts = {}, {}, {}
    with gallery.writing(arguments.out):
        for one in experiments:
            lacks = [label for label, config in (one.configs | (always or {})).items() if config not in results]
            if lacks:
                lacking |= {} if arguments.redraw else {one.section: lacks}
                continue
            given = {label: results[config] for label, config in one.configs.items()}
            found = reports[one.section] = one.report(given, study)
            made_in = gallery.made_in(given.values())
            texts[one.section] = gallery.describe(one, found, script, made_in, arguments.quick)
            for name, fig in found.figures.items():
                charts.save(fig, arguments.out / f"{name}.png")
            print(gallery.brief(one, found), flush=True)
        gallery.save_reports(arguments.out, script, experiments, reports, lacking, texts)
