"""A made-up study, reported as the scripts' are: what a gallery can hold, in four sections."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from lab.data.places import Places
from lab.draw.maps import Animation, Atlas
from lab.errors import RunsFailed
from lab.gallery import live, sections
from lab.gallery.report import Report
from lab.gallery.reports import Reports
from lab.nets.inputs import Inputs, represent
from lab.study import SPLITS, Condition, Experiment, Result, experiment, experiments_in
from lab.tell.statistics import Difference

SCALE = np.array([[10.0, 50.0], [6.0, 6.0]])
WAVES = Inputs(True, (0.5, 1.0, 2.0), ("sin", "cos"))


def arguments(out: Path, **changes) -> Namespace:
    """What a script's command line gives."""
    given = {"script": "one", "quick": False, "again": " --seeds 5", "read": "5 places of /data", "redraw": False}
    return Namespace(**{"out": out} | given | changes)


def make(out: Path, *chosen: Experiment, lost: tuple[str, ...] = (), **changes) -> None:
    """The gallery of these experiments, all of whose runs are there but the lost ones."""
    given = arguments(out, **changes)
    sections.check_out(out, given.script)
    reports = Reports(chosen, lambda one, beside: Report(one, beside, given), given)
    configs = {config for one in chosen for config in one.needed.values() if config not in lost}
    reports.add({config: Result(config, {}, 20.0, ("a machine",)) for config in configs})
    reports.close()


def asked(section: str, found=lambda runs, report: None, **configs: str) -> Experiment:
    """An experiment of one run; found(runs, report) fills its report."""
    return Experiment(section, f"part-{section[-1]}", "asks", configs or {"a": f"run of {section}"}, found)


def fill(report: Report, runs: list[str], columns: int = 6, n: int = 5) -> None:
    """Rows of a table, each held against the second one."""
    draws = np.random.default_rng(0)
    metrics = ["accuracy", "loss", *(f"share_of_units_{number}" for number in range(columns - 2))]
    for number, run in enumerate(runs):
        splits = {(split, metric) for metric in metrics for split in (SPLITS if metric in metrics[:2] else ["train"])}
        report.rows[run] = {key: draws.normal(0.9 - 0.02 * number, 0.01, n) for key in sorted(splits)}
        if number != 1:
            gain = draws.normal(0.02 - 0.02 * number, 0.01, n)
            half = (0.01, 0.03)[number % 2]
            p = 0.01 if abs(gain.mean()) > half else 0.4
            report.differences[run] = Difference(gain, gain.mean() - half, gain.mean() + half, p)
    report.reference = runs[1]


@experiment("6.1.1", "learning-rate", "rates", {f"lr {rate}": f"lr {rate}" for rate in ("1", "0.01", "0.001")})
def learning_rate(runs, report):
    """How large may the learning rate be, and what happens above and below?

    Varied: Adam's learning rate, constant over `50` epochs; all else is the standard net.
    """
    fill(report, [*runs])
    report.why(
        "At 1 the units die. Adam moves a weight by about the learning rate at every update, however small the "
        "gradient: from 0.13 the weights were thrown 3.5 away, 93% of the units are 0 for every place, and what is "
        "silent has no gradient to come back by.",
        holds=Condition(True, "silent units of lr 1: 0.93, above 0.5"),
        short="A learning rate of 1 kills the units: what is silent has no gradient to come back by.",
    )
    report.why(
        "At 0.00001 there was no time: all updates together moved a weight by 0.018 on average.",
        holds=Condition(False, "distance moved of lr 0.00001: 0.12, not below 0.07 (distance moved of lr 0.001)"),
        short="This is nowhere.",
    )
    report.say("The loss of lr 1 ends at 2.94 nats, that of knowing only the class frequencies.", "collapsed: it does")
    report.rule("chosen: by mean validation accuracy")
    ax = report.figure("6.1.1_learning_rate", headline="Best: lr 0.01, test accuracy 0.902; lr 1 collapsed to class 0")
    ax.plot([1, 2, 3], label="a line")
    ax.set(xlabel="epoch", ylabel="validation cross-entropy (nats)")


def network(name: str, inputs: Inputs = WAVES, *between: nn.Module) -> live.Network:
    """A small one before and after an epoch that turned it round."""
    torch.manual_seed(1)
    first = nn.Linear(represent(np.zeros((1, 2)), inputs, SCALE).shape[1], 8)
    model = nn.Sequential(first, *(between or [nn.ReLU()]), nn.Linear(8, 2)).eval()
    turned = nn.Sequential(*model[:-1], nn.Linear(8, 2)).eval()
    return live.Network(name, 0, inputs, SCALE, {0: (model, 0.25), 1: (turned, 0.75)})


def places(countries: list[str], n: int = 400) -> Places:
    """As many strips, from west to east."""
    draws = np.random.default_rng(0)
    x = {split: draws.uniform((0, 40), (20, 60), (n, 2)).astype(np.float32) for split in SPLITS}
    labels = {split: (points[:, 0] * len(countries) // 20.001).astype(int) for split, points in x.items()}
    return Places(x, labels, countries)


@experiment("6.2.1.1", "best-model", "models", {f"({depth}, 64), raw": f"depth {depth}" for depth in range(18)})
def best_model(runs, report):
    """Which of many networks is best?

    Varied: depth.
    """
    fill(report, [*runs], 9)
    report.why("Depth helps.", Condition(True, "gain: 0.1, above 0"), "Depth helps, up to a point.")
    report.rule("chosen: by mean validation accuracy", "p < 0.05, without a name, " + "over seeds " * 9)
    for name in ("6.2.1.1_depth", "6.2.1.1_map", "6.2.1.1_film"):
        ax = report.figure(name, headline="Best: (6, 64), test accuracy 0.981")
        ax.imshow(np.random.default_rng(1).random((20, 30)))
    frames = [Image.new("RGB", (600, 300), (40 * number, 90, 90)) for number in range(4)]
    report.animations["6.2.1.1_film"] = Animation("The map of (6, 64) as it forms while it trains", iter(frames))
    of = places(["Westland", "Eastland"])
    shared = live.places(of, Atlas(of, 120))
    report.live = live.figure([network("other"), network("best")], "best", shared, of.x["test"])


@experiment("7.5.1", "comparison", "baselines", {"a": "a", "b": "b"})
def comparison(runs, report):
    """Which baseline is best?"""
    fill(report, [*runs], 2, 1)
    report.examples = {"test": 160}
    report.rows["a"] |= {("test", "roc_auc_low"): np.ones(1), ("test", "roc_auc_high"): np.ones(1)}


@experiment("7.5.2", "samples", "photos", {"fine-tune": "f", "XGBoost": "x"})
def samples(runs, report):
    """Which photos does one get right and another wrong?"""
    fill(report, [*runs], 2, 1)
    draws = np.random.default_rng(2)
    y, fake = draws.integers(0, 2, 40), {name: draws.random(40) for name in runs}
    seen = [(f"photo {number}.png", number, draws.integers(0, 255, (64, 64, 3), np.uint8)) for number in range(5)]
    report.live = live.photos(y, fake, "fine-tune", seen, "5 of 12 photos that fine-tune gets right:")
    ax = report.figure("7.5.2_samples", headline="fine-tune is right where XGBoost is wrong on 12 of 40 photos")
    ax.plot([1, 2])


def make_all(out: Path) -> Path:
    """A gallery of all of them, of which 7.5.1 lacks a run; returns its page."""
    try:
        make(out, *experiments_in(globals()), lost=("b",))
    except RunsFailed:
        return out / "index.html"
    raise AssertionError("the lost run is not missed")
