"""The report of an experiment on places: how its networks are scored, what they are held against, and their maps."""

import argparse
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import nn

from lab.data.places import Places
from lab.draw.maps import Animation, Atlas, Predict
from lab.errors import plural
from lab.gallery import live
from lab.gallery.report import Report
from lab.nets import replicas
from lab.nets.record import passed_on
from lab.nets.replicas import Lesson, evaluation_set
from lab.study import SPLITS, Cells, Experiment, Measured, Result, Runs
from lab.tell import phrases
from lab.tell.statistics import median_of


class SharedPlaces:
    """The places of a study and what is made of them once for all its reports."""

    def __init__(self, places: Places, quick: bool):
        self.places, self.quick = places, quick

    @cached_property
    def evaluated(self) -> Places:
        return evaluation_set(self.places)

    @cached_property
    def atlas(self) -> Atlas:
        return Atlas(self.places, 400 if self.quick else 1600)

    @cached_property
    def of_film(self) -> Atlas:
        return Atlas(self.places, 200 if self.quick else 800, self.atlas.colours)

    @cached_property
    def alive(self) -> dict[str, dict]:
        """What live maps share."""
        return live.places(self.places, self.atlas)

    @cached_property
    def prior_loss(self) -> float:
        """Loss (nats) on the validation split of knowing nothing but the classes' frequencies in training."""
        y = self.places.y
        frequency = np.bincount(y["train"], minlength=len(self.places.countries)) / len(y["train"])
        return float(-np.log(frequency[y["validation"]]).mean())


class PlacesReport(Report):
    """A report whose runs are a Lesson's networks; those beside may be references, which have no losses."""

    def __init__(
        self, lesson: Lesson, shared: SharedPlaces, arguments: argparse.Namespace, experiment: Experiment, beside: Runs
    ):
        super().__init__(experiment, beside, arguments)
        self.lesson, self.shared, self.places = lesson, shared, shared.places
        self.examples = {split: len(y) for split, y in shared.evaluated.y.items()}
        self.prior_loss = shared.prior_loss

    def cells(self, result: Result, epoch: int | None = None) -> Cells:
        """Accuracy, loss and, if kept, what is right, after an epoch, by default the last; a reference has no loss."""
        if "right_test" in result:
            right = {(split, "right"): result[f"right_{split}"] for split in SPLITS}
            return {(split, "accuracy"): each.mean(axis=1) for (split, _), each in right.items()} | right
        names = [(split, metric) for metric in ("accuracy", "loss") for split in SPLITS]
        cells = {(split, metric): result.at(f"{metric}_{split}", epoch) for split, metric in names}
        kept = {split: f"right_{split}@{epoch or epochs_of(result)}" for split in SPLITS}
        return cells | {(split, "right"): result[name] for split, name in kept.items() if name in result}

    def foot(self, note: str = "", bands: bool = True) -> str:
        """How many seeds, and what lines and bands are where there are bands."""
        n = self.arguments.seeds
        seeds = plural(n, "seed") + (": lines are medians, bands smallest to largest." if bands and n > 1 else ".")
        return super().foot(f"{seeds} {note}")

    # ------------------------------------------------------------------------ what it is held against

    @property
    def levels(self) -> dict[str, float]:
        """Test accuracies of those beside."""
        return {label: float(self.rows[label]["test", "accuracy"].mean()) for label in self.beside}

    @property
    def neighbour(self) -> Measured:
        """Validation accuracy of the nearest neighbour, the mark that a network is held against."""
        return Measured(
            self.cells(self.beside["nearest neighbour"])["validation", "accuracy"].mean(),
            "validation accuracy of the nearest neighbour",
        )

    def diverged(self, result: Result) -> np.ndarray:
        """(seeds,), see phrases."""
        return phrases.diverged(result, self.prior_loss)

    def collapsed(self, result: Result) -> np.ndarray:
        """(seeds,), see phrases."""
        return phrases.collapsed(result, self.prior_loss)

    # ------------------------------------------------------------------------ what the kept parameters show

    def trained(self, result: Result, replica: int, epoch: int | None = None) -> nn.Module:
        """One seed's network after an epoch that is kept, by default the last; 0: before training."""
        epoch = epochs_of(result) if epoch is None else epoch
        return replicas.trained(self.lesson, result, len(self.places.countries), epoch, replica)

    def predictor(self, result: Result, replica: int, epoch: int | None = None) -> Predict:
        """What this network says of points (..., 2), degrees: numbers of countries (...)."""
        return replicas.predictor(self.lesson, result, self.trained(result, replica, epoch), replica)

    @torch.no_grad()
    def silent_units(self, result: Result) -> np.ndarray:
        """The share (seeds,) of hidden units that are 0 for every place of the train split that is evaluated."""
        found = []
        for replica in range(len(result["scale"])):
            x = self.lesson.represent(self.shared.evaluated.x["train"], result.config, result["scale"][replica])
            found.append(np.mean(passed_on(self.trained(result, replica).eval(), x)[0]))
        return np.array(found)

    def distance_moved(self, result: Result) -> np.ndarray:
        """How far a weight lies from where it started, (seeds,), mean of the absolute over all weights."""
        pairs = [(self.trained(result, n), self.trained(result, n, 0)) for n in range(len(result["scale"]))]
        return np.array([np.abs(weights(after) - weights(before)).mean() for after, before in pairs])

    def size_at_start(self, result: Result) -> float:
        """The mean absolute weight before training."""
        return float(np.abs(weights(self.trained(result, 0, 0))).mean())

    # ------------------------------------------------------------------------ maps

    def maps(self, name: str, headline: str, drawn: dict[str, Predict], note: str = "") -> None:
        """A figure of prediction spaces side by side, each with its title."""
        foot = self.foot(note, bands=False)
        fig, axes = self.shared.atlas.figure(headline, foot, len(drawn))
        for ax, (title, predict) in zip(np.atleast_1d(axes), drawn.items(), strict=True):
            self.shared.atlas.draw(ax, predict)
            ax.set_title(title if len(drawn) > 1 else "")
        self.add_figure(name, fig, headline)

    def middle(self, label: str, result: Result) -> tuple[str, Predict]:
        """The network of median validation accuracy: a title for its map, and what it says."""
        replica = median_of(result.at("accuracy_validation"))
        accuracy = result.at("accuracy_test")[replica]
        return f"{label}, seed {replica}: test accuracy {accuracy:.4f}", self.predictor(result, replica)

    def forming(self, name: str, result: Result) -> None:
        """Small maps of one network after the epochs that are kept, as a figure."""
        replica = median_of(result.at("accuracy_validation"))
        reached = {epoch: result.at("accuracy_test", epoch)[replica] for epoch in kept_epochs(result)}
        (first, low), (last, high) = min(reached.items()), max(reached.items())
        headline = f"The map forms: test accuracy {low:.2f} at epoch {first}, {high:.2f} at epoch {last}"
        foot = self.foot(f"Numbers: test accuracy. Seed {replica}, of median validation accuracy.", bands=False)
        stages = {f"epoch {e}: {a:.3f}": self.predictor(result, replica, e) for e, a in reached.items()}
        self.add_figure(name, self.shared.atlas.forming(headline, foot, stages))

    def film(self, name: str, title: str, result: Result) -> None:
        """How the first seed's map forms, from what was kept of it on the way, as an animation."""
        x, y = self.places.x["test"], self.places.y["test"]
        per_epoch = result["updates"][0]

        def stages() -> Iterator[tuple[str, Predict]]:
            for update, model in replicas.filmed(self.lesson, result, len(self.places.countries)):
                predict = replicas.predictor(self.lesson, result, model, 0)
                yield f"epoch {update / per_epoch:.1f}: test accuracy {(predict(x) == y).mean():.3f}", predict

        note = super().foot("Seed 0. Names stand where the countries are; pale: no training places near.")
        animation: Animation = self.shared.of_film.animation(title, note, stages())
        self.animations[name] = animation

    def live_map(self, runs: Runs, shown: str) -> None:
        """For the page: each network of median validation accuracy, before training and at the epochs that are kept."""
        networks = []
        for label, result in runs.items():
            config, replica = result.config, median_of(result.at("accuracy_validation"))
            scale, curve = result["scale"][replica], result["accuracy_test"][replica]
            before = self.predictor(result, replica, 0)(self.places.x["test"]) == self.places.y["test"]
            accuracy = {0: before.mean()} | {epoch: curve[epoch - 1] for epoch in kept_epochs(result)}
            stops = {epoch: (self.trained(result, replica, epoch), a) for epoch, a in accuracy.items()}
            networks.append(live.Network(label, replica, self.lesson.inputs(config), scale, stops))
        self.live = live.figure(networks, shown, self.shared.alive, self.places.x["test"])


def epochs_of(result: Result) -> int:
    return result["loss_train"].shape[1]


def kept_epochs(result: Result) -> list[int]:
    return [epoch for epoch in result.kept if epoch <= epochs_of(result)]


def weights(model: nn.Module) -> np.ndarray:
    """All weights of its layers, without biases."""
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim == 2]).numpy()
