"""lab/gallery/photos_report.py and the reports of section 7, on made-up results: what explains holds, or is not so."""

from argparse import Namespace

import numpy as np
import pytest

import cnn
import xg
from lab.data.photos import Photos, View
from lab.data.shortcuts import Shortcut
from lab.gallery.photos_report import PhotosReport
from lab.study import SPLITS, Experiment, Result, Runs

SMALL, N = View(32, 32), 100  # photos of each class and split
Y = {split: np.repeat([0, 1], N) for split in SPLITS}
RIGHT, NUMBER = np.repeat([-4.0, 4.0], N), np.arange(2 * N)
PARITY = np.where(NUMBER % 2, 1.0, -1.0)  # half of each class
SLIGHTLY = np.where(NUMBER % N < 56, 1, -1) * RIGHT / 4  # 56%, which may be chance
MOSTLY = np.where(NUMBER % 4, 1, -1) * RIGHT / 4  # three quarters
ALL_FAKE = np.full(2 * N, 0.2)
Logits = dict[str, np.ndarray] | np.ndarray


@pytest.fixture(scope="module")
def photos() -> Photos:
    views = SMALL, xg.VIEW
    kept = {view: {split: np.zeros((2 * N, view.crop, view.crop, 3), np.uint8) for split in SPLITS} for view in views}
    names = {split: [f"{number:03}_x.png" for number in range(2 * N)] for split in SPLITS}
    return Photos({}, Y, "some", kept, names)


def result(config, logits: Logits, seeds: int = 2, worst: float = 0.7, **arrays) -> Result:
    """Of so many equal seeds; logits of all splits or by split; worst: the largest loss of a batch."""
    by_split = logits if isinstance(logits, dict) else dict.fromkeys(SPLITS, logits)
    made = {f"logits_{split}": values for split, values in by_split.items()} | arrays
    made |= {"step_loss": np.array([0.7, worst, 0.6]), "seconds": np.array(1.0)}
    return Result(config, {name: np.repeat(np.asarray(values)[None], seeds, 0) for name, values in made.items()})


def heads(seeds: int, moved: float = 0.0) -> np.ndarray:
    """The weights (seeds, 4) of heads that have moved so far from where they started."""
    return np.stack([cnn.linear_head(seed, 4).weight.detach().numpy()[0] for seed in range(seeds)]) + moved


def trees(config: xg.Config, so: bool) -> Result:
    over = {"train": np.array([0.6, 0.3, 0.1]), "validation": np.array([0.7, 0.6, 0.9]), "test": np.ones(3)}
    flat = dict.fromkeys(SPLITS, np.array([0.6, 0.5, 0.4]))
    curves = {f"loss_{split}": values for split, values in (over if so else flat).items()}
    low = config.learning_rate == 1e-5
    return result(config, (0.001 * PARITY if low else MOSTLY) if so else SLIGHTLY, 1, **curves)


def told(config, so: bool) -> Result:
    """What a run gives where everything is as section 7 tells it, or where nothing is."""
    if isinstance(config, xg.Config):
        return trees(config, so)
    rate, best = config.learning_rate, config.learning_rate == 1e-3
    if isinstance(config, cnn.Longer):
        begun = config.epochs > 1 or not so
        return result(config, RIGHT if begun else MOSTLY if config.pretrained else PARITY)
    if config.name == "scratch":
        return result(config, (ALL_FAKE if so else RIGHT), worst=20 if so and rate == 0.1 else 0.7)
    if config.name == "linear-probe":
        logits = {"train": MOSTLY if best or not so else PARITY, "test": MOSTLY}
        logits["validation"] = MOSTLY if best else PARITY
        made = result(config, logits, worst=20 if so and rate == 0.1 else 0.7, bias=0.0)
        made.arrays["weight"] = heads(2, rate if so else 1e-3)
        return made
    if config.name == "shuffled-probe":
        return result(config, PARITY if so else RIGHT, seeds=10)
    if config.name == "sklearn-probe":
        others = {split: MOSTLY if so else RIGHT for split in SPLITS[1:]}
        return result(config, {"train": RIGHT} | others, 1, weight=heads(1)[0], bias=0.0, iterations=50)
    if config.name == "two components":
        points = {f"points_{split}": np.zeros((2 * N, 2)) for split in SPLITS}
        return result(config, PARITY if so else RIGHT, 1, shares=np.array([0.1, 0.05]), width=4, **points)
    cam = {"cam": np.tile(NUMBER[:, None, None], (1, 3, 3)).astype(float)}
    logits = (RIGHT if best else PARITY) if so else MOSTLY
    return result(config, logits, worst=20 if so and rate == 0.1 else 0.7, **cam)


def report_on(one: Experiment, photos: Photos, make, **changes) -> PhotosReport:
    given = {"quick": False, "data": None, "size": 32, "seeds": 2, "device": "cpu", "precision": "fp32"}
    arguments = Namespace(**given | {"backbone": "resnet18", "weights": None} | changes)
    runs = Runs({label: make(config) for label, config in one.adapted(arguments).configs.items()})
    kind = PhotosReport if one is xg.xgboost_on_pixels else cnn.NetworksReport
    report = kind(photos, arguments, one, Runs())
    one.report(runs, report)
    return report


EXPERIMENTS = [
    xg.xgboost_on_pixels,
    *(one for one in vars(cnn).values() if isinstance(one, Experiment)),
]


@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
def test_every_explanation_holds_where_it_is_so_and_fails_where_it_is_not(one, photos):
    for so in (True, False):
        report = report_on(one, photos, lambda config, so=so: told(config, so))
        assert report.whys
        assert [bool(why.condition) for why in report.whys] == [so] * len(report.whys), [
            str(why.condition) for why in report.whys
        ]
        assert report.headline
        assert all(name.startswith(one.section) for name in report.figures)


def test_rows_say_the_network_and_the_control_has_one(photos):
    report = report_on(cnn.linear_probe, photos, lambda config: told(config, True))
    rates = [f"linear-probe ResNet-18 lr {rate:g}" for rate in xg.RATES]
    assert list(report.rows) == [*rates, "shuffled-probe ResNet-18 lr 1e-05"]
    assert report.reference == "linear-probe ResNet-18 lr 0.001"
    assert report.rows[rates[0]]["train", "distance_moved"] == pytest.approx([1e-5, 1e-5], abs=1e-7)


def test_the_five_are_held_against_the_best_by_the_pairs_own_p_and_a_shortcut_has_a_row(photos):
    known = Shortcut("width", dict.fromkeys(SPLITS, 0.75), 0.75)
    photos = Photos(photos.paths, photos.y, "some", photos.kept, photos.names, known)
    report = report_on(cnn.all_baselines, photos, lambda config: told(config, True))
    pairs = [label for label in report.rows if " minus " in label]
    assert (len(pairs), len(report.rows)) == (10, 16)
    assert report.reference == "fine-tune ResNet-18 lr 0.001"
    assert report.rows["shortcut"]["test", "accuracy"] == [0.75]
    assert "A tree of one question about the files, width, is right on 0.750" in report.said[0]
    for label, difference in report.differences.items():
        name = label.split()[0]
        cells = report.rows[f"fine-tune minus {name}"]
        assert -difference.gain.mean() == cells["test", "difference"].mean() > 0
        assert difference.p == cells["test", "mcnemar_holm_p"] < 0.05


@pytest.mark.parametrize("best", [*cnn.LOOKS, None])
def test_grad_cam_is_of_the_best_baseline_whichever_that_is(best, photos, monkeypatch):
    """The best is right on all photos, the others on the real ones alone; so are all of them where there is no best."""
    asked = []

    def make(config) -> Result:
        name = getattr(config, "name", "XGBoost")
        probe = {"weight": heads(1)[0], "bias": 0.0}
        own = probe if type(config) is cnn.Probe else {} if name == "XGBoost" else {"cam": np.ones((2 * N, 3, 3))}
        return result(config, RIGHT if name == best else -np.ones(2 * N), **own)

    def probe_cam(config, photos, weights, weight, chosen):
        asked.append(config.name)
        return np.ones((len(chosen), 3, 3))

    monkeypatch.setattr(cnn, "probe_cam", probe_cam)
    report = report_on(cnn.samples, photos, make)
    assert len(report.rows) == (5 if best else 0)
    assert all(row.startswith("fake ") for row in report.rows)
    assert asked == ([best] if best and "probe" in best else [])
    (fig,) = report.figures.values()
    titles = [ax.get_title() for ax in fig.axes] + [ax.get_title("left") for ax in fig.axes]
    assert ("what XGBoost sees" in titles) == (best == "XGBoost")
    assert ("speaks for fake" in titles) == (best not in (None, "XGBoost"))
