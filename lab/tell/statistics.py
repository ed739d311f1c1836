"""Intervals, tests and choices. All of it works on numbers: nothing here knows what was trained.

One rule says what is better, for both sections: over seeds where there are enough of them for that to mean something,
over the examples of a split, within each seed, where there are fewer.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats
from sklearn import metrics

from lab.study import SPLITS, Cells, Result, Rows

# ---------------------------------------------------------------------------- intervals


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95% interval (Student's t; nan for a single seed)."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def median_of(values: np.ndarray) -> int:
    """Where the median of some values stands, the lower one of an even number."""
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def per_layer(spread: np.ndarray) -> np.ndarray:
    """The factor (seeds,) by which a positive quantity (seeds, layers) changes from layer to layer, geometric mean.

    Up to the first layer where it is 0 or lost in rounding, a 1e-12th of the first one; nan for fewer than three.
    """
    factors = []
    for values in np.asarray(spread, float):
        lost = ~(values > ROUNDING * values[0])
        count = int(lost.argmax()) if lost.any() else len(values)
        factors.append((values[count - 1] / values[0]) ** (1 / (count - 1)) if count >= 3 else np.nan)
    return np.array(factors)


ROUNDING = 1e-12
per_layer.rule = (
    "factor per layer: geometric mean from layer to layer of the spread over places of what is passed on, before "
    "training, up to the first dead layer or to where it is lost in rounding"
)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n; the share may be a mean over seeds, and so of no whole number."""
    z = stats.norm.ppf(0.975)
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = (centre + np.array([-half, half])) / (1 + z**2 / n)
    return min(max(float(low), 0.0), share), max(min(float(high), 1.0), share)  # ends that rounding leaves in place


def accuracy_on_test(cells: Cells, n: int) -> tuple[float, float, float]:
    """Mean test accuracy over seeds and its Wilson interval over n examples."""
    mean = float(cells["test", "accuracy"].mean())
    return mean, *wilson(mean, n)


def show(values: np.ndarray, examples: int = 0, digits: int = 4) -> str:
    """`mean ± half of the 95% interval` over seeds; of one or two accuracies `mean [low, high]`, over their `examples`.

    Student's t of two seeds may reach beyond what is possible, so that other numbers of one or two stand alone. So does
    one that is the same for every seed, as the time of the stack in which they were trained.
    """
    mean, half = interval(values)
    size = np.ceil(np.log10(abs(mean))) if np.isfinite(mean) and mean else 0  # 1 looks like the accuracies below it
    form = ".1e" if 0 < abs(mean) < 1e-3 else f",.{int(np.clip(digits - size, 0, digits))}f"
    if len(values) < 3:
        low, high = wilson(mean, examples) if examples else (np.nan, np.nan)
        return f"{mean:{form}}" + (f" [{low:{form}}, {high:{form}}]" if np.isfinite(high - low) else "")
    return f"{mean:{form}}" + (f" ± {half:{form}}" if np.isfinite(half) and np.ptp(values) > 0 else "")


# ---------------------------------------------------------------------------- better or not

ENOUGH = 4  # seeds
UNCLEAR = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """The first of two minus the second: gain (seeds,), the 95% interval of its mean, p of no difference.

    Over seeds by Student's t; over examples the hull of the seeds' intervals and their largest p, so that every seed
    shows what is said to be shown, and p is 1 where seeds disagree on which one is better.
    """

    gain: np.ndarray
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        form = "+.4f" if self.high - self.low < 0.01 else "+.3f"
        if not np.isfinite(self.low):
            return f"{self.gain.mean():{form}}, no interval"
        return f"{self.gain.mean():{form}} [{self.low:{form}}, {self.high:{form}}], p = {self.p:.2g}"

    def __neg__(self) -> "Difference":
        return replace(self, gain=-self.gain, low=-self.high, high=-self.low)

    @property
    def shown(self) -> bool:
        return self.p < 0.05

    @property
    def word(self) -> str:
        """Higher, lower or that no difference is shown."""
        return UNCLEAR if not self.shown else "higher" if self.gain.mean() > 0 else "lower"

    @property
    def over(self) -> str:
        """What was compared."""
        count = len(self.gain)
        examples = "the examples" + f" of each of {count} seeds" * (count > 1)
        return f"{count} seeds" if has_spread(self.gain) else examples


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of McNemar's exact test: are the examples that only one model gets right a fair coin's?

    first and second: (n,) bool, whether each model is right. 1.0 where they differ on no example.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    both = only_first + only_second
    return float(stats.binomtest(only_first, both, 0.5).pvalue) if both else 1.0


def newcombe(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95% interval of the difference of two accuracies on the same examples; first and second as in mcnemar.

    Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data,
    Statistics in Medicine 17 (1998), method 10: two Wilson intervals, squared and added with their correlation.
    """
    n = len(first)
    shares = np.array([first.mean(), second.mean()])
    (low1, high1), (low2, high2) = (wilson(share, n) for share in shares)
    excess = n * (first & second).sum() - first.sum() * second.sum()  # a d - b c of the fourfold table
    scale = np.sqrt(np.prod(n * shares) * np.prod(n - n * shares))
    correlation = (max(excess - n / 2, 0) if excess > 0 else excess) / scale if scale else 0.0

    def reach(one: float, other: float) -> float:
        return np.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0))

    gain = shares[0] - shares[1]
    low = gain - reach(shares[0] - low1, high2 - shares[1])
    return float(low), float(gain + reach(high1 - shares[0], shares[1] - low2))


def has_spread(gain: np.ndarray) -> bool:
    """Whether a mean over seeds has an interval: there are enough of them, and they are not one number repeated."""
    return len(gain) >= ENOUGH and not (gain == gain[0]).all()


def over_seeds(gain: np.ndarray) -> Difference:
    """The difference of numbers, (seeds,) pair by pair: Student's t, nothing shown where training diverged."""
    mean, half = interval(gain)
    if not np.isfinite(mean):
        return Difference(gain, np.nan, np.nan, 1.0)
    error = stats.sem(gain)
    p = 2 * stats.t.sf(abs(mean) / error, len(gain) - 1) if error else float(mean == 0)
    return Difference(gain, mean - half, mean + half, float(p))


def paired(first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference in accuracy of two classifiers, (seeds, n) bool each: which examples each seed gets right.

    Seed is paired with seed, and what has no seeds, (1, n), with every seed of the other.
    """
    pairs = list(zip(*np.broadcast_arrays(first, second), strict=True))
    gain = np.array([one.mean() - other.mean() for one, other in pairs])
    if has_spread(gain):
        return over_seeds(gain)
    lows, highs = zip(*(newcombe(*pair) for pair in pairs), strict=True)
    agree = (gain >= 0).all() or (gain <= 0).all()
    p = max(mcnemar(*pair) for pair in pairs) if agree else 1.0
    return Difference(gain, min(lows), max(highs), p)


paired.rule = (
    f"higher and lower: p < 0.05, from {ENOUGH} seeds on over seeds, by Student's t of the differences, seed by seed; "
    "below that, or where all seeds give the same number, over the examples within each seed, by McNemar's exact test, "
    "where every seed has to show it ([ ]: Newcombe's interval of paired proportions, the hull over seeds; p: the "
    "largest)"
)


def difference(rows: Rows, reference: str, label: str, split: str = "test", metric: str = "accuracy") -> Difference:
    """Row `label` minus row `reference`: over seeds or, of accuracies of too few, over the examples.

    These are compared where the rows tell which ones are right, (split, "right"). Where neither is possible, as of few
    losses, of one time that is repeated or of seeds that can't be paired, the interval is nan and p is 1.
    """
    both = rows[label], rows[reference]
    one, other = (cells[split, metric] for cells in both)
    if len({len(one), len(other)} - {1}) > 1:
        return Difference(np.array([one.mean() - other.mean()]), np.nan, np.nan, 1.0)
    with np.errstate(invalid="ignore"):  # losses of diverged runs
        gain = one - other
    if (abs(gain) < 1e-9).all():
        return Difference(np.zeros(len(gain)), 0.0, 0.0, 1.0)
    if has_spread(gain):
        return over_seeds(gain)
    if metric == "accuracy" and all((split, "right") in cells for cells in both):
        return paired(*(cells[split, "right"] for cells in both))
    return Difference(gain, np.nan, np.nan, 1.0)


def compared(rows: Rows, reference: str, split: str = "test", metric: str = "accuracy") -> dict[str, Difference]:
    """The difference of every other row that has the metric to the reference, p by Holm's method."""
    others = [label for label, cells in rows.items() if label != reference and (split, metric) in cells]
    return holm({label: difference(rows, reference, label, split, metric) for label in others})


compared.rule = f"{paired.rule};\np by Holm's method for the rows that are held against the same one"


def holm(differences: dict[Hashable, Difference]) -> dict[Hashable, Difference]:
    """The same differences with p adjusted for their number (Holm 1979), that of those which could be tested."""
    tested = [key for key, one in differences.items() if np.isfinite(one.low)]
    order = sorted(tested, key=lambda key: differences[key].p)
    adjusted, largest = {}, 0.0
    for rank, key in enumerate(order):
        largest = max(largest, min(1.0, differences[key].p * (len(order) - rank)))
        adjusted[key] = replace(differences[key], p=largest)
    return {key: adjusted.get(key, one) for key, one in differences.items()}


# ---------------------------------------------------------------------------- real or fake


def right_answers(result: Result, y: dict[str, np.ndarray], split: str = "test") -> np.ndarray:
    """Which photos of a split each seed gets right, (seeds, n) bool."""
    return (result[f"logits_{split}"] > 0) == y[split]


def chance(y: np.ndarray) -> float:
    """The accuracy that needs no look at the examples: the share of the larger of two classes, labels (n,) 0 and 1."""
    return float(max(np.mean(y), 1 - np.mean(y)))


def chance_loss(y: np.ndarray) -> float:
    """The cross-entropy (nats) of saying every time how frequent the classes are, ln 2 where they are equal."""
    return float(stats.entropy([np.mean(y), 1 - np.mean(y)]))


def detection_scores(result: Result, y: dict[str, np.ndarray]) -> Cells:
    """The cells of a run that has logits_SPLIT (seeds, n), positive for fake: accuracy, loss (nats), ROC-AUC, seconds.

    (SPLIT, "right") tells which photos each seed gets right, (seeds, n). Where a split has more of one class, also its
    balanced accuracy, the mean of the classes' accuracies. A seed whose logits aren't finite has no ROC-AUC; what is no
    number is not above zero, so called real.
    """
    cells = {}
    for split in SPLITS:
        logits = result[f"logits_{split}"].astype(float)
        right = right_answers(result, y, split)
        cells[split, "right"], cells[split, "accuracy"] = right, right.mean(axis=1)
        if chance(y[split]) > 0.5:
            cells[split, "balanced_accuracy"] = np.mean([right[:, y[split] == c].mean(axis=1) for c in (0, 1)], axis=0)
        with np.errstate(invalid="ignore"):  # of runs that diverged
            cells[split, "loss"] = np.mean(np.logaddexp(0, logits) - y[split] * logits, axis=1)
        finite = [np.isfinite(row).all() for row in logits]
        area = [metrics.roc_auc_score(y[split], row) if f else np.nan for f, row in zip(finite, logits, strict=True)]
        cells[split, "roc_auc"] = np.array(area)
    cells["train", "seconds"] = result["seconds"].astype(float)
    return cells


def probability(logits: np.ndarray) -> np.ndarray:
    """Of being fake; one half where training diverged to something that is no number."""
    return special.expit(np.nan_to_num(logits.astype(float), nan=0.0, posinf=np.inf, neginf=-np.inf))


# ---------------------------------------------------------------------------- choices


def choose(rows: Rows, labels: Iterable[str] = (), split: str = "validation", metric: str = "accuracy", sign: int = 1):
    """The label of the highest mean (of the lowest, where sign is -1); among equals, of the lowest validation loss."""

    def height(label: str) -> tuple[float, float]:
        loss = np.nan_to_num(rows[label].get(("validation", "loss"), np.zeros(1)).mean(), nan=np.inf)
        value = np.nan_to_num(sign * rows[label][split, metric].mean(), nan=-np.inf)  # never chosen
        return round(value, 9), -sign * loss

    return max(list(labels) or rows, key=height)


choose.rule = "best and worst: by mean validation accuracy, among equals by validation loss"


def selection_bias(rows: Rows, labels: Iterable[str] = ()) -> tuple[str, np.ndarray, np.ndarray]:
    """What choosing on the test split would take, and by how much that would flatter the test accuracy.

    Returns the label (among equals, what validation chooses), its gain in test accuracy over that, (seeds,), and the
    gain if each seed chose for itself, (seeds,).
    """
    labels = list(labels) or list(rows)
    chosen = choose(rows, labels)
    taken = max(labels, key=lambda label: (round(rows[label]["test", "accuracy"].mean(), 9), label == chosen))
    test, validation = (
        np.array([rows[label][split, "accuracy"] for label in labels]) for split in ("test", "validation")
    )
    by_seed = test.max(axis=0) - np.take_along_axis(test, validation.argmax(axis=0)[None], axis=0)[0]
    return taken, rows[taken]["test", "accuracy"] - rows[chosen]["test", "accuracy"], by_seed
