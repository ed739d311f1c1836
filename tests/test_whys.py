"""Every explanation of NN_tutorial.py holds on one made-up study and fails on another, in which nothing differs."""

from argparse import Namespace

import numpy as np
import pytest
import torch

import NN_tutorial
from helpers import SPLITS, Places, Result, Runs, experiments_in
from lab.gallery.places_report import PlacesReport, SharedPlaces
from lab.nets.references import Reference
from NN_tutorial import Config, lesson, mlp

N = 200  # places of each split
SEEDS = 4


def made_up(config: Config | Reference, accuracy=0.5, train=None, start=1.0, end=1.0, std=1.0, dead=0, factor=1.0,
            gradient=1.0, dies=False) -> Result:  # fmt: skip
    """What training might have given.

    accuracy: at the end, of train another where given; start, end: of all losses, which fall evenly; std: of the batch
    losses; dead: so many of the first layers are; factor: of the spread from layer to layer; gradient: of the layers
    that are not dead; dies: the weights are thrown where no unit answers.
    """
    right = {split: np.tile(np.arange(N) < N * (train if train and split == "train" else accuracy), (SEEDS, 1))
             for split in SPLITS}  # fmt: skip
    if isinstance(config, Reference):
        return Result(config, {f"right_{split}": each[:1] for split, each in right.items()})
    jitter = np.linspace(-1e-3, 1e-3, SEEDS)[:, None]  # seeds differ
    epochs, checks = config.epochs, config.epochs * config.checks
    arrays = {f"loss_{split}": np.tile(np.linspace(start, end, epochs), (SEEDS, 1)) * (1 + jitter) for split in SPLITS}
    for split, each in right.items():
        arrays[f"accuracy_{split}"] = np.tile(each.mean(axis=1)[:, None], epochs) + jitter * (accuracy != 0.5)
        arrays |= {f"right_{split}@{epoch}": each for epoch in (*config.keep, epochs)}
    arrays["batch_loss_std"] = np.full((SEEDS, epochs), std)
    arrays["check_loss"] = np.tile(np.linspace(start, end, checks), (SEEDS, 1))
    arrays["check_updates"] = np.tile(np.arange(1, checks + 1) * 10, (SEEDS, 1))
    arrays |= {"seconds": np.tile(np.arange(1.0, epochs + 1), (SEEDS, 1)), "updates": np.full(SEEDS, 10)}
    arrays |= {"check_seconds": arrays["check_updates"] / 10.0, "stacked": np.zeros(SEEDS, bool)}
    flow = np.tile(gradient * factor ** np.arange(config.depth, -1.0, -1), (SEEDS, epochs, 1))
    flow[:, :, : dead + 1 if dead else 0] = 0  # what a dead layer feeds gets zeros alone
    silent = np.tile(np.arange(config.depth) < dead, (SEEDS, 2, 1)).astype(float)
    spread = np.tile(factor ** np.arange(config.depth), (SEEDS, 2, 1))
    arrays |= {"gradient": flow, "silent": silent, "spread": spread, "scale": np.tile(np.eye(2) + 1, (SEEDS, 1, 1))}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        for name, value in mlp(config, lesson().width(config), 2).state_dict().items():
            moved = value - 5 if dies else value + (0.1 if end < start else 0)
            for epoch in (*config.keep, epochs):
                arrays.setdefault(f"{epoch}.{name}", []).append(moved.numpy())
    if config.film:
        arrays |= {f"film.{name.partition('.')[2]}": np.stack(values)[:1] for name, values in arrays.items()
                   if name.startswith(f"{epochs}.")} | {"film.updates": np.array([10])}  # fmt: skip
    return Result(config, {name: np.array(values) for name, values in arrays.items()})


BETTER, BEST, GOOD = {"accuracy": 0.8}, {"accuracy": 0.9, "train": 0.9}, {"start": 2.0, "end": 0.5}
HOLDS = {  # by experiment, what differs where all that it explains is so
    "learning-rate": {"lr 1": {"dies": True, "start": 0.7, "end": 0.7}, "lr 0.001": BETTER | GOOD},
    "epochs": {"standard": BETTER | GOOD},
    "batch-norm": {
        "without batch norm": GOOD,
        "with batch norm": BETTER | {"start": 0.6, "end": 0.1},
        "standardised, without batch norm": BETTER | {"start": 0.6, "end": 0.1},
        "standardised, with batch norm": BETTER,
    },
    "batch-size": {f"batch size {n}": {"std": n**-0.5, "end": 0.9 - n / 2000} for n in (1, 16, 128, 1024)}
    | {
        "batch size 1024": {"std": 1 / 32, "start": 0.5, "end": 0.1},
        "batch size 128": BETTER | {"std": 128**-0.5},
        "batch size 1024, lr 0.008": BETTER,
    },
    "best-model": {"nearest neighbour": BEST, "(6, 64)": BETTER},
    "worst-model": {label: {"accuracy": 0.6} for label in list(NN_tutorial.SEVEN)[1:]} | {"nearest neighbour": BEST},
    "depth": {"depth 10": BETTER},
    "width": {"width 64": BETTER},
    "gradients": {
        "plain": {"dead": 50},
        "tanh": {"factor": 0.5},
        "width 16, He initialisation": BETTER | {"factor": 1.0},
    },
    "remedy": {"residual": {"factor": 1.25}, "residual + batch norm": BETTER},
    "implicit": {"implicit": BETTER, "standardised": {"accuracy": 0.75}, "implicit, one-cycle": {"accuracy": 0.55}},
    "closing-gap": {"standardised (6, 16)": BETTER, "waves (6, 16)": BEST}
    | {label: BEST for label in NN_tutorial.LADDER if label.startswith(("waves (6, 32)", "waves (3"))},
}


@pytest.fixture(scope="module")
def new_report(tmp_path_factory):
    """A report on N places of two countries, the first half of them in the border's neighbourhood."""
    draws = np.random.default_rng(0)
    away = np.where(np.arange(N) < N * 0.9, draws.uniform(5, 9, N), 0.01)
    long = np.sign(draws.uniform(-1, 1, N)) * away
    x = np.stack([long, draws.uniform(0, 9, N)], axis=1).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    shared = SharedPlaces(Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, y), ["west", "east"]), quick=True)
    arguments = Namespace(quick=False, seeds=SEEDS, out=tmp_path_factory.mktemp("out"))
    return lambda one, beside: PlacesReport(lesson(), shared, arguments, one, beside)


def whys(one, differs: dict[str, dict], new_report) -> list:
    runs, beside = (
        Runs({label: made_up(config, **differs.get(label, {})) for label, config in configs.items()})
        for configs in (one.configs, one.beside)
    )
    report = new_report(one, beside)
    one.report(runs, report)
    return report.whys


@pytest.mark.parametrize("one", experiments_in(vars(NN_tutorial)), ids=lambda one: one.name)
def test_each_explanation_holds_once_and_fails_once(one, new_report, monkeypatch):
    for drawn in ("maps", "forming", "film", "live_map"):  # which take most of the time and explain nothing
        monkeypatch.setattr(PlacesReport, drawn, lambda *_: None)
    held, failed = (whys(one, differs, new_report) for differs in (HOLDS[one.name], {}))
    assert held
    assert [str(why.condition) for why in held if not why.condition] == []
    assert [str(why.condition) for why in failed if why.condition] == []
    assert all(str(why.condition) for why in held + failed)
