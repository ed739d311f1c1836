"""What the page is given to evaluate: the parameters of the networks themselves, or a word why not."""

import base64
import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_up import SCALE, WAVES, network, places
from torch import nn

from lab.draw.maps import Atlas
from lab.gallery import live, page
from lab.nets.inputs import Inputs, represent

INPUTS = {
    "raw": Inputs(),
    "standardised": Inputs(True),
    "sines": Inputs(frequencies=(0.1, 0.2, 1.0)),
    "waves": WAVES,
}


@pytest.fixture(scope="module")
def of():
    """Two countries, west and east of 10 degrees, of which one has a name that is no name."""
    return places(["</script>" * 8000, "東"], 500)


def numbers(text: str, kind: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_live_map_holds_the_networks_and_what_their_maps_show(of):
    networks = [network(name, inputs) for name, inputs in INPUTS.items()]
    torch.manual_seed(2)
    networks.append(network("norm", WAVES, nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh()))
    for model, _ in networks[-1].stops.values():
        model.train()(torch.randn(99, 12) * 3 + 1)  # moves the means of batch normalisation
    shared = live.places(of, Atlas(of, 120))
    data = json.loads(page.dump(live.figure(networks, "raw", shared, of.x["test"])))
    assert data["left_out"] == {}
    assert [one["name"] for one in data["networks"]] == [one.name for one in networks]
    x = of.x["test"]
    for one, each in zip(data["networks"], networks, strict=True):
        assert one["inputs"] == json.loads(json.dumps(each.inputs.described()))
        for (epoch, accuracy, text), (stop, (model, share)) in zip(one["epochs"], each.stops.items(), strict=True):
            assert (epoch, accuracy) == (stop, share)
            found = live.answers(one["inputs"], np.array(one["scale"]), one["layers"], numbers(text), x)
            with torch.no_grad():
                expected = model.eval()(represent(x, each.inputs, SCALE))
            np.testing.assert_allclose(found, expected, atol=1e-4)
    ((name, held),) = data["shared"].items()
    assert name.startswith("places-")
    x, y = numbers(held["train"]["x"]).reshape(-1, 2), numbers(held["train"]["y"], "<u2")
    assert (np.diff(x[:, 1]) >= 0).all()
    assert {*map(tuple, x)} == {*map(tuple, of.x["train"])}
    np.testing.assert_array_equal(y, x[:, 0] * 2 // 20.001)
    assert [len(name) for name in held["countries"]] == [live.LONGEST_NAME + 1, 1]
    assert page.dump(data).count("<") == 0


@dataclass(frozen=True)
class Edited(Inputs):
    """What it makes of degrees is not what it says."""

    def __call__(self, x, mean, deviation):
        return super().__call__(1.5 * x, mean, deviation)


def seventh(x, mean, deviation):
    return x / 7


def test_what_the_page_does_not_know_is_left_out_with_a_word(of):
    odd = {
        "gelu": (network("gelu", WAVES, nn.GELU()), "nn.GELU"),
        "flat": (network("flat", WAVES, nn.Sequential(nn.ReLU(), nn.Flatten())), "nn.Flatten"),
        "tangents": (network("tangents", Inputs(True, (1.0,), ("tan",))), "waves=('tan',)"),
        "mine": (network("mine", seventh), "inputs=<function seventh"),
        "edited": (network("edited", Edited(True)), "what it makes of its inputs"),
    }
    networks = [network("plain"), *(one for one, _ in odd.values())]
    data = live.figure(networks, "gelu", {}, of.x["test"])
    assert [one["name"] for one in data["networks"]] == ["plain"]
    assert data["left_out"].keys() == odd.keys()
    assert all(word in data["left_out"][name] for name, (_, word) in odd.items())


def test_networks_that_are_too_large_for_a_page_lose_their_early_epochs_or_their_place(of, monkeypatch):
    networks = [
        network("wide", WAVES, nn.ReLU(), nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 8)),
        network("small", Inputs()),
        network("shown"),
    ]
    made = live.figure(networks, "shown", {}, of.x["test"])["networks"]
    sizes = {one["name"]: len(one["epochs"][0][2]) for one in made}
    monkeypatch.setattr(live, "MOST_LETTERS", 2 * sizes["shown"] + sizes["small"] + 1)
    data = live.figure(networks, "shown", {}, of.x["test"])
    assert {one["name"]: len(one["epochs"]) for one in data["networks"]} == {"small": 1, "shown": 2}
    assert [*data["left_out"]] == ["wide"]


def test_many_places_are_thinned(of, monkeypatch):
    monkeypatch.setattr(live, "MOST_PLACES", {"train": 100, "test": 50})
    (shared,) = live.places(of, Atlas(of, 120)).values()
    assert [len(numbers(shared[split]["y"], "<u2")) for split in ("train", "test")] == [100, 50]
    assert shared["train"]["of"] == 500


def test_samples_are_the_picked_photos_then_others_that_could_have_been_picked(monkeypatch):
    monkeypatch.setattr(live, "MOST_PHOTOS", 3)
    fake = {"best": np.linspace(0, 1, 8), "worst": np.linspace(1, 0, 8)}
    found = SimpleNamespace(y=np.arange(8) // 4, looks=fake, fake=fake.get)
    shown = SimpleNamespace(found=found, best="best", group=["worst"], candidates=np.arange(8), picked=np.array([6, 1]))
    pixels = SimpleNamespace(
        pixels=lambda view, split, those: np.stack([np.full((8, 8, 3), n, np.uint8) for n in those]),
        name=lambda split, number: f"{split} {number}",
    )
    data = live.samples(shown, pixels, None)
    assert [(one["name"], one["number"]) for one in data["photos"]] == [("test 6", 6), ("test 1", 1), ("test 0", 0)]
    assert data["note"] == "3 of the 8 photos that best gets right and worst wrong at 0.5:"
    assert data["y"] == [0] * 4 + [1] * 4
    for one in data["baselines"]:
        np.testing.assert_array_equal(numbers(one["fake"], "<f8"), fake[one["name"]])
