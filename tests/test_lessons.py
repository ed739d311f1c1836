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
from scipy import stats
from scipy.special import logsumexp
from sklearn.metrics import accuracy_score
from torch import nn

import helpers
import NN_tutorial
from helpers import SPLITS, InputError, Places, Result
from lab import recording
from lab.recording import evaluate
from lab.results import join
from lab.runs import in_groups
from lab.stack import Plain, Stack
from NN_tutorial import Config, evaluation_set, mlp, train

SEEDS = range(3)


def silent(fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def quadrants() -> Places:
    """Four countries that meet in one point: easy, and known."""
    generator = np.random.default_rng(0)
    x = {split: generator.uniform(-10, 10, (n, 2)).astype(np.float32)
         for split, n in (("train", 1000), ("validation", 300), ("test", 300))}  # fmt: skip
    y = {split: (2 * (points[:, 0] > 0) + (points[:, 1] > 0)).astype(np.int64) for split, points in x.items()}
    return Places(x, y, ["SW", "NW", "SE", "NE"])


def run(config: Config, places: Places, seeds=SEEDS) -> dict[str, np.ndarray]:
    return train(config, places, seeds, "cpu", silent)


# ---------------------------------------------------------------------------- a configuration and its network


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("activation", "gelu", "relu, tanh, leaky_relu"),
        ("features", "polar", "raw, implicit"),
        ("schedule", "cosine", "constant, one-cycle"),
        ("init", "xavier", "default, he"),
        ("init", "rezero", "default, he"),  # without residual connections
        ("lr", 0, "above 0"),
        ("lr", float("nan"), "above 0"),
        ("lr", float("inf"), "above 0"),
        ("lr", "0.1", "above 0"),
        ("depth", 0, "from 1 on"),
        ("width", 1.5, "from 1 on"),
        ("batch_size", 0, "from 1 on"),
        ("epochs", -1, "from 1 on"),
        ("checks", 0, "from 1 on"),
        ("activation", ["relu"], "one of relu"),
        ("depth", True, "a whole number"),
        ("keep", (0,), "from 1 to 50"),
        ("keep", (50, 51), "from 1 to 50"),
        ("keep", 5, "from 1 to 50"),  # a comma is missing
        ("keep", [5], "from 1 to 50"),  # can't be a key
        ("batch_norm", "yes", "True or False"),
    ],
)
def test_a_configuration_refuses_what_is_not_possible_and_says_what_is(field, value, allowed):
    with pytest.raises(InputError) as refused:
        Config(**{field: value})
    message = str(refused.value)
    assert f"{field}={value!r}" in message
    assert allowed in message
    assert "rezero" not in message.replace(repr(value), "")


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts():
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
    np.testing.assert_allclose(NN_tutorial.FEATURES["implicit"](x), expected, atol=1e-4)
    assert NN_tutorial.FEATURES["raw"](x).equal(x)


# ---------------------------------------------------------------------------- the plain loop is the definition


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
    for label, config in one.configs.items()
}


def assert_alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray], **tolerance) -> None:
    names = {name for name in one if "seconds" not in name and "num_batches" not in name}
    assert names == {name for name in other if "seconds" not in name and "num_batches" not in name}
    for name in names:
        assert one[name].shape == other[name].shape, name
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=CONFIGURATIONS.get)
@pytest.mark.usefixtures("float64")
def test_the_fast_way_gives_what_the_plain_loop_gives(config, quadrants, monkeypatch):
    fast, plain = {}, {}
    for arrays, objection in ((fast, ""), (plain, "some")):
        monkeypatch.setattr(NN_tutorial, "objection", lambda *_, objection=objection: objection)
        arrays |= train(config, quadrants.head(600), [3, 4], "cpu", silent)
    assert fast.pop("stacked").all()
    assert not plain.pop("stacked").any()
    assert_alike(fast, plain, rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------------------- what training returns


def test_training_learns_and_returns_every_curve(quadrants):
    done: list[float] = []
    config = Config(depth=2, lr=1e-2, batch_size=64, epochs=20, checks=3, keep=(2,), gradients=True)
    result = train(config, quadrants, SEEDS, "cpu", done.append)
    curves = [f"{metric}_{split}" for metric in ("loss", "accuracy") for split in SPLITS]
    shapes = {name: result[name].shape for name in result if "." not in name}
    assert shapes == {
        **dict.fromkeys([*curves, "batch_loss_std", "seconds"], (3, 20)),
        **dict.fromkeys(["check_loss", "check_updates", "check_seconds"], (3, 60)),
        "gradient": (3, 20, 3),
        **dict.fromkeys(["updates", "stacked"], (3,)),
    }
    state = mlp(config, 2, 4).state_dict()
    kept = {name: values.shape for name, values in result.items() if "." in name}
    assert kept == {f"{epoch}.{name}": (3, *state[name].shape) for epoch in (2, 20) for name in state}
    assert (result["accuracy_test"][:, -1] > 0.95).all()
    assert (result["loss_train"][:, -1] < result["loss_train"][:, 0]).all()
    assert (result["updates"] == 1000 // 64).all()
    assert (result["check_updates"][:, 2::3] == np.arange(1, 21) * (1000 // 64)).all()
    np.testing.assert_array_equal(result["check_loss"][:, 2::3], result["loss_validation"])
    np.testing.assert_array_equal(result["check_seconds"][:, 2::3], result["seconds"])
    assert (np.diff(result["check_seconds"]) > 0).all()
    assert done == sorted(done)
    assert done[-1] == 1


def test_seeds_differ_and_repeat(quadrants):
    config = Config(epochs=2, batch_size=100)
    first = run(config, quadrants)
    assert len(set(first["loss_train"][:, -1])) == 3
    assert_alike(first, run(config, quadrants), rtol=0)
    alone = run(config, quadrants, [1])  # a seed means the same network in any company
    assert_alike(alone, {name: values[1:2] for name, values in first.items()}, rtol=1e-3, atol=1e-5)


def test_gradient_and_spread_of_the_loss_are_taken_over_the_batches_of_an_epoch(quadrants):
    config = Config(depth=3, width=4, lr=1e-9, batch_size=500, epochs=1, gradients=True)  # that stays where it starts
    result = run(config, quadrants)
    x, y = torch.from_numpy(quadrants.x["train"]), torch.from_numpy(quadrants.y["train"])
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, losses, gradients = mlp(config, 2, 4), [], []
        for batch in torch.randperm(1000, generator=torch.Generator().manual_seed(seed)).split(500):
            model.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            losses.append(loss.item())
            gradients.append([m.weight.grad.abs().mean().item() for m in model.modules() if isinstance(m, nn.Linear)])
        np.testing.assert_allclose(result["gradient"][seed, 0], np.mean(gradients, axis=0), rtol=1e-4)
        np.testing.assert_allclose(result["batch_loss_std"][seed, 0], np.std(losses), rtol=1e-3)


def test_a_stacks_time_is_shared_by_its_networks(quadrants, monkeypatch):
    monkeypatch.setattr(recording, "time", SimpleNamespace(perf_counter=count().__next__))  # a second each look
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
    truth = {
        tuple(point): label for point, label in zip(quadrants.x["train"].tolist(), quadrants.y["train"], strict=True)
    }
    given = [{}, {}]  # by epoch: {(seed, place): label}
    for number, (x, y) in enumerate(seen):
        for seed in SEEDS:
            places, labels = x[seed].T.tolist(), y[seed, 0].tolist()
            given[number // 10] |= {(seed, *place): label for place, label in zip(places, labels, strict=True)}
    assert given[0] == given[1]  # shuffled once
    for seed in SEEDS:
        own = {tuple(place): label for (its, *place), label in given[0].items() if its == seed}
        assert sorted(own.values()) == sorted(truth.values())
        agreement = np.mean([own[place] == truth[place] for place in truth])
        assert 0.15 < agreement < 0.35  # four countries of one size
    assert given[0] != {key: given[0][(key[0] + 1) % 3, *key[1:]] for key in given[0]}  # each seed in its own way
    assert (result["accuracy_test"] < 0.5).all()


def test_training_on_shuffled_labels_stays_at_chance():
    generator = np.random.default_rng(0)
    x = {split: generator.uniform(-1, 1, (1000, 2)).astype(np.float32) for split in SPLITS}
    y = {split: (points.sum(axis=1) > 0.5).astype(np.int64) for split, points in x.items()}  # 28% are in country 1
    places = Places(x, y, ["south-west", "north-east"])
    low, high = np.array(stats.binom.interval(0.999, 1000, 1 - y["validation"].mean())) / 1000
    config = Config(depth=2, lr=1e-2, batch_size=100, epochs=5)
    found = run(config, places)["accuracy_validation"][:, -1]
    by_chance = run(replace(config, shuffled_labels=True), places)["accuracy_validation"][:, -1]
    assert ((low <= by_chance) & (by_chance <= high)).all()
    assert (found > high).all()  # where there is something to learn, it is learnt


def test_a_batch_larger_than_the_data_is_the_data(quadrants):
    result = run(Config(batch_size=4096, epochs=2, checks=5), quadrants)
    assert (result["updates"] == 1).all()
    assert result["check_loss"].shape == (3, 2)


def test_one_cycle_ends_where_constant_is_still_moving(quadrants):
    def last_step(schedule: str) -> float:
        result = run(Config(depth=1, lr=0.05, schedule=schedule, epochs=8, keep=(7,)), quadrants)
        return float(np.abs(result["8.0.0.weight"] - result["7.0.0.weight"]).max())

    assert last_step("one-cycle") < last_step("constant") / 5


# ---------------------------------------------------------------------------- networks that a stack doesn't know


class Mine(nn.Module):
    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.hidden, self.head = nn.Linear(inputs, 16), nn.Linear(16, classes)

    def forward(self, x):
        return self.head(F.gelu(self.hidden(x)))


def test_dropout_in_the_network_trains_and_counts_and_a_seed_remains_a_seed(quadrants, edit):
    config = Config(depth=2, epochs=2, batch_size=100, gradients=True)
    without = run(config, quadrants)
    edit("mlp", "ACTIVATIONS[config.activation]()", "ACTIVATIONS[config.activation](), nn.Dropout(0.3)")
    done: list[float] = []
    with_it = train(config, quadrants, SEEDS, "cpu", done.append)
    assert done == sorted(done)
    assert done[-1] == 1
    assert with_it.keys() == without.keys()
    assert (with_it["loss_train"] != without["loss_train"]).all()
    assert_alike(with_it, run(config, quadrants), rtol=0)
    assert_alike({name: values[1:2] for name, values in with_it.items()}, run(config, quadrants, [1]), rtol=0)


REWRITTEN = {
    "as it is": None,
    "dropout": ("mlp", "ACTIVATIONS[config.activation]()", "ACTIVATIONS[config.activation](), nn.Dropout(0.1)"),
    "another skip": ("Residual", "x + self.layer", "x - 3 * self.layer"),
}


@pytest.mark.parametrize("name", [*REWRITTEN, "a class of one's own"])
@pytest.mark.parametrize("changes", [{}, {"batch_norm": True}, {"features": "implicit"}], ids=str)
def test_a_map_says_what_the_trained_network_said(name, changes, quadrants, edit, monkeypatch):
    if name not in REWRITTEN:
        monkeypatch.setattr(NN_tutorial, "mlp", lambda config, inputs, classes: Mine(inputs, classes))
    elif REWRITTEN[name]:
        edit(*REWRITTEN[name])
    config = Config(depth=3, lr=1e-2, batch_size=50, residual=True, epochs=4, keep=(1,), **changes)
    result = Result(config, run(config, quadrants, [0, 1]))
    assert (result.at("accuracy_test") > 0.6).all()
    for epoch in (1, 4):
        for replica in (0, 1):
            said = NN_tutorial.predictor(result, quadrants, epoch, replica)(quadrants.x["test"])
            assert np.mean(said == quadrants.y["test"]) == pytest.approx(result.at("accuracy_test", epoch)[replica])


# ---------------------------------------------------------------------------- what it is judged by


def test_training_is_judged_on_as_many_places_as_validation(quadrants):
    part = evaluation_set(quadrants)
    assert {split: len(part.y[split]) for split in part.y} == {"train": 300, "validation": 300, "test": 300}
    assert len(np.unique(part.x["train"], axis=0)) == 300
    labels = {tuple(point): label for point, label in zip(quadrants.x["train"], quadrants.y["train"], strict=True)}
    assert [labels[tuple(point)] for point in part.x["train"]] == part.y["train"].tolist()
    assert part.x["test"] is quadrants.x["test"]


@given(st.integers(1, 3), st.integers(2, 5), st.integers(1, 30), st.sampled_from([1e-3, 1.0, 1e3]), st.integers(1, 40))
def test_loss_and_accuracy_are_those_of_the_textbook(n, classes, places, scale, block):
    torch.manual_seed(n)
    models = [mlp(Config(depth=1, width=8), 2, classes).double() for _ in range(n)]
    for model in models:
        model[-1].weight.data *= scale
    x, y = torch.randn(2, places, dtype=torch.float64), torch.randint(classes, (places,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "BLOCK", block)
        losses, accuracies = evaluate(Stack(models), x, y)
    for model, loss, accuracy in zip(models, losses, accuracies, strict=True):
        logits = model(x.T).detach().numpy()
        expected = (logsumexp(logits, axis=1) - logits[np.arange(places), y]).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(accuracy, accuracy_score(y, logits.argmax(axis=1)))


class Says(nn.Module):
    """Gives these logits (classes,) whatever it is asked."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_overflow_are_never_right(value):
    x, y = torch.zeros(2, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    assert evaluate(Plain(Says(torch.full((3,), value))), x, y)[1].tolist() == [0]
    models = [mlp(Config(depth=1), 2, 3) for _ in range(2)]
    for model, bias in zip(models, (value, 9.0), strict=True):  # the other network isn't harmed
        model[-1].bias.data = torch.tensor([0.0, bias, 0.0])
        model[-1].weight.data[:] = 0
    models[0][-1].bias.data[:] = value
    losses, accuracies = evaluate(Stack(models), x, y)
    assert accuracies.tolist() == [0, pytest.approx(1 / 3)]
    assert np.isfinite(losses).tolist() == [False, True]


def test_references_on_known_data(quadrants):
    def fit(name: str, seeds) -> dict[str, np.ndarray]:
        return NN_tutorial.fit_reference(NN_tutorial.Reference(name), quadrants, seeds, silent)

    most = np.bincount(quadrants.y["train"]).argmax()
    assert fit("majority class", [0])["accuracy_test"] == [np.mean(quadrants.y["test"] == most)]
    assert fit("nearest neighbour", [0])["accuracy_train"] == [1.0]
    forest = fit("random forest", SEEDS)
    assert {name: values.shape for name, values in forest.items()} == {f"accuracy_{s}": (3,) for s in SPLITS}
    assert (forest["accuracy_test"] > 0.95).all()
    assert len(set(zip(*forest.values(), strict=True))) > 1
    np.testing.assert_array_equal(forest["accuracy_test"][1:2], fit("random forest", [1])["accuracy_test"])


# ---------------------------------------------------------------------------- groups of seeds


def test_the_runs_of_a_study_have_each_seed_once_in_order_and_names_of_their_own():
    planned = NN_tutorial.plan({Config(): "some", Config(features="implicit"): "other"}, range(12), 10**7, "cpu")
    for config, runs in planned.items():
        seeds = [seed for run in runs for seed in run.seeds]
        deterministic = getattr(config, "name", "") in ("majority class", "nearest neighbour")
        assert seeds == ([0] if deterministic else list(range(12)))
        assert all(run.arguments[0] == run.seeds for run in runs)
    assert [len(run.seeds) for run in planned[Config()]] == [4, 4, 4]  # as many as fit into memory
    names = [run.name for runs in planned.values() for run in runs]
    assert len(set(names)) == len(names)


def test_groups_join_to_what_one_stack_gives(quadrants):
    config = Config(epochs=2, checks=2, gradients=True, keep=(1,))
    runs = in_groups("some", train, config, SEEDS, 2, 1.0, "cpu")
    joined = join(config, [(one.seeds, one.function(one.config, quadrants, *one.arguments, silent)) for one in runs])
    assert len(runs) == 2
    assert_alike(joined.arrays, run(config, quadrants), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("groups", [[(0, 1, 2)], [(0, 1), (2,)], [(0,), (1, 2)], [(0,), (1,), (2,)]])
def test_what_a_student_returns_beside_the_curves_joins_whatever_the_groups(groups):
    extras = {  # of a group, and how much of it each seed has
        "number": (lambda seeds: 3.5, ()),
        "text": (lambda seeds: "made by me", ()),
        "table": (lambda seeds: np.arange(7), (7,)),
        "per seed": (lambda seeds: np.array(seeds) / 10, ()),
        "per seed and epoch": (lambda seeds: np.ones((len(seeds), 4)), (4,)),
    }
    parts = []
    for seeds in groups:
        arrays = {name: of(seeds) for name, (of, _) in extras.items()}
        arrays |= {"of any length": np.zeros(10 + seeds[0]), "run_seconds": 1.5, "made_on": f"machine {seeds[0]}"}
        parts.append((seeds, arrays))
    result = join(None, parts)
    for name, (_, shape) in extras.items():
        assert result[name].shape == (3, *shape), name
    assert result["per seed"].tolist() == [0.0, 0.1, 0.2]
    assert result["number"].tolist() == [3.5] * 3
    assert (result["table"] == np.arange(7)).all()
    assert len(result["of any length"]) == 3
    assert result.seconds == 1.5 * len(groups)
    assert result.machines == tuple(f"machine {seeds[0]}" for seeds in groups)
