"""The stack of networks against ordinary ones, and what training returns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import NN_tutorial
from helpers import Places
from NN_tutorial import Config, Replicas, mlp, represent, train

ARCHITECTURES = {
    "standard": Config(),
    "one layer": Config(depth=1),
    "batch norm": Config(depth=3, batch_norm=True),
    "he": Config(depth=3, init="he"),
    "residual": Config(depth=4, residual=True),
    "residual batch norm": Config(depth=4, residual=True, batch_norm=True),
    "tanh": Config(depth=3, activation="tanh"),
    "he tanh batch norm": Config(depth=3, activation="tanh", init="he", batch_norm=True),
    "leaky ReLU residual": Config(depth=4, activation="leaky_relu", residual=True),
    "rezero": Config(depth=4, residual=True, init="rezero"),
}
SEEDS = range(3)
CLASSES = 5


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(7)
    inputs = 10 * torch.randn(25, len(SEEDS), 32, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (25, len(SEEDS), 32), generator=generator)
    return list(zip(inputs, targets, strict=True))


def ordinary(config: Config, seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return mlp(config, 2, CLASSES).double()


def test_a_batch_taken_in_parts_has_the_same_losses_and_gradient(batches, monkeypatch):
    inputs, targets = batches[0][0].mT.contiguous(), batches[0][1][:, None]
    for config in ARCHITECTURES.values():
        found = []
        for numbers in (10**9, len(SEEDS) * config.width * 10):  # 10 columns: 10, 10, 10 and 2 of 32
            monkeypatch.setattr(NN_tutorial, "CACHED", numbers)
            with torch.inference_mode():
                stack = Replicas([ordinary(config, seed) for seed in SEEDS])
                found.append((stack.differentiate(inputs, targets), stack.gradient))
        torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_replicas_equal_ordinary_networks_trained_one_by_one(name, batches):
    # In float64, as Adam makes full steps out of the rounding errors that are the gradient of a bias before batch norm.
    config = ARCHITECTURES[name]
    with torch.inference_mode():
        stack = Replicas([ordinary(config, seed) for seed in SEEDS])
        columns = [(inputs.mT.contiguous(), targets[:, None]) for inputs, targets in batches]
        stack_losses = [stack.step(inputs, targets, 1e-2, 0.9).mean(dim=(1, 2)) for inputs, targets in columns]
        stack_logits = stack.forward(columns[0][0])

    for seed in SEEDS:
        model = ordinary(config, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step, (inputs, targets) in enumerate(batches):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[seed]), targets[seed])
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(stack_losses[step][seed], loss.detach(), rtol=1e-8, atol=1e-8)
        model.eval()  # now the running statistics count
        with torch.no_grad():
            torch.testing.assert_close(stack_logits[seed].T, model(batches[0][0][seed]), rtol=1e-6, atol=1e-6)


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_parameter_of_every_network_is_in_the_stack_and_its_state():
    for config in ARCHITECTURES.values():
        models = [ordinary(config, seed) for seed in SEEDS]
        stack = Replicas(models)
        assert stack.flat.numel() == len(SEEDS) * parameters(models[0])
        state = stack.state()
        assert all(len(value) == len(SEEDS) for value in state.values())
        statistics = sum(buffer.numel() for buffer in models[0].buffers() if buffer.ndim)
        assert sum(value[0].numel() for value in state.values()) == parameters(models[0]) + statistics


def test_parameter_counts():
    assert parameters(mlp(Config(), 2, 35)) == (2 * 16 + 16) + 5 * (16 * 16 + 16) + (16 * 35 + 35)
    deep = mlp(NN_tutorial.DEEP, 2, 35)
    linear = [module for module in deep.modules() if isinstance(module, torch.nn.Linear)]
    assert len({id(module.weight) for module in linear}) == 101  # 100 different layers and the head
    assert parameters(mlp(replace(Config(), batch_norm=True), 2, 35)) == parameters(mlp(Config(), 2, 35)) + 6 * 2 * 16


def test_implicit_representation():
    x = torch.tensor([[3.0, 50.0], [-7.0, 40.0]])
    expected = [[np.sin(a / 10 * v) for a in range(1, 11) for v in row] for row in x.tolist()]
    torch.testing.assert_close(represent(x, "implicit"), torch.tensor(expected, dtype=torch.float32))
    assert represent(x, "raw") is x


@pytest.fixture(scope="module")
def quadrants() -> Places:
    """Four countries that meet in one point: easy, and known."""
    generator = np.random.default_rng(0)
    x = {split: generator.uniform(-10, 10, (n, 2)).astype(np.float32)
         for split, n in (("train", 1000), ("validation", 300), ("test", 300))}  # fmt: skip
    y = {split: (2 * (points[:, 0] > 0) + (points[:, 1] > 0)).astype(np.int64) for split, points in x.items()}
    return Places(x, y, ["SW", "NW", "SE", "NE"])


def run(config: Config, places: Places, seeds: range = SEEDS) -> dict[str, np.ndarray]:
    return train(config, places, seeds, "cpu", lambda fraction: None)


def test_training_learns_and_returns_every_curve(quadrants):
    config = Config(depth=2, lr=1e-2, batch_size=64, epochs=20, checks=3, keep=(2,))
    result = run(config, quadrants)
    for metric in ("loss", "accuracy"):
        for split in ("train", "validation", "test"):
            assert result[f"{metric}_{split}"].shape == (3, 20)
    assert (result["accuracy_test"][:, -1] > 0.95).all()
    assert (result["loss_train"][:, -1] < result["loss_train"][:, 0]).all()
    assert result["updates"] == 1000 // 64
    assert result["check_loss"].shape == (3, 60)
    assert result["check_updates"].tolist()[-1] == 20 * (1000 // 64)
    np.testing.assert_allclose(result["check_loss"][:, 2::3], result["loss_validation"], rtol=1e-5)
    assert (np.diff(result["check_seconds"]) > 0).all()
    assert {"2.weight.0", "20.weight.0"} <= set(result)


def test_seeds_differ_and_repeat(quadrants):
    config = Config(epochs=2, batch_size=100)
    first, second = run(config, quadrants), run(config, quadrants)
    assert len(set(first["loss_train"][:, -1])) == 3
    for name in first:
        if "seconds" not in name:
            np.testing.assert_array_equal(first[name], second[name])
    alone = run(config, quadrants, range(1, 2))  # a seed means the same network in any company
    np.testing.assert_allclose(alone["loss_train"][0], first["loss_train"][1], rtol=1e-3)


def test_the_gradient_is_the_mean_over_batches_of_the_mean_absolute_weight_gradient(quadrants):
    result = run(Config(depth=3, width=4, batch_size=1000, epochs=1, gradients=True), quadrants)
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = mlp(Config(depth=3, width=4), 2, 4)
        x, y = torch.from_numpy(quadrants.x["train"]), torch.from_numpy(quadrants.y["train"])
        F.cross_entropy(model(x), y).backward()
        expected = [m.weight.grad.abs().mean().item() for m in model.modules() if isinstance(m, torch.nn.Linear)]
        np.testing.assert_allclose(result["gradient"][seed, 0], expected, rtol=1e-4)


def test_shuffled_labels_are_learnt_from_and_judged_by_the_true_ones(quadrants, monkeypatch):
    seen = []
    step = Replicas.step

    def watched(stack, x, y, lr, beta1):
        seen.append((x.clone(), y.clone()))
        return step(stack, x, y, lr, beta1)

    monkeypatch.setattr(Replicas, "step", watched)
    config = Config(batch_size=100, epochs=2, shuffled_labels=True)
    result = run(config, quadrants)
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


def test_a_batch_larger_than_the_data_is_the_data(quadrants):
    assert run(Config(batch_size=4096, epochs=1, checks=5), quadrants)["updates"] == 1


def test_one_cycle_ends_where_constant_is_still_moving(quadrants):
    def last_step(schedule: str) -> float:
        result = run(Config(depth=1, lr=0.05, schedule=schedule, epochs=8, keep=(7,)), quadrants)
        return float(np.abs(result["8.weight.0"] - result["7.weight.0"]).max())

    assert last_step("one-cycle") < last_step("constant") / 5


def test_training_is_judged_on_as_many_places_as_validation(quadrants):
    part = NN_tutorial.judged(quadrants)
    assert {split: len(part.y[split]) for split in part.y} == {"train": 300, "validation": 300, "test": 300}
    assert len(np.unique(part.x["train"], axis=0)) == 300
    labels = {tuple(point): label for point, label in zip(quadrants.x["train"], quadrants.y["train"], strict=True)}
    assert [labels[tuple(point)] for point in part.x["train"]] == part.y["train"].tolist()


def idle(fraction: float) -> None:
    pass


def test_references_on_known_data(quadrants):
    arrays = NN_tutorial.fit_references(NN_tutorial.References(), quadrants, idle)
    arrays |= NN_tutorial.fit_forests(NN_tutorial.Forest(10), quadrants, SEEDS, idle)
    most = np.bincount(quadrants.y["train"]).argmax()
    assert arrays["majority class.test"] == np.mean(quadrants.y["test"] == most)
    assert arrays["nearest neighbour.train"] == 1.0
    assert arrays["random forest.test"].shape == (3,)
    assert (arrays["random forest.test"] > 0.95).all()


# ---------------------------------------------------------------------------- groups of seeds


def sizes(count: int, rows: int = 76_812, device: str = "cpu", **changes) -> list[int]:
    runs = NN_tutorial.plan({Config(**changes): "some"}, range(count), rows, device)["some"]
    groups = [run.arguments[0] for run in runs]
    assert [seed for group in groups for seed in group] == list(range(count))
    assert len({run.name for run in runs}) == len(runs)
    return [len(group) for group in groups]


def test_many_seeds_train_in_groups_of_bounded_memory(monkeypatch):
    assert sizes(12) == [5, 5, 2]
    assert sizes(100) == [5] * 20
    assert sizes(5, 10**7) == [4, 1]  # 24 bytes a place and seed, at most 1 GiB
    assert sizes(5, 10**7, features="implicit") == [1] * 5
    gpu = type("Properties", (), {"total_memory": 80 * 2**30})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: gpu)
    assert sizes(100, device="cuda") == [100]
    assert sizes(100, 10**8, device="cuda") == [17] * 5 + [15]


def test_groups_join_to_what_one_stack_gives(quadrants):
    config = Config(epochs=2, checks=2, gradients=True, keep=(1,))
    whole = run(config, quadrants)
    joined = NN_tutorial.join([run(config, quadrants, seeds) for seeds in (range(2), range(2, 3))])
    assert joined.keys() == whole.keys()
    for name, values in whole.items():
        assert joined[name].shape == values.shape, name
        if "seconds" not in name:
            np.testing.assert_allclose(joined[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    two = [{"seconds": np.array([1.0, 2.0]), "made_on": np.array(machine)} for machine in ("a", "b")]
    assert NN_tutorial.join(two)["seconds"].tolist() == [2.0, 4.0]
    assert NN_tutorial.join(two)["made_on"].tolist() == ["a", "b"]
