"""Section 6: what is trained, what training returns, and that the fast way is the plain one."""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from torch import nn

import helpers
import NN_tutorial
from helpers import SPLITS, InputError, Places, Result
from lab import study
from lab.nets import record, references, replicas, stack
from lab.nets.inputs import scale_of
from lab.nets.replicas import evaluation_set
from lab.nets.stack import Stack
from NN_tutorial import Config, lesson, mlp, train

SEEDS = range(3)


@pytest.fixture(scope="module")
def quadrants() -> Places:
    """Four countries that meet in one point: easy, and known."""
    generator = np.random.default_rng(0)
    x = {split: generator.uniform(-10, 10, (n, 2)).astype(np.float32)
         for split, n in (("train", 1000), ("validation", 300), ("test", 300))}  # fmt: skip
    y = {split: (2 * (points[:, 0] > 0) + (points[:, 1] > 0)).astype(np.int64) for split, points in x.items()}
    return Places(x, y, ["SW", "NW", "SE", "NE"])


def run(config: Config, places: Places, seeds=SEEDS) -> dict[str, np.ndarray]:
    return train(config, places, "cpu", seeds, lambda fraction: None)


REFUSED = {  # what a field may be, and what it may not
    "activation": ("one of relu, tanh, leaky_relu", ["no such", ["relu"]]),
    "features": ("raw, standardised, implicit, waves", ["polar"]),
    "schedule": ("constant, one-cycle", ["cosine"]),
    "init": ("default, he", ["xavier", "rezero"]),  # the latter without residual connections
    "film": ("from 0 on", [-1, 1.5]),
    "lr": ("above 0", [0, float("nan"), float("inf"), "0.1"]),
    **dict.fromkeys(("depth", "width", "batch_size", "epochs", "checks"), ("from 1 on", [0, -1, 1.5, True])),
    "keep": ("from 1 to 50", [(0,), (50, 51), 5, [5]]),  # a comma is missing, and what can't be a key
    "batch_norm": ("True or False", ["yes"]),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in REFUSED for value in REFUSED[field][1]])
def test_a_configuration_refuses_what_is_not_possible_and_says_what_is(field, value):
    with pytest.raises(InputError) as refused:
        Config(**{field: value})
    message = str(refused.value)
    assert f"{field}={value!r}" in message
    assert REFUSED[field][0] in message
    assert "rezero" not in message.replace(repr(value), "")


def test_parameter_counts():
    def parameters(model: nn.Module) -> int:
        return sum(parameter.numel() for parameter in model.parameters())

    assert parameters(mlp(Config(), 2, 35)) == (2 * 16 + 16) + 5 * (16 * 16 + 16) + (16 * 35 + 35)
    linear = [module for module in mlp(NN_tutorial.DEEP, 2, 35).modules() if isinstance(module, nn.Linear)]
    assert len({id(module.weight) for module in linear}) == 101  # 100 different layers and the head
    assert parameters(mlp(Config(batch_norm=True), 2, 35)) == parameters(mlp(Config(), 2, 35)) + 6 * 2 * 16
    gated = Config(residual=True, init="rezero")
    assert parameters(mlp(gated, 2, 35)) == parameters(mlp(Config(residual=True), 2, 35)) + 5


@given(st.lists(st.tuples(st.floats(-180, 180, width=32), st.floats(-90, 90, width=32)), min_size=1, max_size=20))
def test_implicit_features_are_ten_sines_of_each_coordinate(places):
    x = torch.tensor(places)
    scales = np.repeat(np.arange(1, 11) / 10, 2)  # 0.1 long, 0.1 lat, 0.2 long, 0.2 lat, ...
    expected = np.sin(scales * np.tile(x.double().numpy(), 10))
    np.testing.assert_allclose(
        lesson().represent(x.numpy(), Config(features="implicit"), np.ones((2, 2))), expected, atol=1e-4
    )
    assert lesson().represent(x.numpy(), Config(), np.ones((2, 2))).equal(x)


def test_the_scale_of_the_inputs_is_that_of_train_alone_and_stands_with_the_run(quadrants, silent):
    scale = scale_of(quadrants.x["train"])
    train_part = quadrants.x["train"].astype(float)
    np.testing.assert_allclose(scale, [train_part.mean(axis=0), train_part.std(axis=0)])
    inputs = lesson().represent(quadrants.x["train"], Config(features="standardised"), scale).numpy()
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(axis=0), 1, rtol=1e-6)
    elsewhere = Places(quadrants.x | {"test": quadrants.x["test"] + 100}, quadrants.y, quadrants.countries)
    np.testing.assert_array_equal(scale_of(elsewhere.x["train"]), scale)
    assert (scale_of(np.ones((3, 2)))[1] == 1).all()  # a single place
    config = Config(features="waves", depth=1, epochs=1)
    np.testing.assert_array_equal(train(config, quadrants, "cpu", [0], silent)["scale"], scale[None])
    assert lesson().represent(np.zeros((5, 2)), config, scale).shape == (5, 28)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def shortened(config: Config) -> Config:
    """The same training in two epochs, everything recorded.

    Through 100 layers of batch norm alone rounding grows until nothing of two results is alike; ten are compared.
    """
    depth = min(config.depth, 10 if config.batch_norm and not config.residual else 100)
    return replace(config, depth=depth, epochs=2, keep=(1,), checks=2, gradients=True)


CONFIGURATIONS = {  # and the last of their labels
    shortened(config): f"{one.name} {label}"
    for one in helpers.experiments_in(vars(NN_tutorial))
    for label, config in one.needed.items()
    if type(config) is Config
}


def assert_alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray], **tolerance) -> None:
    names = {name for name in one if "seconds" not in name and "num_batches" not in name}
    assert names == {name for name in other if "seconds" not in name and "num_batches" not in name}
    for name in names:
        assert one[name].shape == other[name].shape, name
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=CONFIGURATIONS.get)
@pytest.mark.usefixtures("float64")
def test_the_fast_way_gives_what_the_plain_loop_gives(config, quadrants, monkeypatch, silent):
    fast, plain = {}, {}
    for arrays, objection in ((fast, ""), (plain, "some")):
        monkeypatch.setattr(replicas, "objection", lambda *_, objection=objection: objection)
        arrays |= train(config, quadrants.head(600), "cpu", [3, 4], silent)
    assert fast.pop("stacked").all()
    assert not plain.pop("stacked").any()
    noise = 1e-8 if config.batch_norm else 1e-9  # a bias before batch norm follows rounding alone
    assert_alike(fast, plain, rtol=1e-7, atol=noise)


def test_training_learns_and_returns_every_curve(quadrants):
    done: list[float] = []
    config = Config(depth=2, lr=1e-2, batch_size=64, epochs=20, checks=3, keep=(2,), gradients=True)
    result = train(config, quadrants, "cpu", SEEDS, done.append)
    curves = [f"{metric}_{split}" for metric in ("loss", "accuracy") for split in SPLITS]
    shapes = dict.fromkeys([*curves, "batch_loss_std", "seconds"], (3, 20)) | {"gradient": (3, 20, 3)}
    shapes |= dict.fromkeys(["check_loss", "check_updates", "check_seconds"], (3, 60))
    shapes |= dict.fromkeys(["updates", "stacked"], (3,))
    state = mlp(config, 2, 4).state_dict()
    shapes |= {f"{epoch}.{name}": (3, *state[name].shape) for epoch in (2, 20) for name in state}
    shapes |= {f"right_{split}@{epoch}": (3, 300) for epoch in (2, 20) for split in SPLITS}
    shapes |= {"silent": (3, 2, 2), "spread": (3, 2, 2), "scale": (3, 2, 2)}
    assert {name: values.shape for name, values in result.items()} == shapes
    assert (result["accuracy_test"][:, -1] > 0.95).all()
    assert (result["loss_train"][:, -1] < result["loss_train"][:, 0]).all()
    assert (result["updates"] == 1000 // 64).all()
    assert (result["check_updates"][:, 2::3] == np.arange(1, 21) * (1000 // 64)).all()
    np.testing.assert_array_equal(result["check_loss"][:, 2::3], result["loss_validation"])
    np.testing.assert_array_equal(result["check_seconds"][:, 2::3], result["seconds"])
    assert (np.diff(result["check_seconds"]) > 0).all()
    assert done == sorted(done)
    assert done[-1] == 1
    assert (run(Config(batch_size=4096, epochs=2, checks=5), quadrants)["updates"] == 1).all()  # there are 1000


@pytest.mark.parametrize("dropout", [False, True])
def test_seeds_differ_repeat_and_are_the_same_in_any_company(dropout, quadrants, edit):
    if dropout:
        edit("mlp", "ACTIVATIONS[config.activation]()", "ACTIVATIONS[config.activation](), nn.Dropout(0.3)")
    config = Config(depth=2, epochs=2, batch_size=100, gradients=True)
    first = run(config, quadrants)
    assert first["stacked"].any() != dropout
    assert len(set(first["loss_train"][:, -1])) == 3
    assert_alike(first, run(config, quadrants), rtol=0)
    alone = {name: values[1:2] for name, values in first.items()}
    assert_alike(alone, run(config, quadrants, [1]), rtol=0 if dropout else 1e-3, atol=0 if dropout else 1e-5)


def test_gradient_and_spread_of_the_loss_are_taken_over_the_batches_of_an_epoch(quadrants):
    config = Config(depth=3, width=4, lr=1e-9, batch_size=500, epochs=1, gradients=True)  # that stays where it starts
    result = run(config, quadrants)
    x, y = torch.from_numpy(quadrants.x["train"]), torch.from_numpy(quadrants.y["train"])
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, losses, gradients = mlp(config, 2, 4), [], []
        weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
        for batch in torch.randperm(1000, generator=torch.Generator().manual_seed(seed)).split(500):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            losses.append(loss.item())
            gradients.append([gradient.abs().mean() for gradient in torch.autograd.grad(loss, weights)])
        np.testing.assert_allclose(result["gradient"][seed, 0], np.mean(gradients, axis=0), rtol=1e-4)
        np.testing.assert_allclose(result["batch_loss_std"][seed, 0], np.std(losses), rtol=1e-3)


def test_a_stacks_time_is_shared_by_its_networks(quadrants, monkeypatch):
    monkeypatch.setattr(record, "time", SimpleNamespace(perf_counter=count().__next__))  # a second each look
    result = run(Config(epochs=2, checks=2), quadrants)
    np.testing.assert_allclose(result["check_seconds"], [np.arange(1, 5) / 3] * 3)
    np.testing.assert_allclose(result["seconds"], [[2 / 3, 4 / 3]] * 3)


def test_shuffled_labels_are_learnt_from_and_judged_by_the_true_ones(quadrants, monkeypatch):
    seen, step = [], Stack.step

    def watched(networks, x, y, lr, beta1):
        if networks.count == len(SEEDS):
            seen.append((x.clone(), y.clone()))
        return step(networks, x, y, lr, beta1)

    monkeypatch.setattr(Stack, "step", watched)
    result = run(Config(batch_size=100, epochs=2, shuffled_labels=True), quadrants)

    def labels(seed: int, epoch: int) -> list[int]:
        """What a seed is told in an epoch, in the order of the places."""
        told = {}
        for x, y in seen[10 * epoch : 10 * epoch + 10]:
            told |= dict(zip(map(tuple, x[seed].T.tolist()), y[seed, 0].tolist(), strict=True))
        return [told[tuple(place)] for place in quadrants.x["train"].tolist()]

    truth = quadrants.y["train"]
    for seed in SEEDS:
        assert labels(seed, 0) == labels(seed, 1)  # shuffled once
        assert labels(seed, 0) != labels((seed + 1) % 3, 0)  # each seed in its own way
        assert sorted(labels(seed, 0)) == sorted(truth)
        assert 0.15 < np.mean(labels(seed, 0) == truth) < 0.35  # four countries of one size
    assert (result["accuracy_test"] < 0.5).all()


def test_one_cycle_ends_where_constant_is_still_moving(quadrants):
    def last_step(schedule: str) -> float:
        result = run(Config(depth=1, lr=0.05, schedule=schedule, epochs=8, keep=(7,)), quadrants)
        return float(np.abs(result["8.0.0.weight"] - result["7.0.0.weight"]).max())

    assert last_step("one-cycle") < last_step("constant") / 5


class Mine(nn.Sequential):
    def __init__(self, config: Config, inputs: int, classes: int):
        super().__init__(nn.Linear(inputs, 16), nn.GELU(), nn.Linear(16, classes))


REWRITTEN = {
    "as it is": ("mlp", "", ""),
    "dropout": ("mlp", "ACTIVATIONS[config.activation]()", "ACTIVATIONS[config.activation](), nn.Dropout(0.1)"),
    "another skip": ("Residual", "x + self.layer", "x - 3 * self.layer"),
}


@pytest.mark.parametrize("name", [*REWRITTEN, "a class of one's own"])
@pytest.mark.parametrize("changes", [{}, {"batch_norm": True}, {"features": "implicit"}], ids=str)
def test_a_map_says_what_the_trained_network_said(name, changes, quadrants, edit, monkeypatch):
    if name in REWRITTEN:
        edit(*REWRITTEN[name])
    else:
        monkeypatch.setattr(NN_tutorial, "mlp", Mine)
    config = Config(depth=3, lr=1e-2, batch_size=50, residual=True, epochs=4, keep=(1,), **changes)
    result = Result(config, run(config, quadrants, [0, 1]))
    assert (result.at("accuracy_test") > 0.6).all()
    for epoch, replica in ((1, 0), (1, 1), (4, 0), (4, 1)):
        model = replicas.trained(lesson(), result, len(quadrants.countries), epoch, replica)
        said = replicas.predictor(lesson(), result, model, replica)(quadrants.x["test"])
        assert np.mean(said == quadrants.y["test"]) == pytest.approx(result.at("accuracy_test", epoch)[replica])


def test_training_is_judged_on_as_many_places_as_validation(quadrants):
    part = evaluation_set(quadrants)
    assert {split: len(labels) for split, labels in part.y.items()} == dict.fromkeys(SPLITS, 300)
    pairs = [set(zip(*places.x["train"].T, places.y["train"], strict=True)) for places in (part, quadrants)]
    assert len(pairs[0]) == 300
    assert pairs[0] < pairs[1]
    assert part.x["test"] is quadrants.x["test"]


def test_references_on_known_data(quadrants, silent):
    def fit(name: str, seeds) -> dict[str, np.ndarray]:
        right = references.fit(references.Reference(name), quadrants, "cpu", seeds, silent)
        return {name.replace("right", "accuracy"): each.mean(axis=1) for name, each in right.items()}

    most = np.bincount(quadrants.y["train"]).argmax()
    assert fit("majority class", [0])["accuracy_test"] == [np.mean(quadrants.y["test"] == most)]
    assert fit("nearest neighbour", [0])["accuracy_train"] == [1.0]
    forest = fit("random forest", SEEDS)
    assert {name: values.shape for name, values in forest.items()} == {f"accuracy_{s}": (3,) for s in SPLITS}
    assert (forest["accuracy_test"] > 0.95).all()
    assert len(set(zip(*forest.values(), strict=True))) > 1
    np.testing.assert_array_equal(forest["accuracy_test"][1:2], fit("random forest", [1])["accuracy_test"])
    whole = RandomForestClassifier(random_state=1).fit(quadrants.x["train"], quadrants.y["train"])
    said = references.forest(quadrants.x["train"], quadrants.y["train"], quadrants.x["test"], 1)
    np.testing.assert_array_equal(said, whole.predict(quadrants.x["test"]))


def test_the_runs_of_a_study_have_each_seed_once_in_order_and_names_of_their_own(quadrants, monkeypatch):
    arguments = SimpleNamespace(seeds=12, device="cpu", quick=False)
    monkeypatch.setattr(stack, "group_size", lambda rows, inputs, device: 5)
    works = [c.work(name, quadrants, arguments, None) for name, c in (("some", Config()), ("other", Config(depth=2)))]
    for work in works:
        assert [seed for run in work.runs for seed in run.seeds] == list(range(12))
        assert all(run.arguments == (run.seeds,) for run in work.runs)
        assert [len(run.seeds) for run in work.runs] == [5, 5, 2]
    names = [run.name for work in works for run in work.runs]
    assert len(set(names)) == len(names)
    forest = references.REFERENCES["random forest"].work("", quadrants, arguments, None)
    assert [run.seeds for run in forest.runs] == [(0,)]


def test_a_film_is_kept_of_the_first_seed_alone_and_ends_with_its_last_parameters(quadrants):
    config = Config(depth=2, epochs=3, batch_size=100, film=5)
    both = run(config, quadrants, [0, 1])
    assert both["film.updates"].tolist() == [2, 8, 17, 30]
    state = mlp(config, 2, 4).state_dict()
    for name, value in state.items():
        assert both[f"film.{name}"].shape == (4, *value.shape)
        np.testing.assert_array_equal(both[f"film.{name}"][-1], both[f"3.{name}"][0])
    joined = study.join_arrays([((0, 1), both), ((2,), run(config, quadrants, [2]))])
    np.testing.assert_array_equal(joined["film.0.0.weight"], both["film.0.0.weight"])
    assert joined["loss_test"].shape == (3, 3)
    filmed = list(replicas.filmed(lesson(), Result(config, joined), 4))
    assert [update for update, _ in filmed] == [0, 2, 8, 17, 30]
    torch.manual_seed(0)
    assert torch.equal(filmed[0][1][0][0].weight, mlp(config, 2, 4)[0][0].weight)
    assert record.frames_of(5, 1) == {1}  # fewer updates than frames
