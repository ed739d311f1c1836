"""Section 7.2.1: tell real from fake faces with gradient-boosted trees on raw pixels.

    python xg.py                    the demo set of faces, built on first use
    python xg.py --data DIR         train|val|test x real|fake, or 0_real and 1_fake alone

XGBoost with its default settings (learning rate 0.3, 100 rounds) on the 64 x 64 pixels in the centre of the photo
at 224 x 224, then with the learning rates of the CNNs. Writes plots/7.2.1_xgboost.png, plots/xg.csv (final values),
plots/xg.seconds.csv, plots/xg.md (table and verdicts) and the curves of every run in plots/runs/xg.
"""

import argparse
import functools
import importlib.metadata
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xgboost
from scipy import special
from sklearn import metrics

import helpers
from helpers import SPLITS, Experiment, Photos, Report, Run

VIEW = helpers.View(side=224, crop=64)
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


class Pages(xgboost.DataIter):
    """The pixels of a split, read from the photo files page by page each time XGBoost asks for them.

    XGBoost keeps each page's quantiles in a file beside `cache`, so that neither has to fit in memory. A page adds
    25 MB to them, whatever its size.
    """

    def __init__(self, photos: Photos, split: str, cache: Path, batch: int = 256, batches: int = 16):
        super().__init__(cache_prefix=str(cache))
        self.photos, self.split, self.batch, self.batches = photos, split, batch, batches

    def reset(self) -> None:
        parts = helpers.cut(np.arange(len(self.photos.y[self.split])), self.batch)
        self.stream = self.photos.batches(VIEW, self.split, parts)

    def next(self, input_data: Callable) -> bool:
        page = list(itertools.islice(self.stream, self.batches))
        if page:
            pixels = np.concatenate([photos.permute(0, 2, 3, 1).numpy() for photos, _ in page])
            input_data(data=pixels.reshape(len(pixels), -1), label=np.concatenate([labels for _, labels in page]))
        return bool(page)


def matrices(photos: Photos, cache: Path) -> dict[str, xgboost.DMatrix]:
    """XGBoost's quantiles of the pixels of each split, in memory if the photos are and in the folder `cache` if not."""
    if VIEW in photos.kept:
        make = functools.partial(xgboost.QuantileDMatrix, nthread=1)
        sources = {split: {"data": table(photos, split), "label": photos.y[split]} for split in SPLITS}
    else:
        make = functools.partial(xgboost.ExtMemQuantileDMatrix, nthread=1)
        sources = {split: {"data": Pages(photos, split, cache / split)} for split in SPLITS}
    train = make(**sources["train"])
    return {split: train if split == "train" else make(**sources[split], ref=train) for split in SPLITS}


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
    code = (table, Pages, matrices, boost)
    runs = [Run(label.replace(" ", "-"), train, config, 1.0, code) for label, config in configs.items()]
    context = {"photos": photos.fingerprint, "xgboost": importlib.metadata.version("xgboost")}
    folder = arguments.out / "runs" / "xg"
    finished = helpers.finish_runs(runs, (photos,), context, folder, arguments.jobs, arguments.fresh)
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


def accuracy_against_rate(ax, rates, rows: list[dict[tuple[str, str], np.ndarray]]) -> None:
    """One line per split over the learning rates, with the smallest and largest of the seeds."""
    for split in SPLITS:
        values = [row[split, "accuracy"] for row in rows]
        means = np.array([value.mean() for value in values])
        spread = [means - [value.min() for value in values], [value.max() for value in values] - means]
        ax.errorbar(rates, means, yerr=spread, capsize=3, label=split, **helpers.LOOK[split])
    ax.axhline(0.5, color="0.5", linewidth=1)
    ax.annotate("chance", (rates[0], 0.5), (0, -10), textcoords="offset points", color="0.35", fontsize="small")
    ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy", ylim=(0.4, 1.02))


def report(results: dict[str, dict[str, np.ndarray]], study: tuple[Photos, Path]) -> Report:
    """Draw 7.2.1_xgboost.png and say what the learning rate does."""
    photos, out = study
    rows = {label: score([arrays], photos.y) for label, arrays in results.items()}
    best, default = choose(rows), "XGBoost default"
    count = len(photos.y["test"])
    accuracy = {label: row["test", "accuracy"][0] for label, row in rows.items()}
    low, high = helpers.wilson(accuracy[best], count)
    headline = (
        f"XGBoost on raw pixels: test accuracy {accuracy[best]:.3f} [{low:.3f}, {high:.3f}] "
        f"at the learning rate that validation chose ({best.removeprefix('XGBoost ')})"
    )
    fig, axes = helpers.figure(headline, 1, 2, (11, 4.6))
    rates = [CONFIGS[label].learning_rate or 0.3 for label in rows]
    order = np.argsort(rates)
    labels = [list(rows)[i] for i in order]
    accuracy_against_rate(axes[0, 0], [rates[i] for i in order], [rows[label] for label in labels])
    axes[0, 0].set_title("Accuracy (the default learning rate is 0.3)")
    for split in SPLITS:
        look = {**helpers.LOOK[split], "marker": None}
        rounds = np.arange(1, len(results[default][f"loss_{split}"]) + 1)
        axes[0, 1].plot(rounds, results[default][f"loss_{split}"], label=split, **look)
    axes[0, 1].set(xlabel="boosting round", ylabel="cross-entropy (nats)", title="Loss with default settings")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    helpers.save_figure(
        fig,
        out / "7.2.1_xgboost.png",
        f"XGBoost on the centre 64 x 64 of photos at 224 x 224. Nothing is drawn at random: one run each. "
        f"Test: {count} photos, [ ] 95% Wilson interval.",
    )
    gap = rows[default]["train", "accuracy"][0] - rows[default]["validation", "accuracy"][0]
    number = {label: i for i, label in enumerate(rows, 1)}
    verdicts = [
        f"Default settings (row {number[default]}): test accuracy {accuracy[default]:.3f}; "
        f"{'it over-fits, ' if gap > 0.1 else ''}train is {gap:+.3f} above validation.",
        f"Validation chooses row {number[best]}; its test accuracy {accuracy[best]:.3f} is "
        f"{'above' if low > 0.5 else 'not distinguishable from'} chance (95% interval {low:.3f} to {high:.3f}).",
    ]
    rule = f"learning rate by validation accuracy, ties by validation loss; Wilson intervals over {count} test photos"
    return Report(rows, headline, verdicts, rule, {split: len(y) for split, y in photos.y.items()})


EXPERIMENTS = [
    Experiment("7.2.1", "xgboost", "XGBoost on raw pixels, default settings and five learning rates", CONFIGS, report)
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
    helpers.check_out(arguments.out, "xg")
    folder = arguments.data or helpers.demo_faces()
    photos = helpers.load_photos(folder, [VIEW], arguments.memory, QUICK_PHOTOS if arguments.quick else None)
    results, failed = finish(photos, arguments)
    reports = {} if failed else {"7.2.1": EXPERIMENTS[0].report(results, (photos, arguments.out))}
    for found in reports.values():
        print(f"\n7.2.1 xgboost: {helpers.describe(found)}", flush=True)
    helpers.save_reports(arguments.out, "xg", EXPERIMENTS, reports, {"7.2.1": failed} if failed else {})
    print(f"\n7.2.1_xgboost.png, xg.csv, xg.seconds.csv and xg.md are in {arguments.out}.")


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
