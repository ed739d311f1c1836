"""Section 7: convolutional networks, four ways, tell real from fake faces.

    python cnn.py                        all experiments on the demo set
    python cnn.py fine-tune samples      only these two (see --list)
    python cnn.py --data DIR             your photos, see data/README.md
    python cnn.py --quick                every code path, into quick/

How to read it: `Config` says what is trained, `Detector` is the network, `train_network` trains it; then probes of a
frozen network; then the experiments, each under the configurations that it compares. Results are in plots/README.md,
all numbers in plots/cnn.csv, times in cnn.seconds.csv, and logits and losses of every run in plots/runs/cnn.
"""

import lab.run.interrupt  # noqa: F401, I001  (first: Ctrl-C and errors end in one line even while the rest is imported)

import argparse
import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import helpers
import xg
from helpers import SPLITS, Photos, Result, Runs, Work, experiment, train_epoch
from lab.data.photos import CLASSES, View, split_into
from lab.draw import baselines, curves
from lab.errors import plural
from lab.files import check_folder
from lab.gallery.photos_report import PhotosReport, ends, present
from lab.nets import backbones, checkpoint
from lab.nets.grad_cam import maps_in, with_grad_cam
from lab.run.command_line import whole
from lab.run.pool import one_thread
from lab.run.progress import Reached
from lab.run.runs import Run, file_name
from lab.study import Condition, Measured
from lab.tell import phrases, statistics
from lab.tell.baselines import Comparison, Samples, compare_baselines

Arrays = dict[str, np.ndarray]
Progress = Callable[[float], None]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as both backbones were trained
DEMO_SIZE = 112  # of the demo photos' 92 x 112; four times as fast as 224
EVALUATED = 16  # photos together, so that activations stay in the processor's cache and memory small

# ---------------------------------------------------------------------------- the network


@dataclass(frozen=True)
class Config:
    """A training. The seed draws the head, the weights where they are random, and the order of the photos."""

    name: str  # in words
    train: Callable[..., Arrays]  # what does it, one of the functions below
    learning_rate: float | None = None  # Adam's; None: nothing is drawn at random, one run
    pretrained: bool = True  # on ImageNet; else the weights are random
    seed: int = 0
    backbone: str = "efficientnet-lite0"
    size: int = DEMO_SIZE  # side of the input in pixels
    precision: str = "fp32"  # or bf16
    batch_size: int = 32
    epochs: int = 1

    needs = None  # no other run

    @property
    def view(self) -> View:
        return View(self.size, self.size)

    def budget(self, arguments: argparse.Namespace) -> "Config | None":
        """The same on the chosen network, with --quick at fewer learning rates."""
        if arguments.quick and self.learning_rate not in (None, *xg.QUICK_RATES):
            return None
        size = arguments.size or (64 if arguments.quick else 224 if arguments.data else DEMO_SIZE)
        return replace(self, backbone=arguments.backbone, precision=arguments.precision, size=size)

    def work(self, name: str, photos: Photos, arguments: argparse.Namespace, given: None) -> Work:
        data = photos, arguments.weights, arguments.device
        return Work(runs_of(self, name, arguments.seeds, memory(self)), data, arguments.context)


class Detector(nn.Module):
    """A backbone and a linear head on (n, 3, size, size) uint8 photos; gives logits (n,), positive for fake."""

    def __init__(self, config: Config, weights: np.ndarray | None):
        super().__init__()
        self.backbone, self.pool, width = backbones.make_backbone(config.backbone, config.size, weights)
        self.head = nn.Linear(width, 1)
        self.bf16 = config.precision == "bf16"
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(DEVIATION).view(3, 1, 1))

    def features(self, photos: torch.Tensor) -> torch.Tensor:
        """Pooled features of the photos, (n, width) float32."""
        inputs = (photos - self.mean) / self.deviation
        with torch.autocast(photos.device.type, torch.bfloat16, enabled=self.bf16):
            return self.backbone(inputs).float()

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(photos)).squeeze(1)


def make_detector(config: Config, weights: np.ndarray, device: str) -> Detector:
    torch.manual_seed(config.seed)
    detector = Detector(config, weights if config.pretrained else None)
    return detector.to(device, memory_format=torch.channels_last)


def train_network(config: Config, photos: Photos, weights: np.ndarray, device: str, progress: Progress) -> Arrays:
    """Train all of the network, from random weights or ImageNet's.

    Returns step_loss (steps,), cross-entropy in nats; logits_SPLIT (n,) of each split after training;
    cam (test photos, rows, columns) float16, see with_grad_cam; seconds, the wall time of the training.
    """
    model = make_detector(config, weights, device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    order, count = np.random.default_rng(config.seed), len(photos.y["train"])
    single = count % config.batch_size == 1  # which batch norm does not take
    start, losses = time.perf_counter(), []
    for epoch in range(config.epochs):
        parts = split_into(order.permutation(count)[: count - single], config.batch_size)
        batches = photos.batches(config.view, "train", parts, device)
        steps = counted(batches, len(parts), epoch, config.epochs, progress)
        losses.append(train_epoch(model, steps, optimizer, binary_cross_entropy_with_logits))
    seconds = time.perf_counter() - start
    model = backbones.folded(model)
    arrays = {f"logits_{split}": over_photos(model, photos, split, config, device) for split in SPLITS[:2]}
    seen = over_photos(partial(with_grad_cam, model), photos, "test", config, device)
    arrays |= {"logits_test": seen[:, 0], "cam": maps_in(seen).astype(np.float16)}
    return {**arrays, "step_loss": torch.cat(losses).cpu().numpy(), "seconds": np.array(seconds)}


def counted(batches: Iterable, steps: int, epoch: int, epochs: int, progress: Progress) -> Iterator:
    for step, batch in enumerate(batches):
        progress(0.8 * (epoch + step / steps) / epochs)  # the rest is evaluation
        yield batch


@torch.inference_mode()
def over_photos(
    function: Callable, photos: Photos, split: str, config: Config, device: str, together: int = EVALUATED
) -> np.ndarray:
    """What function(inputs) makes of all photos of a split, one row for each."""
    parts, found = split_into(np.arange(len(photos.y[split])), together), None
    for part, (inputs, _) in zip(parts, photos.batches(config.view, split, parts, device), strict=True):
        piece = function(inputs).cpu().numpy()
        if found is None:  # filled as pieces come, as both may be large
            found = np.empty((len(photos.y[split]), *piece.shape[1:]), piece.dtype)
        found[part] = piece
    return found


def runs_of(config: Config, name: str, seeds: int, gib: float = 0.0) -> list[Run]:
    """A run for each seed, or one where nothing is drawn."""
    how = {"cost": config.epochs * (config.size / DEMO_SIZE) ** 2, "memory": gib}
    each = range(seeds if config.learning_rate else 1)
    return [Run(file_name(f"{name}-{n}"), config.train, replace(config, seed=n), **how) for n in each]


def memory(config: Config) -> float:
    """About how much a worker needs for a run, GiB, as measured on processors; libraries included."""
    area = (config.size / 224) ** 2 * config.batch_size / 32
    return 0.8 + area * ((1.2 if config.size > backbones.RECOMPUTED else 2.3) if config.learning_rate else 0.3)


# ---------------------------------------------------------------------------- probes of a frozen network

SHUFFLES = 10  # of the control, at least: by luck a single one may resemble the true labels, or their opposite


@dataclass(frozen=True)
class Probe(Config):
    """A classifier of the features that a frozen pretrained network has of the photos."""

    shuffled_labels: bool = False  # a control: every train photo has the label of another one

    @property
    def needs(self) -> Config:
        how = {"backbone": self.backbone, "size": self.size, "precision": self.precision}
        return Config("features", extract_features, **how)

    def work(self, name: str, photos: Photos, arguments: argparse.Namespace, given: Result) -> Work:
        """Far less than a second each: one process saves the start of others."""
        seeds = max(arguments.seeds, SHUFFLES) if self.shuffled_labels else arguments.seeds
        context = arguments.context | {"features": str(given["digest"][0])}
        return Work(runs_of(self, name, seeds), (given.arrays, photos.y), context, here=True)


def extract_features(config: Config, photos: Photos, weights: np.ndarray, device: str, progress: Progress) -> Arrays:
    """The pretrained backbone's features of every photo, {split: (n, width) float32}, their digest, and seconds.

    The backbone is frozen: in eval mode, so that batch norm uses its own statistics and leaves them alone.
    """
    detector = backbones.folded(make_detector(config, weights, device))
    start, digest = time.perf_counter(), hashlib.sha256()
    few = 4  # photos together, for 0.2 GiB less at 224 pixels than with EVALUATED
    arrays = {split: over_photos(detector.features, photos, split, config, device, few) for split in SPLITS}
    for values in arrays.values():
        digest.update(values)
    return {**arrays, "digest": np.array(digest.hexdigest()), "seconds": np.array(time.perf_counter() - start)}


def train_linear(config: Probe, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Train a linear head on frozen features, {split: (1, n, width)} as they are kept.

    Returns step_loss, logits_SPLIT and seconds as train_network, and the head: weight (width,) and bias.
    """
    labels = y["train"]
    if config.shuffled_labels:
        labels = np.random.default_rng([config.seed, 1]).permutation(labels)
    inputs, targets = torch.as_tensor(features["train"][0]), torch.as_tensor(labels, dtype=torch.float32)
    head = linear_head(config.seed, inputs.shape[1])
    optimizer = torch.optim.Adam(head.parameters(), config.learning_rate)
    order, start, losses = np.random.default_rng(config.seed), time.perf_counter(), []
    for _ in range(config.epochs):
        parts = torch.as_tensor(order.permutation(len(targets))).split(config.batch_size)
        batches = ((inputs[part], targets[part, None]) for part in parts)
        losses.append(train_epoch(head, batches, optimizer, binary_cross_entropy_with_logits))
    arrays = {"step_loss": torch.cat(losses).numpy(), "seconds": np.array(time.perf_counter() - start)}
    return arrays | linear_logits(features, head.weight.detach().numpy()[0], head.bias.detach().numpy()[0])


def linear_head(seed: int, width: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, 1)


def fit_sklearn(config: Probe, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Logistic regression on standardised frozen features, run to convergence.

    Returns as train_linear, but iterations in place of step_loss. Raises RuntimeError if it doesn't converge.
    """
    start = time.perf_counter()
    probe = make_pipeline(StandardScaler(copy=False), LogisticRegression(max_iter=10_000))
    probe.fit(features["train"][0].astype(float), y["train"])  # a copy already
    seconds, (scaler, regression) = time.perf_counter() - start, (step for _, step in probe.steps)
    if regression.n_iter_[0] >= regression.max_iter:
        remedy = "look for photos that are all alike"
        raise RuntimeError(f"logistic regression isn't done after {regression.max_iter} steps, {remedy}")
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - scaler.mean_ @ weight
    arrays = {"seconds": np.array(seconds), "iterations": regression.n_iter_[0]}
    return arrays | linear_logits(features, weight, bias)


def linear_logits(features: Arrays, weight: np.ndarray, bias: np.ndarray) -> Arrays:
    logits = {f"logits_{split}": features[split][0] @ weight + bias for split in SPLITS}
    return {"weight": weight, "bias": bias} | logits


def fit_plane(config: Probe, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Logistic regression on two principal components of the standardised features, for the figure of 7.2.4.

    Returns points_SPLIT (n, 2), the shares of the variance (2,), logits_SPLIT (n,), seconds and the number of features.
    """
    start, x = time.perf_counter(), {split: features[split][0] for split in SPLITS}
    scaler = StandardScaler().fit(x["train"])
    components = PCA(2, random_state=0).fit(scaler.transform(x["train"]))
    points = {split: components.transform(scaler.transform(x[split])) for split in SPLITS}
    regression = LogisticRegression().fit(points["train"], y["train"])
    arrays = {"shares": components.explained_variance_ratio_, "width": np.array(x["train"].shape[1])}
    for split in SPLITS:
        arrays |= {f"points_{split}": points[split], f"logits_{split}": regression.decision_function(points[split])}
    return {**arrays, "seconds": np.array(time.perf_counter() - start)}


def probe_cam(config: Config, photos: Photos, weights: np.ndarray, head: np.ndarray, chosen: Sequence) -> np.ndarray:
    """Grad-CAM of a probe, whose head has a weight (width,), on chosen test photos: (chosen, rows, columns)."""
    detector = make_detector(replace(config, precision="fp32"), weights, "cpu").eval()
    ((inputs, _),) = photos.batches(config.view, "test", [np.asarray(chosen)])
    with torch.no_grad():
        detector.head.weight.copy_(torch.as_tensor(head)[None])
        return maps_in(with_grad_cam(detector, inputs).numpy())


# ---------------------------------------------------------------------------- what the reports share

# Okabe and Ito's colours that curves.LOOK leaves to the baselines; markers and line styles keep them apart in grey.
LOOKS = {
    "XGBoost": {"color": "#666666", "marker": "x", "linestyle": (0, (1, 1))},
    "scratch": {"color": "#CC79A7", "marker": "s", "linestyle": "--"},
    "linear-probe": {"color": "#56B4E9", "marker": "^", "linestyle": "-."},
    "sklearn-probe": {"color": "#009E73", "marker": "D", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "fine-tune": {"color": "#E69F00", "marker": "o", "linestyle": "-"},
}


class NetworksReport(PhotosReport):
    """A report whose runs are of a network on photos of one size."""

    def called(self, label: str, result: Result) -> str:
        """A row says its network, but for section 7.6."""
        config = result.config
        if type(config) not in (Config, Probe):
            return label
        rate = phrases.rate_name(config.learning_rate) if config.learning_rate else ""
        return f"{config.name} {backbones.NAMES[config.backbone]} {rate}".strip()

    def foot(self, note: str = "", how: str = "", size: int = 0) -> str:
        """The network, its input, how it was trained, on how many photos, and a note."""
        how = how or f"1 epoch, {plural(self.arguments.seeds, 'seed')}"
        splits = ", ".join(f"{count:,} {split}" for split, count in self.examples.items())
        net, side = backbones.NAMES[self.arguments.backbone], size or self.view.side
        return super().foot(f"{net}, {side} x {side} pixels, {how}; photos: {splits}. {note}")

    @property
    def view(self) -> View:
        """How the networks see the photos."""
        return FINE_TUNE["fine-tune lr 0.001"].budget(self.arguments).view


def at_rates(name: str, kind: type[Config], *of: Callable, **how) -> dict[str, Config]:
    """A baseline at every learning rate, by label."""
    return {f"{name} {phrases.rate_name(rate)}": kind(name, *of, rate, **how) for rate in xg.RATES}


def rate(runs: Runs, label: str) -> str:
    return phrases.rate_name(runs[label].config.learning_rate)


def largest_loss(result: Result) -> np.ndarray:
    """The loss of the worst batch on the way, (seeds,)."""
    return np.nan_to_num(result["step_loss"], nan=np.inf).max(axis=1)


def distance_moved(result: Result) -> np.ndarray:
    """How far a weight of the head lies from where it started, (seeds,), mean of the absolute."""
    seeds, width = result["weight"].shape
    starts = [linear_head(seed, width).weight.detach().numpy()[0] for seed in range(seeds)]
    return np.abs(result["weight"] - np.array(starts)).mean(axis=1)


# ---------------------------------------------------------------------------- 7.2 one baseline

SCRATCH = at_rates("scratch", Config, train_network, pretrained=False)


@experiment("7.2.2", "scratch", "train the network from random weights", SCRATCH)
def scratch(runs: Runs, report: NetworksReport) -> None:
    """Can one epoch teach a network that starts from random weights to tell real from fake faces?

    Varied: the learning rate of Adam, 1e-5 to 1e-1.
    """
    report.draw_examples("7.2.2_examples", report.view)
    runs = report.named(runs)
    largest = runs.each(largest_loss)
    report.table(runs, largest)
    best, fitted, (_, fastest) = report.reference, statistics.choose(report.rows, split="train"), ends(runs)
    luckiest = statistics.choose(report.rows, split="test")
    steps = runs[best]["step_loss"].shape[1]
    report.why(
        f"An epoch is too short: it is {plural(steps, 'update')}, after which no learning rate is shown to have left "
        f"chance; the one that validation chooses, {rate(runs, best)}, gets {report.of(best):.3f} of the photos right.",
        holds=~report.above_chance(luckiest),
    )
    report.why(
        "That is no over-fitting: on the photos that it is trained on, too, the network gets no more than "
        f"{report.of(fitted, split='train'):.3f} right.",
        holds=~report.above_chance(fitted, "train"),
    )
    report.why(
        f"Nor do larger steps make up for it: at {rate(runs, fastest)} the loss of a batch rises to "
        f"{largest[fastest]:.1f} on the way, where knowing nothing costs {report.chance_loss:.2f}.",
        holds=(largest[fastest] > 2 * report.chance_loss) & ~report.above_chance(fastest),
    )
    report.draw_rates("7.2.2_scratch", runs)


LINEAR_PROBE = at_rates("linear-probe", Probe, train_linear)
CONTROL = at_rates("shuffled-probe", Probe, train_linear, shuffled_labels=True)


@experiment("7.2.3", "linear-probe", "train a linear head on frozen features", LINEAR_PROBE | CONTROL)
def linear_probe(runs: Runs, report: NetworksReport) -> None:
    """Do the frozen features of a network trained on ImageNet hold, in a straight line, what makes a face fake?

    Varied: the learning rate of the linear head, 1e-5 to 1e-1; as a control, train labels that are shuffled.
    """
    runs, control = (report.named(present(runs, configs)) for configs in (LINEAR_PROBE, CONTROL))
    moved, largest = runs.each(distance_moved), runs.each(largest_loss)
    report.table(runs, moved, largest)
    best, (slowest, fastest) = report.reference, ends(runs)
    fitted, unseen = report.column(split="train"), report.column(split="validation")
    report.draw_rates("7.2.3_linear_probe", runs, control)
    at_chance = report.add_control(control)
    report.why(
        f"What the head finds is in the labels: at {rate(runs, best)} it is right on {report.of(best):.3f} of the test "
        "photos, and the same head trained on shuffled labels stays at chance.",
        holds=report.above_chance(best) & at_chance,
        short=f"A straight line through frozen ImageNet features is right on {report.of(best):.3f} of the test photos.",
    )
    report.why(
        f"At {rate(runs, slowest)} there was no time: {plural(runs[best]['step_loss'].shape[1], 'update')} moved a "
        f"weight of the head by {moved[slowest]:.1g} on average, at {rate(runs, best)} by {moved[best]:.1g}.",
        holds=(moved[slowest] < moved[best] / 10) & (fitted[slowest] < fitted[best]),
    )
    report.why(
        f"At {rate(runs, fastest)} the head overshoots: the loss of a batch, {largest[best]:.2f} at most at "
        f"{rate(runs, best)}, rises to {largest[fastest]:.1f} on the way, and of the validation photos it gets "
        f"{unseen[fastest]:.3f} right, not {unseen[best]:.3f}.",
        holds=(largest[fastest] > 2 * largest[best]) & (unseen[fastest] < unseen[best]),
    )


SKLEARN_PROBE = {"sklearn-probe": Probe("sklearn-probe", fit_sklearn)}
TWO_COMPONENTS = {"two components": Probe("two components", fit_plane)}


@experiment("7.2.4", "sklearn-probe", "logistic regression on frozen features", SKLEARN_PROBE | TWO_COMPONENTS)
def sklearn_probe(runs: Runs, report: NetworksReport) -> None:
    """How well does scikit-learn's logistic regression, run to convergence, do on the same frozen features?

    Varied: nothing; the features of the linear probe, standardised, and the solver's own number of iterations.
    """
    (label, result), (other, plane) = report.named(runs).items()
    report.table({label: result, other: plane}, against=label)
    fitted, unseen = report.of(label, split="train"), report.of(label, split="validation")
    report.why(
        f"Run to its end, after {int(result['iterations'][0])} iterations, a straight line through "
        f"{int(plane['width'][0]):,} features is right on {fitted:.3f} of the train photos and on {unseen:.3f} of the "
        "validation photos: the rest of what it fits is the train photos' own.",
        holds=fitted > unseen + 0.1,
    )
    shares = plane["shares"][0]
    report.why(
        "Fakes don't differ in what the features vary most in: two principal components hold "
        f"{shares.sum():.0%} of the variance, and tell {report.of(other):.3f} of the test photos right.",
        holds=~report.above_chance(other) & report.higher(label, other),
    )
    scored = phrases.scored(label, report.rows[label], report.examples["test"])
    headline = f"{scored}; from two principal components alone {report.of(other):.3f}"
    how = {"foot": {"how": "frozen features, standardised; run to convergence, once"}, "columns": 2, "size": (12, 5)}
    axes = report.figure("7.2.4_sklearn_probe", headline, "[ ] 95% Wilson.", sharex=True, sharey=True, **how)
    for ax, split in zip(axes, ("train", "test"), strict=True):
        baselines.plane(ax, plane[f"points_{split}"][0], report.photos.y[split], CLASSES)
        axis = f"principal component 1 ({shares[0]:.0%} of variance)"
        ax.set(title=f"{split}, {report.examples[split]:,} photos", xlabel=axis)
    axes[0].set_ylabel(f"principal component 2 ({shares[1]:.0%} of variance)")
    curves.figure_legend(axes[0])


FINE_TUNE = at_rates("fine-tune", Config, train_network)


@experiment("7.2.5", "fine-tune", "train all of the pretrained network", FINE_TUNE)
def fine_tune(runs: Runs, report: NetworksReport) -> None:
    """How far does a network pretrained on ImageNet get when all of it is trained on the faces for one epoch?

    Varied: the learning rate of Adam, 1e-5 to 1e-1.
    """
    runs = report.named(runs)
    largest = runs.each(largest_loss)
    report.table(runs, largest)
    best, (slowest, fastest), fitted = report.reference, ends(runs), report.column(split="train")
    report.why(
        f"At {rate(runs, slowest)} {plural(runs[best]['step_loss'].shape[1], 'update')} are too few: even of its own "
        f"train photos it gets {fitted[slowest]:.3f} right, at {rate(runs, best)} {fitted[best]:.3f}.",
        holds=fitted[slowest] < fitted[best] - 0.1,
    )
    report.why(
        f"At {rate(runs, fastest)} it is thrown off and doesn't come back: the loss of a batch rises to "
        f"{largest[fastest]:.1f} on the way, and of its own train photos it gets {fitted[fastest]:.3f} right.",
        holds=(largest[fastest] > 2 * largest[best]) & (fitted[fastest] < fitted[best] - 0.1),
    )
    report.draw_rates("7.2.5_fine_tune", runs)


# ---------------------------------------------------------------------------- 7.5 all baselines

BASELINES = {
    "XGBoost": xg.CONFIGS,
    "scratch": SCRATCH,
    "linear-probe": LINEAR_PROBE,
    "sklearn-probe": SKLEARN_PROBE,
    "fine-tune": FINE_TUNE,
}
EVERY = {label: config for configs in BASELINES.values() for label, config in configs.items()}
OTHERS = "sklearn-probe: one run to convergence. XGBoost: one run on the centre 64 x 64 of 224 x 224 pixels."


def compared(runs: Runs, report: NetworksReport) -> Comparison:
    """The baselines, each at the learning rate that validation chose."""
    groups = {name: present(runs, configs) for name, configs in BASELINES.items()}
    return compare_baselines({n: report.named(group) for n, group in groups.items()}, report.photos.y, LOOKS)


def beats(found: Comparison, one: str, other: str) -> Condition:
    """Whether a baseline is shown to be better than another, p by Holm's method over all pairs."""
    difference = found.pairs[one, other] if (one, other) in found.pairs else -found.pairs[other, one]
    return Condition(difference.word == "higher", f"test accuracy of {one} minus {other}: {difference}")


@experiment("7.5.1", "comparison", "the five baselines: best, worst, learning rates", EVERY)
def all_baselines(runs: Runs, report: NetworksReport) -> None:
    """Which of the five baselines is best and which worst, and how does the learning rate of each explain it?

    Varied: the baseline, each at the learning rate that validation chose; and, in 7.5.1_learning_rate.png, the rate.
    With it the input, as XGBoost gets the centre 64 x 64 of photos at 224 x 224, a twelfth of the area; the training,
    as sklearn-probe runs to convergence; and the seeds, as these two draw nothing at random and run once.
    """
    found = compared(runs, report)
    report.compare(found)
    right = {name: cells["test", "accuracy"].mean() for name, cells in found.scores.items()}
    report.why(
        f"Within one epoch, each at the rate that validation chose, it matters what weights it starts from: the same "
        f"network gets {right['fine-tune']:.3f} of the test photos right from ImageNet's, {right['scratch']:.3f} from "
        "random ones.",
        holds=beats(found, "fine-tune", "scratch"),
        short=f"In one epoch the same network gets {right['fine-tune']:.3f} of the photos right from ImageNet's "
        f"weights, {right['scratch']:.3f} from random ones.",
    )
    gain = right["fine-tune"] - max(right["linear-probe"], right["sklearn-probe"])
    report.why(
        f"ImageNet's features as they are do not hold it all: trained along, they gain {gain:.3f} over the best line "
        "through frozen ones.",
        holds=beats(found, "fine-tune", "linear-probe") & beats(found, "fine-tune", "sklearn-probe"),
    )
    report.draw_comparison("7.5.1", found, backbones.NAMES[report.arguments.backbone], OTHERS)


# ---------------------------------------------------------------------------- 7.5.2 five photos


@experiment("7.5.2", "samples", "photos that the best gets right and the worst wrong", EVERY)
def samples(runs: Runs, report: NetworksReport) -> None:
    """Which five test photos does the best baseline get right and the worst ones wrong, and where does the best look?

    Varied: the baseline, each at the learning rate that validation chose; seed 0.
    """
    shown = report.pick(compared(runs, report))
    called, y = shown.found.fake(shown.worst) > 0.5, report.photos.y["test"]
    of_fakes, of_real = (Measured(called[y == kind].mean(), f"{shown.worst} calls fake of these") for kind in (1, 0))
    report.why(
        f"{shown.worst} hardly looks at the photo: it calls {of_fakes:.0%} of the fake ones fake and {of_real:.0%} of "
        "the real ones.",
        holds=Measured(of_fakes - of_real, f"share of fakes less share of real photos that {shown.worst} calls fake")
        < 0.1,
    )
    report.draw_samples("7.5.2_samples", shown, cam_of(shown, report), (report.view, xg.VIEW), OTHERS)


def cam_of(shown: Samples, report: NetworksReport) -> np.ndarray | None:
    """Grad-CAM of the best baseline on the picked photos, (picked, rows, columns); None where it is no network."""
    best = shown.found.result(shown.best)
    if "cam" in best:
        return best["cam"][0, shown.picked]
    if "weight" in best and len(shown.picked):
        return probe_cam(best.config, report.photos, report.arguments.weights, best["weight"][0], shown.picked)
    return None


# ---------------------------------------------------------------------------- 7.6 beyond one epoch

AVERAGED = 0.05  # share of the training over which, looking back, the weights are averaged
EPOCHS = (1, 3, 10, 30)


@dataclass(frozen=True)
class Longer(Config):
    """A training for many epochs, on crops."""

    @property
    def view(self) -> View:
        side = self.size * 8 // 7  # of which crops are cut
        return View(side, side)

    def budget(self, arguments: argparse.Namespace) -> "Longer | None":
        """The same on the chosen network, with --quick of one rate for one or two epochs."""
        quick, larger = arguments.quick, self.size > DEMO_SIZE
        if quick and (self.learning_rate not in xg.QUICK_RATES or self.epochs in EPOCHS[2:]):
            return None
        size = arguments.size or (64 if quick else DEMO_SIZE if arguments.device == "cpu" else 224)
        size = size if not larger else 80 if quick else max(size, self.size)
        epochs = min(self.epochs, 2) if quick else self.epochs
        return replace(self, backbone=arguments.backbone, precision=arguments.precision, size=size, epochs=epochs)


def train_longer(config: Longer, photos: Photos, weights: np.ndarray, device: str, progress: Progress) -> Arrays:
    """Train all of the network for many epochs, under a one-cycle rate and on crops that are never the same.

    Photos are 8/7 of the input's side; each step sees another crop of each, mirrored or not, at full resolution. What
    is evaluated is the exponential mean of the weights over the steps, on whole photos, mean logit of both mirrors. A
    training that was stopped goes on after its last whole epoch. Returns as train_network, without cam.
    """
    model, count = make_detector(config, weights, device), len(photos.y["train"])
    optimizer, steps = torch.optim.Adam(model.parameters(), config.learning_rate), max(1, count // config.batch_size)
    schedule = OneCycleLR(optimizer, config.learning_rate, epochs=config.epochs, steps_per_epoch=steps, pct_start=0.25)
    decay = 1 - 1 / (1 + AVERAGED * config.epochs * steps)
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    parts = {"detector": model, "optimizer": optimizer, "schedule": schedule, "mean": mean}
    done = {"epochs": 0, "losses": torch.zeros(0), "seconds": 0.0} | checkpoint.load(progress, parts)

    def after_step() -> None:
        schedule.step()
        mean.update_parameters(model)

    model.train()
    for epoch in range(done["epochs"], config.epochs):
        start = time.perf_counter()
        batches = cropped(config, photos, np.random.default_rng([config.seed, epoch]), steps, device)
        losses = train_epoch(model, batches, optimizer, binary_cross_entropy_with_logits, after_step)
        done["epochs"], done["losses"] = epoch + 1, torch.cat([done["losses"], losses.cpu()])
        done["seconds"] += time.perf_counter() - start
        checkpoint.save(progress, parts, done)
        progress(Reached(0.95 * (epoch + 1) / config.epochs, epoch + 1, float(losses.mean()), float("nan")))
    mean = backbones.folded(mean)

    def both_mirrors(inputs: torch.Tensor) -> torch.Tensor:
        return (mean(inputs) + mean(inputs.flip(3))) / 2

    arrays = {f"logits_{split}": over_photos(both_mirrors, photos, split, config, device) for split in SPLITS}
    return {**arrays, "step_loss": done["losses"].numpy(), "seconds": np.array(done["seconds"])}


def cropped(config: Longer, photos: Photos, rng: np.random.Generator, steps: int, device: str) -> Iterator:
    """The batches of an epoch, of every photo a crop of its own, mirrored or not."""
    order = rng.permutation(len(photos.y["train"]))
    parts = split_into(order, config.batch_size)[:steps]
    beyond = config.view.side - config.size + 1
    cuts = [rng.integers((beyond, beyond, 2), size=(len(part), 3)) for part in parts]
    batches = photos.batches(config.view, "train", parts, device)
    for (inputs, targets), cut in zip(batches, cuts, strict=True):
        pieces = [
            photo[:, row : row + config.size, column : column + config.size].flip([2] * mirrored)
            for photo, (row, column, mirrored) in zip(inputs, cut, strict=True)
        ]
        yield torch.stack(pieces).contiguous(memory_format=torch.channels_last), targets


def longer(name: str, rates: Sequence[float], **how) -> dict[str, Longer]:
    """A baseline for each number of epochs at some learning rates, by label."""
    return {
        f"{name}, {plural(epochs, 'epoch')}, lr {rate:g}": Longer(name, train_longer, rate, epochs=epochs, **how)
        for epochs in EPOCHS
        for rate in rates
    }


LONGER = {
    "scratch": longer("scratch", (1e-3, 1e-2), pretrained=False),
    "fine-tune": longer("fine-tune", (1e-4, 1e-3)),
}
LARGER = {"fine-tune, 224 pixels, 20 epochs": Longer("fine-tune", train_longer, 1e-3, size=224, epochs=20)}


@experiment(
    "7.6",
    "epochs",
    "scratch and fine-tune for up to 30 epochs (not by default)",
    LARGER | LONGER["scratch"] | LONGER["fine-tune"],
    by_default=False,
)
def longer_training(runs: Runs, report: NetworksReport) -> None:
    """What do more epochs bring: when does a network from random weights begin to see, and what does fine-tuning gain?

    Varied: the epochs, each number a training of its own under a one-cycle rate, whose largest validation chooses;
    every photo comes as another crop each time, mirrored or not. One more run is on larger photos.
    """
    lines = {name: report.by_epochs(present(runs, configs)) for name, configs in LONGER.items()}
    report.table(runs.only([*(label for by in lines.values() for label in by.values()), *LARGER]))
    accuracy = {epochs: report.of(label) for epochs, label in lines["scratch"].items()}
    since = phrases.begins_to_see(accuracy, report.examples["test"], report.chance["test"])
    first = Measured(since or np.inf, "epochs from which on scratch is above chance")
    report.why(
        f"From random weights seeing takes time: one epoch is not enough, from {since or 'many more'} on test accuracy "
        "is above chance.",
        holds=(first > 1) & (first < np.inf),
    )
    once, *_, last = lines["fine-tune"].values()
    losses = [
        np.array([report.of(label, "loss", split) for label in lines["fine-tune"].values()]) for split in SPLITS[:2]
    ]
    report.why(
        f"Fine-tuning goes on learning and doesn't over-fit: {last} gets {report.of(last):.3f} of the test photos "
        f"right, {once} {report.of(once):.3f}, and the validation loss doesn't rise with the epochs.",
        holds=report.higher(last, once) & ~phrases.over_fits(*losses),
    )
    report.rule(phrases.begins_to_see, phrases.over_fits)
    report.draw_epochs("7.6_epochs", lines, LARGER, runs, LOOKS)


# ---------------------------------------------------------------------------- the study


def options(parser: argparse.ArgumentParser) -> None:
    xg.photo_options(parser)
    parser.set_defaults(seeds=2)
    names, help_text = list(backbones.NAMES), "resnet18, efficientnet-lite0 or auto (default)"
    parser.add_argument("--backbone", choices=["auto", *names], default="auto", metavar="NAME", help=help_text)
    precisions, help_text = ["auto", "fp32", "bf16"], "fp32, bf16 or auto (default: the faster)"
    parser.add_argument("--precision", choices=precisions, default="auto", metavar="NAME", help=help_text)
    help_text = f"side of the input in pixels (default: 224, demo {DEMO_SIZE})"
    parser.add_argument("--size", type=whole(32, 1024), metavar="N", help=help_text)
    help_text = "a state dict of the backbone in place of ImageNet's"
    parser.add_argument("--weights", type=Path, metavar="FILE", help=help_text)


def main(argv: list[str] | None = None) -> None:
    arguments = helpers.start("cnn", __doc__, helpers.experiments_in(globals()), argv, options)
    arguments.seeds = 1 if arguments.quick else arguments.seeds
    folder = arguments.data or helpers.demo_faces()
    check_folder(folder, "give --data a folder of photos")
    arguments.backbone, weights = backbones.choose_backbone(arguments.backbone, arguments.weights)
    arguments.precision = backbones.choose_precision(arguments.precision, arguments.backbone, arguments.device)
    configs = [config for one in arguments.experiments for config in one.adapted(arguments).needed.values()]
    views, most = dict.fromkeys(config.view for config in configs), xg.QUICK_PHOTOS if arguments.quick else None
    photos = helpers.load_photos(folder, [*views], arguments.memory, most)
    helpers.say_what_was_read(photos, folder, arguments)
    arguments.weights, arguments.context = (
        weights,
        {  # of the runs, and what stands for it in their keys
            "photos": photos.fingerprint,
            "weights": hashlib.sha256(weights).hexdigest(),
            "device": arguments.device,
            "torchvision": importlib.metadata.version("torchvision"),
        },
    )
    one_thread()  # as the workers
    helpers.run_study(photos, arguments, partial(NetworksReport, photos, arguments))


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
