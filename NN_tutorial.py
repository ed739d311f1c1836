"""Section 6: multi-layer perceptrons tell a place's country from its coordinates.

    python NN_tutorial.py                        all twelve experiments
    python NN_tutorial.py learning-rate depth    only these two (see --list)
    python NN_tutorial.py --data DIR             your places, see data/README.md
    python NN_tutorial.py --quick                every code path, into quick/

How to read it: `Config` says what is trained, `mlp` is the network, `train_one` trains it. Then the experiments, each
under the configurations that it compares; `main` runs them. Results are in plots/README.md, with all numbers in
plots/NN_tutorial.csv, times in NN_tutorial.seconds.csv, and the curves and parameters of every run in
plots/runs/NN_tutorial/*.npz, from which a second call redraws without training.
"""

import lab.run.interrupt  # noqa: F401, I001  (first: Ctrl-C and errors end in one line even while the rest is imported)

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

import helpers
from helpers import SPLITS, Cells, InputError, Places, Report, Reports, Result, Rows, Run, end_labels, experiment
from lab.draw import charts
from lab.gallery import live
from lab.nets import stack
from lab.tell import phrases
from lab.errors import RunsMissing
from lab.draw.maps import Animation, Atlas, Predict, nearest, to_another_country
from lab.nets.record import BLOCK, passed_on, record, restore
from lab.study import join_arrays
from lab.run.runs import in_groups, one_thread
from lab.tell.statistics import best, choose, compare, median_of, per_layer, show

Arrays = dict[str, np.ndarray]

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

    def __post_init__(self):
        inits = ["default", *["he"] * (self.activation in HE), *["rezero"] * self.residual]
        names = {"activation": ACTIVATIONS, "features": FEATURES, "schedule": SCHEDULES, "init": inits}
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if field.name in names:
                right = isinstance(value, str) and value in names[field.name]
                allowed = f"one of {', '.join(names[field.name])}"
            elif kind is float:
                right, allowed = isinstance(value, (int, float)) and 0 < value < math.inf, "a number above 0"
            elif kind is int:
                right = isinstance(value, (int, np.integer)) and type(value) is not bool and value > 0
                allowed = "a whole number from 1 on"
            elif kind is tuple:
                right = isinstance(value, tuple) and set(value) <= set(range(1, self.epochs + 1))
                allowed = f"a tuple of epochs from 1 to {self.epochs}"
            else:
                right, allowed = type(value) is bool, "True or False"
            if not right:
                what = f"{field.name}={value!r} is not possible" + (", residual=False" if value == "rezero" else "")
                raise InputError(what, "a Config in NN_tutorial.py", f"choose {allowed}")


class Residual(nn.Module):
    """x + layer(x) (He et al. 2016), or x + gate * layer(x) with a gate learned from 0 (Bachlechner et al. 2021)."""

    def __init__(self, layer: nn.Module, rezero: bool):
        super().__init__()
        self.layer = layer
        self.gate = nn.Parameter(torch.zeros(1)) if rezero else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, width)
        return x + self.layer(x) if self.gate is None else x + self.gate * self.layer(x)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}  # and others that you add
HE = ("relu", "tanh", "leaky_relu", "selu", "sigmoid")  # those for which nn.init knows He's gain


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


def sines(x: torch.Tensor) -> torch.Tensor:
    """The implicit representation: sin(a x) for a = 0.1, 0.2, ..., 1.0 of both coordinates, (n, 20)."""
    return torch.cat([torch.sin(tenths / 10 * x) for tenths in range(1, 11)], dim=1)


def waves(z: torch.Tensor) -> torch.Tensor:
    """Fourier features (Tancik et al. 2020): sine and cosine at frequencies 1/2, 1, 2, ..., 32 of both, (n, 28)."""
    return torch.cat([wave(2.0**octave * z) for octave in range(-1, 6) for wave in (torch.sin, torch.cos)], dim=1)


# From degrees x (n, 2) to the network's inputs (n, in); mean and deviation (2,) are those of the train places.
FEATURES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "raw": lambda x, mean, deviation: x,
    "standardised": lambda x, mean, deviation: (x - mean) / deviation,
    "implicit": lambda x, mean, deviation: sines(x),
    "waves": lambda x, mean, deviation: waves((x - mean) / deviation),
}


def scale_of(places: Places) -> np.ndarray:
    """Mean and standard deviation of the train places, (2, 2); where they don't differ, the deviation is 1."""
    x = places.x["train"].astype(float)
    deviation = x.std(axis=0)
    return np.stack([x.mean(axis=0), np.where(deviation > 0, deviation, 1.0)])


def represent(x: np.ndarray, config: Config, scale: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """Coordinates (n, 2) as the network's inputs (n, in); scale: see scale_of."""
    x, scale = (torch.tensor(values, dtype=torch.get_default_dtype(), device=device) for values in (x, scale))
    return FEATURES[config.features](x, *scale)


def tensors(places: Places, split: str, config: Config, scale: np.ndarray, device: str = "cpu"):
    """The network's inputs (n, in) and the numbers of the countries (n,) of a split."""
    return represent(places.x[split], config, scale, device), torch.tensor(places.y[split], device=device)


# ---------------------------------------------------------------------------- how it is trained

SCHEDULES: dict[str, Callable] = {  # of the learning rate: (optimizer, peak, updates) to a scheduler, or None
    "constant": lambda optimizer, lr, updates: None,
    "one-cycle": lambda optimizer, lr, updates: OneCycleLR(optimizer, lr, total_steps=updates),  # Smith and Topin 2018
}


def optimizer_of(parameters: Iterable, config: Config, updates: int) -> tuple[torch.optim.Optimizer, object]:
    """Adam and its schedule over all updates."""
    optimizer = torch.optim.Adam(parameters, config.lr)
    return optimizer, SCHEDULES[config.schedule](optimizer, config.lr, updates)


def batches_of(config: Config, rows: int) -> tuple[int, int]:
    """Batch size and updates per epoch."""
    size = min(config.batch_size, rows)
    return size, rows // size


def train_one(config: Config, places: Places, seed: int, device: str = "cpu") -> Iterator[tuple]:
    """All of training, for one network. A generator: makes an update, then yields the network and the batch's loss.

    `train` does the same for all seeds at once, many times as fast (lab/nets/stack.py), and makes sure that it is the same.
    """
    x, y = tensors(places, "train", config, scale_of(places), device)  # (n, in), (n,)
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


def train_stack(config: Config, places: Places, seeds: Sequence[int], device: str = "cpu") -> Iterator[tuple]:
    """The same for the networks of all seeds: yields their stack and their losses (seeds, 1, B) after every update."""
    x, y = tensors(places, "train", config, scale_of(places), device)
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(mlp(config, x.shape[1], len(places.countries)))
    size, updates = batches_of(config, len(y))
    total = updates * config.epochs
    plan = stack.adam_plan(lambda parameters: optimizer_of(parameters, config, total), total)
    networks = stack.Stack(models, device)
    return networks.train(x.T.contiguous(), y, seeds, size, plan, config.shuffled_labels)


def objection(config: Config, places: Places) -> str:
    """Why a configuration can't be trained as a stack, by its first updates in two epochs; empty where it can."""
    size, _ = batches_of(config, len(places.y["train"]))
    some = places.head(5 * size // 2)

    noise = np.random.default_rng(0)
    moved = {split: x * (1 + stack.SHAKE * noise.normal(size=x.shape)) for split, x in some.x.items()}
    return stack.objection(
        lambda: train_one(config, some, 0),
        lambda: train_stack(config, some, [0]),
        lambda: train_stack(config, replace(some, x=moved), [0]),
        lambda: tensors(some, "train", config, scale_of(some))[0].T[None],
    )


def train(
    config: Config, places: Places, seeds: Sequence[int], device: str, progress: Callable[[float], None]
) -> Arrays:
    """Train one network per seed, each with its own initialisation and shuffling; returns the arrays of `record`."""
    part, scale = evaluation_set(places), scale_of(places)
    _, updates = batches_of(config, len(places.y["train"]))
    sets = {split: tensors(part, split, config, scale, device) for split in SPLITS}
    sets = {split: (x.T.contiguous(), y) for split, (x, y) in sets.items()}
    if not objection(config, places):
        with torch.inference_mode():  # the stack's gradient is written out
            arrays = record(train_stack(config, places, seeds, device), config, sets, updates, progress)
    else:
        parts = []
        for number, seed in enumerate(seeds):
            done = lambda fraction, number=number: progress((number + fraction) / len(seeds))  # noqa: E731
            parts.append(((seed,), record(train_one(config, places, seed, device), config, sets, updates, done)))
        arrays = join_arrays(parts)
    arrays["scale"] = np.tile(scale, (len(seeds), 1, 1))
    return arrays | (activity(config, places, seeds, arrays) if config.gradients else {})


def evaluation_set(places: Places) -> Places:
    """What losses and accuracies are taken on: all of validation and test, and as many places of train, drawn once."""
    rows = np.random.default_rng(0).permutation(len(places.y["train"]))[: len(places.y["validation"])]
    train_part = {"train": places.x["train"][rows]}, {"train": places.y["train"][rows]}
    return Places(places.x | train_part[0], places.y | train_part[1], places.countries)


@torch.no_grad()
def activity(config: Config, places: Places, seeds: Sequence[int], arrays: Arrays) -> Arrays:
    """What L hidden layers pass on, before the training and after it, in float64, on `evaluation_set`'s train places:

    silent (S, 2, L), the share of units that are 0 for every place; spread (S, 2, L), the standard deviation over the
    places, mean over units. A layer of silent units alone is dead: no gradient comes back through it.
    """
    x = tensors(evaluation_set(places), "train", config, scale_of(places))[0].double()
    found = []
    for replica, seed in enumerate(seeds):
        torch.manual_seed(seed)
        model = mlp(config, x.shape[1], len(places.countries)).double()  # training: batch norm takes these places
        before = passed_on(model, x)
        restore(model, arrays, config.epochs, replica)
        found.append([before, passed_on(model, x)])
    silent, spread = np.moveaxis(np.array(found), 2, 0)
    return {"silent": silent, "spread": spread}


def trained(result: Result, places: Places, epoch: int, replica: int) -> nn.Module:
    """One seed's network as it was after an epoch; 0: before training, made from the seed of its number."""
    inputs = represent(np.zeros((1, 2)), result.config, result["scale"][replica]).shape[1]
    torch.manual_seed(replica)
    model = mlp(result.config, inputs, len(places.countries))
    if epoch or epoch in result.kept:
        restore(model, result.arrays, epoch, replica)
    return model


def predictor(result: Result, places: Places, epoch: int, replica: int) -> Predict:
    """A function that gives the country's index at each of some points (..., 2), degrees: one seed's network there."""
    torch.set_num_threads(1)  # as in training; blocks are too small to share
    config, scale = result.config, result["scale"][replica]
    model = trained(result, places, epoch, replica)
    network = stack.Stack([model]) if "stacked" in result and result["stacked"][replica] else stack.Plain(model)

    def predict(points: np.ndarray) -> np.ndarray:
        x = represent(points.reshape(-1, 2), config, scale)
        labels = [network.forward(block.T[None])[0].argmax(dim=0) for block in x.split(BLOCK)]
        return torch.cat(labels).numpy().reshape(points.shape[:-1])

    return predict


# ---------------------------------------------------------------------------- what it is compared with


def forest(x: np.ndarray, y: np.ndarray, points: np.ndarray, seed: int, trees: int = 100) -> np.ndarray:
    """What scikit-learn's random forest, trained on x (n, 2) and y (n,), says of points (m, 2): classes (m,).

    One tree is kept at a time: together they would take 17 GiB for 1,000 countries.
    """
    model, votes = RandomForestClassifier(warm_start=True, random_state=seed), 0.0
    for count in range(1, trees + 1):
        model.set_params(n_estimators=count).fit(x, y)  # one more
        votes += model.estimators_[-1].predict_proba(points)
        model.estimators_[-1] = None
    return model.classes_[np.argmax(votes, axis=1)]


# What no curve should go without: classifiers that need no gradient descent; the forest, fitted once, has a seed.
REFERENCES: dict[str, Callable] = {
    "majority class": lambda x, y, points, seed: DummyClassifier().fit(x, y).predict(points),
    "nearest neighbour": lambda x, y, points, seed: KNeighborsClassifier(1).fit(x, y).predict(points),
    "random forest": forest,
}


@dataclass(frozen=True)
class Reference:
    name: str  # of REFERENCES


def fit_reference(config: Reference, places: Places, seeds: Sequence[int], progress: Callable[[float], None]) -> Arrays:
    """right_SPLIT (seeds, places): which places of `evaluation_set` a reference gets right."""
    sets, train = evaluation_set(places), (places.x["train"], places.y["train"])
    points, classes = (np.concatenate([values[split] for split in SPLITS]) for values in (sets.x, sets.y))
    right = []
    for number, seed in enumerate(seeds):
        progress((number + 0.5) / len(seeds))
        right.append(REFERENCES[config.name](*train, points, seed) == classes)
    ends = np.cumsum([len(sets.y[split]) for split in SPLITS])[:-1]
    parts = np.split(np.array(right), ends, axis=1)
    return {f"right_{split}": part for split, part in zip(SPLITS, parts, strict=True)}


# ---------------------------------------------------------------------------- what the reports share


@dataclass
class Study:
    """What every report needs beside its own results."""

    places: Places
    seeds: range
    quick: bool
    fitted: Rows  # accuracies of the reference classifiers that are there so far
    film: Result | None = None  # of the best of seven, if it is there

    def foot(self, note: str = "", curves: bool = True) -> str:
        """The foot of a figure: how many seeds, what lines and bands are."""
        n = len(self.seeds)
        seeds = f"{n} seeds" + (": lines are medians, bands smallest to largest." if curves and n > 1 else ".")
        return f"{'QUICK RUN, NOT A RESULT. ' * self.quick}{seeds} {note}"

    def report(
        self, rows: Rows, headline: str, sentences: list[str], rules: list, figures: dict, alive: dict | None = None
    ) -> Report:
        count = {split: len(y) for split, y in self.evaluated.y.items()}
        return Report(rows, headline, sentences, rules, figures, count, alive)

    @cached_property
    def evaluated(self) -> Places:
        return evaluation_set(self.places)

    @property
    def references(self) -> Rows:
        """Accuracies of all reference classifiers. Raises RunsMissing for those that are not there, or failed."""
        if missing := [name for name in REFERENCES if name not in self.fitted]:
            raise RunsMissing(missing)
        return {name: self.fitted[name] for name in REFERENCES}

    @property
    def filmed(self) -> Result:
        """The film of the best of seven. Raises RunsMissing where it is not there."""
        if self.film is None:
            raise RunsMissing(["film"])
        return self.film

    @property
    def neighbour(self) -> float:
        """Validation accuracy of the nearest neighbour, the mark that a network is held against."""
        return float(self.references["nearest neighbour"]["validation", "accuracy"].mean())

    @property
    def levels(self) -> dict[str, float]:
        """Test accuracies of the reference classifiers."""
        return {name: float(cells["test", "accuracy"].mean()) for name, cells in self.references.items()}

    @cached_property
    def prior_loss(self) -> float:
        """Loss (nats) on the validation split of knowing nothing but the classes' frequencies in training."""
        classes = len(self.places.countries)
        frequency = np.bincount(self.places.y["train"], minlength=classes) / len(self.places.y["train"])
        return float(-np.log(frequency[self.places.y["validation"]]).mean())

    @cached_property
    def atlas(self) -> Atlas:
        return Atlas(self.places, 400 if self.quick else 1600)

    @cached_property
    def live_places(self) -> dict[str, dict]:
        return live.places(self.places, self.atlas)


Results = dict[str, Result]  # by label


def live_map(results: Results, study: Study, shown: str) -> dict:
    """For the page: each network of median validation accuracy, before training and at the epochs that are kept."""
    networks = []
    for label, result in results.items():
        config, replica = result.config, median_of(result.at("accuracy_validation"))
        scale, curve = result["scale"][replica], result["accuracy_test"][replica]
        before = predictor(result, study.places, 0, replica)(study.places.x["test"]) == study.places.y["test"]
        accuracy = {0: before.mean()} | {epoch: curve[epoch - 1] for epoch in result.kept if epoch <= len(curve)}
        stops = {epoch: (trained(result, study.places, epoch, replica), a) for epoch, a in accuracy.items()}
        inputs = partial(represent, config=config, scale=scale)
        networks.append(live.Network(label, study.seeds[replica], config.features, scale, inputs, stops))
    return live.figure(networks, shown, study.live_places, study.places.x["test"])


def scores(result: Result, epoch: int | None = None) -> Cells:
    """The table cells of a run after an epoch, by default the last one: accuracy, loss and, if kept, what is right."""
    names = [(split, metric) for metric in ("accuracy", "loss") for split in SPLITS]
    cells = {(split, metric): result.at(f"{metric}_{split}", epoch) for split, metric in names}
    kept = {split: f"right_{split}@{epoch or result['loss_train'].shape[1]}" for split in SPLITS}
    return cells | {(split, "right"): result[name] for split, name in kept.items() if name in result}


def reference_cells(result: Result) -> Cells:
    right = {split: result[f"right_{split}"] for split in SPLITS}
    return {(s, "accuracy"): r.mean(axis=1) for s, r in right.items()} | {(s, "right"): r for s, r in right.items()}


def of_one_length(results: Results) -> Results:
    """The results as if all had stopped when the shortest did."""
    epochs = min(result["loss_train"].shape[1] for result in results.values())
    return {label: result.until(epochs) for label, result in results.items()}


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
def learning_rate(results: Results, study: Study) -> Report:
    """How large may the learning rate be, and what happens above and below?

    Varied: Adam's learning rate, constant over 50 epochs; all else is the standard net.
    Look for: at 1 the loss never gets below knowing only the class frequencies; at 0.01 it is low but jumps; at 0.00001
    it falls too slowly.
    """
    results = of_one_length(results)
    (epochs,) = {result["loss_train"].shape[1] for result in results.values()}
    diverged = {label: phrases.diverged(result, study.prior_loss) for label, result in results.items()}
    rows = {label: scores(r) | {("train", "diverged"): diverged[label].astype(float)} for label, r in results.items()}
    chosen = best(rows)
    sentences = [phrases.course(label, result, diverged[label], rows) for label, result in results.items()]
    sentences += [phrases.difference(rows, label, chosen[0], "validation") for label in rows if label != chosen[0]]
    sentences += [phrases.chosen(chosen, rows), phrases.selection_bias(rows, results)]
    lost = " and ".join(label for label in rows if diverged[label].any())
    test = rows[chosen[0]]["test", "accuracy"].mean()
    headline = f"Best: {phrases.named(chosen)}, test accuracy {test:.3f}" + (f"; {lost} diverged" if lost else "")

    fig, ax = helpers.figure(headline, study.foot())
    labels = [charts.level(ax, study.prior_loss, "class frequencies only")]
    for label, result in results.items():
        text = f"{label} (diverged)" if diverged[label].any() else label
        labels.append(charts.curve(ax, result["loss_validation"], text, **charts.rate_look(result.config.lr)))
    charts.loss_axis(ax, epochs)
    end_labels(ax, labels)
    rules = [phrases.course, best, compare]
    return study.report(rows, headline, sentences, rules, {"6.1.1_learning_rate": fig})


@experiment("6.1.2", "epochs", "the standard net for 100 epochs", {"standard": STANDARD})
def epochs(results: Results, study: Study) -> Report:
    """How long does training pay, and does the standard net over-fit in the end?

    Varied: nothing but the number of epochs, 1 to 100, all read off one training.
    Look for: where the curve flattens, and whether the validation loss turns up while the training loss falls.
    """
    (result,) = results.values()
    curve = np.median(result["loss_validation"], axis=0)
    marked = [epoch for epoch in (1, 5, 10, 20, 50, 100) if epoch <= len(curve)]
    rows = {f"epoch {epoch}": scores(result, epoch) for epoch in marked}
    sentences = []
    for a, b in pairwise(marked):
        change = 100 * (curve[b - 1] / curve[a - 1] - 1) / (b - a)
        sentence = phrases.difference(rows, f"epoch {a}", f"epoch {b}", "validation", "loss")
        sentences.append(f"By the median {change:+.1f}% an epoch: {sentence}")
    over = phrases.loss_rises(result)
    lowest = f"The median validation loss is lowest at epoch {curve.argmin() + 1} of {len(curve)}"
    tail = "later epochs over-fit" if over else "no over-fitting"
    sentences.append(f"{lowest}: {tail} {phrases.cite(rows, f'epoch {marked[-1]}')}.")
    before = marked[-2] if len(marked) > 1 else 1
    word, _ = compare(rows, f"epoch {before}", f"epoch {marked[-1]}", "validation", "loss")
    found = "over-fits" if over else {"lower": "still falling", "higher": "rising"}.get(word, word)
    losses = f"{curve[before - 1]:.2f} after {before} epochs, {curve[-1]:.2f} after {len(curve)}"
    headline = f"Median validation loss {losses}: {found}"

    fig, ax = helpers.figure(headline, study.foot("Circles: median validation loss."))
    labels = charts.splits(ax, result, "loss")
    charts.marked_epochs(ax, result, marked)
    end_labels(ax, labels)
    rules = [compare, f"over-fit: {phrases.loss_rises.rule}"]
    return study.report(rows, headline, sentences, rules, {"6.1.2_epochs": fig})


CONTROL = "shuffled labels"
BATCH_NORM = {
    "without batch norm": STANDARD,
    "with batch norm": Config(batch_norm=True),
    CONTROL: Config(shuffled_labels=True, epochs=10),
}


@experiment("6.1.3", "batch-norm", "with and without batch normalisation", BATCH_NORM)
def batch_norm(results: Results, study: Study) -> Report:
    """Does batch normalisation help a net of six hidden layers?

    Varied: `nn.BatchNorm1d` between every hidden layer and its activation, or none.
    Look for: how many epochs earlier the loss gets as low, and whether the splits drift apart.
    """
    control = {CONTROL: scores(results.pop(CONTROL))}
    results = of_one_length(results)
    rows = {label: scores(result) for label, result in results.items()} | control | study.references
    without, with_it = results
    sentences = [phrases.difference(rows, without, with_it, "test", metric) for metric in ("accuracy", "loss")]
    sentences += phrases.sooner(results[with_it], results[without], rows, with_it, without)
    sentences.append(f"Control, where there is nothing to learn: {phrases.difference(rows, 'majority class', CONTROL)}")
    a, b = (rows[label]["test", "accuracy"] for label in results)
    headline = f"Test accuracy {a.mean():.3f} without batch norm, {b.mean():.3f} with it: {compare(rows, *results)[0]}"

    look = {"sharex": True, "sharey": "row"}
    fig, axes = helpers.figure(headline, study.foot("Numbers: means."), 2, 2, (11, 8), **look)
    levels = study.levels | {CONTROL: rows[CONTROL]["test", "accuracy"].mean()}
    charts.before_and_after(axes, results, rows, levels)
    return study.report(rows, headline, sentences, [compare], {"6.1.3_batch_norm": fig})


BATCH_SIZES = {
    "batch size 1": Config(batch_size=1, epochs=1, checks=100),
    "batch size 16": Config(batch_size=16, epochs=10, checks=10),
    "batch size 128": Config(batch_size=128, checks=4),
    "batch size 1024": Config(batch_size=1024, checks=2),
}


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


@experiment("6.1.4", "batch-size", "accuracy, speed and stability of four batch sizes", BATCH_SIZES)
def batch_size(results: Results, study: Study) -> Report:
    """What does the batch size trade between accuracy, speed and a steady loss?

    Varied: 1, 16, 128 and 1,024 places per update of Adam, at the same learning rate; small batches get fewer epochs.
    Look for: small batches need fewer places but more time, and their loss jumps from batch to batch.
    """
    target = max(result["check_loss"].min(axis=1).max() for result in results.values())  # that every seed reaches
    rows = {label: scores(result) | speed(result, target) for label, result in results.items()}
    accurate = best(rows)
    fast = best(rows, results, "validation", "seconds_to_target", -1)
    steady = best(rows, results, "train", "batch_loss_std", -1)
    sentences = phrases.trade_offs(rows, target, accurate, fast, steady)
    wins = (("most accurate", accurate), ("fastest", fast), ("steadiest", steady))
    praise = [f"{word} {phrases.named(who)}".replace("batch size ", "") for word, who in wins]
    headline = f"Batch size: {'; '.join(praise)}"

    foot = study.foot("Dots: mean and 95% interval. Seconds: those of the stack over its number of networks.")
    fig, ((accuracy, spread), (in_updates, in_seconds)) = helpers.figure(headline, foot, 2, 2, (12, 8.5))
    sizes = {label: str(result.config.batch_size) for label, result in results.items()}
    ticks = {label: f"{sizes[label]}\n({results[label].config.epochs})" for label in results}
    positions = np.log2([float(size) for size in sizes.values()])
    charts.scores(accuracy, {ticks[label]: rows[label] for label in results}, positions)
    end_labels(accuracy, charts.references(accuracy, study.levels), gap=0.06)
    accuracy.set(title="accuracy", xlabel="batch size, log scale (epochs)")
    charts.spreads(spread, {ticks[label]: rows[label]["train", "batch_loss_std"] for label in results}, positions)
    spread.set(xlim=accuracy.get_xlim(), xlabel="batch size, log scale (epochs)")
    spread.set(
        ylabel="standard deviation of the loss (nats)", title="stability: spread from batch to batch, last epoch"
    )
    for ax, name, text in ((in_updates, "updates", ""), (in_seconds, "seconds", f"reached by all:\n{target:.3f}")):
        lines = {sizes[label]: (r[f"check_{name}"].mean(axis=0), r["check_loss"]) for label, r in results.items()}
        charts.way_down(ax, lines, target, text)
    in_updates.set(xlabel="updates", title="speed in updates, by batch size")
    in_seconds.set(xlabel="seconds of training per network", title="speed in time, by batch size", ylabel="")
    rows |= study.references
    return study.report(rows, headline, sentences, [best, compare, phrases.trade_offs], {"6.1.4_batch_size": fig})


# ---------------------------------------------------------------------------- 6.2 the architecture

TUNED = Config(lr=1e-2, schedule="one-cycle", epochs=60)
FORMING = (1, 5, 7, 10, 20, 40)  # epochs at which the map of the best of seven is drawn, beside the last
SEVEN = {
    f"({depth}, {width})": replace(TUNED, depth=depth, width=width, keep=FORMING)
    for depth, width in ((1, 16), (2, 16), (6, 16), (10, 16), (6, 8), (6, 32), (6, 64))
}


@dataclass(frozen=True)
class Film:
    """One more training of the best of seven, which these decide, to be filmed."""

    frames: int


def film(config: Config, places: Places, seeds: Sequence[int], device: str, frames: int, progress: Callable) -> Arrays:
    """Train one network, of the only seed, again: UPDATE.NAME (1, ...), its parameters after some updates.

    The first is 0, before training; the n-th one's share of all updates grows as n squared, as early ones change most.
    """
    scale, (seed,) = scale_of(places), seeds
    x, _ = tensors(places.head(1), "train", config, scale)
    torch.manual_seed(seed)
    before = mlp(config, x.shape[1], len(places.countries)).state_dict()
    arrays = {f"0.{name}": value.numpy()[None] for name, value in before.items()}
    updates = batches_of(config, len(places.y["train"]))[1] * config.epochs
    marked = {round(updates * (n / (frames - 1)) ** 2) for n in range(1, frames)}
    plain = objection(config, places)
    with torch.inference_mode(not plain):  # the stack's gradient is written out
        training = train_one(config, places, seed, device) if plain else train_stack(config, places, seeds, device)
        for update, (network, _) in enumerate(training, 1):
            if update in marked:
                arrays |= {f"{update}.{name}": v.cpu().numpy().copy() for name, v in network.state().items()}
                progress(update / updates)
    return arrays | {"scale": scale[None], "stacked": np.array([not plain]), "updates": np.array([updates])}


def film_the_best(
    seven: dict[str, Config], results: dict[object, Result], which: Film, device: str, rows: int, finish: Callable
) -> None:
    """Have `finish` do the run behind a Film, if those of the seven are done; rows: of the train places."""
    found = {label: results[config] for label, config in seven.items() if config in results}
    if len(found) == len(seven):
        best_one = found[choose({label: scores(result) for label, result in found.items()})]
        config, seed = best_one.config, median_of(best_one.at("accuracy_validation"))
        name = f"film-({config.depth}, {config.width})"
        finish({which: in_groups(name, film, config, (seed,), 1, cost(config, rows), device, which.frames)})


@experiment("6.2.1.1", "best-model", "the best of seven depths and widths, and its map", SEVEN)
def best_model(results: Results, study: Study) -> Report:
    """Which of seven depths and widths tells countries apart best, and what does its map of Europe look like?

    Varied: hidden layers and their width; learning rate, schedule, batch size and epochs are the same for all seven.
    Look for: the gap to the nearest neighbour, and where on the map the misclassified places lie.
    """
    filmed = study.filmed
    report = one_of_seven(results, study, "best", "6.2.1.1")
    label = choose(report.rows, results)
    result = results[label]
    replica = median_of(result.at("accuracy_validation"))
    stages, reached = {}, {}
    for epoch in sorted({*result.config.keep, result.config.epochs}):
        reached[epoch] = result.at("accuracy_test", epoch)[replica]
        stages[f"epoch {epoch}: {reached[epoch]:.3f}"] = predictor(result, study.places, epoch, replica)
    first, last = min(reached), max(reached)
    ends = f"{reached[first]:.2f} at epoch {first}, {reached[last]:.2f} at epoch {last}"
    seed = f"Drawn: seed {study.seeds[replica]}, of median validation accuracy."
    foot = study.foot(f"Numbers: test accuracy. {seed}", curves=False)
    report.figures["6.2.1.1_map_forming"] = study.atlas.forming(f"The map forms: test accuracy {ends}", foot, stages)
    report.live = live_map(results, study, label)
    title = f"The best of seven, {label}, seed {study.seeds[replica]}, learns its map"
    report.animations["6.2.1.1_map_forming"] = animated(replace(filmed, config=result.config), study, title, last)
    return report


def animated(filmed: Result, study: Study, title: str, epochs: int) -> Animation:
    """The stages of `film` as an animated map."""
    places, (updates,) = study.places, filmed["updates"]
    x, y = places.x["test"], places.y["test"]

    def stages() -> Iterator[tuple[str, Predict]]:
        for update in filmed.kept:
            predict = predictor(filmed, places, update, 0)
            yield f"epoch {update / updates * epochs:.1f}: test accuracy {(predict(x) == y).mean():.3f}", predict

    atlas = Atlas(places, 200 if study.quick else 800, study.atlas.colours)
    seed = f"The seed of median validation accuracy among {len(study.seeds)}, trained again. "
    note = "Names stand where the countries are; pale: no training places near."
    return atlas.animation(title, f"{'QUICK RUN, NOT A RESULT. ' * study.quick}{seed}{note}", stages())


@experiment("6.2.1.2", "worst-model", "the worst of the seven, and its map", SEVEN)
def worst_model(results: Results, study: Study) -> Report:
    """Which of the seven is worst, and is that because it over-fits or because it under-fits?

    Varied: hidden layers and their width, as for the best of the seven.
    Look for: curves that lie together and stay high (under-fit) or drift apart (over-fit); straight borders on the map.
    """
    return one_of_seven(results, study, "worst", "6.2.1.2")


def one_of_seven(results: Results, study: Study, which: str, section: str) -> Report:
    """The report on the best or the worst: all seven side by side, its losses, its map."""
    rows = {label: scores(result) for label, result in results.items()} | study.references
    ranked = sorted(results, key=lambda label: rows[label]["validation", "accuracy"].mean())
    level = best(rows, results, sign=1 if which == "best" else -1)
    pick = level[0]
    other = next(label for label in (ranked[::-1] if which == "best" else ranked) if label != pick)
    result, fit = results[pick], phrases.fit(results[pick], study.neighbour)
    validation, test = (show(rows[pick][split, "accuracy"]) for split in ("validation", "test"))
    named = f"{pick} is the {which} by validation accuracy, {validation}; its test accuracy is {test}"
    sentences = [
        f"{named} {phrases.cite(rows, pick)}.",
        f"Next to it: {phrases.difference(rows, other, pick, 'validation')}",
        f"Best to worst: {phrases.difference(rows, ranked[0], ranked[-1], 'validation')}",
        *([phrases.selection_bias(rows, results)] if which == "best" else []),
        f"It {fit} {phrases.cite(rows, pick)}.",
        phrases.difference(rows, "nearest neighbour", pick),
    ]
    headline = f"{which.capitalize()} of seven, (depth, width): {phrases.named(level)}, {fit.split(':')[0]}"
    headline += f", test accuracy {rows[pick]['test', 'accuracy'].mean():.3f}"

    foot = study.foot("Dots: mean and 95% interval.")
    fig, (left, right) = helpers.figure(headline, foot, 1, 2, (12.5, 5), width_ratios=(1.1, 1))
    charts.scores(left, {label: rows[label] for label in ranked})
    left.axvspan(ranked.index(pick) - 0.4, ranked.index(pick) + 0.4, color="0.9", zorder=0)
    end_labels(left, charts.references(left, study.levels))
    left.set(xlabel="(depth, width), in order of validation accuracy")
    end_labels(right, charts.splits(right, result, "loss"))
    right.set_title(f"loss of {pick}")

    replica = median_of(result.at("accuracy_validation"))
    title = f"What the {which} of seven, {pick}, predicts: test accuracy {result.at('accuracy_test')[replica]:.3f}"
    seed = study.foot(f"Drawn: seed {study.seeds[replica]}, of median validation accuracy.", curves=False)
    picture, ax = study.atlas.figure(title, seed)
    study.atlas.draw(ax, predictor(result, study.places, result.config.epochs, replica))
    figures = {f"{section}_{which}_model": fig, f"{section}_{which}_model_map": picture}
    return study.report(rows, headline, sentences, [best, compare, phrases.fit], figures)


DEPTHS = {f"depth {config.depth}": config for config in SEVEN.values() if config.width == 16}


@experiment("6.2.1.3", "depth", "accuracy against depth at width 16", DEPTHS)
def depth(results: Results, study: Study) -> Report:
    """Is a deeper net a better one, at the same width?

    Varied: 1, 2, 6 or 10 hidden layers of width 16.
    Look for: whether accuracy still rises at the deep end, and whether train and validation part on the way.
    """
    return against(results, study, "6.2.1.3_depth", "hidden layers of width 16")


WIDTHS = {f"width {c.width}": c for c in sorted(SEVEN.values(), key=lambda c: c.width) if c.depth == 6}


@experiment("6.2.1.4", "width", "accuracy against width at depth 6", WIDTHS)
def width(results: Results, study: Study) -> Report:
    """Is a wider net a better one, at the same depth?

    Varied: 8, 16, 32 or 64 units in each of 6 hidden layers.
    Look for: whether each doubling buys less than the one before, and how much seeds differ when the net is narrow.
    """
    return against(results, study, "6.2.1.4_width", "units in each of 6 hidden layers")


def against(results: Results, study: Study, name: str, axis: str) -> Report:
    """The report of any comparison: accuracies against what is varied, `axis`, and validation losses; best and worst.

    Labels that end in a number, as "depth 6", stand on a log scale. The figure is saved as `name`.
    """
    rows = {label: scores(result) for label, result in results.items()} | study.references
    labels = list(results)
    first, last = best(rows, labels), best(rows, labels, sign=-1)
    sentences = [phrases.difference(rows, a, b, "validation") for a, b in pairwise(labels)]
    if first[0] != last[0]:
        sentences.append(f"Best to worst: {phrases.difference(rows, last[0], first[0], 'validation')}")
    for label in labels[:: len(labels) - 1]:
        sentences.append(f"{label} {phrases.fit(results[label], study.neighbour)} {phrases.cite(rows, label)}.")
    headline = phrases.best_to_worst(first, last, {label: rows[label]["test", "accuracy"].mean() for label in labels})

    foot = study.foot("Dots: mean and 95% interval.")
    fig, (left, right) = helpers.figure(headline, foot, 1, 2, (12.5, 5), width_ratios=(1.1, 1))
    numbers = [re.search(r"\d+$", label) for label in labels]
    if all(numbers):
        ticks = {number[0]: rows[label] for number, label in zip(numbers, labels, strict=True)}
        charts.scores(left, ticks, np.log2([float(number) for number in ticks]))
    else:
        charts.scores(left, {label: rows[label] for label in labels})
    end_labels(left, charts.references(left, study.levels))
    left.set_xlabel(f"{axis} (log scale)" if all(numbers) else axis)
    looks = charts.ordered(labels)
    ends = [charts.curve(right, results[x]["loss_validation"], x, color=looks[x]) for x in labels]
    right.set(yscale="log", xlabel="epoch", ylabel="validation cross-entropy (nats)")
    charts.plain_log_ticks(right)
    end_labels(right, ends)
    return study.report(rows, headline, sentences, [best, compare, phrases.fit], {name: fig})


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
    """The table cells of a deep net: scores, gradients, dead layers, and how the spread changes from layer to layer."""
    gradient, layers = hidden_gradient(result)
    dead = (result["silent"] == 1).sum(axis=2)  # (S, 2)
    return (
        scores(result)
        | {("train", f"gradient_layer_{n}"): gradient[:, -1, n] for n in layers}
        | {("train", "dead_layers_at_start"): dead[:, 0], ("train", "dead_layers"): dead[:, -1]}
        | {("train", "factor_per_layer_at_start"): per_layer(result["spread"][:, 0])}
    )


@experiment("6.2.1.5", "gradients", "the gradient in each of 100 hidden layers, and why it dies", CAUSES)
def gradients(results: Results, study: Study) -> Report:
    """What becomes of the gradient on its way back through 100 hidden layers, and why?

    Varied: the layer and the epoch, in 100 layers of width 4; then possible causes, the activation and the width.
    Look for: from which layer down nothing arrives, dead layers, and a straight line where the spread decays.
    """
    label, result = next(iter(results.items()))
    rows = {name: flow_cells(each) for name, each in results.items()} | study.references
    gradient, layers = hidden_gradient(result)
    sentences = phrases.death(label, gradient, result["silent"], rows)
    for name, each in list(results.items())[1:]:
        sentences.append(phrases.cause(name, hidden_gradient(each)[0][:, -1], each["silent"][:, -1], rows))
    sentences.append(phrases.difference(rows, "majority class", label))
    headline = f"{gradient.shape[2]} hidden layers: {phrases.cause_of_death(label, list(results)[1:], rows)}"

    fig, (left, right) = helpers.figure(headline, study.foot(FLOW_NOTE, curves=False), 1, 2, (12, 5))
    charts.gradient_curves(left, gradient, layers, charts.gradient_range([gradient], layers))
    image = charts.gradient_map(right, gradient)
    left.set_ylabel("mean absolute gradient of the weights")
    right.set_ylabel("hidden layer (0 is at the input)")
    charts.gradient_bar(right, image)
    note = "Lines: median over the seeds that still pass on something; crosses below: a seed's first dead layer."
    causes, (left, right) = helpers.figure(headline, study.foot(note, curves=False), 1, 2, (13, 5))
    charts.through_layers(left, {n: (r["spread"][:, 0], r["silent"][:, 0] == 1) for n, r in results.items()})
    left.set(title="before training", ylabel="spread over the places of what a layer passes on")
    charts.through_layers(right, {n: (hidden_gradient(r)[0][:, 0], None) for n, r in results.items()})
    right.set(title="first epoch", ylabel="mean absolute gradient of the weights")
    causes.legend(*left.get_legend_handles_labels(), loc="outside right center")
    figures = {"6.2.1.5_gradients": fig, "6.2.1.5_causes": causes}
    return study.report(rows, headline, sentences, [phrases.flow, per_layer, compare], figures)


REMEDIES = {
    "plain": DEEP,
    "He initialisation": replace(DEEP, init="he"),
    "batch norm": replace(DEEP, batch_norm=True),
    "residual": replace(DEEP, residual=True),
    "residual + batch norm": replace(DEEP, residual=True, batch_norm=True),
    "residual + ReZero": replace(DEEP, residual=True, init="rezero"),
}


@experiment("6.2.1.6", "remedy", "the same with residuals, batch norm, better initialisation", REMEDIES)
def remedy(results: Results, study: Study) -> Report:
    """Which remedy brings the gradient through 100 layers, and does the net then learn?

    Varied: initialisation, batch norm, residual connections, and pairs of them, on the same 100 layers.
    Look for: columns of the heat map that are even from top to bottom, and accuracy above the majority class.
    """
    rows = {label: flow_cells(result) for label, result in results.items()} | study.references
    gradient = {label: hidden_gradient(result)[0] for label, result in results.items()}
    flows = {label: phrases.flow(values[:, -1], results[label]["silent"][:, -1]) for label, values in gradient.items()}
    sentences = []
    for label, result in results.items():
        lost = phrases.diverged(result, study.prior_loss)
        gone = f"; diverged in {lost.sum()} of {len(lost)} seeds" if lost.any() else ""
        sentences.append(f"{label}: {', '.join(flows[label])}{gone} {phrases.cite(rows, label)}.")
    plain, *others = results
    sentences += [phrases.difference(rows, plain, label) for label in others]
    chosen = best(rows, others)
    sentences.append(
        f"By validation accuracy the best remedy is {phrases.named(chosen)} {phrases.cite(rows, *chosen)}."
    )
    sentences.append(phrases.proposed(others, flows, rows))
    a, b = (rows[label]["test", "accuracy"] for label in (plain, chosen[0]))
    accuracies = f"test accuracy {b.mean():.2f}, {a.mean():.2f} without: {compare(rows, plain, chosen[0])[0]}"
    headline = f"Best remedy: {phrases.named(chosen)}; {accuracies}"

    fig, ax = helpers.figure(headline, study.foot("Dots: mean and 95% interval.", curves=False), size=(10.5, 5))
    charts.scores(ax, {x.replace(" + ", "\n+ ").replace(" init", "\ninit"): rows[x] for x in results})
    end_labels(ax, charts.references(ax, study.levels))
    titles = {x: f"{x}\n{flows[x][0]}, accuracy {rows[x]['test', 'accuracy'].mean():.2f}" for x in results}
    foot = study.foot(FLOW_NOTE, curves=False)
    panels = charts.gradient_panels(headline, foot, {titles[x]: hidden_gradient(r) for x, r in results.items()})
    figures = {"6.2.1.6_remedy_accuracy": fig, "6.2.1.6_remedy_gradients": panels}
    return study.report(rows, headline, sentences, [phrases.flow, best, compare, phrases.diverged], figures)


# ---------------------------------------------------------------------------- 6.2.1.7 the representation

IMPLICIT = {
    "raw": STANDARD,
    "implicit": Config(features="implicit"),
    "raw, one-cycle": SEVEN["(6, 16)"],
    "implicit, one-cycle": replace(TUNED, features="implicit"),
}


@experiment("6.2.1.7", "implicit", "sines of the coordinates against the coordinates", IMPLICIT)
def implicit(results: Results, study: Study) -> Report:
    """Does the same net do better on sines of the coordinates than on the coordinates?

    Varied: the inputs, 2 raw degrees or 20 sines, sin(a x) for a = 0.1, 0.2, ..., 1.0; with and without a schedule.
    Look for: the gap in accuracy, and borders that bend on the map on the right where those on the left are straight.
    """
    results |= of_one_length({label: results[label] for label in ("raw", "implicit")})
    rows = {label: scores(result) for label, result in results.items()} | study.references
    sentences = [phrases.difference(rows, f"raw{end}", f"implicit{end}") for end in ("", ", one-cycle")]
    for label in list(results)[1:]:
        sentences.append(f"{label} {phrases.fit(results[label], study.neighbour)} {phrases.cite(rows, label)}.")
    raw, sined = (rows[label]["test", "accuracy"] for label in ("raw", "implicit"))
    headline = f"Same net: test accuracy {raw.mean():.3f} from raw degrees, {sined.mean():.3f} from their sines: "
    headline += compare(rows, "raw", "implicit")[0]

    foot = study.foot("Dots: mean and 95% interval.")
    fig, axes = helpers.figure(headline, foot, 1, 3, (15, 5), width_ratios=(1, 1, 1.2))
    axes[1].sharey(axes[0])
    ends = [charts.splits(ax, results[label], "loss") for ax, label in zip(axes[:2], ("raw", "implicit"), strict=True)]
    for ax, label, labels in zip(axes[:2], ("raw", "implicit"), ends, strict=True):
        end_labels(ax, labels)
        ax.set_title(f"loss, {label}")
    charts.scores(axes[2], {label.replace(", ", ",\n"): rows[label] for label in results})
    end_labels(axes[2], charts.references(axes[2], study.levels))

    foot = study.foot("Drawn: those of median validation accuracy.", curves=False)
    maps, axes = study.atlas.figure(headline, foot, 2)
    for ax, label in zip(axes, ("raw", "implicit"), strict=True):
        result, last = results[label], results[label]["loss_train"].shape[1]
        replica = median_of(result.at("accuracy_validation"))
        study.atlas.draw(ax, predictor(result, study.places, last, replica))
        accuracy = result.at("accuracy_test")[replica]
        ax.set_title(f"{label}: test accuracy {accuracy:.3f}, seed {study.seeds[replica]}")
    figures = {"6.2.1.7_implicit": fig, "6.2.1.7_implicit_map": maps}
    return study.report(
        rows, headline, sentences, [compare, phrases.fit], figures, live_map(results, study, "implicit")
    )


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
    "6.3", "closing-gap", "what keeps a network below its nearest neighbour, and one that beats it", LADDER | GRID
)
def closing_gap(results: Results, study: Study) -> Report:
    """What keeps the best network below its nearest neighbour, and is there one that beats it?

    Varied: one thing at a time: the scale of the inputs, waves of them (sine and cosine at doubling frequencies), then
    width, depth and epochs; and, crossed with the width, all four kinds of inputs.
    Look for: which step closes most of the gap, and where the errors that are left lie.
    """
    rows = {
        label: scores(r) | {("train", "seconds"): r.at("seconds")} for label, r in results.items()
    } | study.references
    ladder, chosen, places = list(LADDER), best(rows, results), study.places
    mark = study.levels["nearest neighbour"]
    label, result = chosen[0], results[chosen[0]]
    right = {"network": rows[label]["test", "right"], "nearest neighbour": rows["nearest neighbour"]["test", "right"]}
    distance = to_another_country(places)
    lie = phrases.near_borders(distance, right["network"], label)
    sentences = [phrases.step(rows, a, b) for a, b in pairwise(ladder)]
    sentences += [phrases.widths_apart(rows, INPUTS, "(6, 16)", "(6, 32)"), phrases.chosen(chosen, rows)]
    sentences += [phrases.difference(rows, "nearest neighbour", label), f"{lie} {phrases.cite(rows, label)}."]
    headline = phrases.beats(rows, label)

    note = "Dots: mean and 95% interval. (depth, width); 60 epochs unless stated. Waves: sine and cosine of the "
    foot = study.foot(f"{note}standardised degrees, implicit: sines of the raw ones.", curves=False)
    fig, (left, middle) = helpers.figure(headline, foot, 1, 2, (14, 5.6), width_ratios=(1.5, 1))
    charts.ladder(left, {label: rows[label]["test", "accuracy"] for label in ladder}, mark)
    kinds = {f"width {w}": [rows[f"{kind} (6, {w})"]["test", "accuracy"] for kind in INPUTS] for w in (16, 32)}
    charts.grid_lines(middle, kinds, INPUTS, mark)
    replica = median_of(result.at("accuracy_validation"))
    network = predictor(result, places, result.config.epochs, replica)
    maps, axes = study.atlas.figure(headline, study.foot("Network: of median validation accuracy.", curves=False), 2)
    drawn = {
        f"nearest neighbour: test accuracy {mark:.4f}": nearest(places),
        f"{label}, seed {study.seeds[replica]}: test accuracy {result.at('accuracy_test')[replica]:.4f}": network,
    }
    for ax, (title, predict) in zip(axes, drawn.items(), strict=True):
        study.atlas.draw(ax, predict)
        ax.set_title(title)
    errors, ax = helpers.figure(lie, study.foot("All seeds together.", curves=False))
    charts.distances(ax, distance, right)
    figures = {"6.3_closing_gap": fig, "6.3_closing_gap_map": maps, "6.3_errors": errors}
    return study.report(rows, headline, sentences, [best, compare], figures, live_map(results, study, label))


# ---------------------------------------------------------------------------- the study


def quick(label: str, config: Config) -> tuple[str, Config]:
    """The same configuration on a tiny budget: a fiftieth of the epochs, at least one."""
    epochs = max(1, config.epochs // STANDARD_EPOCHS)
    return label, replace(config, epochs=epochs, checks=min(config.checks, 2), keep=(1,) if config.keep else ())


def cost(config: Config, rows: int) -> float:
    """About how many seconds `train` takes a seed on a laptop core, for the order of the runs and the time left."""
    size, updates = batches_of(config, rows)
    layer = (2.5 + size * config.width * (1.4 + 0.027 * config.width) / 1000) * 1e-6
    return config.epochs * updates * (config.depth + 1) * layer * (2 if config.batch_norm else 1)


def plan(configs: dict[Config, str], seeds: Sequence[int], rows: int, device: str) -> dict[object, list[Run]]:
    """{configuration: its runs, one per group of seeds} of the references and of configurations with their names."""
    planned: dict[object, list[Run]] = {}
    for name in REFERENCES:
        seconds = 6.0 if name == "random forest" else 0.1
        planned[Reference(name)] = in_groups(name, fit_reference, Reference(name), (0,), 1, seconds)
    for config, name in configs.items():
        size = stack.group_size(rows, represent(np.zeros((1, 2)), config, np.ones((2, 2))).shape[1], device)
        planned[config] = in_groups(name, train, config, seeds, size, cost(config, rows), device)
    return planned


def main(argv: list[str] | None = None) -> None:
    everything = helpers.experiments_in(globals())
    arguments = helpers.start("NN_tutorial", __doc__, everything, argv)
    places, seeds, chosen = helpers.load_places(arguments.data), range(arguments.seeds), arguments.experiments
    helpers.say_what_was_read(places, arguments.data, arguments)
    if arguments.quick:
        places, seeds = helpers.draw_places(places, 3000), seeds[:2]
        chosen, everything = ([one.adapted(quick) for one in experiments] for experiments in (chosen, everything))

    # A configuration is trained once, whichever experiments need it, and named after the first of all that do.
    names: dict[Config, str] = {}
    for one in everything:
        for label, config in one.configs.items():
            names.setdefault(config, f"{one.name}-{label}")
    needed = {config for one in chosen for config in one.configs.values()}
    needed = {config: name for config, name in names.items() if config in needed}
    one_thread()  # as the workers
    if reasons := {objection(config, places) for config in needed if not arguments.redraw} - {""}:
        helpers.warn(f"{' and '.join(sorted(reasons))} is trained one network at a time, slower")
    planned = plan(needed, seeds, len(places.y["train"]), arguments.device)
    study, film_of = Study(places, seeds, arguments.quick, {}), Film(4 if arguments.quick else 60)

    def study_of(results: dict[object, Result]) -> Study:
        done = {name: results[Reference(name)] for name in REFERENCES if Reference(name) in results}
        study.fitted |= {name: reference_cells(result) for name, result in done.items()}
        study.film = results.get(film_of)
        return study

    reports = Reports(chosen, study_of, arguments, "NN_tutorial")
    finish = partial(helpers.finish, data=(places,), context={"data": places.fingerprint()}, reports=reports)
    finish(planned)
    for one in chosen:
        if one.name == "best-model":
            film_the_best(one.configs, reports.results, film_of, arguments.device, len(places.y["train"]), finish)
    reports.close()


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
