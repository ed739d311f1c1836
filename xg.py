"""Section 7.2.1: gradient-boosted trees on raw pixels tell real from fake faces.

    python xg.py                        on the demo set of faces
    python xg.py --data DIR             your photos, see data/README.md
    python xg.py --quick                every code path, into quick/

Boosting adds up trees. A tree asks up to six questions in a row, such as "is pixel 1,234 darker than 80?", and gives a
number; each round grows one that corrects what all trees before it still get wrong, and adds the learning rate times
its answer to the photo's logit. A pixel is a column of a table: a tree doesn't know which pixels are neighbours, nor
that what is seen in one place may be seen in another: what a convolution starts from.

`boost` grows the trees, `xgboost_on_pixels` reports. The result is in plots/README.md, all numbers in plots/xg.csv,
times in plots/xg.seconds.csv, and the curves of every run in plots/runs/xg.
"""

import lab.run.interrupt  # noqa: F401, I001  (first: Ctrl-C and errors end in one line even while the rest is imported)

import argparse
import importlib.metadata
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import xgboost

import helpers
from helpers import SPLITS, Photos, Runs, Work, experiment
from lab.data.photos import View
from lab.draw import accuracies, curves
from lab.gallery.photos_report import PhotosReport, ends, present
from lab.nets.xgb_matrices import matrices
from lab.run.command_line import gibibytes
from lab.run.progress import Reached
from lab.run.runs import Run
from lab.study import Measured
from lab.tell import phrases

VIEW = View(side=224, crop=64)  # the 64 x 64 pixels in the centre of the photo at 224 x 224
DEFAULT_RATE = 0.3  # XGBoost's
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
QUICK_RATES = (1e-3, 1e-1)
QUICK_PHOTOS = 16  # per class and split


@dataclass(frozen=True)
class Config:
    """One run, as nothing is drawn at random; the defaults are XGBoost's."""

    learning_rate: float | None = None  # None: XGBoost's default
    rounds: int = 100  # trees
    max_depth: int = 6  # questions in a row

    view = VIEW
    needs = None  # no other run

    def budget(self, arguments: argparse.Namespace) -> "Config | None":
        """The same, with --quick five rounds at fewer learning rates."""
        if not arguments.quick:
            return self
        return replace(self, rounds=5) if self.learning_rate in (None, *QUICK_RATES) else None

    def work(self, name: str, photos: Photos, arguments: argparse.Namespace, given: None) -> Work:
        """Its run, kept in OUT/runs/xg, where both scripts find it."""
        count = sum(len(y) for y in photos.y.values())
        memory = min(0.8 + 7e-5 * count, 4.0)  # GiB, as measured; what needs more comes in pages
        run = Run(f"XGBoost-{rate_name(self).replace(' ', '-')}", train, self, memory=memory)
        context = {"photos": photos.fingerprint, "xgboost": importlib.metadata.version("xgboost")}
        streamed = VIEW not in photos.kept  # XGBoost ends its process where there is no room for its pages
        return Work([run], (photos,), context, script="xg", apart=streamed)


def rate_name(config: Config) -> str:
    return phrases.rate_name(config.learning_rate, "default")


class Progress(xgboost.callback.TrainingCallback):
    def __init__(self, progress: Callable[[float], None], rounds: int):
        self.progress, self.rounds = progress, rounds

    def after_iteration(self, model, epoch, evals_log):
        self.progress(Reached(epoch / self.rounds, epoch + 1, evals_log["validation"]["logloss"][-1]))
        return False


def train(config: Config, photos: Photos, progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Boost trees on the train photos.

    Returns, for each split: logits_SPLIT (n,), positive for fake; loss_SPLIT (rounds,), the mean cross-entropy in nats
    after every round. And seconds, the wall time of the training.
    """
    with tempfile.TemporaryDirectory() as cache:
        # A call of its own, which closes the pages before their folder goes.
        return boost(config, matrices(photos, VIEW, Path(cache)), progress)


def boost(config: Config, data: dict[str, xgboost.DMatrix], progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """See `train`; data: pixels and labels of each split."""
    settings = xgboost.XGBClassifier(
        learning_rate=config.learning_rate,
        max_depth=config.max_depth,
        objective="binary:logistic",
        eval_metric="logloss",
        n_jobs=1,
        max_cached_hist_node=16,  # the same trees as with the default of 65,536 in half the memory
    ).get_xgb_params()
    start, losses = time.perf_counter(), {}
    model = xgboost.train(
        settings,
        data["train"],
        config.rounds,
        evals=[(matrix, split) for split, matrix in data.items()],
        evals_result=losses,
        verbose_eval=False,
        callbacks=[Progress(progress, config.rounds)],
    )
    arrays = {"seconds": np.array(time.perf_counter() - start)}
    for split, matrix in data.items():
        arrays[f"loss_{split}"] = np.array(losses[split]["logloss"])
        arrays[f"logits_{split}"] = model.predict(matrix, output_margin=True)
    return arrays


# ---------------------------------------------------------------------------- 7.2.1

DEFAULT = "XGBoost default"
AT_RATES = {f"XGBoost lr {rate:g}": Config(rate) for rate in RATES}
CONFIGS = {DEFAULT: Config()} | AT_RATES


@experiment("7.2.1", "xgboost", "XGBoost on raw pixels, default settings and five learning rates", CONFIGS)
def xgboost_on_pixels(runs: Runs, report: PhotosReport) -> None:
    """How well do boosted trees tell real from fake faces when all they get is raw pixels?

    Varied: the learning rate, XGBoost's default of 0.3 and the five of the networks; 100 rounds and one run each, on
    the centre 64 x 64 of the photos at 224 x 224, a twelfth of the area that the networks see.
    """
    report.table(runs)
    best, default, tested = report.reference, runs[DEFAULT], report.of(report.reference)
    slowest, _ = ends(present(runs, AT_RATES))
    loss, fitted = default["loss_validation"][0], report.of(DEFAULT, split="train")
    report.why(
        f"With default settings the trees over-fit: they come to be right on {fitted:.1%} of the train photos, and the "
        f"validation loss, {loss.min():.3f} at its lowest, rises to {loss[-1]:.3f}.",
        holds=phrases.over_fits(default["loss_train"], default["loss_validation"]),
    )
    report.rule(phrases.over_fits)
    spread = Measured(logit_spread(runs[slowest]), f"largest difference of two logits of {slowest}")
    report.why(
        f"At {runs[slowest].config.learning_rate:g}, {default.config.rounds} rounds change next to nothing: all photos "
        f"start from the same logit, and end within {spread:.2g} of each other.",
        holds=spread < 0.1,
    )
    report.why(
        f"Not all of it is learnt by heart: {best} is right on {tested:.3f} of the test photos, more than chance.",
        holds=report.above_chance(best),
    )
    draw_xgboost(runs, report)


def logit_spread(result: helpers.Result) -> float:
    """How far the logits of all photos lie apart."""
    return float(np.ptp(np.concatenate([result[f"logits_{split}"][0] for split in SPLITS])))


def draw_xgboost(runs: Runs, report: PhotosReport) -> None:
    """Accuracy against the learning rate, and the losses of the default settings."""
    note = "XGBoost on the centre 64 x 64 of photos at 224 x 224. Nothing is drawn at random: one run each."
    left, right = report.figure("7.2.1_xgboost", report.chosen, note, columns=2, size=(12, 4.8))
    rates = {label: result.config.learning_rate or DEFAULT_RATE for label, result in runs.items()}
    accuracies.accuracy_against_rate(left, report.rows, rates, report.reference, report.chance["test"])
    accuracies.note_below(left, DEFAULT_RATE, "default")
    curves.rounds(right, runs[DEFAULT], report.chance_loss)
    right.set(title=f"Loss with default settings (learning rate {DEFAULT_RATE})")
    curves.figure_legend(left)


# ---------------------------------------------------------------------------- the study


def photo_options(parser: argparse.ArgumentParser) -> None:
    """What both scripts of section 7 add to the shared command line."""
    parser.set_defaults(data=None, seeds=1)
    help_text = "stream photos that need more (default: %(default)s)"
    parser.add_argument("--memory", type=gibibytes, default=4.0, metavar="GIB", help=help_text)


def main(argv: list[str] | None = None) -> None:
    arguments = helpers.start("xg", __doc__, helpers.experiments_in(globals()), argv, photo_options)
    folder, most = arguments.data or helpers.demo_faces(), QUICK_PHOTOS if arguments.quick else None
    photos = helpers.load_photos(folder, [VIEW], arguments.memory, most)
    helpers.say_what_was_read(photos, folder, arguments)
    helpers.run_study(photos, arguments, partial(PhotosReport, photos, arguments))


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
