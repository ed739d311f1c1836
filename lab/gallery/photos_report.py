"""The report of an experiment on photos: how what tells real from fake is scored, and what several of them show."""

import argparse
from collections.abc import Iterable

import numpy as np

from lab.data.photos import CLASSES, Photos, View
from lab.draw import accuracies, baselines, curves
from lab.errors import plural
from lab.gallery import live
from lab.gallery.report import Report
from lab.study import SPLITS, Cells, Condition, Experiment, Result, Runs
from lab.tell import phrases, statistics
from lab.tell.baselines import Comparison, Samples, find_samples


class PhotosReport(Report):
    """A report whose runs have logits_SPLIT (seeds, n), positive for fake."""

    def __init__(self, photos: Photos, arguments: argparse.Namespace, experiment: Experiment, beside: Runs):
        super().__init__(experiment, beside, arguments)
        self.photos = photos
        self.examples = {split: len(y) for split, y in photos.y.items()}
        self.chance = {split: statistics.chance(y) for split, y in photos.y.items()}
        self.chance_loss = statistics.chance_loss(photos.y["train"])  # nats

    def cells(self, result: Result) -> Cells:
        """Accuracy, loss, ROC-AUC and seconds."""
        return statistics.detection_scores(result, self.photos.y)

    def named(self, runs: Runs) -> Runs:
        """The runs by what their rows are called."""
        return Runs({self.called(label, result): result for label, result in runs.items()})

    def above_chance(self, label: str, split: str = "test") -> Condition:
        """Whether a row's accuracy is."""
        self.rule(phrases.above_chance)
        accuracy, name = self.of(label, split=split), f"{split} accuracy of {label}"
        return phrases.above_chance(accuracy, self.examples[split], self.chance[split], name)

    @property
    def chosen(self) -> str:
        """The headline of a section in which validation chooses."""
        return phrases.scored(self.reference, self.rows[self.reference], self.examples["test"])

    # ------------------------------------------------------------------------ learning rates

    def draw_rates(self, figure: str, runs: Runs, control: Runs | None = None) -> None:
        """The training loss at each learning rate, and where each one ends; control: the same on shuffled labels."""
        rates, name = rates_of(runs), runs[self.reference].config.name
        self.say(phrases.rates(name, self.rows, rates, self.photos.y), phrases.rates)
        several = " Lines: median (loss), mean (accuracy); bands and bars: all seeds." * (self.arguments.seeds > 1)
        self.headline = self.chosen
        left, right = self.figure(figure, self.chosen, f"[ ] 95% Wilson.{several}", columns=2, size=(13, 4.8))
        named = {label: phrases.rate_name(rate) for label, rate in rates.items()}
        curves.step_losses(left, runs, self.chance_loss, named)
        accuracies.accuracy_against_rate(right, self.rows, rates, self.reference, self.chance["test"])
        if control:
            rows = {label: self.cells(result) for label, result in control.items()}
            accuracies.control(right, rows, rates_of(control), "control: test,\ntrained on\nshuffled labels")
        curves.legend(left)
        curves.legend(right)

    def add_control(self, control: Runs) -> Condition:
        """A row for what validation chooses of the runs on shuffled labels; whether it is at chance."""
        rows = {label: self.cells(result) for label, result in control.items()}
        chosen = statistics.choose(rows)
        self.rows[chosen] = rows[chosen]
        at_chance = phrases.control(rows[chosen]["test", "accuracy"], self.chance["test"])
        self.say(str(at_chance), phrases.control)
        return at_chance

    def draw_examples(self, figure: str, view: View, many: int = 8) -> None:
        """Some train photos of both classes."""
        y = self.photos.y
        numbers = {name: np.flatnonzero(y["train"] == label) for label, name in enumerate(CLASSES)}
        steps = {name: those[np.linspace(0, len(those) - 1, many).astype(int)] for name, those in numbers.items()}
        shares = ", ".join(f"{len(y[s]):,} {s} ({y[s].mean():.0%} fake)" for s in SPLITS)
        look = {"rows": 2, "columns": many, "size": (11, 3.6)}
        axes = self.figure(
            figure, f"Photos: {shares}", "Train photos at equal steps, as the networks see them.", **look
        )
        baselines.photo_rows(axes, {name: self.photos.pixels(view, "train", those) for name, those in steps.items()})

    # ------------------------------------------------------------------------ epochs

    def by_epochs(self, runs: Runs) -> dict[int, str]:
        """{number of epochs: the label that validation chooses of them}, the fewest first."""
        labels: dict[int, list[str]] = {}
        for label, result in runs.items():
            labels.setdefault(result.config.epochs, []).append(label)
        rows = {label: self.cells(result) for label, result in runs.items()}
        return {epochs: statistics.choose(rows, those) for epochs, those in sorted(labels.items())}

    def draw_epochs(
        self, figure: str, lines: dict[str, dict[int, str]], alone: Iterable[str], runs: Runs, looks: dict[str, dict]
    ) -> None:
        """Accuracies against the epochs; lines: {baseline: {epochs: label}}; alone: labels, on larger photos."""
        small = min(result.config.size for result in runs.values())
        note = "Bars and [ ]: 95% Wilson; the largest rate of each cycle is chosen on validation; star: larger photos."
        foot = {"how": f"one-cycle, {plural(self.arguments.seeds, 'seed')}", "size": small}
        ax = self.figure(figure, self.chosen, note, size=(9, 5.2), foot=foot)
        drawn = {name: {n: self.rows[label] for n, label in by.items()} for name, by in lines.items()}
        stars = {label: (runs[label].config.epochs, self.rows[label]) for label in alone}
        accuracies.accuracy_against_epochs(ax, drawn, stars, looks, self.examples["test"], self.chance["test"])

    # ------------------------------------------------------------------------ baselines held against each other

    def compare(self, found: Comparison) -> None:
        """A row for each baseline, for each pair of them, and for what a look at the files alone would give.

        All are held against the best on the test photos, p by Holm's method over all pairs.
        """
        rows = {found.chosen[name]: self._baseline(found, name) for name in found.looks}
        for (one, other), difference in found.pairs.items():
            rows[f"{one} minus {other}"] = {
                ("test", "difference"): difference.gain,
                ("test", "difference_low"): np.array([difference.low]),
                ("test", "difference_high"): np.array([difference.high]),
                ("test", "mcnemar_holm_p"): np.array([difference.p]),
            }
        if self.photos.shortcut:
            rows["shortcut"] = self.photos.shortcut.cells()
            self.say(f"{self.photos.shortcut.sentence()}.")
        best, *others = found.scores
        self.rows, self.reference = rows, found.chosen[best]
        self.differences = {found.chosen[name]: -found.pairs[best, name] for name in others}
        by = "each baseline at the learning rate of the highest validation accuracy; best and worst by test accuracy"
        self.rule(by, statistics.paired, "p by Holm's method over all pairs of baselines")

    def _baseline(self, found: Comparison, name: str) -> Cells:
        cells, rows = found.scores[name], found.rows[name]
        _, low, high = statistics.accuracy_on_test(cells, self.examples["test"])
        kept = [*((split, "accuracy") for split in SPLITS), ("test", "roc_auc")]
        interval = {("test", "accuracy_low"): np.array([low]), ("test", "accuracy_high"): np.array([high])}
        bias = {("test", "gain_if_chosen_on_test"): statistics.selection_bias(rows)[1]} if len(rows) > 1 else {}
        return {key: cells[key] for key in kept} | interval | bias

    def draw_comparison(self, section: str, found: Comparison, backbone: str, note: str) -> None:
        """Accuracies, learning rates, pairs and ROC curves."""
        means = {name: cells["test", "accuracy"].mean() for name, cells in found.scores.items()}
        headline, bars = phrases.standing(means, found.pairs), "Bars and [ ]: 95% Wilson."
        ax = self.figure(f"{section}_baselines", headline, f"{bars} {note}", size=(11, 5.2))
        baselines.draw_baselines(ax, found)
        headline, look = baselines.rates_headline(found), {"columns": 3, "size": (13, 4.8), "sharey": True}
        axes = self.figure(f"{section}_learning_rate", headline, f"{baselines.RATES_NOTE} {note}", **look)
        baselines.draw_rates(axes, found, backbone)
        headline, pairs = baselines.pairs_headline(found), baselines.pairs_note(found)
        ax = self.figure(f"{section}_pairs", headline, f"{pairs} {note}", size=(11, 5.6))
        baselines.draw_pairs(ax, found)
        headline, roc = baselines.roc_headline(found), baselines.ROC_NOTE
        ax = self.figure(f"{section}_roc", headline, f"{roc} {note}", size=(8.2, 5.6))
        baselines.draw_roc(ax, found)

    # ------------------------------------------------------------------------ single photos

    def pick(self, found: Comparison) -> Samples:
        """Some photos that the best baseline gets right and the worst wrong, and a row for each: what all say of it."""
        y, person = found.y, self.photos.person
        shown = find_samples(found, [person("test", number) for number in range(len(y))])
        for number in shown.picked:
            says = {f"{name}_probability_of_fake": found.fake(name)[[number]] for name in found.looks}
            row = f"{CLASSES[y[number]]} {self.photos.name('test', number)}"
            self.rows[row] = {("test", name): value for name, value in {"is_fake": y[[number]], **says}.items()}
        group = " and ".join(shown.group)
        self.rule(
            f"photos that {shown.best} gets right and {group} wrong, those with the largest differences between their "
            "(mean) probabilities of fake first, seed 0; as far as there are such, no person (file name up to _) twice "
            f"and fake and real in turn; worst are {shown.worst} and what 7.5.1 can't tell from it where five such "
            f"photos are found, else {shown.worst} alone"
        )
        return shown

    def draw_samples(
        self, figure: str, shown: Samples, maps: np.ndarray | None, views: tuple[View, View], note: str
    ) -> None:
        """The picked photos, in the page with a threshold; maps: Grad-CAM; views: of networks and of trees."""
        wrong = f"{' and '.join(shown.group)} {'are' if len(shown.group) > 1 else 'is'} wrong"
        headline = f"{shown.best} is right where {wrong} on {len(shown.candidates)} of {len(shown.found.y)} test photos"
        axes = self.figure(figure, headline, f"{baselines.samples_note(shown)} {note}", **baselines.SAMPLES)
        baselines.draw_samples(axes, shown, self.photos, maps, *views)
        self.live = live.samples(shown, self.photos, views[0])


def present(runs: Runs, configs: Iterable[str]) -> Runs:
    """The runs of some configurations, of those that the command line leaves."""
    return runs.only([label for label in configs if label in runs])


def rates_of(runs: Runs) -> dict[str, float]:
    return {label: result.config.learning_rate for label, result in runs.items()}


def ends(runs: Runs) -> tuple[str, str]:
    """The labels of the smallest and the largest learning rate."""
    ordered = sorted(runs, key=rates_of(runs).get)
    return ordered[0], ordered[-1]
