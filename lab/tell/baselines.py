"""Baselines held against each other, each at the learning rate that validation chose, and photos that show it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.study import Result, Rows, Runs
from lab.tell import phrases, statistics
from lab.tell.statistics import Difference, choose, detection_scores, probability


@dataclass(frozen=True)
class Comparison:
    """Baselines at the learning rates that validation chose, the highest test accuracy first.

    looks: {baseline: colour, marker and line style}, in the order of the study; y: labels (n,) of the test photos;
    chance: {split: share of the larger class}; results: {baseline: its Runs}; rows: the same with scores; chosen:
    {baseline: label}; scores: {baseline: its scores}; pairs: {(higher, lower): Difference} of all, p by Holm's method.
    """

    looks: dict[str, dict]
    y: np.ndarray
    chance: dict[str, float]
    results: dict[str, Runs]
    rows: dict[str, Rows]
    chosen: dict[str, str]
    scores: Rows
    pairs: dict[tuple[str, str], Difference]

    def result(self, name: str) -> Result:
        return self.results[name][self.chosen[name]]

    def rates(self, name: str) -> dict[str, float | None]:
        """The learning rate of each run, None where there is none."""
        return {label: getattr(run.config, "learning_rate", None) for label, run in self.results[name].items()}

    def fake(self, name: str, seed: int = 0) -> np.ndarray:
        """Probabilities of fake for the test photos."""
        return probability(self.result(name)["logits_test"][seed])


def compare_baselines(runs: dict[str, Runs], y: dict[str, np.ndarray], looks: dict[str, dict]) -> Comparison:
    """All baselines, by mean test accuracy; among equals by ROC-AUC, then in the order of `looks`.

    runs: {baseline: its Runs, one per learning rate}, each with logits_SPLIT (seeds, n); y: labels of each split.
    Raises ValueError for a baseline without a look.
    """
    if odd := runs.keys() ^ looks.keys():
        raise ValueError(f"baselines and looks differ in {' and '.join(sorted(odd))}")
    runs = {name: runs[name] for name in looks}
    rows = {name: {x: detection_scores(r, y) for x, r in found.items()} for name, found in runs.items()}
    chosen = {name: choose(cells) for name, cells in rows.items()}
    scores = {name: rows[name][label] for name, label in chosen.items()}
    height = {
        name: (round(cells["test", "accuracy"].mean(), 9), np.nan_to_num(cells["test", "roc_auc"].mean()))
        for name, cells in scores.items()
    }
    ranked = sorted(scores, key=height.get, reverse=True)
    right = {name: cells["test", "right"] for name, cells in scores.items()}
    pairs = {(a, b): statistics.paired(right[a], right[b]) for a, b in itertools.combinations(ranked, 2)}
    in_order = {name: scores[name] for name in ranked}
    level = {split: statistics.chance(labels) for split, labels in y.items()}
    return Comparison(looks, y["test"], level, runs, rows, chosen, in_order, statistics.holm(pairs))


# ---------------------------------------------------------------------------- single photos


@dataclass(frozen=True)
class Samples:
    """The photos of 7.5.2: those that the best baseline gets right and a group of the worst wrong, seed 0."""

    found: Comparison
    best: str
    group: list[str]  # baselines that are wrong
    candidates: np.ndarray  # numbers of all such test photos
    picked: np.ndarray  # of up to five of them

    @property
    def worst(self) -> str:
        return [*self.found.scores][-1]


def find_samples(found: Comparison, people: Sequence[str]) -> Samples:
    """By largest difference in the probability of fake; worst are all that can't be told apart, if five are found.

    people: the person of each test photo.
    """
    y = found.y
    best, *_, worst = found.scores
    fake = {name: found.fake(name) for name in found.looks}
    rightly = {name: (values > 0.5) == y for name, values in fake.items()}

    def candidates(group: list[str]) -> np.ndarray:
        return np.flatnonzero(rightly[best] & ~np.any([rightly[name] for name in group], axis=0))

    group = [name for name in (*phrases.tied_with(worst, found.scores, found.pairs), worst) if name != best]
    group = group if len(candidates(group)) >= 5 else [worst]
    those = candidates(group)
    gap = np.abs(fake[best] - np.mean([fake[name] for name in group], axis=0))[those]
    return Samples(found, best, group, those, pick(those[np.argsort(-gap, kind="stable")], y, people))


def pick(ranked: np.ndarray, fake: np.ndarray, person: Sequence[str], most: int = 5) -> np.ndarray:
    """Up to `most` of the ranked photos: both classes if there are both, then no person twice, then classes in turn.

    fake and person: of all photos, by their numbers. Among equals the first in rank is taken.
    """
    left, picked = list(ranked), []
    while left and len(picked) < most:

        def preference(number: int) -> tuple[bool, ...]:
            new_class, new_person = (values[number] not in [values[n] for n in picked] for values in (fake, person))
            return new_class, new_person, bool(picked) and fake[number] != fake[picked[-1]]

        picked.append(max(left, key=preference))
        left.remove(picked[-1])
    return np.array(picked, int)
