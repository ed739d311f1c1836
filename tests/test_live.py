"""What the page is given to evaluate, and the film: the parameters of the networks themselves, or a word why not."""

import base64
import json

import numpy as np
import pytest
import torch
from torch import nn

import NN_tutorial
from helpers import SPLITS, Places, Result
from lab.draw.maps import Atlas
from lab.gallery import live, page
from NN_tutorial import Config, Film, Study, film, mlp, train


@pytest.fixture(scope="module")
def places() -> Places:
    """Two countries, west and east of 12 degrees, of which one has a name that is no name."""
    draws = np.random.default_rng(0)
    x = {split: draws.uniform((0, 40), (20, 60), (500, 2)).astype(np.float32) for split in SPLITS}
    return Places(x, {split: (x[split][:, 0] > 12).astype(int) for split in x}, ["</script>" * 8000, "東"])


@pytest.fixture(scope="module")
def study(places) -> Study:
    return Study(places, range(2), True, {})


def result(places: Places, **changes) -> Result:
    config = Config(**{"depth": 2, "width": 8, "epochs": 3, "keep": (1,), "lr": 1e-2, "batch_size": 50} | changes)
    return Result(config, train(config, places, range(2), "cpu", lambda fraction: None))


def numbers(text: str, kind: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_live_map_holds_the_networks_and_what_their_maps_show(places, study):
    results = {name: result(places, features=name, batch_norm=name == "waves") for name in NN_tutorial.FEATURES}
    data = json.loads(page.dump(NN_tutorial.live_map(results, study, "raw")))
    assert data["left_out"] == {}
    assert [one["name"] for one in data["networks"]] == list(results)
    for one, each in zip(data["networks"], results.values(), strict=True):
        assert [epoch for epoch, *_ in one["epochs"]] == [0, 1, 3]
        replica = study.seeds.index(one["seed"])
        for epoch, accuracy, text in one["epochs"]:
            logits = live.answers(
                one["features"], np.array(one["scale"]), one["layers"], numbers(text), places.x["test"]
            )
            predict = NN_tutorial.predictor(each, places, epoch, replica)
            np.testing.assert_array_equal(logits.argmax(axis=1), predict(places.x["test"]))
            assert accuracy == np.mean(logits.argmax(axis=1) == places.y["test"])
    ((name, shared),) = data["shared"].items()
    assert name.startswith("places-")
    x, y = numbers(shared["train"]["x"]).reshape(-1, 2), numbers(shared["train"]["y"], "<u2")
    assert (np.diff(x[:, 1]) >= 0).all()
    assert {*map(tuple, x)} == {*map(tuple, places.x["train"])}
    np.testing.assert_array_equal(y, x[:, 0] > 12)
    assert [len(name) for name in shared["countries"]] == [live.LONGEST_NAME + 1, 1]
    assert page.dump(data).count("<") == 0


def test_what_the_page_does_not_know_is_left_out_with_a_word(places, study, monkeypatch):
    waves = NN_tutorial.waves
    monkeypatch.setattr(NN_tutorial, "waves", lambda z: waves(1.5 * z))  # an edit to the lesson
    monkeypatch.setitem(NN_tutorial.ACTIVATIONS, "gelu", nn.GELU)
    monkeypatch.setitem(NN_tutorial.FEATURES, "mine", lambda x, mean, deviation: x / 7)
    odd = {"edited": {"features": "waves"}, "gelu": {"activation": "gelu"}, "residual": {"residual": True},
           "leaky": {"activation": "leaky_relu"}, "mine": {"features": "mine"}}  # fmt: skip
    results = {"plain": result(places)} | {name: result(places, **changes) for name, changes in odd.items()}
    data = NN_tutorial.live_map(results, study, "gelu")
    assert [one["name"] for one in data["networks"]] == ["plain"]
    assert data["left_out"].keys() == odd.keys()
    words = {"gelu": "nn.GELU", "residual": "nn.Residual", "mine": "features='mine'", "edited": "what it makes of"}
    assert all(word in data["left_out"][name] for name, word in words.items())


def test_networks_that_are_too_large_for_a_page_lose_their_early_epochs_or_their_place(places, study, monkeypatch):
    results = {name: result(places, width=width) for name, width in (("wide", 64), ("small", 4), ("shown", 8))}
    sizes = {one["name"]: len(one["epochs"][0][2]) for one in NN_tutorial.live_map(results, study, "shown")["networks"]}
    monkeypatch.setattr(live, "MOST_LETTERS", 3 * sizes["shown"] + 2 * sizes["small"])
    data = NN_tutorial.live_map(results, study, "shown")
    assert {one["name"]: len(one["epochs"]) for one in data["networks"]} == {"small": 1, "shown": 3}
    assert [*data["left_out"]] == ["wide"]


def test_many_places_are_thinned(places, monkeypatch):
    monkeypatch.setattr(live, "MOST_PLACES", {"train": 100, "test": 50})
    (shared,) = live.places(places, Atlas(places, 120)).values()
    assert [len(numbers(shared[split]["y"], "<u2")) for split in ("train", "test")] == [100, 50]
    assert shared["train"]["of"] == 500


@pytest.mark.parametrize("change", [{}, {"shuffled_labels": True}], ids=str)
def test_a_film_is_the_training_from_its_first_network_to_its_last(places, change, monkeypatch):
    config, seed = Config(depth=2, width=4, epochs=6, batch_size=50, **change), 3
    told = []
    arrays = film(config, places, (seed,), "cpu", 5, told.append)
    made = Result(Film(5), arrays)
    assert made.kept == [0, 4, 15, 34, 60]  # of 60 updates, at n squared sixteenths
    assert told == [update / 60 for update in made.kept[1:]]
    torch.manual_seed(seed)
    first = mlp(config, 2, 2).state_dict()
    last = train(config, places, (seed,), "cpu", lambda fraction: None)
    for name, value in first.items():
        np.testing.assert_array_equal(arrays[f"0.{name}"][0], value)
        np.testing.assert_array_equal(arrays[f"60.{name}"], last[f"6.{name}"])
        assert (arrays[f"4.{name}"] != arrays[f"15.{name}"]).any()
    monkeypatch.setattr(NN_tutorial, "objection", lambda config, places: "because")  # the plain loop
    np.testing.assert_allclose(
        film(config, places, (seed,), "cpu", 5, told.append)["60.2.weight"], arrays["60.2.weight"], atol=1e-3
    )
