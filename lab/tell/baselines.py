"""Baselines held against each other, each at the learning rate that validation chose: numbers and pictures."""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics

from lab.data.photos import CLASSES, Photos, View
from lab.draw import charts
from lab.errors import plural
from lab.gallery import live
from lab.study import Result, Rows
from lab.tell import phrases, statistics
from lab.tell.statistics import Difference, accuracy_on_test, choose, detection_scores, probability, right_answers

Results = dict[str, Result]  # by label
TITLE = 26  # characters of a name over a photo


@dataclass(frozen=True)
class Comparison:
    """Baselines at the learning rates that validation chose, the highest test accuracy first.

    looks: {baseline: colour, marker and line style}, in the order of the study; y: labels (n,) of the test photos;
    chance: {split: share of the larger class};
    results: {baseline: {label: Result}}; rows: the same with scores; chosen: {baseline: label}; scores: {baseline: its
    scores}; pairs: {(higher, lower): Difference} of all pairs, with p adjusted for their number.
    """

    looks: dict[str, dict]
    y: np.ndarray
    chance: dict[str, float]
    results: dict[str, Results]
    rows: dict[str, Rows]
    chosen: dict[str, str]
    scores: Rows
    pairs: dict[tuple[str, str], Difference]

    def result(self, name: str) -> Result:
        return self.results[name][self.chosen[name]]

    def rates(self, name: str) -> dict[str, float | None]:
        return {label: result.config.learning_rate for label, result in self.results[name].items()}

    def fake(self, name: str, seed: int = 0) -> np.ndarray:
        """Probabilities of fake for the test photos."""
        return probability(self.result(name)["logits_test"][seed])


def compare_baselines(results: Results, y: dict[str, np.ndarray], looks: dict[str, dict]) -> Comparison:
    """All baselines, by mean test accuracy; among equals by ROC-AUC, then in the order of `looks`.

    results: by label, each with a config that has `baseline` and `learning_rate`; y: labels of each split.
    """
    by_name = {name: {x: r for x, r in results.items() if r.config.baseline == name} for name in looks}
    rows = {name: {x: detection_scores(r, y) for x, r in found.items()} for name, found in by_name.items()}
    chosen = {name: choose(cells) for name, cells in rows.items()}
    scores = {name: rows[name][label] for name, label in chosen.items()}
    height = {
        name: (round(cells["test", "accuracy"].mean(), 9), np.nan_to_num(cells["test", "roc_auc"].mean()))
        for name, cells in scores.items()
    }
    ranked = sorted(scores, key=height.get, reverse=True)
    rightly = {name: right_answers(by_name[name][label], y) for name, label in chosen.items()}
    pairs = {(a, b): statistics.paired(rightly[a], rightly[b]) for a, b in itertools.combinations(ranked, 2)}
    in_order = {name: scores[name] for name in ranked}
    level = {split: statistics.chance(labels) for split, labels in y.items()}
    return Comparison(looks, y["test"], level, by_name, rows, chosen, in_order, statistics.holm(pairs))


def draw_baselines(found: Comparison, headline: str, note: str):
    """Test accuracy of the five baselines with intervals, the highest on top."""
    foot = f"{note}. Bars and [ ]: 95% Wilson."
    fig, ax = charts.figure(textwrap.fill(headline, 104), foot, size=(11, 5.2))
    details = {}
    for name, cells in found.scores.items():
        rate = found.rates(name)[found.chosen[name]]
        without = "default" if name == "XGBoost" else "no learning rate"
        seeds = len(cells["test", "accuracy"])
        area = f"ROC-AUC {cells['test', 'roc_auc'].mean():.3f}, {plural(seeds, 'seed')}"
        details[name] = f"{phrases.rate_name(rate, without)}, {area}"
    accuracies = {name: accuracy_on_test(cells, len(found.y)) for name, cells in found.scores.items()}
    charts.bars(ax, accuracies, details, found.looks, found.chance["test"])
    return fig


def draw_pairs(found: Comparison, note: str):
    """The difference in test accuracy of every pair, with its interval and p."""
    shown = sum(difference.shown for difference in found.pairs.values())
    over = " or ".join(dict.fromkeys(difference.over for difference in found.pairs.values()))
    title = f"A difference between two baselines is shown for {shown} of {len(found.pairs)} pairs"
    marks = (
        "Filled: p < 0.05 after Holm's correction. Hollow: no difference shown, though an uncorrected interval may "
        f"leave out 0.\n[ ]: 95% interval, uncorrected; p: corrected; both over {over}."
    )
    fig, ax = charts.figure(title, f"{marks}\n{note}.", size=(11, 5.6))
    charts.pairs(ax, {f"{one} − {other}": difference for (one, other), difference in found.pairs.items()})
    return fig


def draw_rates(found: Comparison, note: str, backbone: str):
    """Accuracy against the learning rate, one line per baseline, one panel per split."""
    validation = {
        n: [cells["validation", "accuracy"].mean() for cells in rows.values()] for n, rows in found.rows.items()
    }
    reach = {name: f"{np.ptp(means):.2f}" for name, means in validation.items() if len(means) > 1}
    most = max(reach.values(), key=float)
    names = " and ".join(name for name, each in reach.items() if each == most)
    title = f"The learning rate moves {names} most: validation accuracy by {most}"
    foot = f"{note}. Means over seeds; rings: chosen on validation."
    fig, axes = charts.figure(title, foot, 1, 3, (13, 4.8), sharey=True)
    rates = {name: found.rates(name) for name in found.looks}
    by_rate = {name: {rates[name][x]: cells for x, cells in found.rows[name].items()} for name in found.looks}
    chosen = {name: rates[name][found.chosen[name]] for name in found.looks}
    charts.rate_panels(axes, by_rate, chosen, found.looks, found.chance)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", title=backbone)
    return fig


def draw_roc(found: Comparison, note: str):
    """ROC curves of the chosen learning rates, seed 0, on the test photos; areas: means over seeds."""
    area = {name: cells["test", "roc_auc"].mean() for name, cells in found.scores.items()}
    ranked = sorted(area, key=lambda name: -np.nan_to_num(area[name]))
    seeds = max(len(cells["test", "roc_auc"]) for cells in found.scores.values())
    mean = f"mean AUC of {seeds} seeds;\ncurve: seed 0" if seeds > 1 else "AUC"
    title = f"{ranked[0]} has the highest ROC-AUC on the test photos, {area[ranked[0]]:.3f}"
    foot = f"{note}.\nLearning rates chosen on validation; areas: means over seeds; curves: seed 0."
    fig, ax = charts.figure(title, foot, size=(8.2, 5.6))
    curves = {name: metrics.roc_curve(found.y, found.fake(name))[:2] for name in ranked}
    charts.roc(ax, curves, area, found.looks, mean)
    return fig


# ---------------------------------------------------------------------------- single photos


@dataclass(frozen=True)
class Samples:
    """The photos of 7.5.2: those that the best baseline gets right and a group of the worst wrong, seed 0."""

    found: Comparison
    best: str
    group: list[str]  # baselines that are wrong
    candidates: np.ndarray  # numbers of all such test photos
    picked: np.ndarray  # of up to five of them


def find_samples(found: Comparison, photos: Photos) -> Samples:
    """By largest difference in the probability of fake; worst are all that can't be told apart, if five are found."""
    y = photos.y["test"]
    best, *_, worst = found.scores
    fake = {name: found.fake(name) for name in found.looks}
    rightly = {name: (values > 0.5) == y for name, values in fake.items()}

    def candidates(group: list[str]) -> np.ndarray:
        return np.flatnonzero(rightly[best] & ~np.any([rightly[name] for name in group], axis=0))

    group = [name for name in (*phrases.tied_with(worst, found.scores, found.pairs), worst) if name != best]
    group = group if len(candidates(group)) >= 5 else [worst]
    those = candidates(group)
    gap = np.abs(fake[best] - np.mean([fake[name] for name in group], axis=0))[those]
    people = [photos.person("test", number) for number in range(len(y))]
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


def live_samples(shown: Samples, photos: Photos, view: View) -> dict:
    """For the page: the picked photos and more of the candidates, and what each baseline says of all test photos."""
    others = (number for number in shown.candidates if number not in shown.picked)
    first = [*shown.picked, *others][: live.MOST_PHOTOS]
    seen = photos.pixels(view, "test", first) if first else ()
    names = [photos.name("test", number) for number in first]
    fake = {name: shown.found.fake(name) for name in shown.found.looks}
    wrong = f"{shown.best} gets right and {' and '.join(shown.group)} wrong"
    note = f"{len(first)} of the {len(shown.candidates)} photos that {wrong} at 0.5:"
    return live.photos(shown.found.y, fake, shown.best, zip(names, first, seen, strict=True), note)


def draw_samples(
    shown: Samples, headline: str, note: str, photos: Photos, maps: np.ndarray | None, view: View, of_trees: View
):
    """A column per photo: itself, Grad-CAM of the best baseline or what XGBoost sees, and what each baseline says."""
    picked, looks = shown.picked, shown.found.looks
    fake = {name: shown.found.fake(name) for name in looks}
    foot = (
        f"{note}.\nSeed 0; the largest gaps between {shown.best} and {' and '.join(shown.group)}; as far "
        "as there are such, no person twice, fake and real in turn. ✗ and bold: wrong."
    )
    fig, axes = charts.figure(textwrap.fill(headline, 115), foot, 3, 5, (13, 8), height_ratios=(1, 1, 0.55))
    for ax in axes.flat:
        ax.axis("off")
    charts.warn_of_letters([photos.name("test", number) for number in picked], "7.5.2_samples")
    seen = photos.pixels(view, "test", picked) if len(picked) else ()
    for column, (number, pixels) in enumerate(zip(picked, seen, strict=True)):
        photo, cam, says = axes[:, column]
        is_fake = bool(photos.y["test"][number])
        name = CLASSES[is_fake]
        whole = photos.name("test", number)
        cut = whole if len(whole) <= TITLE else f"…{whole[1 - TITLE :]}"  # names differ at their ends
        photo.set_title(f"{name.upper()}\n{cut}", parse_math=False)  # of a $ in a name
        photo.imshow(pixels)
        if maps is None:
            cam.imshow(photos.pixels(of_trees, "test", [number])[0])
            cam.set_title("what XGBoost sees")
        else:
            heat = charts.overlay(cam, pixels, maps[column].astype(float) * (1 if is_fake else -1))
            cam.set_title(f"speaks for {name}")
        charts.probabilities(says, {name: values[number] for name, values in fake.items()}, is_fake, looks)
        says.set_yticks(range(len(fake)), fake if column == 0 else [""] * len(fake))
        says.tick_params(axis="y", length=0)
    if maps is not None and len(picked):
        bar = fig.colorbar(heat, ax=axes[1, :], shrink=0.95, aspect=30, pad=0.01)
        bar.set_label(f"Grad-CAM of {shown.best}\n(share of largest)")
    return fig
