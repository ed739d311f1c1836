"""What a training leaves behind: losses, accuracies, gradients, times and parameters, epoch by epoch."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lab.nets.stack import Stack
from lab.run.progress import Reached
from lab.study import OF_FIRST

BLOCK = 1024  # examples evaluated together, so that activations stay in the processor's cache


def evaluate(networks, x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross-entropy (nats) of each of N networks on all of (in, n), (n,), and where it is right: (N,), (N, n).

    A network whose logits overflow is never right.
    """
    loss, right = 0.0, []
    for inputs, targets in zip(x.split(BLOCK, dim=1), y.split(BLOCK), strict=True):
        logits = networks.forward(inputs.expand(networks.count, -1, -1))
        targets = targets.expand(networks.count, -1)
        loss += F.cross_entropy(logits, targets, reduction="none").sum(dim=1)
        top, own = logits.amax(dim=1), logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        right.append((own == top) & top.isfinite())  # argmax would take two thirds of the time
    return loss.cpu().numpy().astype(float) / len(y), torch.cat(right, dim=1).cpu().numpy()


def record(training: Iterator, config: Any, sets: dict, updates: int, progress: Callable[[float], None]) -> dict:
    """Let a training run to its end and record.

    training yields (Stack or Plain, losses) after each update; config: its `epochs`, `checks` per epoch, `gradients`,
    epochs to `keep` and frames of the `film`; sets: {split: (x (in, n), y (n,))}; updates: per epoch. Returns arrays
    with S seeds, E epochs, K checks on the way in all, L layers:

    loss_SPLIT, accuracy_SPLIT (S, E), nats and fraction, after every epoch on `sets`;
    right_SPLIT@EPOCH (S, n), which examples each network gets right, after the last and the `keep` epochs;
    batch_loss_std (S, E), nats, the spread of the training loss from batch to batch within the epoch;
    seconds (S, E), of training so far, the stack's divided by its networks; updates (S,), per epoch; stacked (S,);
    check_loss, check_updates, check_seconds (S, K): the same on the way;
    gradient (S, E, L), mean absolute weight gradient, averaged over the batches (where config.gradients);
    EPOCH.NAME (S, ...), the networks' state_dict after these epochs;
    film.NAME (F, ...), the first network's after film.updates (F,) updates, where config.film.
    """
    checks = min(config.checks, updates)
    curves, arrays, clock = defaultdict(list), {}, 0.0
    frames, film, made = frames_of(config.film, updates * config.epochs), [], 0
    for epoch in range(1, config.epochs + 1):
        losses, gradient = [], 0.0
        for check in range(checks):
            started = time.perf_counter()
            for networks, loss in islice(training, (check + 1) * updates // checks - check * updates // checks):
                losses.append(loss)
                made += 1
                if made in frames:
                    film.append({name: value[0].cpu().numpy().copy() for name, value in networks.state().items()})
                if config.gradients:
                    gradient += networks.gradient.abs()
            clock += time.perf_counter() - started
            curves["check_seconds"].append(np.full(networks.count, clock / networks.count))
            loss, right = evaluate(networks, *sets["validation"])
            curves["check_loss"].append(loss)
            fraction = (epoch - 1 + (check + 1) / checks) / config.epochs
            progress(Reached(fraction, epoch, loss.mean(), right.mean()))
        curves["seconds"].append(curves["check_seconds"][-1])
        spread = torch.stack(losses).view(updates, networks.count, -1).mean(dim=2).std(dim=0, correction=0)
        curves["batch_loss_std"].append(spread.cpu().numpy())
        found = {"validation": (loss, right)}
        found |= {split: evaluate(networks, *sets[split]) for split in ("train", "test")}
        for split, (loss, right) in found.items():
            curves[f"loss_{split}"].append(loss)
            curves[f"accuracy_{split}"].append(right.mean(axis=1))
        if config.gradients:
            curves["gradient"].append(networks.weight_means(gradient / updates).cpu().numpy())
        if epoch == config.epochs or epoch in config.keep:
            arrays |= {f"right_{split}@{epoch}": right for split, (_, right) in found.items()}
            arrays |= {f"{epoch}.{name}": value.cpu().numpy().copy() for name, value in networks.state().items()}
    arrays |= {name: np.stack(curve, axis=1) for name, curve in curves.items()}
    if film:
        arrays |= {f"{OF_FIRST}{name}": np.stack([state[name] for state in film]) for name in film[0]}
        arrays[f"{OF_FIRST}updates"] = np.array(sorted(frames))
    arrays["updates"] = np.full(networks.count, updates)
    arrays["stacked"] = np.full(networks.count, isinstance(networks, Stack))
    arrays["check_updates"] = np.tile(np.arange(1, checks * config.epochs + 1) * updates // checks, (networks.count, 1))
    return arrays


def frames_of(count: int, updates: int) -> set[int]:
    """After which updates the states for a film of so many frames are kept; the first, 0, needs none.

    The n-th one's share of all updates grows as n squared, as early ones change most.
    """
    return {round(updates * (n / (count - 1)) ** 2) for n in range(1, count)} - {0}


def restore(model: nn.Module, arrays: dict, start: str, row: int) -> None:
    """Give a network the parameters in the rows of the arrays of `record` whose names start so, `EPOCH.` or `film.`."""
    state = {name.removeprefix(start): values[row] for name, values in arrays.items() if name.startswith(start)}
    model.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)


@torch.no_grad()
def passed_on(model: nn.Module, x: torch.Tensor) -> tuple[list[float], list[float]]:
    """What each of L hidden layers passes on to the next nn.Linear for inputs (n, in), two lists of L:

    the share of units that are 0 for all n, and the standard deviation over the n, mean over units.
    """
    silent, spread = [], []

    def look(_, inputs: tuple) -> None:
        silent.append(float((inputs[0] == 0).all(dim=0).double().mean()))
        spread.append(float(inputs[0].std(dim=0).mean()))

    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(look) for module in linear[1:]]
    model(x)
    for hook in hooks:
        hook.remove()
    return silent, spread
