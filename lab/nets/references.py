"""What no curve should go without: classifiers of places that need no gradient descent."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from lab.data.places import Places
from lab.nets.replicas import evaluation_set
from lab.run.runs import Work, in_groups
from lab.study import SPLITS


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


# (x, y, points, seed) to the classes of the points; the forest, fitted once, has a seed.
CLASSIFIERS: dict[str, Callable] = {
    "majority class": lambda x, y, points, seed: DummyClassifier().fit(x, y).predict(points),
    "nearest neighbour": lambda x, y, points, seed: KNeighborsClassifier(1).fit(x, y).predict(points),
    "random forest": forest,
}


@dataclass(frozen=True)
class Reference:
    """A configuration: one of CLASSIFIERS, fitted once."""

    name: str
    needs = None

    def budget(self, arguments: argparse.Namespace) -> "Reference":
        return self

    def work(self, name: str, places: Places, arguments: argparse.Namespace, given: None) -> Work:
        seconds = 6.0 if self.name == "random forest" else 0.1
        runs = in_groups(self.name, fit, self, (0,), 1, seconds)
        return Work(runs, (places, arguments.device), {"data": places.fingerprint(), "device": arguments.device})


def fit(
    config: Reference, places: Places, device: str, seeds: Sequence[int], progress: Callable[[float], None]
) -> dict[str, np.ndarray]:
    """right_SPLIT (seeds, places): which places of `evaluation_set` a reference gets right; no device speeds it up."""
    sets, train = evaluation_set(places), (places.x["train"], places.y["train"])
    points, classes = (np.concatenate([values[split] for split in SPLITS]) for values in (sets.x, sets.y))
    right = []
    for number, seed in enumerate(seeds):
        progress((number + 0.5) / len(seeds))
        right.append(CLASSIFIERS[config.name](*train, points, seed) == classes)
    ends = np.cumsum([len(sets.y[split]) for split in SPLITS])[:-1]
    parts = np.split(np.array(right), ends, axis=1)
    return {f"right_{split}": part for split, part in zip(SPLITS, parts, strict=True)}


REFERENCES = {name: Reference(name) for name in CLASSIFIERS}
