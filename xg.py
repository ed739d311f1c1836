"""Section 7.2.1: gradient-boosted trees on raw pixels tell real from fake faces.

    python xg.py                        on the demo set of faces
    python xg.py --data DIR             your photos, see data/README.md
    python xg.py --quick --out /tmp/q   every code path, no results

The photos are in train|val|test, real|fake in each, or in 0_real and 1_fake alone; the demo set is built on first use.

XGBoost with its default settings (learning rate 0.3, 100 rounds) on the 64 x 64 pixels in the centre of the photo
at 224 x 224, then with the learning rates of the CNNs. Writes plots/7.2.1_xgboost.png, plots/README.md (the gallery:
question, figures, numbers and verdicts), plots/xg.csv (final values), plots/xg.seconds.csv, and the curves of every run
in plots/runs/xg.
"""

if __name__ == "__main__":
    import ctrl_c

    ctrl_c.leave_at_once()  # while all of this is imported, which takes seconds

import argparse
import importlib.metadata
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xgboost
from scipy import special, stats
from sklearn import metrics

import engine
import faces
import gallery
import helpers
from engine import Run
from faces import Photos
from helpers import SPLITS, Experiment, Report

VIEW = faces.View(side=224, crop=64)
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
QUICK_RATES = (1e-3, 1e-1)
QUICK_PHOTOS = 16  # per class and split


@dataclass(frozen=True)
class Config:
    learning_rate: float | None = None  # None: XGBoost's default, 0.3
    rounds: int = 100  # XGBoost's default


CONFIGS = {"XGBoost default": Config()} | {f"XGBoost lr {rate:g}": Config(rate) for rate in RATES}


# ---------------------------------------------------------------------------- the baseline


class _Progress(xgboost.callback.TrainingCallback):
    def __init__(self, progress: Callable[[float], None], rounds: int):
        self.progress, self.rounds = progress, rounds

    def after_iteration(self, model, epoch, evals_log):
        self.progress(epoch / self.rounds)
        return False


def table(photos: Photos, split: str) -> np.ndarray:
    """The pixels of a split as columns, (n, 3 * 64 * 64) uint8; one channel where all photos are grey.

    Three equal channels offer every split three times and the first is taken, so that leaving two
    out changes no prediction and takes a third of the time.
    """
    pixels = photos.kept[VIEW]
    grey = all((pixels[s][..., channel] == pixels[s][..., 0]).all() for s in SPLITS for channel in (1, 2))
    return (pixels[split][..., :1] if grey else pixels[split]).reshape(len(pixels[split]), -1)


def batches(photos: Photos, split: str, size: int = 256) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pixels, (size, 3 * 64 * 64) uint8, and labels of a split, without more than a few batches in memory."""
    for pixels, labels in photos.batches(VIEW, split, faces.cut(np.arange(len(photos.y[split])), size)):
        yield pixels.permute(0, 2, 3, 1).reshape(len(labels), -1).numpy(), labels.numpy()


class Pages(xgboost.DataIter):
    """A split in pages of some batches, read from the photo files each time XGBoost asks for them.

    XGBoost keeps the pages' quantiles in a file beside `cache`: 80 MB for each page and a byte for each pixel.
    """

    def __init__(self, photos: Photos, split: str, cache: Path, size: int = 256, batches: int = 16):
        super().__init__(cache_prefix=str(cache))
        self.source, self.batches = (photos, split, size), batches

    def reset(self) -> None:
        self.stream = batches(*self.source)

    def next(self, input_data: Callable) -> bool:
        page = list(itertools.islice(self.stream, self.batches))
        if page:
            pixels, labels = (np.concatenate(parts) for parts in zip(*page, strict=True))
            input_data(data=pixels, label=labels)
        return bool(page)


def values(tables: Iterable[np.ndarray]) -> np.ndarray:
    """What values the columns of some uint8 tables have, (256, columns): in row v the largest up to v, or the smallest.

    These are all that XGBoost needs for its quantiles, at most 256 a column. Searching for them among many photos it
    would take some 300 kB a column, 4 GB in all.
    """
    found = None
    for table in tables:
        if found is None:
            found = np.zeros((table.shape[1], 256), bool)
        found[np.arange(len(found)), table] = True
    largest = np.maximum.accumulate(np.where(found, np.arange(256), -1), axis=1)
    return np.where(largest < 0, found.argmax(axis=1)[:, None], largest).astype(np.uint8).T


def matrices(photos: Photos, cache: Path) -> dict[str, xgboost.DMatrix]:
    """XGBoost's quantiles of the pixels of each split, in memory if the photos are and in the folder `cache` if not."""
    if VIEW in photos.kept:
        make = xgboost.QuantileDMatrix
        sources = {split: {"data": table(photos, split), "label": photos.y[split]} for split in SPLITS}
        known = values(faces.cut(sources["train"]["data"], 256))
    else:
        make = xgboost.ExtMemQuantileDMatrix
        sources = {split: {"data": Pages(photos, split, cache / split)} for split in SPLITS}
        known = values(pixels for pixels, _ in batches(photos, "train"))
    train = make(**sources["train"], ref=xgboost.QuantileDMatrix(known, nthread=1), nthread=1)
    return {split: train if split == "train" else make(**sources[split], ref=train, nthread=1) for split in SPLITS}


def train(config: Config, photos: Photos, progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Boost trees on the train photos.

    Returns, for each split: logits_SPLIT (n,), positive for fake; loss_SPLIT (rounds,), the mean cross-entropy
    in nats after every round. And seconds, the wall time of the training.
    """
    with tempfile.TemporaryDirectory() as cache:
        return boost(config, matrices(photos, Path(cache)), progress)


def boost(config: Config, data: dict[str, xgboost.DMatrix], progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """See train."""
    settings = xgboost.XGBClassifier(
        learning_rate=config.learning_rate,
        objective="binary:logistic",
        eval_metric="logloss",
        n_jobs=1,
        max_cached_hist_node=16,  # the same trees as with the default of 65,536 in half the memory
    ).get_xgb_params()
    start, curves = time.perf_counter(), {}
    model = xgboost.train(
        settings,
        data["train"],
        config.rounds,
        evals=[(matrix, split) for split, matrix in data.items()],
        evals_result=curves,
        verbose_eval=False,
        callbacks=[_Progress(progress, config.rounds)],
    )
    arrays = {"seconds": np.array(time.perf_counter() - start)}
    for split, matrix in data.items():
        arrays[f"loss_{split}"] = np.array(curves[split]["logloss"])
        arrays[f"logits_{split}"] = model.predict(matrix, output_margin=True)
    return arrays


def finish(photos: Photos, arguments: argparse.Namespace) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """{label: arrays} of all configurations, kept in OUT/runs/xg, and the labels of those that failed."""
    configs = CONFIGS
    if arguments.quick:
        rates = (None, *QUICK_RATES)
        configs = {k: replace(c, rounds=5) for k, c in CONFIGS.items() if c.learning_rate in rates}
    code = (table, batches, Pages, values, matrices, boost)
    runs = [Run(label.replace(" ", "-"), train, config, 1.0, code) for label, config in configs.items()]
    context = {"photos": photos.fingerprint, "xgboost": importlib.metadata.version("xgboost")}
    folder = arguments.out / "runs" / "xg"
    how = arguments.jobs, arguments.fresh, arguments.redraw, arguments.cluster
    finished = engine.finish_runs(runs, (photos,), context, folder, *how)
    names = dict(zip(configs, (run.name for run in runs), strict=True))
    done = {label: finished[name] for label, name in names.items() if name in finished}
    return done, [label for label in names if label not in done]


# ---------------------------------------------------------------------------- what the numbers say


def score(runs: list[dict[str, np.ndarray]], y: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """{(split, metric): one value per run} from the runs' logits; a run whose logits aren't finite has no ROC-AUC."""
    cells = {}
    for split in SPLITS:
        logits = np.stack([run[f"logits_{split}"].astype(float) for run in runs])
        cells[split, "accuracy"] = ((logits > 0) == y[split]).mean(axis=1)
        with np.errstate(invalid="ignore"):  # of runs that diverged
            cells[split, "loss"] = np.mean(np.logaddexp(0, logits) - y[split] * logits, axis=1)
        cells[split, "roc_auc"] = np.array(
            [metrics.roc_auc_score(y[split], row) if np.isfinite(row).all() else np.nan for row in logits]
        )
    cells["train", "seconds"] = np.array([float(run["seconds"]) for run in runs])
    return cells


def choose(rows: dict[str, dict[tuple[str, str], np.ndarray]]) -> str:
    """The label of the highest mean validation accuracy; among equals, of the lowest validation loss."""
    return max(
        rows,
        key=lambda label: (
            round(rows[label]["validation", "accuracy"].mean(), 9),
            -np.nan_to_num(rows[label]["validation", "loss"].mean(), nan=np.inf),
        ),
    )


def probability(logits: np.ndarray) -> np.ndarray:
    """Of being fake; one half where training diverged to something that is no number."""
    return special.expit(np.nan_to_num(logits.astype(float), nan=0.0, posinf=np.inf, neginf=-np.inf))


# ---------------------------------------------------------------------------- better than


@dataclass(frozen=True)
class Difference:
    """Two classifiers on the same test photos.

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
    """Two-sided p of McNemar's exact test: are the photos that only one model gets right a fair coin's?

    first and second: (n,) bool, whether each model is right. 1.0 where they differ on no photo.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    both = only_first + only_second
    return float(stats.binomtest(only_first, both, 0.5).pvalue) if both else 1.0


def newcombe(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95% interval of the difference of two accuracies on the same photos; first and second as in mcnemar.

    Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data,
    Statistics in Medicine 17 (1998), method 10: two Wilson intervals, squared and added with their correlation.
    """
    n = len(first)
    shares = np.array([first.mean(), second.mean()])
    (low1, high1), (low2, high2) = (helpers.wilson(share, n) for share in shares)
    excess = n * (first & second).sum() - first.sum() * second.sum()  # a d - b c of the fourfold table
    scale = np.sqrt(np.prod(n * shares) * np.prod(n - n * shares))
    correlation = (max(excess - n / 2, 0) if excess > 0 else excess) / scale if scale else 0.0

    def reach(one: float, other: float) -> float:
        return np.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0))

    gain = shares[0] - shares[1]
    low = gain - reach(shares[0] - low1, high2 - shares[1])
    return float(low), float(gain + reach(high1 - shares[0], shares[1] - low2))


def paired(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]], y: np.ndarray) -> Difference:
    """Compare two lists of finished runs, one per seed, on the test photos with labels y.

    Seed is paired with seed, and what has no seeds with every seed of the other.
    """
    right = [[(run["logits_test"] > 0) == y for run in runs] for runs in (first, second)]
    seeds = range(max(map(len, right)))
    pairs = [[results[seed % len(results)] for results in right] for seed in seeds]
    gain = np.array([one.mean() - other.mean() for one, other in pairs])
    lows, highs = zip(*(newcombe(*pair) for pair in pairs), strict=True)
    agree = (gain >= 0).all() or (gain <= 0).all()
    return Difference(gain, min(lows), max(highs), max(mcnemar(*pair) for pair in pairs) if agree else 1.0)


def holm(differences: dict) -> dict:
    """The same differences with p adjusted for their number (Holm 1979)."""
    order = sorted(differences, key=lambda key: differences[key].p)
    adjusted, largest = {}, 0.0
    for rank, key in enumerate(order):
        largest = max(largest, min(1.0, differences[key].p * (len(order) - rank)))
        adjusted[key] = replace(differences[key], p=largest)
    return {key: adjusted[key] for key in differences}


def against(others: dict[str, Difference]) -> str:
    """Say which of the others, {name: difference to it}, is worse or better or can't be told apart."""
    groups: dict[str, list[str]] = {"better than": [], "worse than": [], "no difference shown to": []}
    for other, difference in others.items():
        sign = "better than" if difference.gain.mean() > 0 else "worse than"
        groups[sign if difference.shown else "no difference shown to"].append(f"{other} ({difference})")
    return "; ".join(f"{words} {', '.join(found)}" for words, found in groups.items() if found)


TEST_RULE = (
    "better and worse: p < 0.05 of McNemar's exact test on the test photos, by Holm's method for the number of pairs; "
    "[ ] after a difference: Newcombe's 95% interval of paired proportions, for each pair alone; over seeds the hull "
    "of the intervals and the largest p"
)


# ---------------------------------------------------------------------------- learning rates


def rate_name(label: str) -> str:
    """The learning rate in the label of a run: `lr 0.001`, `default` or `none`."""
    return label[label.index("lr ") :] if "lr " in label else "default" if label == "XGBoost default" else "none"


def rate_verdicts(name: str, results: dict[str, list[dict[str, np.ndarray]]], rows: dict, y: np.ndarray) -> list[str]:
    """What choosing the learning rate did to a baseline: the chosen one against the others, validation against test.

    results: {label: runs, one per seed}; rows: {label: scores}; y: the labels of the test photos.
    """
    best, number = choose(rows), {label: i for i, label in enumerate(rows, 1)}
    others = {label: paired(results[best], results[label], y) for label in rows if label != best}
    named = {f"{rate_name(label)}, row {number[label]}": difference for label, difference in holm(others).items()}
    accuracy = rows[best]["validation", "accuracy"].mean()
    top = f"{name}: validation chooses {rate_name(best)} (row {number[best]}) with accuracy {accuracy:.3f}."
    other, gain = flattery(rows)
    taken = "the same" if other == best else f"{rate_name(other)} (row {number[other]})"
    return [
        f"{top} On the test photos: {against(named)}.",
        f"{name}: choosing the learning rate on the test photos would have taken {taken} and flattered the test "
        f"accuracy by {gain.mean():.3f}.",
    ]


def flattery(rows: dict[str, dict[tuple[str, str], np.ndarray]]) -> tuple[str, np.ndarray]:
    """The label that choosing on the test photos would take, and its gain in test accuracy, (seeds,).

    The gain is over what validation chooses; among equals on test, that is taken too.
    """
    chosen = choose(rows)
    best = max(rows, key=lambda label: (round(rows[label]["test", "accuracy"].mean(), 9), label == chosen))
    return best, rows[best]["test", "accuracy"] - rows[chosen]["test", "accuracy"]


def accuracy_against_rate(ax, rates, rows: list[dict[tuple[str, str], np.ndarray]], chosen: float) -> None:
    """One line per split over the learning rates; bars from the smallest to the largest of several seeds."""
    ax.axvline(chosen, color="0.88", linewidth=14, zorder=0)
    several = any(len(row["test", "accuracy"]) > 1 for row in rows)
    for split in SPLITS:
        values = [row[split, "accuracy"] for row in rows]
        means = np.array([value.mean() for value in values])
        spread = [means - [value.min() for value in values], [value.max() for value in values] - means]
        ax.errorbar(rates, means, yerr=spread if several else None, capsize=3, label=split, **helpers.LOOK[split])
    chance_line(ax, 0.5)
    ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy", ylim=(0.38, 1.02))
    ax.set_title("Accuracy after training (grey: chosen on validation)")


def chance_line(ax, level: float) -> None:
    """A thin line that the legend names."""
    ax.axhline(level, color="0.5", linewidth=1, zorder=1, label="chance")


# ---------------------------------------------------------------------------- the experiment


def report_xgboost(results: dict[str, dict[str, np.ndarray]], study: tuple[Photos, Path]) -> Report:
    """How well do boosted trees tell real from fake faces when all they get is raw pixels?

    Varied: the learning rate, XGBoost's default of 0.3 and the five of the networks; 100 rounds and one run each, on
    the centre 64 x 64 of the photos at 224 x 224, a twelfth of the area that the networks see.
    Look for: train accuracy far above validation and test, and a validation loss that rises while the train loss falls.
    """
    photos, out = study
    rows = {label: score([arrays], photos.y) for label, arrays in results.items()}
    best, default = choose(rows), "XGBoost default"
    count = len(photos.y["test"])
    accuracy = {label: row["test", "accuracy"][0] for label, row in rows.items()}
    low, high = helpers.wilson(accuracy[best], count)
    headline = (
        f"XGBoost on raw pixels: test accuracy {accuracy[best]:.3f} [{low:.3f}, {high:.3f}] "
        f"at the learning rate that validation chose ({rate_name(best)})"
    )
    validated = helpers.wilson(rows[best]["validation", "accuracy"][0], len(photos.y["validation"]))
    draw_xgboost(headline, results, rows, validated, out)
    train_accuracy, validation = (rows[default][split, "accuracy"][0] for split in ("train", "validation"))
    over_fits = train_accuracy > helpers.wilson(validation, len(photos.y["validation"]))[1]
    number = {label: i for i, label in enumerate(rows, 1)}
    verdicts = [
        f"Default settings (row {number[default]}): test accuracy {accuracy[default]:.3f}; "
        f"{'it over-fits, ' if over_fits else ''}train is {train_accuracy - validation:+.3f} above validation.",
        f"Row {number[best]}, which validation chooses, is at test accuracy {accuracy[best]:.3f} "
        f"{'above' if low > 0.5 else 'below' if high < 0.5 else 'not distinguishable from'} chance "
        f"(95% interval {low:.3f} to {high:.3f}).",
        *rate_verdicts("XGBoost", {label: [arrays] for label, arrays in results.items()}, rows, photos.y["test"]),
    ]
    rule = (
        f"learning rate by validation accuracy, ties by validation loss; Wilson intervals over {count} test photos; "
        f"over-fits: train accuracy above validation's interval; {TEST_RULE}"
    )
    return Report(rows, headline, verdicts, rule, {split: len(y) for split, y in photos.y.items()})


def draw_xgboost(headline: str, results: dict, rows: dict, validated: tuple[float, float], out: Path) -> None:
    """7.2.1_xgboost.png: accuracy against the learning rate, and the loss of the default settings.

    validated: 95% interval of the validation accuracy of the chosen rate.
    """
    fig, axes = helpers.figure(headline, 1, 2, (12, 4.8))
    rated = sorted((CONFIGS[label].learning_rate or 0.3, label) for label in rows)  # 0.3 is XGBoost's default
    chosen = CONFIGS[choose(rows)].learning_rate or 0.3
    accuracy_against_rate(axes[0, 0], [rate for rate, _ in rated], [rows[label] for _, label in rated], chosen)
    axes[0, 0].annotate(
        "default", (0.3, 0.0), xycoords=axes[0, 0].get_xaxis_transform(), xytext=(0, 4), textcoords="offset points",
        ha="center", fontsize="small", color="0.35",
    )  # fmt: skip
    for split in SPLITS:
        look = {**helpers.LOOK[split], "marker": None}
        curve = results["XGBoost default"][f"loss_{split}"]
        axes[0, 1].plot(np.arange(1, len(curve) + 1), curve, label=split, **look)
    chance_line(axes[0, 1], np.log(2))
    axes[0, 1].set(
        xlabel="boosting round", ylabel="cross-entropy (nats)", title="Loss with default settings (learning rate 0.3)"
    )
    axes[0, 1].set_ylim(bottom=0)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    (low, high), share = validated, rows[choose(rows)]["validation", "accuracy"][0]
    note = (
        "XGBoost on the centre 64 x 64 of photos at 224 x 224. Nothing is drawn at random: one run each.\n"
        f"[ ] 95% Wilson interval. Validation chose {rate_name(choose(rows))} with {share:.3f} "
        f"[{low:.3f}, {high:.3f}], which {'holds chance' if low <= 0.5 <= high else 'leaves out chance'}."
    )
    helpers.save_figure(fig, out / "7.2.1_xgboost.png", note)


EXPERIMENTS = [
    Experiment(
        "7.2.1", "xgboost", "XGBoost on raw pixels, default settings and five learning rates", CONFIGS, report_xgboost
    )
]


def photo_options(parser: argparse.ArgumentParser) -> None:
    """What both scripts of section 7 add to the shared command line."""
    parser.set_defaults(data=None, seeds=1)
    parser.add_argument(
        "--memory",
        type=gibibytes,
        default=4.0,
        metavar="GIB",
        help="stream photos that need more (default: %(default)s)",
    )


def gibibytes(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return number


gibibytes.__name__ = "number"  # argparse puts it into its message


def main(argv: list[str] | None = None) -> None:
    arguments = helpers.parse_arguments(__doc__, EXPERIMENTS, argv, photo_options)
    gallery.check_out(arguments.out, "xg")
    folder = arguments.data or faces.demo_faces()
    photos = faces.load_photos(folder, [VIEW], arguments.memory, QUICK_PHOTOS if arguments.quick else None)
    results, failed = finish(photos, arguments)
    with gallery.writing(arguments.out):
        reports = {} if failed else {"7.2.1": EXPERIMENTS[0].report(results, (photos, arguments.out))}
        for found in reports.values():
            found.made_in = gallery.made_in(results.values())
            print(gallery.brief(EXPERIMENTS[0], found), flush=True)
        gallery.save_reports(arguments, "xg", reports, {"7.2.1": failed} if failed and not arguments.redraw else {})


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
