"""A lesson's network trained once per seed: all seeds as one stack where that computes the same, else one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lab.data.places import Places
from lab.nets import inputs, stack
from lab.nets.record import BLOCK, passed_on, record, restore
from lab.study import SPLITS, Result, join_arrays

Arrays = dict[str, np.ndarray]


class Lesson(NamedTuple):
    """What a lesson on places writes out, and the laboratory builds on.

    network(config, inputs, classes) makes the network; inputs(config) is an Inputs, or what is called like one;
    optimizer(parameters, config, updates) gives optimizer and schedule, batches(config, rows) batch size and updates
    per epoch; loop(config, places, seed, device) is the training itself, a generator as `train_one`.
    """

    network: Callable[[Any, int, int], nn.Module]
    inputs: Callable[[Any], Callable]
    optimizer: Callable
    batches: Callable[[Any, int], tuple[int, int]]
    loop: Callable[..., Iterator[tuple]]

    def represent(self, x: np.ndarray, config: Any, scale: np.ndarray, device: str = "cpu") -> torch.Tensor:
        """Coordinates (n, 2) as the network's inputs (n, in); scale: see inputs.scale_of."""
        return inputs.represent(x, self.inputs(config), scale, device)

    def tensors(self, places: Places, split: str, config: Any, scale: np.ndarray | None = None, device: str = "cpu"):
        """The network's inputs (n, in) and the numbers of the countries (n,) of a split."""
        return inputs.tensors(places, split, self.inputs(config), scale, device)

    def width(self, config: Any) -> int:
        """How many inputs the network has."""
        return self.represent(np.zeros((1, 2)), config, np.ones((2, 2))).shape[1]


def train_stack(lesson: Lesson, config: Any, places: Places, seeds: Sequence[int], device: str = "cpu") -> Iterator:
    """The loop for the networks of all seeds: yields their stack and their losses (seeds, 1, B) after every update."""
    x, y = lesson.tensors(places, "train", config, device=device)
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(lesson.network(config, x.shape[1], len(places.countries)))
    size, updates = lesson.batches(config, len(y))
    total = updates * config.epochs
    plan = stack.adam_plan(lambda parameters: lesson.optimizer(parameters, config, total), total)
    return stack.Stack(models, device).train(x.T.contiguous(), y, seeds, size, plan, config.shuffled_labels)


def objection(lesson: Lesson, config: Any, places: Places) -> str:
    """Why a configuration can't be trained as a stack, by its first updates in two epochs; empty where it can."""
    size, _ = lesson.batches(config, len(places.y["train"]))
    some = places.head(5 * size // 2)
    noise = np.random.default_rng(0)
    moved = {split: x * (1 + stack.SHAKE * noise.normal(size=x.shape)) for split, x in some.x.items()}
    return stack.objection(
        lambda: lesson.loop(config, some, 0),
        lambda: train_stack(lesson, config, some, [0]),
        lambda: train_stack(lesson, config, replace(some, x=moved), [0]),
        lambda: lesson.tensors(some, "train", config)[0].T[None],
    )


def train(
    lesson: Lesson, config: Any, places: Places, seeds: Sequence[int], device: str, progress: Callable[[float], None]
) -> Arrays:
    """Train one network per seed, each with its own initialisation and shuffling; returns the arrays of `record`.

    With them `scale` (S, 2, 2), of the inputs, and those of `activity` where config.gradients.
    """
    part, scale = evaluation_set(places), inputs.scale_of(places.x["train"])
    _, updates = lesson.batches(config, len(places.y["train"]))
    sets = {split: lesson.tensors(part, split, config, scale, device) for split in SPLITS}
    sets = {split: (x.T.contiguous(), y) for split, (x, y) in sets.items()}
    if not objection(lesson, config, places):
        with torch.inference_mode():  # the stack's gradient is written out
            arrays = record(train_stack(lesson, config, places, seeds, device), config, sets, updates, progress)
    else:
        parts = []
        for number, seed in enumerate(seeds):
            done = lambda fraction, number=number: progress((number + fraction) / len(seeds))  # noqa: E731
            parts.append(((seed,), record(lesson.loop(config, places, seed, device), config, sets, updates, done)))
        arrays = join_arrays(parts)
    arrays["scale"] = np.tile(scale, (len(seeds), 1, 1))
    return arrays | (activity(lesson, config, places, seeds, arrays) if config.gradients else {})


def evaluation_set(places: Places) -> Places:
    """What losses and accuracies are taken on: all of validation and test, and as many places of train, drawn once."""
    rows = np.random.default_rng(0).permutation(len(places.y["train"]))[: len(places.y["validation"])]
    train_part = {"train": places.x["train"][rows]}, {"train": places.y["train"][rows]}
    return Places(places.x | train_part[0], places.y | train_part[1], places.countries)


@torch.no_grad()
def activity(lesson: Lesson, config: Any, places: Places, seeds: Sequence[int], arrays: Arrays) -> Arrays:
    """What L hidden layers pass on, before the training and after it, in float64, on `evaluation_set`'s train places:

    silent (S, 2, L), the share of units that are 0 for every place; spread (S, 2, L), the standard deviation over the
    places, mean over units. A layer of silent units alone is dead: no gradient comes back through it.
    """
    scale = inputs.scale_of(places.x["train"])
    x = lesson.tensors(evaluation_set(places), "train", config, scale)[0].double()
    found = []
    for replica, seed in enumerate(seeds):
        torch.manual_seed(seed)
        model = lesson.network(config, x.shape[1], len(places.countries)).double()  # batch norm takes these places
        before = passed_on(model, x)
        restore(model, arrays, f"{config.epochs}.", replica)
        found.append([before, passed_on(model, x)])
    silent, spread = np.moveaxis(np.array(found), 2, 0)
    return {"silent": silent, "spread": spread}


# ---------------------------------------------------------------------------- networks that were trained


def at_start(lesson: Lesson, result: Result, countries: int, seed: int = 0) -> nn.Module:
    """The network of a seed as it was before training."""
    torch.manual_seed(seed)
    return lesson.network(result.config, lesson.width(result.config), countries)


def trained(lesson: Lesson, result: Result, countries: int, epoch: int, replica: int) -> nn.Module:
    """One seed's network as it was after an epoch whose parameters are kept; 0: before training."""
    model = at_start(lesson, result, countries, replica)
    if epoch:
        restore(model, result.arrays, f"{epoch}.", replica)
    return model


def filmed(lesson: Lesson, result: Result, countries: int) -> Iterator[tuple[int, nn.Module]]:
    """(updates made, the first seed's network then) for each state that was kept for the film."""
    yield 0, at_start(lesson, result, countries)
    for number, update in enumerate(result["film.updates"]):
        model = at_start(lesson, result, countries)
        restore(model, result.arrays, "film.", number)
        yield int(update), model


def predictor(lesson: Lesson, result: Result, model: nn.Module, replica: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives the country's index at each of some points (..., 2), degrees: what one network says."""
    torch.set_num_threads(1)  # as in training; blocks are too small to share
    config, scale = result.config, result["scale"][replica]
    network = stack.Stack([model]) if result["stacked"][replica] else stack.Plain(model)

    def predict(points: np.ndarray) -> np.ndarray:
        x = lesson.represent(points.reshape(-1, 2), config, scale)
        labels = [network.forward(block.T[None])[0].argmax(dim=0) for block in x.split(BLOCK)]
        return torch.cat(labels).numpy().reshape(points.shape[:-1])

    return predict
