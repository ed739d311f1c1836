"""What the three lessons share: loading the data, an epoch of training, and how a study is run and reported.

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
from lab.draw import save
from lab.errors import InputError, printable, warn
from lab.gallery import sections
from lab.gallery.report import Report
from lab.gallery.reports import Reports
from lab.run import command_line, pool, runs
from lab.run.command_line import run_script
from lab.run.runs import Work
from lab.study import SPLITS, Cells, Experiment, Result, Runs, experiment, experiments_in, join

__all__ = [
    "SPLITS",
    "Cells",
    "Experiment",
    "InputError",
    "Photos",
    "Places",
    "Report",
    "Result",
    "Runs",
    "Work",
    "demo_faces",
    "draw_places",
    "experiment",
    "experiments_in",
    "load_photos",
    "load_places",
    "run_script",
    "run_study",
    "say_what_was_read",
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
    """The command line of a script, whose output folder is ready.

    `.every` are its experiments, `.experiments` the chosen ones, `.script` its name.
    """
    arguments = command_line.parse_arguments(doc, experiments, argv, options)
    arguments.script, arguments.every = script, experiments
    if arguments.quick:
        print("--quick: a tiny budget to walk every code path; none of the numbers is a result", flush=True)
    save.output(arguments.format, arguments.quick)
    sections.check_out(arguments.out, script)
    return arguments


def say_what_was_read(data: Places | Photos, folder: Path, arguments: argparse.Namespace) -> None:
    """One line on the terminal, which the gallery shows too: half-read files and swapped axes can be seen there."""
    arguments.read = describe_places(data, folder) if isinstance(data, Places) else describe_photos(data, folder)
    print(f"read: {printable(arguments.read)}", flush=True)


def run_study(data: Any, arguments: argparse.Namespace, new_report: Callable[[Experiment, Runs], Report]) -> None:
    """Do all that the chosen experiments need, each configuration once; report on each when its runs are done.

    data: what the configurations' `work` is given; new_report(experiment, runs beside it) gives a report to fill.
    """
    chosen, every = ([one.adapted(arguments) for one in those] for those in (arguments.experiments, arguments.every))
    names: dict[Any, str] = {}  # of configurations: after the first experiment of all that need them
    for one in every:
        for label, config in one.needed.items():
            names.setdefault(config, label if label.startswith(one.name) else f"{one.name}-{label}")
    wanted = {config for one in chosen for config in one.needed.values()}
    left = [config for config in names if config in wanted]
    for config in left:  # what they need goes first
        if config.needs and config.needs not in names:
            names[config.needs] = config.needs.name
    left += [config for config in names if config not in left and config in {other.needs for other in left}]

    reports, last = Reports(chosen, new_report, arguments), None
    while ready := [config for config in left if not config.needs or config.needs in reports.results]:
        needed = {config.needs for config in left}
        works = {c: c.work(names[c], data, arguments, reports.results.get(c.needs)) for c in ready}
        first = min(ready, key=lambda config: (config not in needed, not works[config].here, works[config].script))
        how = works[first]
        together = [c for c in ready if (c in needed, _how(works[c])) == (first in needed, _how(how))]
        if last and _how(last) != _how(how):
            pool.end_workers()  # which hold memory from what they have done
        _finish({config: works[config].runs for config in together}, how, arguments, reports)
        left, last = [config for config in left if config not in together], how
    reports.close()


def _how(work: Work) -> tuple:
    return work.script, work.here, work.apart, work.context, [id(part) for part in work.data]


def _finish(planned: dict[Any, list], how: Work, arguments: argparse.Namespace, reports: Reports) -> None:
    """Do runs that are done in the same way; `reports` gets every configuration's Result as soon as it is there."""
    config_of = {run.name: config for config, group in planned.items() for run in group}
    finished: dict[str, dict] = {}

    def done(name: str, arrays: dict) -> None:
        finished[name], config = arrays, config_of[name]
        if all(run.name in finished for run in planned[config]):
            reports.add({config: join(config, [(run.seeds, finished[run.name]) for run in planned[config]])})

    runs.finish_runs(
        [run for group in planned.values() for run in group],
        how.data,
        how.context,
        arguments.out / "runs" / (how.script or arguments.script),
        jobs=1 if how.here else arguments.jobs,
        fresh=arguments.fresh,
        redraw=arguments.redraw,
        cluster=None if how.here else arguments.cluster,
        apart=how.apart,
        by_memory=arguments.by_memory,
        done=done,
        watching=functools.partial(reports.display.watching, config_of),
    )
