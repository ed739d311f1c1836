"""Section 6: multi-layer perceptrons tell a place's country from its coordinates.

    python NN_tutorial.py                        all twelve experiments
    python NN_tutorial.py learning-rate depth    only these two (see --list)
    python NN_tutorial.py --data DIR             your places, see data/README.md
    python NN_tutorial.py --quick                every code path, into quick/

How to read it: `Config` says what is trained, `mlp` is the network, `train_one` trains it. Then the experiments, each
under the configurations that it compares. Results are in plots/README.md, with all numbers in plots/NN_tutorial.csv,
times in NN_tutorial.seconds.csv, and the curves and parameters of every run in plots/runs/NN_tutorial/*.npz.
"""

import lab.run.interrupt  # noqa: F401, I001  (first: Ctrl-C and errors end in one line even while the rest is imported)

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

import helpers
from helpers import Cells, Places, Result, Runs, Work, experiment
from lab import study
from lab.draw import accuracies, curves, maps
from lab.draw.gradients import panels, through_layers
from lab.errors import plural
from lab.gallery.places_report import SharedPlaces, PlacesReport
from lab.nets import inputs, replicas, stack
from lab.nets.inputs import Inputs
from lab.nets.references import REFERENCES
from lab.run.pool import one_thread
from lab.run.runs import in_groups
from lab.study import Column, Condition, Measured
from lab.tell import phrases, statistics

# ---------------------------------------------------------------------------- what is trained


@dataclass(frozen=True)
class Config:
    """A multi-layer perceptron and its training; the defaults are the study's standard net.

    Raises InputError for names that are not known and numbers that are not possible.
    """

    depth: int = 6  # hidden layers
    width: int = 16  # units of a hidden layer
    activation: str = "relu"  # of ACTIVATIONS
    features: str = "raw"  # of FEATURES
    batch_norm: bool = False  # after every hidden layer, before its activation
    residual: bool = False  # x + layer(x) from the second hidden layer on
    init: str = "default"  # default: nn.Linear's; he: He et al. 2015; rezero: a gate on each residual, from 0
    lr: float = 1e-3  # of Adam; the peak where the schedule is one-cycle
    schedule: str = "constant"  # of SCHEDULES
    batch_size: int = 256
    epochs: int = 50
    shuffled_labels: bool = False  # a control: every training place has the label of another one
    checks: int = 1  # validation losses per epoch
    gradients: bool = False  # record every layer's gradient, and what it passes on before and after the training
    keep: tuple[int, ...] = ()  # epochs whose parameters are kept, beside the last
    film: int = 0  # frames: states of the first seed's network that are kept on the way

    def __post_init__(self):
        inits = ["default", *["he"] * (self.activation in HE), *["rezero"] * self.residual]
        names = {"activation": ACTIVATIONS, "features": FEATURES, "schedule": SCHEDULES, "init": inits}
        study.check(self, "a Config in NN_tutorial.py", **names)

    needs = None  # no other run

    def budget(self, arguments: argparse.Namespace) -> "Config":
        """The same, with --quick on a fiftieth of the epochs."""
        epochs = max(1, self.epochs // STANDARD_EPOCHS)
        kept = {"keep": (1,) if self.keep else (), "film": min(self.film, 4)}
        return replace(self, epochs=epochs, checks=min(self.checks, 2), **kept) if arguments.quick else self

    def work(self, name: str, places: Places, arguments: argparse.Namespace, given: None) -> Work:
        """Its runs, each of as many seeds as train as one stack."""
        rows, seeds = len(places.y["train"]), range(arguments.seeds)
        group = stack.group_size(rows, lesson().width(self), arguments.device)
        runs = in_groups(name, train, self, seeds, group, seconds_of(self, rows))
        return Work(runs, (places, arguments.device), {"data": places.fingerprint(), "device": arguments.device})


class Residual(nn.Module):
    """x + layer(x) (He et al. 2016), or x + gate * layer(x) with a gate learned from 0 (Bachlechner et al. 2021)."""

    def __init__(self, layer: nn.Module, rezero: bool):
        super().__init__()
        self.layer = layer
        self.gate = nn.Parameter(torch.zeros(1)) if rezero else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, width)
        return x + self.layer(x) if self.gate is None else x + self.gate * self.layer(x)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}  # and others that you add
HE = ("relu", "leaky_relu")  # those that He et al. give a gain for


def mlp(config: Config, inputs: int, classes: int) -> nn.Module:
    """One multi-layer perceptron, (B, inputs) to logits (B, classes): per layer Linear, [BatchNorm1d,] activation.

    Whatever this returns is what is trained: what lab/nets/stack.py doesn't know is trained by `train_one`, slower.
    """
    layers: list[nn.Module] = []
    for number in range(config.depth):
        linear = nn.Linear(config.width if number else inputs, config.width)
        if config.init == "he":
            nn.init.kaiming_normal_(linear.weight, nonlinearity=config.activation)
            nn.init.zeros_(linear.bias)
        norm = [nn.BatchNorm1d(config.width)] if config.batch_norm else []
        layer = nn.Sequential(linear, *norm, ACTIVATIONS[config.activation]())
        layers.append(Residual(layer, config.init == "rezero") if config.residual and number else layer)
    return nn.Sequential(*layers, nn.Linear(config.width, classes))


FEATURES: dict[str, Callable] = {  # from degrees to the network's inputs
    "raw": Inputs(),
    "standardised": Inputs(standardised=True),  # by mean and deviation of the train places
    "implicit": Inputs(frequencies=tuple(tenths / 10 for tenths in range(1, 11))),  # sin(a x), a = 0.1, 0.2, ..., 1.0
    # Fourier features (Tancik et al. 2020): sine and cosine at 1/2, 1, 2, ..., 32.
    "waves": Inputs(standardised=True, frequencies=tuple(2.0**n for n in range(-1, 6)), waves=("sin", "cos")),
}
SCHEDULES: dict[str, Callable] = {  # of the learning rate: (optimizer, peak, updates) to a scheduler, or None
    "constant": lambda optimizer, lr, updates: None,
    "one-cycle": lambda optimizer, lr, updates: OneCycleLR(optimizer, lr, total_steps=updates),  # Smith and Topin 2018
}

# ---------------------------------------------------------------------------- how it is trained


def train_one(config: Config, places: Places, seed: int, device: str = "cpu") -> Iterator[tuple]:
    """All of training, for one network. A generator: makes an update, then yields the network and the batch's loss.

    `train` does the same for all seeds at once, many times as fast (lab/nets/stack.py), and sees that it is the same.
    """
    x, y = inputs.tensors(places, "train", inputs_of(config), device=device)  # (n, in), (n,)
    torch.manual_seed(seed)
    model = mlp(config, x.shape[1], len(places.countries)).to(device)
    size, updates = batches_of(config, len(y))
    optimizer, schedule = optimizer_of(model.parameters(), config, updates * config.epochs)
    shuffle, network = torch.Generator().manual_seed(seed), stack.Plain(model)
    if config.shuffled_labels:
        y = y[torch.randperm(len(y), generator=shuffle)]

    for _ in range(config.epochs):
        order = torch.randperm(len(y), generator=shuffle)
        for batch in order.split(size)[:updates]:  # an incomplete last one is dropped, other places each time
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            if schedule:
                schedule.step()
            yield network, loss.detach()


def inputs_of(config: Config) -> Callable:
    return FEATURES[config.features]


def optimizer_of(parameters: Iterable, config: Config, updates: int) -> tuple[torch.optim.Optimizer, object]:
    """Adam and its schedule over all updates."""
    optimizer = torch.optim.Adam(parameters, config.lr)
    return optimizer, SCHEDULES[config.schedule](optimizer, config.lr, updates)


def batches_of(config: Config, rows: int) -> tuple[int, int]:
    """Batch size and updates per epoch."""
    size = min(config.batch_size, rows)
    return size, rows // size


def lesson() -> replicas.Lesson:
    """What is written out above, for the laboratory."""
    return replicas.Lesson(mlp, inputs_of, optimizer_of, batches_of, train_one)


def train(
    config: Config, places: Places, device: str, seeds: Sequence[int], progress: Callable[[float], None]
) -> dict[str, np.ndarray]:
    """Train one network per seed, each with its own initialisation and shuffling; returns the arrays of `record`."""
    return replicas.train(lesson(), config, places, seeds, device, progress)


def seconds_of(config: Config, rows: int) -> float:
    """About how long `train` takes a seed on a laptop core, for the order of the runs and the time left."""
    size, updates = batches_of(config, rows)
    layer = (2.5 + size * config.width * (1.4 + 0.027 * config.width) / 1000) * 1e-6
    return config.epochs * updates * (config.depth + 1) * layer * (2 if config.batch_norm else 1)


# ---------------------------------------------------------------------------- 6.1 the training

STANDARD_EPOCHS = 50
STANDARD = Config(epochs=100, keep=(STANDARD_EPOCHS,))  # the defaults, trained on for 6.1.2; all else reads 50 epochs
LEARNING_RATES = {
    "lr 1": Config(lr=1.0),
    "lr 0.01": Config(lr=1e-2),
    "lr 0.001": STANDARD,
    "lr 0.00001": Config(lr=1e-5),
}


@experiment("6.1.1", "learning-rate", "the standard net with four constant learning rates", LEARNING_RATES)
def learning_rate(runs: Runs, report: PlacesReport) -> None:
    """How large may the learning rate be, and what happens above and below?

    Varied: Adam's learning rate, constant over 50 epochs; all else is the standard net.
    """
    runs = runs.cut_to_shortest()
    silent, moved = runs.each(report.silent_units), runs.each(report.distance_moved)
    collapsed, others = runs.each(report.collapsed), max(silent[label] for label in runs if label != "lr 1")
    report.table(runs, runs.each(report.diverged), collapsed, silent, moved)
    report.why(
        "At 1 the units die. Adam moves a weight by about the learning rate at every update, however small the "
        f"gradient: from {report.size_at_start(runs['lr 1']):.2f} the weights were thrown {moved['lr 1']:.1f} away, "
        f"{silent['lr 1']:.0%} of the units are 0 for every place ({others:.0%} at most at other rates), and what is "
        "silent has no gradient to come back by.",
        holds=(silent["lr 1"] > 1.5 * others) & (moved["lr 1"] > 1) & (collapsed["lr 1"] > 0.5),
        short=f"A learning rate of 1 kills the units: {silent['lr 1']:.0%} of them are 0 for every place.",
    )
    report.why(
        f"At 0.00001 there was no time: all updates together moved a weight by {moved['lr 0.00001']:.3f} on average, "
        f"at 0.001 by {moved['lr 0.001']:.3f}.",
        holds=moved["lr 0.00001"] < 0.5 * moved["lr 0.001"],
    )
    courses = {label: phrases.course(result, report.prior_loss) for label, result in runs.items()}
    report.say("; ".join(f"{label}: {course}" for label, course in courses.items()) + ".", phrases.course)
    named = {label: f"{label} ({course})" for label, course in courses.items() if course in ("collapsed", "diverged")}
    ax = report.figure("6.1.1_learning_rate", "; ".join([phrases.best(report), *named.values()]))
    curves.curves(ax, runs, "loss_validation", look=curves.by_rate, named=named)
    curves.level(ax, report.prior_loss, "class frequencies only")


@experiment("6.1.2", "epochs", "the standard net for 100 epochs", {"standard": STANDARD})
def epochs(runs: Runs, report: PlacesReport) -> None:
    """How long does training pay, and does the standard net over-fit in the end?

    Varied: nothing but the number of epochs, 1 to 100, all read off one training.
    """
    (result,) = runs.values()
    train_loss, loss = (np.median(result[f"loss_{split}"], axis=0) for split in ("train", "validation"))
    marked = [epoch for epoch in (1, 5, 10, 20, 50, 100) if epoch <= len(loss)]
    last, before = (f"epoch {epoch}" for epoch in (marked[-1], marked[-2:][0]))
    rows = {f"epoch {epoch}": report.cells(result, epoch) for epoch in marked}
    report.table(rows, against=last, split="validation", metric="loss")
    over = phrases.over_fits(train_loss, loss)
    report.why(
        f"{plural(marked[-1], 'epoch')} are not enough: the last ones, from {before} on, still lower the validation "
        "loss, which ends within 5% of its lowest: no over-fitting.",
        holds=report.higher(before, last, "loss", "validation") & ~over,
    )
    report.rule(phrases.over_fits)
    found = "over-fits" if over else "doesn't over-fit"
    losses = (
        f"{loss[marked[-2:][0] - 1]:.2f} after {marked[-2:][0]} epochs, {loss[marked[-1] - 1]:.2f} after {marked[-1]}"
    )
    ax = report.figure("6.1.2_epochs", f"Median validation loss {losses}: {found}", "Circles: median validation loss.")
    curves.splits(ax, result, "loss")
    curves.marked_epochs(ax, result, marked)


CONTROL = {"shuffled labels": Config(shuffled_labels=True, epochs=10)}
BATCH_NORM = {
    "without batch norm": STANDARD,
    "with batch norm": Config(batch_norm=True),
    "standardised, without batch norm": Config(features="standardised"),
    "standardised, with batch norm": Config(features="standardised", batch_norm=True),
}


@experiment("6.1.3", "batch-norm", "batch normalisation or none, on raw and on standardised degrees", BATCH_NORM,
            beside=CONTROL | REFERENCES)  # fmt: skip
def batch_norm(runs: Runs, report: PlacesReport) -> None:
    """Does batch normalisation help a net of six hidden layers, and does it still where the inputs are scaled?

    Varied: `nn.BatchNorm1d` between every hidden layer and its activation, or none; crossed with it the inputs, raw
    degrees or standardised ones.
    """
    runs = runs.cut_to_shortest()
    raw, with_it, scaled, both = runs
    report.table(runs, against=raw)
    gain, alone = report.of(with_it) - report.of(raw), report.of(scaled) - report.of(raw)
    more = Measured(report.of(both) - report.of(scaled), "gain of batch norm on standardised degrees")
    report.why(
        f"It stands in for scaled inputs: on raw degrees batch norm gains {gain:.3f} in test accuracy; standardised "
        f"degrees gain {alone:.3f} without it, and with them it changes {more:+.3f}.",
        holds=report.higher(with_it, raw) & report.higher(scaled, raw) & (more < 0.25 * gain),
        short=f"Batch norm stands in for scaled inputs: it gains {gain:.3f} on raw degrees, {more:+.3f} on scaled.",
    )
    target = np.median(runs[raw]["loss_validation"], axis=0)
    first, second = (Measured(reach(runs[x], target[-1]), f"first epoch of {x}") for x in (with_it, scaled))
    report.why(
        f"Either makes it learn sooner: the median validation loss that the net without both has after {len(target)} "
        f"epochs, it has with batch norm after {first:.0f} and with standardised degrees after {second:.0f}.",
        holds=(first < len(target) / 2) & (second < len(target) / 2) & report.higher(scaled, raw),
    )
    accurate = "{:.3f} without batch norm, {:.3f} with it; on standardised degrees {:.3f} and {:.3f}"
    headline = f"Test accuracy {accurate.format(*map(report.of, runs))}"
    look = {"rows": 2, "columns": 4, "size": (19, 8), "sharex": True, "sharey": "row"}
    axes = report.figure("6.1.3_batch_norm", headline, "Numbers: means.", **look)
    accuracies.before_and_after(axes, runs, report.rows, report.levels)


def reach(result: Result, target: float) -> float:
    """The first epoch after which the median validation loss is at most the target; infinite where there is none."""
    reached = np.median(result["loss_validation"], axis=0) <= target
    return float(reached.argmax() + 1) if reached.any() else np.inf


BATCH_SIZES = {
    "batch size 1": Config(batch_size=1, epochs=1, checks=100),
    "batch size 16": Config(batch_size=16, epochs=10, checks=10),
    "batch size 128": Config(batch_size=128, checks=4),
    "batch size 1024": Config(batch_size=1024, checks=2),
}


FASTER = {
    "batch size 1024, lr 0.008": Config(batch_size=1024, lr=8e-3, checks=2)
}  # eight times the rate, as against 128


def speed(result: Result, target: float) -> Cells:
    """The table cells on speed and stability; target: the validation loss to which the way is measured."""
    reached = (result["check_loss"] <= target).argmax(axis=1)[:, None]
    updates, seconds = (np.take_along_axis(result[f"check_{n}"], reached, 1)[:, 0] for n in ("updates", "seconds"))
    return {
        ("train", "updates_per_epoch"): result["updates"],
        ("train", "batch_loss_std"): result.at("batch_loss_std"),
        ("validation", "updates_to_target"): updates,
        ("train", "seconds_per_epoch"): result.at("seconds") / result["seconds"].shape[1],
        ("validation", "seconds_to_target"): seconds,
    }


def loss_after(result: Result, updates: int) -> float:
    """The validation loss, median over seeds, at the last look that came after at most so many updates."""
    look = max(0, int(np.searchsorted(result["check_updates"][0], updates, side="right")) - 1)
    return float(np.median(result["check_loss"][:, look]))


@experiment(
    "6.1.4", "batch-size", "accuracy, speed and stability of four batch sizes", BATCH_SIZES, beside=FASTER | REFERENCES
)
def batch_size(runs: Runs, report: PlacesReport) -> None:
    """What does the batch size trade between accuracy, speed and a steady loss?

    Varied: 1, 16, 128 and 1,024 places per update of Adam, at the same learning rate; small batches get fewer epochs.
    """
    target = max(result["check_loss"].min(axis=1).max() for result in runs.values())  # that every seed reaches
    report.table({label: report.cells(result) | speed(result, target) for label, result in runs.items()})
    report.rule(
        f"target: {target:.3f}, the lowest validation loss that every seed of every batch size reaches; seconds: those "
        "of the stack of all seeds over their number, on the machine of this run"
    )
    explain_large_batch(runs, report)
    averaged = {label: report.rows[label]["train", "batch_loss_std"].mean() * root_of(r) for label, r in runs.items()}
    report.why(
        "A large batch is steady because it is a mean: the spread of the loss from batch to batch times the root of "
        f"the batch size is {', '.join(f'{value:.2f}' for value in averaged.values())}, over sizes from 1 to 1,024.",
        holds=Measured(max(averaged.values()) / min(averaged.values()), "largest over smallest of these") < 2,
    )
    draw_batch_sizes(runs, report, target)


def explain_large_batch(runs: Runs, report: PlacesReport) -> None:
    """Whether 1,024 is behind 128 for its size, for its few updates or for its small rate."""
    large, middle = runs["batch size 1024"], runs["batch size 128"]
    updates = int(large["check_updates"][0, -1])
    losses = [Measured(loss_after(r, updates), f"validation loss after {updates:,} updates") for r in (large, middle)]
    report.why(
        f"1,024 makes {updates:,} updates in all, and each is worth no less: it ends at a validation loss of "
        f"{losses[0]:.2f}; after as many updates 128 is at {losses[1]:.2f}.",
        holds=(losses[0] < losses[1]) & report.higher("batch size 128", "batch size 1024"),
    )
    (faster,) = FASTER
    report.why(
        f"With a rate as many times higher as its batch is larger, 1,024 gets {report.of(faster):.3f} of the test "
        f"places right in the same 50 epochs; 128 gets {report.of('batch size 128'):.3f}, and 1,024 at the same rate "
        f"{report.of('batch size 1024'):.3f}.",
        holds=report.higher(faster, "batch size 1024") & ~report.higher("batch size 128", faster),
        short="A batch of 1,024 is worst at the same learning rate; at eight times it no difference to 128 is shown.",
    )


def root_of(result: Result) -> float:
    return result.config.batch_size**0.5


def draw_batch_sizes(runs: Runs, report: PlacesReport, target: float) -> None:
    """Accuracy and stability above, the way down in updates and in seconds below; who is best at each."""
    fast, steady = (
        statistics.choose(report.rows, runs, split, metric, sign=-1)
        for split, metric in (("validation", "seconds_to_target"), ("train", "batch_loss_std"))
    )
    wins = f"most accurate {phrases.named(report.level)}; fastest {fast}; steadiest {steady}"
    headline = f"Batch size: {wins.replace('batch size ', '')}"
    note = "Dots: mean and 95% interval. Seconds: those of the stack over its number of networks."
    axes = report.figure("6.1.4_batch_size", headline, note, rows=2, columns=2, size=(12, 8.5))
    (accuracy, spread), ways = axes
    sizes = {label: str(result.config.batch_size) for label, result in runs.items()}
    ticks = {label: f"{sizes[label]}\n({result.config.epochs})" for label, result in runs.items()}
    positions = np.log2([float(size) for size in sizes.values()])
    accuracies.scores(accuracy, {ticks[label]: report.rows[label] for label in runs}, positions)
    accuracies.references(accuracy, report.levels)
    accuracy.set(title="accuracy", xlabel="batch size, log scale (epochs)")
    stds = {ticks[label]: report.rows[label]["train", "batch_loss_std"] for label in runs}
    accuracies.spreads(spread, stds, positions)
    spread.set(xlim=accuracy.get_xlim(), xlabel="batch size, log scale (epochs)")
    spread.set(
        ylabel="standard deviation of the loss (nats)", title="stability: spread from batch to batch, last epoch"
    )
    for ax, unit, text in zip(ways, ("updates", "seconds"), ("", f"reached by all:\n{target:.3f}"), strict=True):
        curves.way_down(ax, runs, unit, target, text, named=sizes)
    ways[0].set(xlabel="updates", title="speed in updates, by batch size")
    ways[1].set(xlabel="seconds of training per network", title="speed in time, by batch size", ylabel="")


# ---------------------------------------------------------------------------- 6.2 the architecture

TUNED = Config(lr=1e-2, schedule="one-cycle", epochs=60)
FORMING = (1, 5, 7, 10, 20, 40)  # epochs at which the map of the best of seven is drawn, beside the last
SEVEN = {
    f"({depth}, {width})": replace(TUNED, depth=depth, width=width, keep=FORMING, film=60)
    for depth, width in ((1, 16), (2, 16), (6, 16), (10, 16), (6, 8), (6, 32), (6, 64))
}


@experiment("6.2.1.1", "best-model", "the best of seven depths and widths, and its map", SEVEN, beside=REFERENCES)
def best_model(runs: Runs, report: PlacesReport) -> None:
    """Which of seven depths and widths tells countries apart best, and what does its map of Europe look like?

    Varied: hidden layers and their width; learning rate, schedule, batch size and epochs are the same for all seven.
    """
    report.table(runs)
    label = report.reference
    result, trained_on = runs[label], report.of(label, split="train")
    report.why(
        f"Even the best of the seven, {label}, under-fits: it is right on {trained_on:.1%} of the places that it was "
        f"trained on, fewer than the {report.neighbour:.1%} that their nearest neighbour gets right unseen.",
        holds=phrases.under_fits(trained_on, report.neighbour, report.examples["validation"])
        & report.higher("nearest neighbour", label),
        short=f"The best of seven nets on raw degrees, {label}, stays below the nearest neighbour, and it under-fits.",
    )
    report.rule(phrases.under_fits)
    one_of_seven(runs, report, "6.2.1.1_best_model", "Best", report.level)
    report.forming("6.2.1.1_map_forming", result)
    report.film("6.2.1.1_map_forming", f"The best of seven, {label}, learns its map", result)
    report.live_map(runs, label)


@experiment("6.2.1.2", "worst-model", "the worst of the seven, and its map", SEVEN, beside=REFERENCES)
def worst_model(runs: Runs, report: PlacesReport) -> None:
    """Which of the seven is worst, and is that because it over-fits or because it under-fits?

    Varied: hidden layers and their width, as for the best of the seven.
    """
    worst = statistics.choose({label: report.cells(result) for label, result in runs.items()}, sign=-1)
    report.table(runs, against=worst)
    fitted, losses = report.column(split="train"), (runs[worst][f"loss_{s}"] for s in ("train", "validation"))
    trained_on, next_one = fitted[worst], min(fitted[label] for label in runs if label != worst)
    report.why(
        f"{worst} is worst because it fits least: it gets {trained_on:.1%} right of the places that it was trained on, "
        f"the next {next_one:.1%}, and its validation loss has not turned up.",
        holds=phrases.under_fits(trained_on, report.neighbour, report.examples["validation"])
        & (trained_on < next_one)
        & ~phrases.over_fits(*losses),
    )
    report.rule(phrases.under_fits, phrases.over_fits)
    one_of_seven(runs, report, "6.2.1.2_worst_model", "Worst", report.level)


def one_of_seven(runs: Runs, report: PlacesReport, name: str, which: str, level: Sequence[str]) -> None:
    """The figures of the best or the worst, the first of `level`: all seven side by side, its losses, its map."""
    pick, result = level[0], runs[level[0]]
    fit = phrases.fit(result, report.neighbour, report.examples["validation"])
    named = f"{which} of seven, (depth, width): {phrases.named(level)}"
    look = {"columns": 2, "size": (12.5, 5), "width_ratios": (1.1, 1)}
    headline = f"{named}, {fit}, test accuracy {report.of(pick):.3f}"
    left, right = report.figure(name, headline, "Dots: mean and 95% interval.", **look)
    ranked = sorted(runs, key=lambda label: report.rows[label]["validation", "accuracy"].mean())
    accuracies.scores(left, {label: report.rows[label] for label in ranked})
    left.axvspan(ranked.index(pick) - 0.4, ranked.index(pick) + 0.4, color="0.9", zorder=0)
    accuracies.references(left, report.levels)
    left.set(xlabel="(depth, width), in order of validation accuracy")
    curves.splits(right, result, "loss")
    right.set_title(f"loss of {pick}")
    title, predict = report.middle(pick, result)
    report.maps(f"{name}_map", f"What the {which.lower()} of seven, {title}", {title: predict})


DEPTHS = {f"depth {config.depth}": config for config in SEVEN.values() if config.width == 16}


@experiment("6.2.1.3", "depth", "accuracy against depth at width 16", DEPTHS, beside=REFERENCES)
def depth(runs: Runs, report: PlacesReport) -> None:
    """Is a deeper net a better one, at the same width?

    Varied: 1, 2, 6 or 10 hidden layers of width 16.
    """
    depths = {label: result.config.depth for label, result in runs.items()}
    compare(runs, report, "6.2.1.3_depth", "hidden layers of width 16", depths)
    fitted(runs, report, "Depth", tell=True)


WIDTHS = {f"width {c.width}": c for c in sorted(SEVEN.values(), key=lambda c: c.width) if c.depth == 6}


@experiment("6.2.1.4", "width", "accuracy against width at depth 6", WIDTHS, beside=REFERENCES)
def width(runs: Runs, report: PlacesReport) -> None:
    """Is a wider net a better one, at the same depth?

    Varied: 8, 16, 32 or 64 units in each of 6 hidden layers.
    """
    widths = {label: result.config.width for label, result in runs.items()}
    compare(runs, report, "6.2.1.4_width", "units in each of 6 hidden layers", widths)
    fitted(runs, report, "Width")


def fitted(runs: Runs, report: PlacesReport, what: str, tell: bool = False) -> None:
    """The explanation of depth and width: what the largest gains on test it gains on train, too."""
    small, large = (list(runs)[end] for end in (0, -1))
    gains = {split: report.of(large, split=split) - report.of(small, split=split) for split in ("train", "test")}
    lag = Measured(gains["train"] - gains["test"], "gain in train accuracy above that in test accuracy")
    over = phrases.over_fits(runs[large]["loss_train"], runs[large]["loss_validation"])
    report.why(
        f"{what} buys fit, not memory: from {small} to {large} accuracy rises by {gains['train']:.3f} on the places "
        f"trained on and by {gains['test']:.3f} on others, and {large} doesn't over-fit.",
        holds=report.higher(large, small) & (lag < 0.01) & ~over,
        short=f"A deeper net fits better, and not by heart: {large} gains {gains['test']:.3f} on {small}."
        if tell
        else "",
    )
    report.rule(phrases.over_fits)


def compare(runs: Runs, report: PlacesReport, name: str, axis: str, values: dict[str, float] | None = None) -> None:
    """The report of any comparison: accuracies against what is varied, `axis`, and validation losses; best and worst.

    values: of a number that is varied, a log scale, by label. The figure is saved as `name`.
    """
    report.table(runs)
    look = {"columns": 2, "size": (12.5, 5), "width_ratios": (1.1, 1)}
    left, right = report.figure(name, phrases.best_to_worst(report), "Dots: mean and 95% interval.", **look)
    rows = {label: report.rows[label] for label in runs}
    if values:
        accuracies.against(left, rows, [values[label] for label in runs], axis)
    else:
        accuracies.scores(left, rows)
        left.set_xlabel(axis)
    accuracies.references(left, report.levels)
    curves.curves(right, runs, "loss_validation")


# ---------------------------------------------------------------------------- 6.2.1.5 and 6.2.1.6 a hundred layers

DEEP = Config(depth=100, width=4, epochs=10, gradients=True)
CAUSES = {
    "plain": DEEP,
    "leaky ReLU": replace(DEEP, activation="leaky_relu"),
    "tanh": replace(DEEP, activation="tanh"),
    "width 16": replace(DEEP, width=16),
    "width 16, He initialisation": replace(DEEP, width=16, init="he"),
}
FLOW_NOTE = "Gradients: mean over an epoch's batches; thick lines, colours: median over seeds; thin lines: each seed."


def hidden_gradient(result: Result) -> tuple[np.ndarray, list[int]]:
    """The gradient of the hidden layers (S, E, layers), and those of them that are drawn as curves."""
    gradient = result["gradient"][:, :, :-1]
    return gradient, [layer for layer in (0, 30, 60, 90, 95, 99) if layer < gradient.shape[2]]


def flow_cells(result: Result) -> Cells:
    """The table cells of a deep net: gradients, dead layers, and how the spread changes from layer to layer."""
    gradient, layers = hidden_gradient(result)
    dead = phrases.dead_layers(result["silent"][:, 0]), phrases.dead_layers(result["silent"][:, -1])
    return (
        {("train", f"gradient_layer_{n}"): gradient[:, -1, n] for n in layers}
        | {("train", "dead_layers_at_start"): dead[0], ("train", "dead_layers"): dead[1]}
        | {("train", "factor_per_layer_at_start"): statistics.per_layer(result["spread"][:, 0])}
    )


def flow_table(runs: Runs, report: PlacesReport) -> dict[str, str]:
    """The table of deep nets; returns what becomes of the gradient in each, in a word."""
    report.table({label: report.cells(result) | flow_cells(result) for label, result in runs.items()}, against="plain")
    flows = {
        label: phrases.flow(hidden_gradient(result)[0][:, -1], result["silent"][:, -1])
        for label, result in runs.items()
    }
    report.say("; ".join(f"{label}: {flow}" for label, flow in flows.items()) + ".", phrases.flow, statistics.per_layer)
    return flows


@experiment(
    "6.2.1.5", "gradients", "the gradient in each of 100 hidden layers, and why it dies", CAUSES, beside=REFERENCES
)
def gradients(runs: Runs, report: PlacesReport) -> None:
    """What becomes of the gradient on its way back through 100 hidden layers, and why?

    Varied: the layer and the epoch, in 100 layers of width 4; then possible causes, the activation and the width.
    """
    flows, he = flow_table(runs, report), "width 16, He initialisation"
    (gradient, _), silent = hidden_gradient(runs["plain"]), runs["plain"]["silent"][:, -1]
    dead, factor = (report.column(metric, "train") for metric in ("dead_layers_at_start", "factor_per_layer_at_start"))
    report.why(
        f"Dead layers stop it. In {phrases.several(phrases.dead_layers(silent))} layers of the plain net by seed all "
        "units are 0 for every place; exactly the layers up to the last of these and the one it feeds get a gradient "
        "of 0.",
        holds=phrases.stopped_by_dead(gradient[:, -1], silent),
        short="In 100 layers of four units some layer is dead, and no gradient comes back through it.",
    )
    report.why(
        f"Without dead layers it still fades: through tanh, what a layer passes on spreads by a factor of "
        f"{factor['tanh']:.2f} a layer, and the gradient comes back through the same weights.",
        holds=(dead["tanh"] <= 0) & (factor["tanh"] < 0.8) & is_so(flows, "tanh", "vanishing"),
    )
    report.why(
        f"The control: at width 16, He's weights instead of nn.Linear's take that factor from {factor['width 16']:.2f} "
        f"to {factor[he]:.2f}, the gradient is even, and the net learns.",
        holds=(factor[he] > 0.9) & is_so(flows, he, "even") & report.higher(he, "width 16"),
    )
    counts = phrases.several(np.unique(phrases.dead_layers(silent))).replace(" and ", " or ")
    headline = f"{gradient.shape[2]} hidden layers: {counts} dead layers a seed; without them (tanh) the spread still "
    headline += f"changes by a factor of {factor['tanh']:.2f} a layer"
    draw_causes(runs, report, headline)


def is_so(flows: dict[str, str], label: str, word: str) -> Condition:
    """Whether the gradient of a net is what a word says."""
    return Condition(flows[label] == word, f"gradient of {label}: {flows[label]}")


def draw_causes(runs: Runs, report: PlacesReport, headline: str) -> None:
    """The gradient of the plain net; then what layers pass on before training, and the gradients of the first epoch."""
    gradient, layers = hidden_gradient(runs["plain"])
    axes = report.figure("6.2.1.5_gradients", headline, FLOW_NOTE, foot={"bands": False}, columns=2, size=(12, 5))
    panels(axes, {"": gradient}, layers)
    note = "Lines: median over the seeds that still pass on something; crosses below: a seed's first dead layer."
    look = {"foot": {"bands": False}, "columns": 2, "size": (13, 5)}
    left, right = report.figure("6.2.1.5_causes", headline, note, **look)
    dead = {label: result["silent"][:, 0] == 1 for label, result in runs.items()}
    through_layers(left, {label: result["spread"][:, 0] for label, result in runs.items()}, dead)
    left.set(title="before training", ylabel="spread over the places of what a layer passes on")
    through_layers(right, {label: hidden_gradient(result)[0][:, 0] for label, result in runs.items()})
    right.set(title="first epoch", ylabel="mean absolute gradient of the weights")
    curves.figure_legend(left)


REMEDIES = {
    "plain": DEEP,
    "He initialisation": replace(DEEP, init="he"),
    "batch norm": replace(DEEP, batch_norm=True),
    "residual": replace(DEEP, residual=True),
    "residual + batch norm": replace(DEEP, residual=True, batch_norm=True),
    "residual + ReZero": replace(DEEP, residual=True, init="rezero"),
}


@experiment(
    "6.2.1.6", "remedy", "the same with residuals, batch norm, better initialisation", REMEDIES, beside=REFERENCES
)
def remedy(runs: Runs, report: PlacesReport) -> None:
    """Which remedy brings the gradient through 100 layers, and does the net then learn?

    Varied: initialisation, batch norm, residual connections, and pairs of them, on the same 100 layers.
    """
    flows = flow_table(runs, report)
    factor, both = report.column("factor_per_layer_at_start", "train"), "residual + batch norm"
    report.why(
        f"Residuals alone let all pass and add to it: what is passed on grows by a factor of {factor['residual']:.2f} "
        f"a layer, {factor['residual'] ** 99:.0e} in all. With batch norm in each, the factor is {factor[both]:.2f}.",
        holds=(factor["residual"] > 1.1) & (factor[both] < 1.05) & report.higher(both, "residual"),
    )
    report.why(
        "Neither half helps alone: for residuals or batch norm by themselves no gain is shown.",
        holds=~report.higher("residual", "plain")
        & ~report.higher("batch norm", "plain")
        & report.higher(both, "plain"),
        short="Residual connections and batch norm together let 100 layers learn; for neither alone a gain is shown.",
    )
    chosen = statistics.choose(report.rows, [label for label in runs if label != "plain"])
    gain = f"test accuracy {report.of(chosen):.2f}, {report.of('plain'):.2f} without: {report.differences[chosen].word}"
    headline = f"Best remedy: {chosen}; {gain}"
    draw_remedies(runs, report, headline, flows)


def draw_remedies(runs: Runs, report: PlacesReport, headline: str, flows: dict[str, str]) -> None:
    """What each remedy reaches, and the gradients layer by layer; flows: what becomes of these, in a word."""
    look = {"foot": {"bands": False}, "size": (10.5, 5)}
    ax = report.figure("6.2.1.6_remedy_accuracy", headline, "Dots: mean and 95% interval.", **look)
    lines = {label: label.replace(" + ", "\n+ ").replace(" init", "\ninit") for label in runs}
    accuracies.scores(ax, {lines[label]: report.rows[label] for label in runs})
    accuracies.references(ax, report.levels)
    look = {"rows": 2, "columns": len(runs), "size": (2.7 * len(runs), 7.5), "sharey": "row"}
    axes = report.figure("6.2.1.6_remedy_gradients", headline, FLOW_NOTE, foot={"bands": False}, **look)
    titles = {label: f"{label}\n{flows[label]}, accuracy {report.of(label):.2f}" for label in runs}
    found = {label: hidden_gradient(result) for label, result in runs.items()}
    panels(axes, {titles[label]: gradient for label, (gradient, _) in found.items()}, found["plain"][1])


# ---------------------------------------------------------------------------- 6.2.1.7 the representation

IMPLICIT = {
    "raw": STANDARD,
    "standardised": Config(features="standardised"),
    "implicit": Config(features="implicit"),
    "raw, one-cycle": SEVEN["(6, 16)"],
    "standardised, one-cycle": replace(TUNED, features="standardised"),
    "implicit, one-cycle": replace(TUNED, features="implicit"),
}


@experiment("6.2.1.7", "implicit", "sines of the coordinates against the coordinates", IMPLICIT, beside=REFERENCES)
def implicit(runs: Runs, report: PlacesReport) -> None:
    """Does the same net do better on sines of the coordinates than on the coordinates?

    Varied: the inputs, 2 raw degrees or 20 sines, sin(a x) for a = 0.1, 0.2, ..., 1.0; with and without a schedule.
    """
    constant, tuned = runs.only(["raw", "standardised", "implicit"]).cut_to_shortest(), list(runs)[3:]
    runs = Runs({**constant, **runs.only(tuned)})
    report.table(runs, against="raw")
    gain, scaled = report.of("implicit") - report.of("raw"), report.of("standardised") - report.of("raw")
    scale = Measured(scaled, "gain of standardising")
    report.why(
        f"Most of what sines gain is scale: of {gain:.3f} in test accuracy, standardised degrees gain {scale:.3f}; "
        "sines lie between -1 and 1, too.",
        holds=report.higher("standardised", "raw") & report.higher("implicit", "raw") & (scale > 0.5 * gain),
        short=f"Sines of the coordinates gain {gain:.3f} in accuracy, of which scaled inputs alone give {scale:.3f}.",
    )
    left = Measured(report.of(tuned[2]) - report.of(tuned[0]), "gain with a schedule")
    report.why(
        f"What they gain depends on the training: {gain:.3f} at a constant rate of 0.001, {left:.3f} where both are "
        "trained ten epochs longer under a schedule that goes up to ten times that rate.",
        holds=report.higher(tuned[2], tuned[0]) & (left < 0.6 * gain),
    )
    accurate = "{:.3f} from raw degrees, {:.3f} from standardised ones, {:.3f} from sines".format(
        *map(report.of, constant)
    )
    headline = f"Same net: test accuracy {accurate}: {report.differences['implicit'].word}"
    draw_implicit(runs, report, headline)
    drawn = dict(report.middle(label, constant[label]) for label in ("raw", "implicit"))
    report.maps("6.2.1.7_implicit_map", headline, drawn, "Drawn: those of median validation accuracy.")
    report.live_map(runs, "implicit")


def draw_implicit(runs: Runs, report: PlacesReport, headline: str) -> None:
    """The losses of the first three side by side, and all accuracies."""
    look = {"columns": 4, "size": (22, 5), "width_ratios": (1, 1, 1, 1.9)}
    *losses, scores = report.figure("6.2.1.7_implicit", headline, "Dots: mean and 95% interval.", **look)
    for ax in losses[1:]:
        ax.sharey(losses[0])
    for ax, (label, result) in zip(losses, runs.items(), strict=False):
        curves.splits(ax, result, "loss")
        ax.set_title(f"loss, {label}")
    lines = {label: label.replace(", ", ",\n") for label in runs}
    accuracies.scores(scores, {lines[label]: report.rows[label] for label in runs})
    accuracies.references(scores, report.levels)


# ---------------------------------------------------------------------------- 6.3 closing the gap


def with_inputs(features: str, depth: int, width: int, epochs: int = TUNED.epochs) -> Config:
    """One-cycle to 1e-2; what 6.2.1.1 trains already is the same configuration, and so trained once."""
    known = SEVEN.get(f"({depth}, {width})") if features == "raw" and epochs == TUNED.epochs else None
    return known or replace(TUNED, features=features, depth=depth, width=width, epochs=epochs)


LADDER = {  # one change at a time
    "raw (6, 16)": with_inputs("raw", 6, 16),
    "standardised (6, 16)": with_inputs("standardised", 6, 16),
    "waves (6, 16)": with_inputs("waves", 6, 16),
    "waves (6, 32)": with_inputs("waves", 6, 32),
    "waves (3, 32)": with_inputs("waves", 3, 32),
    "waves (3, 64)": with_inputs("waves", 3, 64),
    "waves (3, 64), 30 epochs": with_inputs("waves", 3, 64, 30),
    "waves (3, 128), 30 epochs": with_inputs("waves", 3, 128, 30),
}
INPUTS = ("raw", "standardised", "implicit", "waves")
GRID = {f"{features} (6, {width})": with_inputs(features, 6, width) for width in (16, 32) for features in INPUTS}


@experiment(
    "6.3",
    "closing-gap",
    "what keeps a network below its nearest neighbour, and one that beats it",
    LADDER | GRID,
    beside=REFERENCES,
)
def closing_gap(runs: Runs, report: PlacesReport) -> None:
    """What keeps the best network below its nearest neighbour, and is there one that beats it?

    Varied: one thing at a time: the scale of the inputs, waves of them (sine and cosine at doubling frequencies), then
    width, depth and epochs; and, crossed with the width, all four kinds of inputs.
    """
    report.table(runs, Column("seconds", {label: result.at("seconds") for label, result in runs.items()}))
    label, steps = report.reference, {b: report.of(b) - report.of(a) for a, b in pairwise(LADDER)}
    scale, wave = (Measured(steps[f"{kind} (6, 16)"], f"gain of {kind}") for kind in ("standardised", "waves"))
    rest = Measured(max(list(steps.values())[2:]), "largest gain of another step")
    gain, mark = -report.differences["nearest neighbour"], report.of("nearest neighbour")
    report.why(
        f"What kept (6, 16) below was the scale of its inputs, then their form: standardised degrees gain {scale:.4f}, "
        f"waves of them {wave:.4f} more; once inputs are waves, no step in width, depth or epochs gains more than "
        f"{rest:.4f}.",
        holds=(scale > wave) & (wave > rest) & (scale > 0.5 * (mark - report.of("raw (6, 16)"))),
        short=f"Scaled inputs close most of the gap to the nearest neighbour: {scale:+.4f}, waves of them {wave:+.4f}.",
    )
    word = {"higher": "beats", "lower": "stays below"}.get(gain.word, "shows no difference to")
    headline = f"{label} {word} the nearest neighbour: test accuracy {report.of(label):.4f} against {mark:.4f}"
    draw_ladder(report, headline, mark)
    known = f"nearest neighbour: test accuracy {mark:.4f}", maps.nearest(report.places)
    drawn = dict([known, report.middle(label, runs[label])])
    report.maps("6.3_closing_gap_map", headline, drawn, "Network: of median validation accuracy.")
    report_errors(report, label)
    report.live_map(runs, label)


def draw_ladder(report: PlacesReport, headline: str, mark: float) -> None:
    """Each step from top to bottom; beside it inputs crossed with the width; mark: accuracy of the neighbour."""
    note = "Dots: mean and 95% interval. (depth, width); 60 epochs unless stated. Waves: sine and cosine of the "
    note += "standardised degrees, implicit: sines of the raw ones."
    look = {"foot": {"bands": False}, "columns": 2, "size": (14, 5.6), "width_ratios": (1.5, 1)}
    left, right = report.figure("6.3_closing_gap", headline, note, **look)
    accuracies.ladder(left, {each: report.rows[each] for each in LADDER}, mark)
    lines = {f"width {w}": [report.rows[f"{kind} (6, {w})"] for kind in INPUTS] for w in (16, 32)}
    accuracies.grid_lines(right, lines, INPUTS, mark)
    right.set_xlabel("inputs of a net of 6 hidden layers")


def report_errors(report: PlacesReport, label: str) -> None:
    """Where the errors lie: how near to another country half of them are, and how many of all places."""
    distance = maps.to_another_country(report.places)
    right = {"network": report.rows[label]["test", "right"]}
    right["nearest neighbour"] = report.rows["nearest neighbour"]["test", "right"]
    wrong = np.broadcast_to(distance, right["network"].shape)[~right["network"]]
    limit = Measured(np.median(wrong) if len(wrong) else np.nan, "median distance (km) of an error to another country")
    within = np.mean(distance <= limit)
    said = f"Half of the errors of {label} lie within {limit:,.1f} km of a place of another country"
    report.why(
        f"The errors that are left lie at borders. {said}, where {within:.1%} of the places are.",
        holds=limit < float(np.median(distance)) / 5,
    )
    ax = report.figure("6.3_errors", f"{said}, where {within:.1%} of the places are", "All seeds together.")
    accuracies.distances(ax, distance, right)


# ---------------------------------------------------------------------------- the study


def main(argv: list[str] | None = None) -> None:
    arguments = helpers.start("NN_tutorial", __doc__, helpers.experiments_in(globals()), argv)
    places = helpers.load_places(arguments.data)
    helpers.say_what_was_read(places, arguments.data, arguments)
    if arguments.quick:
        places, arguments.seeds = helpers.draw_places(places, 3000), min(arguments.seeds, 2)
    one_thread()  # as the workers
    configs = {c for one in arguments.experiments for c in one.adapted(arguments).needed.values() if type(c) is Config}
    reasons = {replicas.objection(lesson(), config, places) for config in configs if not arguments.redraw} - {""}
    if reasons:
        helpers.warn(f"{' and '.join(sorted(reasons))} is trained one network at a time, slower")
    new_report = partial(PlacesReport, lesson(), SharedPlaces(places, arguments.quick), arguments)
    helpers.run_study(places, arguments, new_report)


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
