"""Section 6: multi-layer perceptrons tell a place's country from its coordinates.

    python NN_tutorial.py                        all eleven experiments
    python NN_tutorial.py learning-rate depth    only these two (see --list)
    python NN_tutorial.py --data DIR             your places, see data/README.md
    python NN_tutorial.py --quick --out /tmp/q   every code path, no results

Prints a numbered table and verdicts per experiment, and writes to plots/ the gallery README.md (question, figures,
numbers, verdicts and their rule), the figures 6.*.png, the final values NN_tutorial.csv, the times
NN_tutorial.seconds.csv, and the curves and parameters of every run in runs/NN_tutorial/*.npz, from which a second call
redraws without training.

All seeds of a configuration train at the same time, as one stack of networks (class Replicas).
"""

if __name__ == "__main__":
    import ctrl_c

    ctrl_c.leave_at_once()  # while all of this is imported, which takes seconds

import math
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby, islice, pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps, patheffects
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy import ndimage
from scipy.spatial import cKDTree
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import engine
import gallery
import helpers
from engine import Run
from helpers import LOOK, SPLITS, Experiment, Places, Report, interval, show

# ---------------------------------------------------------------------------- configurations


@dataclass(frozen=True)
class Config:
    """A multi-layer perceptron and its training; the defaults are the study's standard net."""

    depth: int = 6  # hidden layers
    width: int = 16  # units of a hidden layer
    activation: str = "relu"  # of relu, tanh, leaky_relu
    features: str = "raw"  # raw: degrees; implicit: sin(a x), a = 0.1, 0.2, ..., 1.0
    batch_norm: bool = False  # after every hidden layer, before its activation
    residual: bool = False  # x + layer(x) from the second hidden layer on
    init: str = "default"  # default: nn.Linear's; he: He et al. 2015; rezero: Bachlechner et al. 2021
    lr: float = 1e-3  # of Adam; the peak where the schedule is one-cycle
    schedule: str = "constant"  # or one-cycle (Smith and Topin 2018)
    batch_size: int = 256
    epochs: int = 50
    shuffled_labels: bool = False  # a control: every training place has the label of another one
    checks: int = 1  # validation losses per epoch
    gradients: bool = False  # record the mean absolute gradient of every layer's weights
    keep: tuple[int, ...] = ()  # epochs whose parameters are kept, beside the last


@dataclass(frozen=True)
class References:
    """What no curve should go without: the classifiers that need no gradient descent and no seed."""

    neighbours: int = 1


@dataclass(frozen=True)
class Forest:
    """The reference that has a seed."""

    trees: int = 100  # scikit-learn's default


STANDARD_EPOCHS = 50
STANDARD = Config(epochs=100, keep=(STANDARD_EPOCHS,))  # 6.1.2 needs 100 epochs, all else reads the first 50
TUNED = Config(lr=1e-2, schedule="one-cycle", epochs=60)
FORMING = (1, 5, 7, 10, 20, 40)  # epochs at which the map of the best of seven is drawn, beside the last
DEEP = Config(depth=100, width=4, epochs=10, gradients=True)

LEARNING_RATES = {
    "lr 1": Config(lr=1.0),
    "lr 0.01": Config(lr=1e-2),
    "lr 0.001": STANDARD,
    "lr 0.00001": Config(lr=1e-5),
}
CONTROL = "shuffled labels"
BATCH_NORM = {
    "without batch norm": STANDARD,
    "with batch norm": Config(batch_norm=True),
    CONTROL: Config(shuffled_labels=True, epochs=10),
}
BATCH_SIZES = {
    "batch size 1": Config(batch_size=1, epochs=1, checks=100),
    "batch size 16": Config(batch_size=16, epochs=10, checks=10),
    "batch size 128": Config(batch_size=128, checks=4),
    "batch size 1024": Config(batch_size=1024, checks=2),
}
SEVEN = {
    f"({depth}, {width})": replace(TUNED, depth=depth, width=width, keep=FORMING)
    for depth, width in ((1, 16), (2, 16), (6, 16), (10, 16), (6, 8), (6, 32), (6, 64))
}
DEPTHS = {f"depth {config.depth}": config for config in SEVEN.values() if config.width == 16}
WIDTHS = {
    f"width {config.width}": config
    for config in sorted(SEVEN.values(), key=lambda config: config.width)
    if config.depth == 6
}
PLAIN = {"plain": DEEP}
REMEDIES = {
    "plain": DEEP,
    "He initialisation": replace(DEEP, init="he"),
    "batch norm": replace(DEEP, batch_norm=True),
    "residual": replace(DEEP, residual=True),
    "residual + batch norm": replace(DEEP, residual=True, batch_norm=True),
    "residual + ReZero": replace(DEEP, residual=True, init="rezero"),
}
IMPLICIT = {
    "raw": STANDARD,
    "implicit": Config(features="implicit"),
    "raw, one-cycle": SEVEN["(6, 16)"],
    "implicit, one-cycle": replace(TUNED, features="implicit"),
}
MARKED_EPOCHS = (1, 5, 10, 20, 50, 100)
MARKED_LAYERS = (0, 30, 60, 90, 95, 99)


def quick(config: Config) -> Config:
    """The same configuration on a tiny budget: a fiftieth of the epochs, at least one."""
    epochs = max(1, config.epochs // STANDARD_EPOCHS)
    return replace(config, epochs=epochs, checks=min(config.checks, 2), keep=(1,) if config.keep else ())


# ---------------------------------------------------------------------------- models


class Residual(nn.Module):
    """x + layer(x) (He et al. 2016), or x + gate * layer(x) with a gate learned from 0 (Bachlechner et al. 2021)."""

    def __init__(self, layer: nn.Module, rezero: bool):
        super().__init__()
        self.layer = layer
        self.gate = nn.Parameter(torch.zeros(1)) if rezero else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, width)
        return x + self.layer(x) if self.gate is None else x + self.gate * self.layer(x)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}


def mlp(config: Config, inputs: int, classes: int) -> nn.Sequential:
    """One multi-layer perceptron, (B, inputs) to logits (B, classes): per layer Linear, [BatchNorm1d,] activation."""
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


NORM = 0.1, 1e-5  # momentum and epsilon of batch norm, those of nn.BatchNorm1d
CACHED = 5 * 64 * 512  # numbers in the output of a layer, of all networks together, that are worked on at once


class Layer(NamedTuple):
    """The parameters of one layer in N networks, or their gradients; batch norm and gate where the layer has them."""

    weight: torch.Tensor  # (N, out, in)
    bias: torch.Tensor  # (N, out, 1)
    scale: torch.Tensor | None = None  # (N * out,)
    shift: torch.Tensor | None = None  # (N * out,)
    gate: torch.Tensor | None = None  # (N, 1, 1)


class Tape:
    """What backpropagation remembers of a forward pass on batches of B, in buffers that every batch uses again."""

    def __init__(self, layers: list[Layer], batch: int):
        def room(layer: Layer) -> torch.Tensor:
            return layer.bias.new_empty(*layer.bias.shape[:2], batch)

        self.x = [layers[0].weight] * len(layers)  # a layer's input, set by each forward pass
        self.z = [room(layer) for layer in layers]  # W x + b
        self.h = self.z[:-1]  # activation of z, in its place, or of its batch norm
        self.statistics = [(layers[0].bias, layers[0].bias)] * len(layers)  # mean and 1 / deviation of z in the batch
        self.p = room(layers[-1])  # of the classes
        self.gradients = room(layers[0]), room(layers[0])
        self.minus_one = layers[0].bias.new_full((len(layers[0].bias), 1, batch), -1.0)


class Kernels(NamedTuple):
    """An activation in place, its backward from its output, what constants that takes, and batch norm's backward."""

    activate: Callable
    backward: Callable
    constants: tuple
    norm_backward: Callable


def kernels(activation: type[nn.Module]) -> Kernels:
    """Those of an activation in `ACTIVATIONS`; PyTorch's backwards have no public name."""
    from torch import Tensor, ops  # here, as joblib cannot send a function to its workers that knows torch and its ops

    known = {
        nn.ReLU: (Tensor.relu_, ops.aten.threshold_backward.grad_input, (0,)),
        nn.Tanh: (Tensor.tanh_, ops.aten.tanh_backward.grad_input, ()),
        nn.LeakyReLU: (F.leaky_relu_, ops.aten.leaky_relu_backward.grad_input, (nn.LeakyReLU().negative_slope, True)),
    }
    return Kernels(*known[activation], ops.aten.native_batch_norm_backward)


class Replicas:
    """N networks of one architecture as one stack, trained by backpropagation that is written out.

    Takes over the parameters of N `mlp` models and computes what they would, each on inputs of its own. Places are
    columns: a layer is W x + b, one batched matrix product for all networks. Nothing is shared, and the gradient of a
    sum of N losses is N gradients.

    All that makes it fast is in this class. Microseconds per network of a bare step, for 5 of the standard net at batch
    size 256 on one Zen 4 core: autograd, with rows for places and a tensor per parameter 220; gradients written out,
    buffers used again, Adam on one flat vector of all parameters 100; columns for places, so that matrices few units
    wide still have long rows, and a softmax from powers of two 83; without autograd's bookkeeping (inference mode) 79.
    The tests hold every step against autograd and torch.optim.Adam on ordinary networks.
    """

    def __init__(self, models: list[nn.Sequential], device: str = "cpu"):
        def layers(kind: type) -> list[tuple]:  # one tuple of N modules per layer
            return list(zip(*([m for m in model.modules() if isinstance(m, kind)] for model in models), strict=True))

        def stack(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
            return torch.stack([tensor.detach() for tensor in tensors])

        values = [
            Layer(stack(m.weight for m in linear), stack(m.bias[:, None] for m in linear))
            for linear in layers(nn.Linear)
        ]
        for i, norm in enumerate(layers(nn.BatchNorm1d)):
            scale, shift = stack(m.weight for m in norm).flatten(), stack(m.bias for m in norm).flatten()
            values[i] = values[i]._replace(scale=scale, shift=shift)
        for i, block in enumerate(layers(Residual), start=1):
            if block[0].gate is not None:
                values[i] = values[i]._replace(gate=stack(m.gate[:, None] for m in block))
        self.residual = bool(layers(Residual))
        self.flat = torch.cat([value.flatten() for layer in values for value in layer if value is not None]).to(device)
        self.gradient = torch.zeros_like(self.flat)
        self.layers, self.gradients = self.split(self.flat, values), self.split(self.gradient, values)
        self.moments = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.updates = torch.zeros((), device=device)
        norms = [layer.scale for layer in self.layers if layer.scale is not None]
        self.running = [(torch.zeros_like(norm), torch.ones_like(norm)) for norm in norms]  # mean and variance
        self.tapes: dict[int, Tape] = {}
        self.kernels = kernels(next(type(m) for m in models[0].modules() if isinstance(m, tuple(ACTIVATIONS.values()))))

    @staticmethod
    def split(flat: torch.Tensor, like: list[Layer]) -> list[Layer]:
        """The flat vector as the layers' parameters, without copying."""
        parts = iter(flat.split([value.numel() for layer in like for value in layer if value is not None]))
        return [Layer(*(None if value is None else next(parts).view(value.shape) for value in layer)) for layer in like]

    def state(self) -> dict[str, torch.Tensor]:
        """Every parameter and running statistic by name, each of shape (N, ...)."""
        named = {
            f"{name}.{i}": value
            for i, layer in enumerate(self.layers)
            for name, value in layer._asdict().items()
            if value is not None
        }
        for i, (mean, variance) in enumerate(self.running):
            named |= {f"mean.{i}": mean, f"variance.{i}": variance}
        n = len(self.layers[0].bias)
        return {name: value.view(n, *(value.shape[1:] if value.ndim > 1 else (-1,))) for name, value in named.items()}

    def forward(self, x: torch.Tensor, tape: Tape | None = None) -> torch.Tensor:
        """Logits (N, classes, B) of inputs (N, in, B).

        A tape means training: batch norm takes the batch's statistics, and the tape is filled for `backward`.
        """
        *hidden, head = self.layers
        for i, layer in enumerate(hidden):
            h = torch.baddbmm(layer.bias, layer.weight, x, out=tape and tape.z[i])
            if layer.scale is not None:
                h, *statistics = torch.native_batch_norm(
                    h.view(1, len(layer.scale), -1), layer.scale, layer.shift, *self.running[i], tape is not None, *NORM
                )
                h = h.view(len(x), -1, x.shape[2])
            self.kernels.activate(h)
            if tape:
                tape.x[i], tape.h[i] = x, h
                if layer.scale is not None:
                    tape.statistics[i] = statistics
            if not self.residual or i == 0:
                x = h
            elif layer.gate is None:
                x = x + h
            else:
                x = torch.addcmul(x, layer.gate, h)
        if tape:
            tape.x[-1] = x
        return torch.baddbmm(head.bias, head.weight, x, out=tape and tape.z[-1])

    def backward(self, tape: Tape, y: torch.Tensor, batch: int) -> torch.Tensor:
        """Fill `gradients` with those of the cross-entropy of the tape's logits for classes (N, 1, columns) / batch.

        Returns the logarithm of the true class's probability, (N, 1, columns).
        """
        p = torch.log_softmax(tape.z[-1], dim=1, out=tape.p)
        log_p = p.gather(1, y)
        p.mul_(1 / math.log(2)).exp2_()  # PyTorch's exp takes three times as long as its exp2 here
        dz = p.scatter_add_(1, y, tape.minus_one).mul_(1 / batch)  # of the logits
        dx, spare = tape.gradients
        _, backward, constants, norm_backward = self.kernels
        for i in reversed(range(len(self.layers))):
            torch.bmm(dz, tape.x[i].mT, out=self.gradients[i].weight)
            torch.sum(dz, dim=2, keepdim=True, out=self.gradients[i].bias)
            if i == 0:
                break
            if self.residual and i < len(self.layers) - 1:
                dx.baddbmm_(self.layers[i].weight.mT, dz)  # to what passed the layer by, what went through it
            else:
                torch.bmm(self.layers[i].weight.mT, dz, out=dx)
            below, gradient, h = self.layers[i - 1], self.gradients[i - 1], tape.h[i - 1]
            dh = dx
            if not self.residual:
                dx, spare = spare, dx  # dz takes the place of dh
            if below.gate is not None:
                torch.sum(dx * h, dim=(1, 2), keepdim=True, out=gradient.gate)
                dh = dx * below.gate
            dz = backward(dh, h, *constants, grad_input=spare)
            if below.scale is not None:
                z, scale = tape.z[i - 1].view(1, len(below.scale), -1), below.scale
                dz, *of_norm = norm_backward(
                    dz.view_as(z), z, scale, *self.running[i - 1], *tape.statistics[i - 1], True, NORM[1], [True] * 3
                )
                gradient.scale.copy_(of_norm[0])
                gradient.shift.copy_(of_norm[1])
                dz = dz.view_as(h)
        return log_p

    def differentiate(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Fill `gradient` with that of the mean cross-entropy on (N, in, B), (N, 1, B); returns the losses (N, 1, B).

        Many columns are taken in parts that stay in the processor's cache, 5% faster for 5 of (6, 64) at batch size
        1024. Batch norm needs them all at once.
        """
        n, width, _ = self.layers[0].bias.shape
        columns = x.shape[2] if self.running else min(x.shape[2], -(-CACHED // (n * width)))
        parts = [(x, y)]
        if columns < x.shape[2]:
            parts = zip(x.split(columns, dim=2), y.split(columns, dim=2), strict=True)
        losses = []
        for inputs, classes in parts:
            size = inputs.shape[2]
            if size not in self.tapes:
                self.tapes[size] = Tape(self.layers, size)
            if losses:
                earlier = self.gradient.clone()
            self.forward(inputs, self.tapes[size])
            losses.append(self.backward(self.tapes[size], classes, x.shape[2]).neg_())
            if len(losses) > 1:
                self.gradient += earlier
        return losses[0] if len(losses) == 1 else torch.cat(losses, dim=2)

    def step(self, x: torch.Tensor, y: torch.Tensor, lr: float, beta1: float) -> torch.Tensor:
        """One update of Adam on batches (N, in, B) with classes (N, 1, B); returns the losses (N, 1, B) before it."""
        losses = self.differentiate(x, y)
        self.updates += 1
        torch._fused_adam_(  # all that torch.optim.Adam(fused=True) comes down to: 6 us of its 39 for 10,000 parameters
            [self.flat],
            [self.gradient],
            [self.moments[0]],
            [self.moments[1]],
            [],
            [self.updates],
            lr=lr,
            beta1=beta1,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
        return losses


def replicas(config: Config, seeds: Sequence[int], inputs: int, classes: int, device: str = "cpu") -> Replicas:
    """The stack of the networks that `mlp` initialises under each seed."""
    models = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            models.append(mlp(config, inputs, classes))
    return Replicas(models, device)


def represent(x: torch.Tensor, features: str) -> torch.Tensor:
    """Coordinates in degrees (n, 2) as the network's inputs: themselves, or sin(a x) for ten a, (n, 20)."""
    if features == "raw":
        return x
    return torch.cat([torch.sin(tenths / 10 * x) for tenths in range(1, 11)], dim=1)


# ---------------------------------------------------------------------------- training


BLOCK = 1024  # places evaluated together, so that activations stay in the processor's cache


def judged(places: Places) -> Places:
    """What losses and accuracies are taken on: all of validation and test, and as many places of train, drawn once."""
    rows = np.random.default_rng(0).permutation(len(places.y["train"]))[: len(places.y["validation"])]
    train_part = {"train": places.x["train"][rows]}, {"train": places.y["train"][rows]}
    return Places(places.x | train_part[0], places.y | train_part[1], places.countries)


def evaluate(model: Replicas, x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross-entropy (nats) and accuracy of each network on all of (in, n), (n,): two arrays (N,).

    A network whose logits overflow is never right.
    """
    loss, right = 0.0, 0.0
    n = len(model.layers[0].weight)
    for inputs, targets in zip(x.split(BLOCK, dim=1), y.split(BLOCK), strict=True):
        logits = model.forward(inputs.expand(n, -1, -1))
        targets = targets.expand(n, -1)
        loss += F.cross_entropy(logits, targets, reduction="none").sum(dim=1)
        top, own = logits.amax(dim=1), logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        right += ((own == top) & top.isfinite()).sum(dim=1)  # argmax would be two thirds of an evaluation's time
    return loss.cpu().numpy().astype(float) / len(y), right.cpu().numpy().astype(float) / len(y)


def adam_plan(config: Config, updates: int) -> list[tuple[float, float]]:
    """Learning rate and beta1 of every update; those of one-cycle are PyTorch's."""
    if config.schedule == "constant":
        return [(config.lr, 0.9)] * updates
    optimizer = torch.optim.Adam([torch.zeros(1)], lr=config.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=updates)
    plan = []
    for _ in range(updates):
        group = optimizer.param_groups[0]
        plan.append((group["lr"], group["betas"][0]))
        optimizer.step()
        if len(plan) < updates:
            schedule.step()
    return plan


@torch.inference_mode()
def train(
    config: Config, places: Places, seeds: Sequence[int], device: str, progress: Callable[[float], None]
) -> dict[str, np.ndarray]:
    """Train one network per seed, all at once; each has its own initialisation and its own shuffling.

    The incomplete last batch of an epoch is dropped; shuffling makes it other places each time. Shuffled labels are
    shuffled once per seed, and judged by the true ones.
    Returns arrays, with S seeds, E epochs, K validation checks, L layers:
      loss_SPLIT, accuracy_SPLIT (S, E), nats and fraction, after every epoch on the places of `judged`;
      batch_loss_std (S, E), nats, the spread of the training loss from batch to batch within the epoch;
      seconds (E,), of training, by the whole stack, so far; updates (), the updates per epoch;
      check_loss (S, K), check_updates (K,), check_seconds (K,): the same on the way;
      gradient (S, E, L), mean absolute weight gradient, averaged over the batches (where config.gradients);
      EPOCH.NAME, the parameters after the last and the `keep` epochs.
    """

    def tensors(source: Places, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = (torch.tensor(values[split], device=device) for values in (source.x, source.y))
        return represent(x, config.features).T.contiguous(), y

    x, y = tensors(places, "train")  # (in, rows), (rows,)
    part = judged(places)
    judges = {split: tensors(part, split) for split in SPLITS}
    model = replicas(config, seeds, len(x), len(places.countries), device)
    rows = len(y)
    size = min(config.batch_size, rows)
    updates = rows // size
    checks = min(config.checks, updates)
    plan = adam_plan(config, updates * config.epochs)
    shuffles = [torch.Generator().manual_seed(seed) for seed in seeds]
    if config.shuffled_labels:
        strangers = torch.stack(
            [torch.randperm(rows, generator=shuffle) for shuffle in shuffles]
        )  # whose label it gets
    curves: dict[str, list] = {f"{metric}_{split}": [] for metric in ("loss", "accuracy") for split in SPLITS}
    curves |= {name: [] for name in ("batch_loss_std", "seconds", "check_loss", "check_seconds", "gradient")}
    arrays: dict[str, np.ndarray] = {}
    clock = 0.0

    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        order = torch.stack([torch.randperm(rows, generator=shuffle)[: updates * size] for shuffle in shuffles])
        labels = strangers.gather(1, order) if config.shuffled_labels else order
        order, labels = (
            o.view(len(seeds), updates, size).transpose(0, 1).flatten().to(device) for o in (order, labels)
        )
        inputs = x.index_select(1, order).view(-1, updates, len(seeds), size).permute(1, 2, 0, 3)  # (updates, S, in, B)
        targets = y.index_select(0, labels).view(updates, len(seeds), 1, size)
        batches = zip(inputs.unbind(), targets.unbind(), plan[(epoch - 1) * updates : epoch * updates], strict=True)
        size_of_gradient = torch.zeros_like(model.gradient)
        losses = []
        for check in range(checks):
            share = (check + 1) * updates // checks - check * updates // checks
            for *batch, (lr, beta1) in islice(batches, share):
                losses.append(model.step(*batch, lr, beta1))
                if config.gradients:
                    size_of_gradient += model.gradient.abs()
            clock += time.perf_counter() - started
            curves["check_seconds"].append(clock)
            judged_now = {"validation": evaluate(model, *judges["validation"])}
            curves["check_loss"].append(judged_now["validation"][0])
            progress((epoch - 1 + (check + 1) / checks) / config.epochs)
            started = time.perf_counter()
        curves["seconds"].append(clock)
        curves["batch_loss_std"].append(torch.stack(losses).mean(dim=(2, 3)).std(dim=0, correction=0).cpu().numpy())
        judged_now |= {split: evaluate(model, *judges[split]) for split in ("train", "test")}
        for split, (loss, accuracy) in judged_now.items():
            curves[f"loss_{split}"].append(loss)
            curves[f"accuracy_{split}"].append(accuracy)
        if config.gradients:
            layers = model.split(size_of_gradient / updates, model.layers)
            curves["gradient"].append(torch.stack([g.weight.mean(dim=(1, 2)) for g in layers], dim=1).cpu().numpy())
        if epoch == config.epochs or epoch in config.keep:
            arrays |= {f"{epoch}.{name}": value.cpu().numpy().copy() for name, value in model.state().items()}

    for name, curve in curves.items():
        if name in ("seconds", "check_seconds"):
            arrays[name] = np.array(curve)
        elif curve:
            arrays[name] = np.stack(curve, axis=1)
    arrays["updates"] = np.array(updates)
    arrays["check_updates"] = np.arange(1, checks * config.epochs + 1) * updates // checks
    return arrays


def grade(models: Iterable, places: Places) -> Iterator[tuple[str, np.ndarray]]:
    """For each split, the accuracies (models,) of scikit-learn's classifiers. One is in memory at a time."""
    judges = judged(places)
    scores = []
    for model in models:
        model.fit(places.x["train"], places.y["train"])
        scores.append([model.score(judges.x[split], judges.y[split]) for split in SPLITS])
    yield from zip(SPLITS, np.transpose(scores), strict=True)


def fit_references(config: References, places: Places, progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Accuracies {"NAME.SPLIT": (1,)} of the two classifiers that have nothing random in them."""
    models = {"majority class": DummyClassifier(), "nearest neighbour": KNeighborsClassifier(config.neighbours)}
    return {f"{name}.{split}": score for name, model in models.items() for split, score in grade([model], places)}


def fit_forests(
    config: Forest, places: Places, seeds: Sequence[int], progress: Callable[[float], None]
) -> dict[str, np.ndarray]:
    """Accuracies {"random forest.SPLIT": (seeds,)}."""
    forests = (RandomForestClassifier(config.trees, random_state=seed) for seed in seeds)
    return {f"random forest.{split}": score for split, score in grade(forests, places)}


def cost(config: Config | Forest, seeds: int, rows: int) -> float:
    """About how many seconds `train` takes on a laptop core, for the order of the runs and the progress bar."""
    if isinstance(config, Forest):
        return 6.0 * seeds
    size = min(config.batch_size, rows)
    per_layer = 70e-6 + seeds * size * (0.02 + 0.0045 * config.width) * 1e-6
    return config.epochs * (rows // size) * (config.depth + 1) * per_layer * (1.8 if config.batch_norm else 1.0)


# ---------------------------------------------------------------------------- what the reports share


@dataclass
class Study:
    """What every report needs beside its own results: the places, the reference rows, where figures go."""

    places: Places
    seeds: range
    out: Path
    is_quick: bool
    reference: dict[str, np.ndarray]  # what fit_references returns

    def save(self, fig: plt.Figure, name: str, note: str = "", curves: bool = True) -> None:
        n = len(self.seeds)
        seeds = f"{n} seeds" + (": lines are medians, bands smallest to largest." if curves and n > 1 else ".")
        warning = "QUICK RUN, NOT A RESULT. " if self.is_quick else ""
        helpers.save_figure(fig, self.out / f"{name}.png", f"{warning}{seeds} {note}")

    @cached_property
    def judged(self) -> dict[str, int]:
        return {split: len(y) for split, y in judged(self.places).y.items()}

    def reference_rows(self) -> dict[str, dict]:
        rows: dict[str, dict] = {}
        for key, values in self.reference.items():
            name, _, split = key.partition(".")
            if split in SPLITS:
                rows.setdefault(name, {})[split, "accuracy"] = values
        return rows

    def neighbour(self, split: str = "validation") -> float:
        """Accuracy of the nearest neighbour, the mark that a network is held against."""
        return float(self.reference[f"nearest neighbour.{split}"].mean())

    def draw_references(self, ax: plt.Axes, more: dict[str, float] | None = None) -> list[tuple]:
        """Horizontal lines at the test accuracies of the reference rows, and of `more`; the scale of accuracies.

        Returns their labels as (y, text, colour), for helpers.end_labels; names of the same number share one.
        """
        accuracies = {name: float(cells["test", "accuracy"].mean()) for name, cells in self.reference_rows().items()}
        names: dict[str, list[str]] = {}
        for name, accuracy in (accuracies | (more or {})).items():
            names.setdefault(f"{accuracy:.3f}", []).append(name)
            ax.axhline(accuracy, **THIN)
        helpers.accuracy_axis(ax)
        return [(float(number), " and\n".join(same) + f" {number}", "0.4") for number, same in names.items()]

    @cached_property
    def prior_loss(self) -> float:
        """Loss (nats) on the validation split of knowing nothing but the classes' frequencies in training."""
        classes = len(self.places.countries)
        frequency = np.bincount(self.places.y["train"], minlength=classes) / len(self.places.y["train"])
        return float(-np.log(frequency[self.places.y["validation"]]).mean())

    @cached_property
    def atlas(self) -> "Atlas":
        return Atlas(self.places, 400 if self.is_quick else 1600)


Results = dict[str, dict[str, np.ndarray]]
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]  # of texts on lines
THIN = {"color": "0.55", "linewidth": 1, "linestyle": (0, (1, 1)), "zorder": 0}  # lines of reference


def at(result: dict, name: str, epoch: int = -1) -> np.ndarray:
    """The values (seeds,) of a curve after an epoch, by default the last one."""
    return result[name][:, epoch - 1 if epoch > 0 else -1]


def scores(result: dict, epoch: int = -1) -> dict[tuple[str, str], np.ndarray]:
    """The table cells of a run: accuracy and loss of the three splits after an epoch."""
    return {
        (split, metric): at(result, f"{metric}_{split}", epoch) for metric in ("accuracy", "loss") for split in SPLITS
    }


def cite(rows: dict, *labels: str) -> str:
    numbers = [str(list(rows).index(label) + 1) for label in dict.fromkeys(labels)]
    return f"(row{'s' if len(numbers) > 1 else ''} {', '.join(numbers)})"


def diverged(result: dict, study: Study, epochs: int) -> np.ndarray:
    """(seeds,) whether a loss was not finite, or ended more than 1% above the prior loss and above its own minimum."""
    losses = np.concatenate([result["loss_train"][:, :epochs], result["loss_validation"][:, :epochs]], axis=1)
    curve = result["loss_validation"][:, :epochs]
    stuck = (curve[:, -1] > 1.01 * study.prior_loss) & (curve[:, -1] > curve.min(axis=1))
    return ~np.isfinite(losses).all(axis=1) | stuck


DIVERGED_RULE = (
    "diverged: the loss is not finite, or it ends more than 1% above the loss of knowing only the class "
    "frequencies and above its own minimum"
)


def compare(a: np.ndarray, b: np.ndarray) -> tuple[str, str]:
    """By COMPARE_RULE, higher | lower | the same | no difference shown; and the mean of b - a with its 95% interval.

    a, b: (seeds,), or (1,) for a reference that has no seeds.
    """
    with np.errstate(invalid="ignore"):  # losses of diverged runs
        gaps = b - a
        mean, half = interval(gaps)
    if (abs(gaps) < 1e-9).all():
        return "the same", "+0"
    if len(gaps) < 2:
        return UNCLEAR, f"{mean:+.4f}, no interval with one seed"
    word = "higher" if mean - half > 0 else "lower" if mean + half < 0 else UNCLEAR
    return word, f"{mean:+.4f}, 95% interval {mean - half:+.4f} to {mean + half:+.4f}"


UNCLEAR = "no difference shown"
COMPARE_RULE = (
    "higher or lower: Student's 95% interval of the difference, seed by seed (paired t), lies on one side of 0, "
    f"whatever the number of comparisons; {UNCLEAR}: it holds 0, or there is only one seed"
)


def difference(rows: dict, a: str, b: str, split: str = "test", metric: str = "accuracy") -> str:
    """The sentence on row b against row a."""
    word, gap = compare(rows[a][split, metric], rows[b][split, metric])
    return f"{b} against {a}, {split} {metric.replace('_', ' ')}: {word} ({gap}) {cite(rows, a, b)}."


def best(rows: dict, labels: Iterable[str], split: str = "validation", metric: str = "accuracy", sign: int = 1) -> list:
    """The label of highest mean (of lowest, where sign is -1), then those that show no difference to it."""
    labels = list(labels)
    values = {label: rows[label][split, metric] for label in labels}
    first = max(labels, key=lambda label: sign * values[label].mean())
    level = (UNCLEAR, "the same")
    return [first, *(x for x in labels if x != first and compare(values[first], values[x])[0] in level)]


def named(labels: list[str]) -> str:
    """What `best` returns, in words."""
    first, *level = labels
    others = ", ".join(level) if len(level) < 3 else f"{len(level)} others"
    return f"{first} ({UNCLEAR} to {others})" if level else first


def flattery(rows: dict, labels: Iterable[str]) -> str:
    """The sentence on what choosing on test would have picked, and by how much its accuracy would have flattered."""
    labels = list(labels)
    test = np.array([rows[label]["test", "accuracy"] for label in labels])  # (labels, seeds)
    validation = np.array([rows[label]["validation", "accuracy"] for label in labels])
    honest, other = (int(accuracy.mean(axis=1).argmax()) for accuracy in (validation, test))
    gain = float((test[other] - test[honest]).mean())
    by_seed = test.max(axis=0) - np.take_along_axis(test, validation.argmax(axis=0)[None], axis=0)[0]
    return (
        f"Choosing on test would have picked {labels[other]}{' too' if other == honest else ''} and flattered the test "
        f"accuracy by {gain:.4f}; choosing for each seed, by {by_seed.mean():.4f}, at most {by_seed.max():.4f} "
        f"{cite(rows, labels[honest], labels[other])}."
    )


BEST_RULE = "best and worst: by mean validation accuracy, named with those that show no difference to them"


def loss_rises(result: dict, epochs: int) -> bool:
    """Whether the validation loss has risen by 5% since its minimum while the training loss fell (medians)."""
    train, validation = (np.median(result[f"loss_{split}"][:, :epochs], axis=0) for split in ("train", "validation"))
    return bool(validation[-1] > 1.05 * validation.min() and train[-1] < train[validation.argmin()])


def fit_verdict(result: dict, study: Study) -> str:
    """Over- or under-fit, by FIT_RULE, and the facts behind it after a colon."""
    train, validation = at(result, "accuracy_train").mean(), at(result, "accuracy_validation").mean()
    over = train - validation > 0.01 or loss_rises(result, result["loss_train"].shape[1])
    under = train < study.neighbour() - 0.02
    words = {(False, False): "neither over- nor under-fits", (True, False): "over-fits", (False, True): "under-fits"}
    return (
        f"{words.get((bool(over), bool(under)), 'over-fits and under-fits at once')}: train accuracy {train:.4f}, "
        f"validation {validation:.4f}, nearest neighbour {study.neighbour():.4f}"
    )


RISE_RULE = "the validation loss ends more than 5% above its minimum although the training loss fell since (medians)"
FIT_RULE = (
    f"over-fit: train accuracy more than 0.01 above validation, or {RISE_RULE}; "
    "under-fit: train accuracy more than 0.02 below the nearest neighbour's on validation"
)


def draw_splits(ax: plt.Axes, result: dict, metric: str, epochs: int) -> list[tuple]:
    """Curves of the splits against the epoch; returns their end labels."""
    x = np.arange(1, epochs + 1)
    labels = []
    for split in SPLITS:
        curve = result[f"{metric}_{split}"][:, :epochs]
        helpers.band(ax, x, curve, **LOOK[split], label=split)
        labels.append((float(np.median(curve[:, -1])), split, LOOK[split]["color"]))
    ax.set(xlabel="epoch", xlim=(0, epochs))
    if metric == "loss":
        ax.set_yscale("log")
        ax.set_ylabel("cross-entropy (nats)")
    else:
        ax.set_ylabel("accuracy (log scale of the error)")
    return labels


def draw_scores(
    ax: plt.Axes, results: Results, epochs: dict[str, int] | None = None, positions: Iterable[float] | None = None
) -> None:
    """Accuracy of the three splits for each label: mean and 95% interval over seeds."""
    positions = np.arange(len(results)) if positions is None else np.array([*positions])
    step = float(np.diff(positions).min()) if len(positions) > 1 else 1.0
    for shift, split in zip((-0.12, 0, 0.12), SPLITS, strict=True):
        values = [at(r, f"accuracy_{split}", (epochs or {}).get(label, -1)) for label, r in results.items()]
        means, halves = np.transpose([interval(v) for v in values])
        look = LOOK[split] | {"linestyle": "none"}
        ax.errorbar(
            positions + shift * step, means, np.nan_to_num(halves), **look, label=split, capsize=3, linewidth=1.3
        )
    ax.set_xticks(positions, list(results))
    ax.set_xlim(positions[0] - 0.5 * step, positions[-1] + 0.5 * step)
    ax.set_ylabel("accuracy (log scale of the error)")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handletextpad=0.1)


def ordered(labels: Iterable[str]) -> dict[str, np.ndarray]:
    """A colour for each label, the later the darker."""
    labels = list(labels)
    return dict(zip(labels, colormaps["viridis"](np.linspace(0.7, 0, len(labels))), strict=True))


def median_seed(result: dict) -> int:
    """The replica whose validation accuracy is the median one; what stands for a run on a map."""
    accuracy = at(result, "accuracy_validation")
    return int(np.argsort(accuracy, kind="stable")[(len(accuracy) - 1) // 2])


# ---------------------------------------------------------------------------- maps


def several(labels: np.ndarray, width: int) -> np.ndarray:
    """Where a window of width x width around a cell holds more than one label."""
    return ndimage.maximum_filter(labels, width) != ndimage.minimum_filter(labels, width)


def degrees(value: float, _: int, plus: str, minus: str) -> str:
    return f"{abs(value):g}°{plus if value > 0 else minus if value < 0 else ''}"


COUNTRY = {  # how its name is written
    "ha": "center",
    "va": "center",
    "color": "0.1",
    "linespacing": 0.95,
    "path_effects": [patheffects.withStroke(linewidth=1.6, foreground="white", alpha=0.8)],
    "parse_math": False,  # of a $
    "in_layout": False,
}


class Atlas:
    """Draws what a network predicts for every point of the map around the places.

    Longitude and latitude stay straight axes, as the network sees them; a degree of each is as long as on the ground
    in the middle of the map.
    """

    COARSE = 4  # cells along a coarse cell, where the picture is smooth
    SHADES = ("#74A3D1", "#DB927E", "#72B5A0", "#EDB871", "#C9B2DB", "#CBD27F", "#C4E3F0", "#F7E9AE")  # dark to light

    def __init__(self, places: Places, cells: int = 1600):
        """`cells`: of the map along its longer side."""
        self.places = places
        everywhere = np.concatenate([places.x[split] for split in SPLITS]).astype(float)
        low, high = everywhere.min(axis=0), everywhere.max(axis=0)
        middle = (low + high) / 2
        self.aspect = 1 / np.cos(np.radians(np.clip(middle[1], -80, 80)))  # how many of longitude make one of latitude
        scale = np.array([1.0, self.aspect])
        span = 1.03 * np.maximum((high - low) * scale, 0.1)
        span = np.maximum(span, span.max() / (1.5, 4))  # no mere strip
        self.low, self.high = middle - span / scale / 2, middle + span / scale / 2
        self.columns, self.rows = (span / span.max() * cells / self.COARSE).astype(int) * self.COARSE
        tree = cKDTree(places.x["train"] * scale)
        distance, nearest = tree.query(self.grid(self.COARSE) * scale)
        self.land = self._land(tree, distance, nearest, span.max())
        self.colours = self._colours(places.y["train"][nearest])

    def grid(self, step: int) -> np.ndarray:
        """The middles of squares of step x step cells, (rows, columns, 2), degrees."""
        sides = [
            low + (np.arange(0, count, step) + step / 2) * (high - low) / count
            for low, high, count in zip(self.low, self.high, (self.columns, self.rows), strict=True)
        ]
        return np.stack(np.meshgrid(*sides), axis=-1).astype(np.float32)

    def enlarge(self, values: np.ndarray, step: int, order: int) -> np.ndarray:
        """Values of coarse cells on the finer `grid(step)`: the nearest (order 0) or between the nearest ones (1)."""
        return ndimage.zoom(values, self.COARSE // step, order=order, grid_mode=True, mode="nearest")

    def _land(self, tree: cKDTree, distance: np.ndarray, nearest: np.ndarray, span: float) -> np.ndarray:
        """How deep inside the area that has places each coarse cell is, in cells, negative outside.

        A place reaches about as far as its fourth neighbour; gulfs narrower than a usual gap are closed.
        """
        gaps = tree.query(tree.data, k=[min(5, tree.n)])[0][:, 0]
        usual = np.clip(np.quantile(gaps, 0.95), 0.004 * span, 0.03 * span)
        reached = distance < np.clip(0.8 * gaps, usual / 2, 2 * usual)[nearest]
        closing = 2 * usual / span * max(distance.shape)
        wide = ndimage.distance_transform_edt(~reached) < closing
        return ndimage.gaussian_filter(ndimage.distance_transform_edt(wide) - closing, 1.2)

    def _colours(self, truth: np.ndarray) -> np.ndarray:
        """One colour per country, (countries, 3); those that touch differ in colour and, where possible, in grey.

        Greedy graph colouring in three rounds: countries of most neighbours first, then each again, seeing all others.
        """
        count = len(self.places.countries)
        borders = np.zeros((count, count))
        for a, b in ((truth[:-1], truth[1:]), (truth[:, :-1], truth[:, 1:])):
            np.add.at(borders, (a.ravel(), b.ravel()), 1)
        borders = np.sqrt(borders + borders.T)
        np.fill_diagonal(borders, 0)
        shades = np.array([to_rgb(shade) for shade in self.SHADES])
        grey = shades @ (0.299, 0.587, 0.114)
        alike = np.exp(-(((grey[:, None] - grey) / 0.05) ** 2)) + 9 * np.eye(len(shades))
        chosen = np.zeros((count, len(shades)))  # 1 where a country has a colour
        for country in 3 * np.argsort(-(borders > 0).sum(axis=1), kind="stable").tolist():
            chosen[country] = 0
            clash = borders[country] @ chosen @ alike + 0.3 * chosen.sum(axis=0)
            chosen[country, clash.argmin()] = 1
        return chosen @ shades

    def figure(self, title: str, columns: int = 1) -> tuple[plt.Figure, np.ndarray]:
        """A figure for maps side by side, as high as they need."""
        height = 8.6 * self.rows / self.columns
        fig, axes = helpers.figure(title, 1, columns, (8.6 * columns + 0.9, height + 1.6))
        fig.set_layout_engine("compressed")
        return fig, axes[0]

    def predictor(self, config: Config, result: dict, epoch: int, replica: int) -> Callable[[np.ndarray], np.ndarray]:
        """What a replica makes of points (..., 2), degrees, after an epoch: numbers of countries (...)."""
        torch.set_num_threads(1)  # as in training; blocks are too small to share
        prefix = f"{epoch}."
        state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in result.items() if k.startswith(prefix)}
        model = replicas(config, range(1), state["weight.0"].shape[2], len(self.places.countries))
        for name, value in model.state().items():
            value.copy_(state[name][replica : replica + 1])

        def predict(points: np.ndarray) -> np.ndarray:
            x = represent(torch.from_numpy(points.reshape(-1, 2)), config.features)
            labels = [model.forward(block.T[None])[0].argmax(dim=0) for block in x.split(BLOCK)]
            return torch.cat(labels).numpy().reshape(points.shape[:-1])

        return predict

    def picture(self, predict: Callable[[np.ndarray], np.ndarray], step: int) -> tuple[np.ndarray, np.ndarray]:
        """The colours of all squares of step x step cells, (rows, columns, 3), and the countries of the coarse ones.

        Only squares near a border are predicted one by one, a tenth of them.
        """
        coarse = predict(self.grid(self.COARSE))
        labels, mixed = (self.enlarge(values, step, 0) for values in (coarse, several(coarse, 3)))
        labels[mixed] = predict(self.grid(step)[mixed])
        inside = np.clip(self.COARSE / step * self.enlarge(self.land, step, 1), 0, 1)[..., None]
        colours = self.colours[labels]
        sea = 0.16 * colours + 0.84 * np.array([0.98, 0.99, 1.0])
        land = np.where(several(labels, 2)[..., None], 1.0, colours)  # with white borders
        return (255 * (sea + inside * (land - sea))).astype(np.uint8), coarse

    def draw(self, ax: plt.Axes, config: Config, result: dict, epoch: int, replica: int, small: bool = False) -> None:
        """The prediction space of one replica: countries in colour and by name, wrong test places as dots.

        The small one has no names, degrees or legend.
        """
        predict = self.predictor(config, result, epoch, replica)
        picture, labels = self.picture(predict, 2 if small else 1)
        extent = (self.low[0], self.high[0], self.low[1], self.high[1])
        ax.imshow(picture, origin="lower", extent=extent, aspect=self.aspect, interpolation="antialiased")
        x, y = self.places.x["test"], self.places.y["test"]
        wrong = predict(x) != y
        label = f"test place given to the wrong country: {wrong.sum():,} of {len(y):,}"
        dots = ax.scatter(*x[wrong].T, s=0.5 if small else 6, color="0.1", linewidths=0, label=label)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        if small:
            ax.set(xticks=[], yticks=[])
            return
        ax.tick_params(length=3, color="0.6", labelcolor="0.3", labelsize="small")
        for axis, (plus, minus) in ((ax.xaxis, "EW"), (ax.yaxis, "NS")):
            axis.set_major_formatter(partial(degrees, plus=plus, minus=minus))
        pale = Patch(facecolor="0.95", edgecolor="0.8", label="pale: no training places near")
        ax.legend(handles=[dots, pale], loc="upper left", bbox_to_anchor=(0, -0.03), handletextpad=0.4, ncols=2)
        self.write_names(ax, np.where(self.land > 0, labels, -1))

    def write_names(self, ax: plt.Axes, labels: np.ndarray) -> None:
        """Write each country's name where it has most room; labels (rows, columns) of coarse cells, -1 for none.

        A name is as large as its country allows, from 6 to 11 points. The larger ones come first; one that would cover
        another is moved up or down, or left out.
        """
        taken: dict[int, tuple] = {}
        for size, country, name, middle, unit in sorted(self.rooms(ax, labels), key=lambda room: -room[0]):
            half = unit * np.clip(size, 6, 11) / 2
            for shift in (0, 1, -1, 2, -2):
                spot = np.clip(middle + shift * half * (0, 1), half, labels.shape[::-1] - half)
                free = all((abs(spot - other) > half + room).any() for other, room in taken.values())
                if free and country not in taken and (2 * half < labels.shape[::-1]).all():
                    taken[country] = spot, half
                    where = self.low + spot / labels.shape[::-1] * (self.high - self.low)
                    ax.text(*where, name, fontsize=np.clip(size, 6, 11), **COUNTRY)

    def rooms(self, ax: plt.Axes, labels: np.ndarray) -> Iterable[tuple[float, int, str, np.ndarray, np.ndarray]]:
        """How large each name could be: font size (points), country, the name on one line and on several, the middle
        of its room (column, row), width and height per point of font size (cells).
        """
        ax.figure.get_layout_engine().execute(ax.figure)
        ax.apply_aspect()  # now the map has the size that it will have
        cell = ax.bbox.width / labels.shape[1]  # in pixels
        for country, box in enumerate(ndimage.find_objects(labels + 1)):
            if box is None:
                continue
            own = np.pad(labels[box] == country, 1)
            name = self.places.countries[country]
            for lines in dict.fromkeys((name, textwrap.fill(name, 12))):
                text = ax.text(0, 0, lines, fontsize=10, **COUNTRY)
                with warnings.catch_warnings(action="ignore"):  # of scripts that the font lacks
                    extent = text.get_window_extent()
                text.remove()
                width, height = unit = np.array([extent.width, extent.height]) / 10 / cell
                room = ndimage.distance_transform_edt(own, sampling=(width / height, 1))  # for ellipses of its form
                row, column = np.unravel_index(room.argmax(), room.shape)
                middle = np.array([box[1].start + column - 0.5, box[0].start + row - 0.5])
                yield 1.5 * room.max() / width, country, lines, middle, unit


def draw_forming(atlas: Atlas, config: Config, result: dict, replica: int) -> plt.Figure:
    """The map of a replica after each kept epoch, small, and after the last one, large."""
    last = result["loss_train"].shape[1]
    *early, last = sorted({epoch for epoch in (*config.keep, last) if f"{epoch}.weight.0" in result})
    accuracy = {epoch: at(result, "accuracy_test", epoch)[replica] for epoch in (*early, last)}
    first = min(accuracy)
    title = f"The map forms: test accuracy {accuracy[first]:.2f} at epoch {first}, {accuracy[last]:.2f} at epoch {last}"
    columns = -(-len(early) // 2)
    height = 2 * 17 / (columns + 2) * atlas.rows / atlas.columns  # of the large one
    fig, axes = helpers.figure(title, 2, columns + 2, (18, height + 1.6))
    fig.set_layout_engine("compressed")
    grid = axes[0, 0].get_gridspec()
    for epoch, ax in zip_longest(early, axes[:, :columns].flat):
        if epoch is None:
            ax.remove()
        else:
            atlas.draw(ax, config, result, epoch, replica, small=True)
            ax.set_title(f"epoch {epoch}: {accuracy[epoch]:.3f}")
    for ax in axes[:, columns:].flat:
        ax.remove()
    ax = fig.add_subplot(grid[:, columns:])
    atlas.draw(ax, config, result, last, replica)
    ax.set_title(f"epoch {last}: {accuracy[last]:.3f}")
    return fig


# ---------------------------------------------------------------------------- 6.1 the training


def learning_rate(results: Results, study: Study) -> Report:
    """How large may the learning rate be, and what happens above and below?

    Varied: Adam's learning rate, constant over 50 epochs; all else is the standard net.
    Look for: too high, the loss jumps and stays at knowing nothing; too low, it is still falling at the end.
    """
    epochs = min(result["loss_validation"].shape[1] for result in results.values())
    rows, verdicts, final = {}, [], {}
    for label, result in results.items():
        gone = diverged(result, study, epochs)
        rows[label] = scores(result, epochs) | {("train", "diverged"): gone.astype(float)}
        curve = np.median(result["loss_validation"][:, :epochs], axis=0)
        before = max(1, epochs // 5)  # the last fifth of the epochs
        falling = 1 - curve[-1] / curve[-1 - before] if epochs > before else np.nan
        final[label] = float(curve[-1])
        if gone.any():
            verdict = f"diverged in {gone.sum()} of {len(gone)} seeds"
        elif falling > 0.05:
            verdict = f"is not finished: its loss fell by {falling:.0%} in the last {before} epochs"
        elif curve[-1] > 1.1 * curve.min():
            verdict = f"is unstable: it ends {curve[-1] / curve.min():.2f} times above its best epoch"
        else:
            verdict = "has settled"
        verdicts.append(f"{label} {verdict} {cite(rows, label)}.")
    chosen = best(rows, rows)
    verdicts += [difference(rows, label, chosen[0], "validation") for label in rows if label != chosen[0]]
    verdicts.append(
        f"Chosen on validation: {named(chosen)}, test accuracy {show(rows[chosen[0]]['test', 'accuracy'])} "
        f"{cite(rows, *chosen)}."
    )
    verdicts.append(flattery(rows, results))
    lost = [label for label in rows if rows[label]["train", "diverged"].any()]
    headline = f"Best: {named(chosen)}, test accuracy {rows[chosen[0]]['test', 'accuracy'].mean():.3f}" + (
        f"; {' and '.join(lost)} diverged" if lost else ""
    )

    fig, ((ax,),) = helpers.figure(headline)
    labels = [(study.prior_loss, "class frequencies only", "0.4")]
    ax.axhline(study.prior_loss, **THIN)
    for label, result in results.items():
        look = helpers.rate_look(LEARNING_RATES[label].lr)
        helpers.band(ax, np.arange(1, epochs + 1), result["loss_validation"][:, :epochs], **look)
        if np.isfinite(final[label]):
            labels.append((final[label], label + (" (diverged)" if label in lost else ""), look["color"]))
    ax.set(yscale="log", xlabel="epoch", ylabel="validation cross-entropy (nats)", xlim=(0, epochs))
    plain_log_ticks(ax)
    helpers.end_labels(ax, labels)
    study.save(fig, "6.1.1_learning_rate")
    rule = (
        f"{DIVERGED_RULE}; not finished: the median validation loss fell by more than 5% in the last fifth of the "
        f"epochs; unstable: it ends more than 10% above its minimum; settled: none of these; {BEST_RULE}; "
        f"{COMPARE_RULE}"
    )
    return Report(rows, headline, verdicts, rule, study.judged)


def plain_log_ticks(ax: plt.Axes) -> None:
    """0.2, 0.5, 1, 2 instead of powers of ten."""
    ax.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(plt.NullFormatter())


def epochs(results: Results, study: Study) -> Report:
    """How long does training pay, and does the standard net over-fit in the end?

    Varied: nothing but the number of epochs, 1 to 100, all read off one training.
    Look for: where the curve flattens, and whether the validation loss turns up while the training loss falls.
    """
    (result,) = results.values()
    last = result["loss_validation"].shape[1]
    marked = [epoch for epoch in MARKED_EPOCHS if epoch <= last]
    rows = {f"epoch {epoch}": scores(result, epoch) for epoch in marked}
    curve = np.median(result["loss_validation"], axis=0)
    verdicts = []
    for a, b in pairwise(marked):
        change = 100 * (curve[b - 1] / curve[a - 1] - 1) / (b - a)
        sentence = difference(rows, f"epoch {a}", f"epoch {b}", "validation", "loss")
        verdicts.append(f"By the median {change:+.1f}% an epoch: {sentence}")
    low = int(curve.argmin()) + 1
    over = loss_rises(result, last)
    tail = "later epochs over-fit" if over else "no over-fitting"
    verdicts.append(
        f"The median validation loss is lowest at epoch {low} of {last}: {tail} {cite(rows, f'epoch {marked[-1]}')}."
    )
    before = marked[-2] if len(marked) > 1 else 1
    word, _ = compare(at(result, "loss_validation", before), at(result, "loss_validation", last))
    found = {"lower": "still falling", "higher": "rising"}.get(word, word)
    headline = f"Median validation loss {curve[before - 1]:.2f} after {before} epochs, {curve[-1]:.2f} after {last}: "
    headline += "over-fits" if over else found
    fig, ((ax,),) = helpers.figure(headline)
    labels = draw_splits(ax, result, "loss", last)
    colour = LOOK["validation"]["color"]
    for epoch in marked:
        loss = curve[epoch - 1]
        ax.plot(epoch, loss, "o", color="white", markeredgecolor=colour, markersize=7, zorder=5)
        ax.annotate(
            f"{loss:.2f}",
            (epoch, min(at(result, f"loss_{split}", epoch).min() for split in SPLITS)),
            xytext=(0, -5),
            textcoords="offset points",
            ha="center" if epoch == 1 else "right",
            va="top",
            color=colour,
        )
    plain_log_ticks(ax)
    ax.set(xscale="log", xlabel="epoch (log scale)", xlim=(0.9, 1.1 * last))
    ax.set_xticks(marked, map(str, marked))
    ax.minorticks_off()
    helpers.end_labels(ax, labels)
    study.save(fig, "6.1.2_epochs", "Circles: median validation loss.")
    return Report(rows, headline, verdicts, f"{COMPARE_RULE}; over-fit: {RISE_RULE}", study.judged)


def batch_norm(results: Results, study: Study) -> Report:
    """Does batch normalisation help a net of six hidden layers?

    Varied: `nn.BatchNorm1d` between every hidden layer and its activation, or none.
    Look for: how many epochs earlier the loss gets as low, and whether the splits drift apart.
    """
    control = {CONTROL: scores(results[CONTROL])}
    results = {label: result for label, result in results.items() if label != CONTROL}
    epochs = min(result["loss_validation"].shape[1] for result in results.values())
    rows = {label: scores(result, epochs) for label, result in results.items()} | control | study.reference_rows()
    without, with_it = results
    verdicts = [difference(rows, without, with_it, "test", metric) for metric in ("accuracy", "loss")]
    a, b = (rows[label]["test", "accuracy"] for label in results)
    target = np.median(at(results[without], "loss_validation", epochs))
    first = np.median(results[with_it]["loss_validation"], axis=0) <= target
    if first.any():
        verdicts.append(
            f"With batch norm, epoch {first.argmax() + 1} reaches the median validation loss that the net without it "
            f"has after {epochs} {cite(rows, without, with_it)}."
        )
    verdicts.append(f"Control, where there is nothing to learn: {difference(rows, 'majority class', CONTROL)}")
    headline = f"Test accuracy {a.mean():.3f} without batch norm, {b.mean():.3f} with it: {compare(a, b)[0]}"
    fig, axes = helpers.figure(headline, 2, 2, (11, 8), sharex=True, sharey="row")
    ends = {}  # labels, written when the scales of all are settled
    for column, (label, result) in enumerate(results.items()):
        axes[0, column].set_title(label)
        ends[label] = draw_splits(axes[0, column], result, "loss", epochs)
        draw_splits(axes[1, column], result, "accuracy", epochs)
        references = study.draw_references(axes[1, column], {CONTROL: rows[CONTROL]["test", "accuracy"].mean()})
    axes[0, 1].set_ylabel("")
    axes[1, 1].set_ylabel("")
    axes[0, 0].set_xlabel("")
    axes[0, 1].set_xlabel("")
    plain_log_ticks(axes[0, 0])
    for column, label in enumerate(results):
        helpers.end_labels(axes[0, column], ends[label])
        finals = [
            (rows[label][s, "accuracy"].mean(), f"{s} {rows[label][s, 'accuracy'].mean():.3f}", LOOK[s]["color"])
            for s in SPLITS
        ]
        helpers.end_labels(axes[1, column], finals + (references if column else []), gap=0.06)
    study.save(fig, "6.1.3_batch_norm", "Numbers: means.")
    return Report(rows, headline, verdicts, COMPARE_RULE, study.judged)


def batch_size(results: Results, study: Study) -> Report:
    """What does the batch size trade between accuracy, speed and a steady loss?

    Varied: 1, 16, 128 and 1,024 places per update of Adam, at the same learning rate; small batches get fewer epochs.
    Look for: small batches need fewer places but more time, and their loss jumps from batch to batch.
    """
    # The loss that every seed of every batch size reaches: the largest of their smallest ones.
    target = max(result["check_loss"].min(axis=1).max() for result in results.values())
    rows = {}
    for label, result in results.items():
        n, epochs = result["loss_train"].shape
        reached = (result["check_loss"] <= target).argmax(axis=1)
        rows[label] = scores(result) | {
            ("train", "updates_per_epoch"): np.full(n, result["updates"]),
            ("train", "batch_loss_std"): at(result, "batch_loss_std"),
            ("validation", "updates_to_target"): result["check_updates"][reached],
            ("train", "seconds_per_epoch"): np.full(n, result["seconds"][-1] / epochs / n),
            ("validation", "seconds_to_target"): result["check_seconds"][reached] / n,
        }
    mean = {key: {label: float(cells[key].mean()) for label, cells in rows.items()} for key in rows[label]}
    small, large = next(iter(rows)), list(rows)[-1]
    epoch_time, target_time = mean["train", "seconds_per_epoch"], mean["validation", "seconds_to_target"]
    spread = mean["train", "batch_loss_std"]
    accurate = best(rows, results)
    fast = best(rows, results, "validation", "seconds_to_target", -1)
    steady = best(rows, results, "train", "batch_loss_std", -1)
    slow = max(target_time, key=target_time.get)
    verdicts = [
        f"Accuracy: {named(accurate)} has the best validation accuracy, "
        f"{mean['validation', 'accuracy'][accurate[0]]:.4f} {cite(rows, *accurate)}.",
        f"Speed: an epoch of {large} takes 1/{epoch_time[small] / epoch_time[large]:.0f} of the time of one of {small} "
        f"{cite(rows, small, large)}.",
        f"Speed: {named(fast)} is the first at validation loss {target:.3f} {cite(rows, *fast)}.",
        f"The last takes {target_time[slow] / target_time[fast[0]]:.1f} times as long: "
        f"{difference(rows, fast[0], slow, 'validation', 'seconds_to_target')}",
        f"Stability: from batch to batch the loss spreads least at {named(steady)}, by {spread[steady[0]]:.3f} nats, "
        f"against {spread[small]:.3f} at {small} {cite(rows, small, *steady)}.",
    ]
    wins = (("most accurate", accurate), ("fastest", fast), ("steadiest", steady))
    headline = "Batch size: " + "; ".join(f"{praise} {named(who)}".replace("batch size ", "") for praise, who in wins)

    fig, axes = helpers.figure(headline, 2, 2, (12, 8.5))
    (ax_accuracy, ax_spread), (ax_updates, ax_seconds) = axes
    sizes = {label: label.removeprefix("batch size ") for label in results}
    short = {f"{sizes[label]}\n({r['loss_train'].shape[1]})": r for label, r in results.items()}
    positions = np.log2([float(size) for size in sizes.values()])
    draw_scores(ax_accuracy, short, positions=positions)
    helpers.end_labels(ax_accuracy, study.draw_references(ax_accuracy), gap=0.06)
    ax_accuracy.set(title="accuracy", xlabel="batch size, log scale (epochs)")
    means, halves = np.transpose([interval(rows[label]["train", "batch_loss_std"]) for label in results])
    ax_spread.errorbar(positions, means, np.nan_to_num(halves), color="black", marker="o", linestyle="none", capsize=3)
    ax_spread.set_xticks(positions, list(short))
    ax_spread.set(
        yscale="log",
        xlim=ax_accuracy.get_xlim(),
        xlabel="batch size, log scale (epochs)",
        ylabel="standard deviation of the loss (nats)",
        title="stability: spread from batch to batch, last epoch",
    )
    plain_log_ticks(ax_spread)
    for label, colour in ordered(results).items():
        result = results[label]
        for ax, x in ((ax_updates, result["check_updates"]), (ax_seconds, result["check_seconds"] / len(study.seeds))):
            line = helpers.band(ax, x, result["check_loss"], color=colour)
            end = x[-1], line.get_ydata()[-1]
            ax.annotate(
                sizes[label], end, (4, 0), textcoords="offset points", va="center", color=colour, path_effects=HALO
            )
    for ax, text in ((ax_updates, ""), (ax_seconds, f"reached by all:\n{target:.3f}")):
        ax.axhline(target, **THIN)
        ax.set(xscale="log", yscale="log", ylabel="validation cross-entropy (nats)")
        ax.set_xlim(right=2 * ax.get_xlim()[1])
        plain_log_ticks(ax)
        helpers.end_labels(ax, [(target, text, "0.4")])
    ax_updates.set(xlabel="updates", title="speed in updates, by batch size")
    ax_seconds.set(xlabel="seconds of training per network", title="speed in time, by batch size", ylabel="")
    study.save(
        fig, "6.1.4_batch_size", "Dots: mean and 95% interval. Seconds: those of the stack over its number of networks."
    )
    rule = (
        f"{BEST_RULE}; {COMPARE_RULE}; the target is the lowest validation loss that every seed of every batch "
        "size reaches; seconds are those of the stack of all seeds divided by their number, on the machine of this run"
    )
    rows |= study.reference_rows()
    return Report(rows, headline, verdicts, rule, study.judged)


# ---------------------------------------------------------------------------- 6.2 the architecture


def best_model(results: Results, study: Study) -> Report:
    """Which of seven depths and widths tells countries apart best, and what does its map of Europe look like?

    Varied: hidden layers and their width; learning rate, schedule, batch size and epochs are the same for all seven.
    Look for: the gap to the nearest neighbour, and where on the map the misclassified places lie.
    """
    return one_of_seven(results, study, "best", "6.2.1.1")


def worst_model(results: Results, study: Study) -> Report:
    """Which of the seven is worst, and is that because it over-fits or because it under-fits?

    Varied: hidden layers and their width, as for the best of the seven.
    Look for: curves that lie together and stay high (under-fit) or drift apart (over-fit); straight borders on the map.
    """
    return one_of_seven(results, study, "worst", "6.2.1.2")


def one_of_seven(results: Results, study: Study, which: str, section: str) -> Report:
    rows = {label: scores(result) for label, result in results.items()} | study.reference_rows()
    accuracy = {label: interval(rows[label]["validation", "accuracy"])[0] for label in results}
    ranked = sorted(accuracy, key=accuracy.get)
    pick = ranked[-1 if which == "best" else 0]
    result = results[pick]
    epochs = result["loss_train"].shape[1]
    other = ranked[-2 if which == "best" else 1]
    level = best(rows, results, sign=1 if which == "best" else -1)
    verdict = fit_verdict(result, study)
    test = rows[pick]["test", "accuracy"].mean()
    verdicts = [
        f"{pick} is the {which} by validation accuracy, {show(rows[pick]['validation', 'accuracy'])}; its test "
        f"accuracy is {show(rows[pick]['test', 'accuracy'])} {cite(rows, pick)}.",
        f"Next to it: {difference(rows, other, pick, 'validation')}",
        f"Best to worst: {difference(rows, ranked[0], ranked[-1], 'validation')}",
        *([flattery(rows, results)] if which == "best" else []),
        f"It {verdict} {cite(rows, pick)}.",
        difference(rows, "nearest neighbour", pick),
    ]
    headline = f"{which.capitalize()} of seven, (depth, width): {named(level)}, {verdict.split(':')[0]}"
    headline += f", test accuracy {test:.3f}"
    fig, ((left, right),) = helpers.figure(headline, 1, 2, (12.5, 5), width_ratios=(1.1, 1))
    draw_scores(left, {label: results[label] for label in ranked})
    left.axvspan(ranked.index(pick) - 0.4, ranked.index(pick) + 0.4, color="0.9", zorder=0)
    helpers.end_labels(left, study.draw_references(left))
    left.set(xlabel="(depth, width), in order of validation accuracy")
    ends = draw_splits(right, result, "loss", epochs)
    plain_log_ticks(right)
    helpers.end_labels(right, ends)
    right.set_title(f"loss of {pick}")
    study.save(fig, f"{section}_{which}_model", "Dots: mean and 95% interval.")

    replica = median_seed(result)
    reached = at(result, "accuracy_test")[replica]
    fig, (ax,) = study.atlas.figure(f"What the {which} of seven, {pick}, predicts: test accuracy {reached:.3f}")
    study.atlas.draw(ax, SEVEN[pick], result, epochs, replica)
    study.save(
        fig,
        f"{section}_{which}_model_map",
        f"Drawn: seed {study.seeds[replica]}, of median validation accuracy.",
        curves=False,
    )
    if which == "best":
        fig = draw_forming(study.atlas, SEVEN[pick], result, replica)
        study.save(
            fig,
            f"{section}_map_forming",
            f"Numbers: test accuracy. Drawn: seed {study.seeds[replica]}, of median validation accuracy.",
            curves=False,
        )
    return Report(rows, headline, verdicts, f"{BEST_RULE}; {COMPARE_RULE}; {FIT_RULE}", study.judged)


def depth(results: Results, study: Study) -> Report:
    """Is a deeper net a better one, at the same width?

    Varied: 1, 2, 6 or 10 hidden layers of width 16.
    Look for: whether accuracy still rises at the deep end, and whether train and validation part on the way.
    """
    return against(results, study, "6.2.1.3_depth", "hidden layers of width 16")


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
    rows = {label: scores(result) for label, result in results.items()} | study.reference_rows()
    labels = list(results)
    first, last = best(rows, labels), best(rows, labels, sign=-1)
    verdicts = [difference(rows, a, b, "validation") for a, b in pairwise(labels)]
    if first[0] != last[0]:
        verdicts.append(f"Best to worst: {difference(rows, last[0], first[0], 'validation')}")
    verdicts += [
        f"{label} {fit_verdict(results[label], study)} {cite(rows, label)}." for label in labels[:: len(labels) - 1]
    ]
    top, bottom = (f"{rows[who[0]]['test', 'accuracy'].mean():.3f}" for who in (first, last))
    headline = f"Best: {named(first)}, test accuracy {top}; worst: {named(last)}, {bottom}"
    if first[0] == last[0]:
        headline = f"All have the same validation accuracy; test accuracy of {first[0]}: {top}"
    elif last[0] in first:
        headline = (
            f"{UNCLEAR.capitalize()} between best, {first[0]}, and worst, {last[0]}: test accuracy {top}, {bottom}"
        )
    numbers = [re.search(r"\d+$", label) for label in labels]
    fig, ((left, right),) = helpers.figure(headline, 1, 2, (12.5, 5), width_ratios=(1.1, 1))
    if all(numbers):
        ticks = {number[0]: results[label] for number, label in zip(numbers, labels, strict=True)}
        draw_scores(left, ticks, positions=np.log2([float(number) for number in ticks]))
        axis = f"{axis} (log scale)"
    else:
        draw_scores(left, results)
    helpers.end_labels(left, study.draw_references(left))
    left.set_xlabel(axis)
    ends = []
    for label, colour in ordered(labels).items():
        curve = results[label]["loss_validation"]
        helpers.band(right, np.arange(1, curve.shape[1] + 1), curve, color=colour)
        ends.append((float(np.median(curve[:, -1])), label, colour))
    right.set(yscale="log", xlabel="epoch", ylabel="validation cross-entropy (nats)")
    plain_log_ticks(right)
    helpers.end_labels(right, [end for end in ends if np.isfinite(end[0])])
    study.save(fig, name, "Dots: mean and 95% interval.")
    return Report(rows, headline, verdicts, f"{BEST_RULE}; {COMPARE_RULE}; {FIT_RULE}", study.judged)


def flow(result: dict, epoch: int = -1) -> tuple[str, str]:
    """By FLOW_RULE, vanishing | exploding | even, and the facts behind it."""
    gradient = result["gradient"][:, epoch - 1 if epoch > 0 else -1, :-1]  # (S, hidden layers)
    first, last = np.median(gradient[:, 0]), np.median(gradient[:, -1])
    facts = f"the mean absolute gradient is {first:.1e} in layer 0 and {last:.1e} in the last hidden layer (median)"
    if not first > last / 1000:  # both are 0 where every unit of a layer is dead
        return "vanishing", facts
    return "exploding" if first > 1000 * last or first > 100 else "even", facts


FLOW_RULE = (
    "after the last epoch, mean absolute gradient of the weights, median over seeds: vanishing where layer 0 gets less "
    "than 1/1000 of the last hidden layer's, or nothing; exploding where it gets more than 1000 times that, or more "
    "than 100; even otherwise"
)


def marked_layers(result: dict) -> list[int]:
    return [layer for layer in MARKED_LAYERS if layer < result["gradient"].shape[2] - 1]


def flow_cells(result: dict) -> dict[tuple[str, str], np.ndarray]:
    gradients = {("train", f"gradient_layer_{n}"): result["gradient"][:, -1, n] for n in marked_layers(result)}
    return scores(result) | gradients


GRADIENT_COLOURS = LogNorm(1e-9, 1e9)  # one scale for all heat maps; what lies beyond has its end's colour
EXACT_ZERO = {"facecolor": "white", "edgecolor": "0.8", "hatch": "////", "linewidth": 0.5}


def gradient_range(results: Results) -> tuple[float, float]:
    """Powers of ten from the smallest positive to the largest gradient in the marked layers, at least -6 to 0."""
    values = np.concatenate([result["gradient"][:, :, marked_layers(result)].ravel() for result in results.values()])
    values = np.log10(values[np.isfinite(values) & (values > 0)].astype(float))
    return values.min(initial=-6), values.max(initial=0)


def draw_flow(top: plt.Axes, bottom: plt.Axes, result: dict, decades: tuple[float, float]):
    """Curves of the marked layers against the epoch, all hidden layers as a heat map; returns its image."""
    gradient = result["gradient"][:, :, :-1].astype(float)  # (S, E, hidden layers)
    count = gradient.shape[1]
    epochs = np.arange(1, count + 1)
    low, high = decades
    room = 0.06 * (high - low)
    zero = 10 ** (low - 2 * room)  # where an exact 0 is drawn
    top.axhspan(zero / 10**room, zero * 10**room, **EXACT_ZERO)
    layers = marked_layers(result)
    colours = dict(zip(layers, colormaps["viridis"](np.linspace(0, 0.85, len(layers))), strict=True))
    ends = {}
    for layer, colour in colours.items():
        curves = np.maximum(gradient[:, :, layer], zero)
        middle = np.median(curves, axis=0)
        top.plot(epochs, curves.T, color=colour, linewidth=0.5, alpha=0.5)
        top.plot(epochs, middle, color=colour, marker="o", markersize=3)
        ends[layer] = middle[-1]
    top.set(yscale="log", xlabel="epoch", xlim=(0.5, count + 0.5), ylim=(zero / 10**room, 10 ** (high + room)))
    step = math.ceil((high - low) / 6)
    ticks = step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    top.set_yticks([zero, *10.0**ticks], ["exactly 0", *(f"$10^{{{tick}}}$" for tick in ticks)])
    top.yaxis.set_minor_locator(plt.NullLocator())
    alike = [list(group) for _, group in groupby(layers, key=ends.get)]
    names = [f"{group[0]}\N{EN DASH}{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in alike]
    labels = [(ends[group[-1]], name, colours[group[-1]]) for group, name in zip(alike, names, strict=True)]
    helpers.end_labels(top, labels, gap=0.04)
    top.text(1.015, -0.02, "layer", transform=top.transAxes, color="0.4", va="top", fontsize="small")
    bottom.patch.set(**EXACT_ZERO)
    image = bottom.imshow(
        np.ma.masked_equal(np.median(gradient, axis=0).T, 0),
        aspect="auto",
        norm=GRADIENT_COLOURS,
        cmap=colormaps["magma"].with_extremes(bad="none"),
        interpolation="nearest",
        extent=(0.5, count + 0.5, gradient.shape[2] - 0.5, -0.5),
    )
    bottom.set(xlabel="epoch")
    bottom.grid(False)
    for ax in (top, bottom):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return image


def draw_gradient_bar(axes: np.ndarray | plt.Axes, image) -> None:
    """The colour bar of heat maps of gradients, and what an exact 0 looks like."""
    bar = image.figure.colorbar(image, ax=axes, extend="both", label="mean absolute gradient")
    bar.set_ticks(10.0 ** np.arange(-9, 10, 3))
    bar.minorticks_off()
    handles = [Patch(**EXACT_ZERO, label="exactly 0")]
    bar.ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.8, -0.06), borderpad=0, handlelength=1.2)


FLOW_NOTE = "Gradients: mean over an epoch's batches; thick lines, colours: median over seeds; thin lines: each seed."


def gradients(results: Results, study: Study) -> Report:
    """What becomes of the gradient on its way back through 100 hidden layers?

    Varied: the layer at which the gradient is measured, and the epoch; the net is the same, 100 layers of width 4.
    Look for: from which layer down nothing arrives, and whether training changes that.
    """
    ((label, result),) = results.items()
    rows = {label: flow_cells(result)} | study.reference_rows()
    word, facts = flow(result)
    start, first_facts = flow(result, 1)
    zero = (result["gradient"][:, -1, :-1] == 0).mean(axis=1)
    verdicts = [
        f"After the first epoch the gradient is {start}: {first_facts} {cite(rows, label)}.",
        f"After the last epoch it is {word}: {facts} {cite(rows, label)}.",
        f"{zero.mean():.0%} of the hidden layers (from {zero.min():.0%} to {zero.max():.0%} by seed) get exactly 0: "
        f"behind a layer whose ReLUs are all off nothing comes back {cite(rows, label)}.",
        difference(rows, "majority class", label),
    ]
    hidden = result["gradient"].shape[2] - 1
    headline = f"{hidden} hidden layers: {word} gradient, exactly 0 in {zero.mean():.0%} of the layers"
    fig, ((left, right),) = helpers.figure(headline, 1, 2, (12, 5))
    image = draw_flow(left, right, result, gradient_range(results))
    left.set_ylabel("mean absolute gradient of the weights")
    right.set_ylabel("hidden layer (0 is at the input)")
    draw_gradient_bar(right, image)
    study.save(fig, "6.2.1.5_gradients", FLOW_NOTE, curves=False)
    return Report(rows, headline, verdicts, f"{FLOW_RULE}; {COMPARE_RULE}", study.judged)


def remedy(results: Results, study: Study) -> Report:
    """Which remedy brings the gradient through 100 layers, and does the net then learn?

    Varied: initialisation, batch norm, residual connections, and pairs of them, on the same 100 layers.
    Look for: columns of the heat map that are even from top to bottom, and accuracy above the majority class.
    """
    rows = {label: flow_cells(result) for label, result in results.items()} | study.reference_rows()
    plain = next(iter(results))
    verdicts = []
    for label, result in results.items():
        word, facts = flow(result)
        text = f"{label}: {word}, {facts}"
        lost = diverged(result, study, result["loss_train"].shape[1])
        text += f"; diverged in {lost.sum()} of {len(lost)} seeds" if lost.any() else ""
        verdicts.append(f"{text} {cite(rows, label)}.")
    verdicts += [difference(rows, plain, label) for label in results if label != plain]
    chosen = best(rows, [label for label in results if label != plain])
    verdicts.append(f"By validation accuracy the best remedy is {named(chosen)} {cite(rows, *chosen)}.")
    without, with_it = (rows[label]["test", "accuracy"] for label in (plain, chosen[0]))
    word, _ = compare(without, with_it)
    headline = f"Best remedy: {named(chosen)}; test accuracy {with_it.mean():.2f}, {without.mean():.2f} without: {word}"

    columns = len(results)
    fig, axes = helpers.figure(headline, 2, columns, (2.7 * columns, 7.5), sharey="row")
    decades = gradient_range(results)
    for column, (label, result) in enumerate(results.items()):
        image = draw_flow(axes[0, column], axes[1, column], result, decades)
        axes[0, column].set_title(f"{label}\n{flow(result)[0]}, accuracy {rows[label]['test', 'accuracy'].mean():.2f}")
    axes[0, 0].set_ylabel("mean absolute gradient of the weights")
    axes[1, 0].set_ylabel("hidden layer (0 is at the input)")
    draw_gradient_bar(axes[1, :], image)
    study.save(fig, "6.2.1.6_remedy_gradients", FLOW_NOTE, curves=False)

    fig, ((ax,),) = helpers.figure(headline, size=(10.5, 5))
    draw_scores(
        ax, {label.replace(" + ", "\n+ ").replace(" init", "\ninit"): result for label, result in results.items()}
    )
    helpers.end_labels(ax, study.draw_references(ax))
    study.save(fig, "6.2.1.6_remedy_accuracy", "Dots: mean and 95% interval.", curves=False)
    return Report(
        rows,
        headline,
        verdicts,
        f"{FLOW_RULE}; {BEST_RULE}; {COMPARE_RULE}; {DIVERGED_RULE}",
        study.judged,
    )


def implicit(results: Results, study: Study) -> Report:
    """Does the same net do better on sines of the coordinates than on the coordinates?

    Varied: the inputs, 2 raw degrees or 20 sines, sin(a x) for a = 0.1, 0.2, ..., 1.0; with and without a schedule.
    Look for: the gap in accuracy, and borders that bend on the map on the right where those on the left are straight.
    """
    last = {
        label: min(r["loss_train"].shape[1], results["implicit"]["loss_train"].shape[1])
        if label == "raw"
        else r["loss_train"].shape[1]
        for label, r in results.items()
    }
    rows = {label: scores(result, last[label]) for label, result in results.items()} | study.reference_rows()
    verdicts = []
    for pair in (("raw", "implicit"), ("raw, one-cycle", "implicit, one-cycle")):
        verdicts.append(difference(rows, *pair))
    verdicts += [f"{label} {fit_verdict(results[label], study)} {cite(rows, label)}." for label in list(results)[1:]]
    test = {label: rows[label]["test", "accuracy"].mean() for label in results}
    headline = f"Same net: test accuracy {test['raw']:.3f} from raw degrees, {test['implicit']:.3f} from their sines: "
    headline += compare(*(rows[label]["test", "accuracy"] for label in ("raw", "implicit")))[0]

    fig, axes = helpers.figure(headline, 1, 3, (15, 5), width_ratios=(1, 1, 1.2))
    axes[0, 1].sharey(axes[0, 0])
    ends = [draw_splits(ax, results[x], "loss", last[x]) for ax, x in zip(axes[0], ("raw", "implicit"), strict=False)]
    for ax, label, labels in zip(axes[0], ("raw", "implicit"), ends, strict=False):
        helpers.end_labels(ax, labels)
        ax.set_title(f"loss, {label}")
        plain_log_ticks(ax)
    draw_scores(
        axes[0, 2],
        {label.replace(", ", ",\n"): r for label, r in results.items()},
        {label.replace(", ", ",\n"): epoch for label, epoch in last.items()},
    )
    helpers.end_labels(axes[0, 2], study.draw_references(axes[0, 2]))
    study.save(fig, "6.2.1.7_implicit", "Dots: mean and 95% interval.")

    fig, axes = study.atlas.figure(headline, 2)
    for ax, label in zip(axes, ("raw", "implicit"), strict=True):
        replica = median_seed({"accuracy_validation": results[label]["accuracy_validation"][:, : last[label]]})
        study.atlas.draw(ax, IMPLICIT[label], results[label], last[label], replica)
        accuracy = at(results[label], "accuracy_test", last[label])[replica]
        ax.set_title(f"{label}: test accuracy {accuracy:.3f}, seed {study.seeds[replica]}")
    study.save(fig, "6.2.1.7_implicit_map", "Drawn: those of median validation accuracy.", curves=False)
    return Report(rows, headline, verdicts, f"{COMPARE_RULE}; {FIT_RULE}", study.judged)


# ---------------------------------------------------------------------------- the study

EXPERIMENTS = [
    Experiment(
        "6.1.1", "learning-rate", "the standard net with four constant learning rates", LEARNING_RATES, learning_rate
    ),
    Experiment("6.1.2", "epochs", "the standard net for 100 epochs", {"standard": STANDARD}, epochs),
    Experiment("6.1.3", "batch-norm", "with and without batch normalisation", BATCH_NORM, batch_norm),
    Experiment("6.1.4", "batch-size", "accuracy, speed and stability of four batch sizes", BATCH_SIZES, batch_size),
    Experiment("6.2.1.1", "best-model", "the best of seven depths and widths, and its map", SEVEN, best_model),
    Experiment("6.2.1.2", "worst-model", "the worst of the seven, and its map", SEVEN, worst_model),
    Experiment("6.2.1.3", "depth", "accuracy against depth at width 16", DEPTHS, depth),
    Experiment("6.2.1.4", "width", "accuracy against width at depth 6", WIDTHS, width),
    Experiment("6.2.1.5", "gradients", "the gradient in each of 100 hidden layers", PLAIN, gradients),
    Experiment("6.2.1.6", "remedy", "the same with residuals, batch norm, better initialisation", REMEDIES, remedy),
    Experiment("6.2.1.7", "implicit", "sines of the coordinates against the coordinates", IMPLICIT, implicit),
]
TRAINING_CODE = (
    Residual,
    mlp,
    Layer,
    Tape,
    Kernels,
    kernels,
    Replicas,
    replicas,
    represent,
    judged,
    evaluate,
    adam_plan,
)


def group_size(config: Config, rows: int, device: str) -> int:
    """How many seeds train as one stack; more of them are further runs, whose memory is that of the first.

    On a processor 5, for larger stacks are not faster there and a study of more seeds then keeps what one of fewer has
    trained; fewer where an epoch's places take more than 1 GiB. On a GPU as many as half of its memory holds.
    """
    room = torch.cuda.get_device_properties(0).total_memory // 2 if device == "cuda" else 2**30
    inputs = represent(torch.zeros(1, 2), config.features).shape[1]
    epoch = rows * (8 + 8 + 4 * inputs)  # bytes a seed: order, classes and inputs of all its batches
    return max(1, min(room // epoch, 1000 if device == "cuda" else 5))


def join(groups: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of several groups of seeds as those of one stack."""

    def of(name: str, arrays: list[np.ndarray]) -> np.ndarray:
        if "seconds" in name:
            return np.sum(arrays, axis=0)
        if name in ("updates", "check_updates"):
            return arrays[0]
        return np.unique(arrays) if name == "made_on" else np.concatenate(arrays)

    return {name: of(name, [group[name] for group in groups]) for name in groups[0]}


def plan(configs: dict[Config, str], seeds: range, rows: int, device: str) -> dict[str, list[Run]]:
    """{name: its runs, one per group of seeds} of the reference rows and of configurations with their names."""

    def groups(name: str, size: int, function: Callable, config: Config | Forest, code: tuple, *also: str) -> list[Run]:
        return [
            Run(f"{name}-{part[0]}-{part[-1]}", function, config, cost(config, len(part), rows), code, (part, *also))
            for part in ([*seeds[first : first + size]] for first in range(0, len(seeds), size))
        ]

    runs = {"references": [Run("references", fit_references, References(), 1.0, (grade, judged))]}
    runs["random forest"] = groups("random_forest", 5, fit_forests, Forest(), (grade, judged))
    for config, name in configs.items():
        runs[name] = groups(name, group_size(config, rows, device), train, config, TRAINING_CODE, device)
    return runs


def main(argv: list[str] | None = None) -> None:
    arguments = helpers.parse_arguments(__doc__, EXPERIMENTS, argv)
    gallery.check_out(arguments.out, "NN_tutorial")
    places = helpers.load_places(arguments.data)
    seeds = range(min(arguments.seeds, 2) if arguments.quick else arguments.seeds)
    if arguments.quick:
        places = places.head(3000)
    shrink = quick if arguments.quick else lambda config: config

    # A configuration is trained once, whichever experiments need it, and named after the first of all that do.
    names: dict[Config, str] = {}
    for experiment in EXPERIMENTS:
        for label, config in experiment.configs.items():
            names.setdefault(shrink(config), f"{experiment.name}-{label}".replace(" ", "_").replace(",", ""))
    needed = {shrink(config) for experiment in arguments.experiments for config in experiment.configs.values()}
    needed = {config: name for config, name in names.items() if config in needed}
    runs = plan(needed, seeds, len(places.y["train"]), arguments.device)
    finished = engine.finish_runs(
        [run for group in runs.values() for run in group],
        (places,),
        {"data": places.fingerprint()},
        arguments.out / "runs" / "NN_tutorial",
        arguments.jobs,
        arguments.fresh,
        arguments.redraw,
        arguments.cluster,
    )
    results = {
        name: join([finished[run.name] for run in group])
        for name, group in runs.items()
        if all(run.name in finished for run in group)
    }

    reports, lacking = {}, {}
    reference = results.get("references", {}) | results.get("random forest", {})
    study = Study(places, seeds, arguments.out, arguments.quick, reference)
    with gallery.writing(arguments.out):
        for experiment in arguments.experiments:
            needs = {label: names[shrink(config)] for label, config in experiment.configs.items()}
            always = {name: name for name in ("references", "random forest")}
            lacks = [label for label, name in (needs | always).items() if name not in results]
            if lacks:
                lacking |= {} if arguments.redraw else {experiment.section: lacks}
                continue
            report = experiment.report({label: results[name] for label, name in needs.items()}, study)
            report.made_in = gallery.made_in(results[name] for name in needs.values())
            reports[experiment.section] = report
            print(gallery.brief(experiment, report), flush=True)
        gallery.save_reports(arguments, "NN_tutorial", reports, lacking)


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
