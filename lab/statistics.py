"""Intervals, tests and choices. All of it works on numbers: nothing here knows what was trained.

Two ways to compare: over seeds (paired t, section 6) and over the examples of the test split within each seed (McNemar,
section 7).
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats
from sklearn import metrics

from lab.results import SPLITS, Cells, Result, Rows

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


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n; the share may be a mean over seeds."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def show(values: np.ndarray, examples: int = 0, digits: int = 4) -> str:
    """`mean ± half of the 95% interval` over seeds; of one or two accuracies on `examples`, over those.

    Student's t of two seeds may reach beyond what is possible, so that other numbers of one or two stand alone.
    """
    mean, half = interval(values)
    if len(values) < 3:
        low, high = wilson(mean, examples) if examples else (np.nan, np.nan)
        half = (high - low) / 2
    size = np.ceil(np.log10(abs(mean))) if np.isfinite(mean) and mean else 0  # 1 looks like the accuracies below it
    form = ".1e" if 0 < abs(mean) < 1e-3 else f",.{int(np.clip(digits - size, 0, digits))}f"
    return f"{mean:{form}}" + (f" ± {half:{form}}" if np.isfinite(half) else "")


# ---------------------------------------------------------------------------- over seeds

UNCLEAR = "no difference shown"


def compare(a: np.ndarray, b: np.ndarray) -> tuple[str, str]:
    """By the rule, higher | lower | the same | no difference shown; and the mean of b - a with its 95% interval.

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


compare.rule = (
    "higher or lower: Student's 95% interval of the difference, seed by seed (paired t), lies on one side of 0, "
    f"whatever the number of comparisons; {UNCLEAR}: it holds 0, or there is only one seed"
)


# ---------------------------------------------------------------------------- over examples


@dataclass(frozen=True)
class Difference:
    """Two classifiers on the same test examples.

    gain: (seeds,) accuracy of the first minus the second's; low, high: its 95% interval; p: of no difference.
    Over seeds: the hull of the intervals and the largest p, so that every seed shows what is said to be shown;
    p is 1 where seeds disagree on which one is better.
    """

    gain: np.ndarray
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.gain.mean():+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p:.2g}"

    def __neg__(self) -> "Difference":
        return Difference(-self.gain, -self.high, -self.low, self.p)

    @property
    def shown(self) -> bool:
        return self.p < 0.05


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


def paired(first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of two classifiers, (seeds, n) bool each: which test examples each seed gets right.

    Seed is paired with seed, and what has no seeds, (1, n), with every seed of the other.
    """
    pairs = list(zip(*np.broadcast_arrays(first, second), strict=True))
    gain = np.array([one.mean() - other.mean() for one, other in pairs])
    lows, highs = zip(*(newcombe(*pair) for pair in pairs), strict=True)
    agree = (gain >= 0).all() or (gain <= 0).all()
    return Difference(gain, min(lows), max(highs), max(mcnemar(*pair) for pair in pairs) if agree else 1.0)


def holm(differences: dict[Hashable, Difference]) -> dict[Hashable, Difference]:
    """The same differences with p adjusted for their number (Holm 1979)."""
    order = sorted(differences, key=lambda key: differences[key].p)
    adjusted, largest = {}, 0.0
    for rank, key in enumerate(order):
        largest = max(largest, min(1.0, differences[key].p * (len(order) - rank)))
        adjusted[key] = replace(differences[key], p=largest)
    return {key: adjusted[key] for key in differences}


paired.rule = (
    "better and worse: p < 0.05 of McNemar's exact test on the test photos, by Holm's method for the number of pairs; "
    "[ ] after a difference: Newcombe's 95% interval of paired proportions, for each pair alone; over seeds the hull "
    "of the intervals and the largest p"
)

# ---------------------------------------------------------------------------- real or fake


def detection_scores(result: Result, y: dict[str, np.ndarray]) -> Cells:
    """The cells of a run that has logits_SPLIT (seeds, n), positive for fake: accuracy, loss (nats), ROC-AUC, seconds.

    A seed whose logits aren't finite has no ROC-AUC; what is no number is not above zero, so called real.
    """
    cells = {}
    for split in SPLITS:
        logits = result[f"logits_{split}"].astype(float)
        cells[split, "accuracy"] = ((logits > 0) == y[split]).mean(axis=1)
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
        return round(sign * rows[label][split, metric].mean(), 9), -sign * loss

    return max(list(labels) or rows, key=height)


def best(
    rows: Rows, labels: Iterable[str] = (), split: str = "validation", metric: str = "accuracy", sign: int = 1
) -> list[str]:
    """What `choose` gives, then the labels that show no difference to it over seeds."""
    first = choose(rows, labels := list(labels) or list(rows), split, metric, sign)
    words = {label: compare(rows[first][split, metric], rows[label][split, metric])[0] for label in labels}
    return [first, *(label for label in labels if label != first and words[label] in (UNCLEAR, "the same"))]


best.rule = "best and worst: by mean validation accuracy, named with those that show no difference to them"


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
