"""Section 7.2.1: gradient-boosted trees on raw pixels tell real from fake faces.

    python xg.py                        on the demo set of faces
    python xg.py --data DIR             your photos, see data/README.md
    python xg.py --quick                every code path, into quick/

The photos are in train|val|test, real|fake in each, or in 0_real and 1_fake alone; the demo set is built on first use.

Boosting adds up trees. A tree asks up to six questions in a row, such as "is pixel 1,234 darker than 80?", and gives a
number; each round grows one that corrects what all trees before it still get wrong, and adds the learning rate times
its answer to the photo's logit. At a rate of 1e-5, 100 rounds change next to nothing. A pixel is a column of a table:
a tree doesn't know which pixels are neighbours, which is all that a convolution starts from.

XGBoost's default settings on the 64 x 64 pixels in the centre of the photo at 224 x 224, then the learning rates of the
CNNs. Nothing is drawn at random: one run each. `boost` grows the trees, `xgboost_on_pixels` reports. Writes
plots/7.2.1_xgboost.png, plots/README.md (the gallery: question, figures, numbers and verdicts), plots/xg.csv (final
values), plots/xg.seconds.csv, and the curves of every run in plots/runs/xg.
"""

import lab.run.interrupt  # noqa: F401, I001  (first: Ctrl-C and errors end in one line even while the rest is imported)

import argparse
import importlib.metadata
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xgboost

import helpers
from helpers import SPLITS, Photos, Report, Reports, Result, Rows, Run, experiment
from lab.draw import charts
from lab.tell import phrases
from lab.run.command_line import gibibytes
from lab.nets.xgb_matrices import matrices
from lab.data.photos import View
from lab.run.progress import Reached
from lab.tell.statistics import accuracy_on_test, chance, chance_loss, choose, detection_scores, right_answers, wilson

VIEW = View(side=224, crop=64)
DEFAULT_RATE = 0.3  # XGBoost's
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
QUICK_RATES = (1e-3, 1e-1)
QUICK_PHOTOS = 16  # per class and split


@dataclass(frozen=True)
class Config:
    """One run; the defaults are XGBoost's."""

    learning_rate: float | None = None  # None: XGBoost's default
    rounds: int = 100  # trees
    max_depth: int = 6  # questions in a row
    baseline = "XGBoost"


CONFIGS = {"XGBoost default": Config()} | {f"XGBoost lr {rate:g}": Config(rate) for rate in RATES}


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
        return boost(
            config, matrices(photos, VIEW, Path(cache)), progress
        )  # which closes the pages before their folder goes


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
    start, curves = time.perf_counter(), {}
    model = xgboost.train(
        settings,
        data["train"],
        config.rounds,
        evals=[(matrix, split) for split, matrix in data.items()],
        evals_result=curves,
        verbose_eval=False,
        callbacks=[Progress(progress, config.rounds)],
    )
    arrays = {"seconds": np.array(time.perf_counter() - start)}
    for split, matrix in data.items():
        arrays[f"loss_{split}"] = np.array(curves[split]["logloss"])
        arrays[f"logits_{split}"] = model.predict(matrix, output_margin=True)
    return arrays


# ---------------------------------------------------------------------------- 7.2.1


@experiment("7.2.1", "xgboost", "XGBoost on raw pixels, default settings and five learning rates", CONFIGS)
def xgboost_on_pixels(results: dict[str, Result], photos: Photos) -> Report:
    """How well do boosted trees tell real from fake faces when all they get is raw pixels?

    Varied: the learning rate, XGBoost's default of 0.3 and the five of the networks; 100 rounds and one run each, on
    the centre 64 x 64 of the photos at 224 x 224, a twelfth of the area that the networks see.
    Look for: train accuracy far above validation and test, and a validation loss that rises while the train loss falls.
    """
    y, count = photos.y, {split: len(y) for split, y in photos.y.items()}
    rows = {label: detection_scores(result, y) for label, result in results.items()}
    names = {label: rate_name(result) for label, result in results.items()}
    rightly = {label: right_answers(result, y) for label, result in results.items()}
    best, default = choose(rows), next(iter(rows))
    mean, low, high = accuracy_on_test(rows[best], count["test"])
    sentences = [
        phrases.over_fits(default, rows, count["validation"]),
        phrases.above_chance(best, rows, y["test"]),
        *phrases.chosen_rate("XGBoost", rightly, rows, names),
    ]
    headline = f"XGBoost on raw pixels: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}] "
    headline += f"at the learning rate that validation chose ({names[best]})"

    figure = draw_xgboost(results, rows, y, headline, best)
    rules = [
        f"learning rate by validation accuracy, ties by validation loss; Wilson intervals over {count['test']} test "
        "photos",
        phrases.above_chance,
        phrases.over_fits,
        phrases.against,
    ]
    return Report(rows, headline, sentences, rules, {"7.2.1_xgboost": figure}, count)


def draw_xgboost(results: dict[str, Result], rows: Rows, y: dict[str, np.ndarray], headline: str, best: str):
    """Accuracy against the learning rate, and the losses of the default settings, which are the first row's."""
    default, names = next(iter(rows)), {label: rate_name(result) for label, result in results.items()}
    chosen = rows[best]["validation", "accuracy"][0]
    low, high = wilson(chosen, len(y["validation"]))
    holds = low <= chance(y["validation"]) <= high
    foot = (
        "XGBoost on the centre 64 x 64 of photos at 224 x 224. Nothing is drawn at random: one run each.\n"
        f"[ ] 95% Wilson interval. Validation chose {names[best]} with {chosen:.3f} [{low:.3f}, {high:.3f}], which "
        f"{'holds chance' if holds else 'leaves out chance'}."
    )
    fig, (left, right) = helpers.figure(headline, foot, 1, 2, (12, 4.8))
    rates = {label: result.config.learning_rate or DEFAULT_RATE for label, result in results.items()}
    ordered = sorted(rates, key=rates.get)
    charts.accuracy_against_rate(
        left, [rows[label] for label in ordered], sorted(rates.values()), rates[best], chance(y["test"])
    )
    charts.note_below(left, DEFAULT_RATE, "default")
    losses = {split: results[default][f"loss_{split}"][0] for split in SPLITS}
    charts.rounds(right, losses, chance_loss(y["train"]))
    right.set(title=f"Loss with default settings (learning rate {DEFAULT_RATE})")
    fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return fig


def rate_name(result: Result) -> str:
    return phrases.rate_name(result.config.learning_rate, "default")


# ---------------------------------------------------------------------------- the study


def photo_options(parser: argparse.ArgumentParser) -> None:
    """What both scripts of section 7 add to the shared command line."""
    parser.set_defaults(data=None, seeds=1)
    help_text = "stream photos that need more (default: %(default)s)"
    parser.add_argument("--memory", type=gibibytes, default=4.0, metavar="GIB", help=help_text)


def quick(label: str, config: Config) -> tuple[str, Config] | None:
    """Five rounds at fewer learning rates."""
    return (label, replace(config, rounds=5)) if config.learning_rate in (None, *QUICK_RATES) else None


def finish(configs: dict[str, Config], photos: Photos, reports: Reports) -> dict[Config, Result]:
    """{configuration: Result}, kept in OUT/runs/xg, where cnn.py finds them too."""
    photos_of_all = sum(len(y) for y in photos.y.values())
    how = {"memory": min(0.8 + 7e-5 * photos_of_all, 4.0)}  # GiB, as measured; what needs more comes in pages
    planned = {config: [Run(label.replace(" ", "-"), train, config, **how)] for label, config in configs.items()}
    context = {"photos": photos.fingerprint, "xgboost": importlib.metadata.version("xgboost")}
    streamed = VIEW not in photos.kept  # XGBoost ends its process where there is no room for its pages
    return helpers.finish(planned, (photos,), context, reports, "xg", apart=streamed)


def main(argv: list[str] | None = None) -> None:
    arguments = helpers.start("xg", __doc__, helpers.experiments_in(globals()), argv, photo_options)
    folder, most = arguments.data or helpers.demo_faces(), QUICK_PHOTOS if arguments.quick else None
    photos = helpers.load_photos(folder, [VIEW], arguments.memory, most)
    helpers.say_what_was_read(photos, folder, arguments)
    (chosen,) = arguments.experiments
    chosen = chosen.adapted(quick) if arguments.quick else chosen
    reports = Reports([chosen], lambda results: photos, arguments, "xg")
    finish(chosen.configs, photos, reports)
    reports.close()


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
