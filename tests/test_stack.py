"""Many networks as one stack: the numbers of ordinary networks trained one by one, or an objection."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import helpers
import NN_tutorial
from helpers import SPLITS, Places
from lab.stack import Stack, Unknown, adam_plan, group_size
from NN_tutorial import Config, mlp

INPUTS, CLASSES = 2, 3
SEEDS = st.integers(0, 10**6)
COMPANIES = st.lists(SEEDS, min_size=1, max_size=4, unique=True)  # seeds of networks that are trained together
BATCHES = st.integers(2, 12)
SKIPS = [(False, "default"), (False, "he"), (True, "default"), (True, "he"), (True, "rezero")]
CONFIGS = st.builds(
    lambda skip, **others: Config(residual=skip[0], init=skip[1], **others),
    st.sampled_from(SKIPS),
    depth=st.integers(1, 4),
    width=st.integers(1, 6),
    activation=st.sampled_from(sorted(NN_tutorial.ACTIVATIONS)),
    batch_norm=st.booleans(),
)
RATES = [(1e-2, 0.9), (3e-2, 0.85), (1e-3, 0.95), (2e-2, 0.9), (1e-2, 0.88)]  # learning rate and beta1 of five updates


def network(config: Config, seed: int) -> nn.Module:
    """An `mlp` in float64, moved a little, as ReZero's gates and many biases start at 0, where much goes unseen."""
    torch.manual_seed(seed)
    model = mlp(config, INPUTS, CLASSES).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def batch(seeds: list[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (N, in, B) and classes (N, 1, B), those of a network drawn under its seed."""
    x, y = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x.append(10 * torch.randn(INPUTS, size, generator=generator, dtype=torch.float64))
        y.append(torch.randint(CLASSES, (1, size), generator=generator))
    return torch.stack(x), torch.stack(y)


# ---------------------------------------------------------------------------- the numbers


@given(CONFIGS, COMPANIES, BATCHES)
def test_the_written_out_gradient_is_that_of_autograd(config, seeds, size):
    models = [network(config, seed) for seed in seeds]
    x, y = batch(seeds, size)
    networks = Stack(models)
    losses = networks.differentiate(x, y)
    for model, inputs, classes, its_losses in zip(models, x, y, losses, strict=True):
        expected = F.cross_entropy(model(inputs.T), classes[0], reduction="none")
        torch.testing.assert_close(its_losses[0], expected.detach())
        expected.mean().backward()
        for parameter in model.parameters():
            parameter.data = parameter.grad
    torch.testing.assert_close(networks.gradient, Stack(models).flat)


@given(CONFIGS, COMPANIES, st.integers(8, 32))
def test_losses_answers_and_state_are_those_of_networks_trained_one_by_one_with_adam(config, seeds, size):
    # In float64, as Adam makes full steps out of the rounding errors that are the gradient of a bias before batch norm.
    x, y = batch(seeds, size)
    networks = Stack([network(config, seed) for seed in seeds])
    losses = torch.stack([networks.step(x, y, *rates).mean(dim=(1, 2)) for rates in RATES], dim=1)
    answers = networks.forward(x)

    for number, seed in enumerate(seeds):
        model = network(config, seed)
        optimizer = torch.optim.Adam(model.parameters())
        for step, (lr, beta1) in enumerate(RATES):
            optimizer.param_groups[0] |= {"lr": lr, "betas": (beta1, 0.999)}
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[number].T), y[number, 0])
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(losses[number, step], loss.detach(), rtol=1e-8, atol=1e-8)
        model.eval()  # now the running statistics count
        torch.testing.assert_close(answers[number].T, model(x[number].T).detach(), rtol=1e-6, atol=1e-6)

        fresh = mlp(config, INPUTS, CLASSES).double().eval()
        state = {name: value[number] for name, value in networks.state().items()}
        assert state.keys() == {name for name in fresh.state_dict() if not name.endswith("num_batches_tracked")}
        fresh.load_state_dict(state, strict=False)
        torch.testing.assert_close(answers[number].T, fresh(x[number].T).detach())


def trained(config: Config, seeds: list[int], size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Losses (N, steps) and state after three steps."""
    networks = Stack([network(config, seed) for seed in seeds])
    x, y = batch(seeds, size)
    losses = [networks.step(x * (step + 1), y, 1e-2, 0.9).mean(dim=(1, 2)) for step in range(3)]
    return torch.stack(losses, dim=1), networks.state()


@given(CONFIGS, COMPANIES, BATCHES, st.data())
def test_another_network_with_other_inputs_leaves_the_rest_alone_bit_for_bit(config, seeds, size, data):
    changed = data.draw(st.integers(0, len(seeds) - 1))
    others = [number for number in range(len(seeds)) if number != changed]
    losses, state = trained(config, seeds, size)
    again, other_state = trained(config, [*seeds[:changed], 10**6 + 1, *seeds[changed + 1 :]], size)
    assert losses[others].equal(again[others])
    assert not losses[changed].equal(again[changed])
    for name, values in state.items():
        assert values[others].equal(other_state[name][others]), name


@given(CONFIGS, COMPANIES, BATCHES)
def test_a_seed_alone_is_that_seed_in_company(config, seeds, size):
    together, _ = trained(config, seeds, size)
    alone = torch.cat([trained(config, [seed], size)[0] for seed in seeds])
    torch.testing.assert_close(together, alone)


# ---------------------------------------------------------------------------- learning rates, and sizes of groups


def plan(updates: int, **changes) -> list[tuple[float, float]]:
    return adam_plan(lambda parameters: NN_tutorial.optimizer_of(parameters, Config(**changes), updates), updates)


@given(st.floats(1e-6, 1), st.integers(50, 400))
def test_one_cycle_starts_low_peaks_at_the_learning_rate_and_ends_lower(lr, updates):
    rates, betas = np.transpose(plan(updates, lr=lr, schedule="one-cycle"))
    peak = rates.argmax()
    assert len(rates) == updates
    assert rates[0] == pytest.approx(lr / 25)
    assert rates[peak] == pytest.approx(lr, rel=0.01)  # the peak may lie between two updates
    assert rates.max() <= lr * (1 + 1e-9)
    assert rates[-1] < lr / 1e5
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert abs(betas.argmin() - peak) <= 1  # the momentum goes the other way
    assert ((betas > 0.85 - 1e-9) & (betas < 0.95 + 1e-9)).all()


@given(st.floats(1e-6, 1), st.integers(0, 400))
def test_a_constant_plan_is_constant(lr, updates):
    assert plan(updates, lr=lr) == [(lr, 0.9)] * updates


def test_many_seeds_train_in_groups_of_bounded_memory(monkeypatch):
    assert group_size(76_812, 2, "cpu") == 5
    assert group_size(10**7, 2, "cpu") == 4  # 24 bytes a place and seed, at most 1 GiB
    assert group_size(10**7, 20, "cpu") == group_size(10**10, 2, "cpu") == 1
    gpu = type("Properties", (), {"total_memory": 80 * 2**30})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: gpu)
    assert group_size(76_812, 2, "cuda") == 1000
    assert group_size(10**8, 2, "cuda") == 17


# ---------------------------------------------------------------------------- what a stack refuses


class Own(nn.Module):
    """A network of one's own, or a layer of one."""

    def __init__(self):
        super().__init__()
        self.layers = net(layer(2))

    def forward(self, x):
        return 2 * self.layers(x)


class Halved(NN_tutorial.Residual):
    def forward(self, x):
        return x + 0.5 * self.layer(x)


class OwnLayer(nn.Module):
    def forward(self, x):
        return x.abs()


def layer(inputs: int, *after: nn.Module, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 4, bias), *(after or [nn.ReLU()]))


def skip(kind: type = NN_tutorial.Residual, inner: nn.Module | None = None) -> nn.Module:
    return kind(inner or layer(4), False)


def net(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Linear(4, 3))


def norm(**how) -> nn.Sequential:
    return layer(2, nn.BatchNorm1d(4, **how), nn.ReLU())


KNOWN = {
    "plain": lambda: net(layer(2), layer(4)),
    "batch norm": lambda: net(norm(), layer(4, nn.BatchNorm1d(4), nn.ReLU())),
    "residual": lambda: net(layer(2), skip(), skip()),
    "ReZero": lambda: net(layer(2), NN_tutorial.Residual(layer(4), True)),
}
REFUSED = {  # how the refusal names it
    "dropout": (lambda: net(layer(2), layer(4, nn.ReLU(), nn.Dropout())), "nn.Dropout"),
    "layer norm": (lambda: net(layer(2, nn.LayerNorm(4), nn.ReLU())), "nn.LayerNorm"),
    "another activation": (lambda: net(layer(2, nn.GELU())), "nn.GELU"),
    "a layer of one's own": (lambda: net(layer(2, OwnLayer())), "OwnLayer"),
    "a network of one's own": (Own, "Own"),
    "activation before batch norm": (lambda: net(layer(2, nn.ReLU(), nn.BatchNorm1d(4))), "nn.BatchNorm1d"),
    "no activation": (lambda: net(layer(2, nn.Identity())[:1]), "activation"),
    "two activations": (lambda: net(layer(2), layer(4, nn.Tanh())), "layers"),
    "batch norm now and then": (lambda: net(norm(), layer(4)), "layers"),
    "a skip in the middle only": (lambda: net(layer(2), skip(), layer(4)), "layers"),
    "a skip from the first layer on": (
        lambda: nn.Sequential(skip(inner=nn.Sequential(nn.Linear(2, 2), nn.ReLU())), nn.Linear(2, 3)),
        "layers",
    ),
}
ODD = {  # whose modules a stack knows, but not with these settings
    "no bias": lambda: net(layer(2), layer(4, bias=False)),
    "another slope": lambda: net(layer(2, nn.LeakyReLU(0.5))),
    "batch norm without parameters": lambda: net(norm(affine=False)),
    "batch norm without running statistics": lambda: net(norm(track_running_stats=False)),
    "batch norm of two kinds": lambda: net(norm(eps=1.0), layer(4, nn.BatchNorm1d(4), nn.ReLU())),
    "batch norm of two momenta": lambda: net(norm(momentum=0.9), layer(4, nn.BatchNorm1d(4), nn.ReLU())),
    "an edited skip": lambda: net(layer(2), skip(Halved), skip(Halved)),
    "one layer twice": lambda: (lambda one: net(layer(2), one, one))(layer(4)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_stack_does_not_know_it_refuses_by_name(name):
    build, words = REFUSED[name]
    with pytest.raises(Unknown, match=words):
        Stack([build()])


NETWORKS = KNOWN | ODD | {name: build for name, (build, _) in REFUSED.items()}


def answering(monkeypatch, name: str) -> None:
    """Let the script's `mlp` make this network."""
    monkeypatch.setattr(NN_tutorial, "mlp", lambda config, inputs, classes: NETWORKS[name]())


# ---------------------------------------------------------------------------- what trains otherwise is noticed

CONFIGURATIONS = list(
    dict.fromkeys(c for one in helpers.experiments_in(vars(NN_tutorial)) for c in one.configs.values())
)


def generated(low: tuple, high: tuple, label, rows: int = 700, seed: int = 1) -> Places:
    generator = np.random.default_rng(seed)
    x = {split: generator.uniform(low, high, (rows, 2)).astype(np.float32) for split in SPLITS}
    y = {split: label(*points.T).astype(np.int64) for split, points in x.items()}
    return Places(x, y, [str(number) for number in range(y["train"].max() + 1)])


PLACES = {
    "committed": lambda: helpers.load_places(Path(__file__).parents[1] / "data"),
    "a campus": lambda **seed: generated(
        (8.650, 49.870), (8.664, 49.879), lambda long, lat: 2 * (long > 8.657) + (lat > 49.875), **seed
    ),
    "the world": lambda: generated((-180, -90), (180, 90), lambda long, lat: 2 * (long // 60 + 3) + (lat > 0)),
    "three integer codes": lambda: generated((100, -40), (150, -10), lambda long, lat: (long > 120) + (lat > -25.0)),
}


@pytest.fixture(scope="module")
def places() -> Places:
    return PLACES["committed"]().head(3000)


@pytest.mark.parametrize("name", PLACES)
def test_nothing_speaks_against_a_stack_of_any_configuration_of_the_study(name):
    where = PLACES[name]()
    assert {config: why for config in CONFIGURATIONS if (why := NN_tutorial.objection(config, where))} == {}


def test_rounding_that_a_hundred_layers_of_batch_norm_blow_up_is_no_objection():
    config = replace(NN_tutorial.DEEP, batch_norm=True)
    assert [NN_tutorial.objection(config, PLACES["a campus"](seed=seed)) for seed in range(6)] == [""] * 6


ADAM = "torch.optim.Adam(parameters, config.lr"
OPTIMIZER = "optimizer_of(model.parameters(), config, updates * config.epochs)"
STANDARD, SLOW, NORMED = Config(), Config(lr=1e-5), Config(batch_norm=True)
ANY = (STANDARD, SLOW, NORMED, NN_tutorial.TUNED, NN_tutorial.REMEDIES["residual + batch norm"])
SKIPPING = tuple(replace(NN_tutorial.DEEP, residual=True, init=init) for init in ("default", "rezero"))
EDITS = {  # (what is edited, before, after), and the configurations that it touches
    "dropout": (("mlp", "ACTIVATIONS[config.activation]()", "ACTIVATIONS[config.activation](), nn.Dropout()"), ANY),
    "an edited skip": (("Residual", "x + self", "x + 0.5 * self"), SKIPPING[:1]),
    "an edited gate": (("Residual", "self.gate * self", "2 * self.gate * self"), SKIPPING[1:]),
    "one layer twice": (("mlp", "(*layers,", "(layers[0], *layers[-1:] * (config.depth - 1),"), (*ANY, *SKIPPING)),
    "another slope": (("mlp", "ACTIVATIONS[config.activation]()", "nn.LeakyReLU(0.5)"), ANY),
    "a frozen layer": (("mlp", "return nn", "layers[0].requires_grad_(False)\n    return nn"), ANY),
    "label smoothing": (("train_one", "y[batch])", "y[batch], label_smoothing=0.1)"), ANY),
    "a penalty": (
        ("train_one", "loss.backward()", "(loss + 0.1 * sum(p.abs().sum() for p in model.parameters())).backward()"),
        ANY,
    ),
    "clipped gradients": (
        ("train_one", "optimizer.step()", "nn.utils.clip_grad_value_(model.parameters(), 1e-9); optimizer.step()"),
        ANY,
    ),
    "an order that is not reshuffled": (
        (
            "train_one",
            "for _ in range(config.epochs):\n        order = torch.randperm(len(y), generator=shuffle)",
            "order = torch.randperm(len(y), generator=shuffle)\n    for _ in range(config.epochs):",
        ),
        ANY,
    ),
    "SGD in the loop": (("train_one", OPTIMIZER, "torch.optim.SGD(model.parameters(), config.lr), None"), ANY),
    "AdamW in the loop": (("train_one", OPTIMIZER, "torch.optim.AdamW(model.parameters(), config.lr), None"), ANY),
    "SGD": (("optimizer_of", ADAM, "torch.optim.SGD(parameters, config.lr"), ANY),
    "NAdam": (("optimizer_of", ADAM, "torch.optim.NAdam(parameters, config.lr"), ANY),
    "AdamW": (("optimizer_of", ADAM, "torch.optim.AdamW(parameters, config.lr"), ANY),
    "weight decay": (("optimizer_of", ADAM, f"{ADAM}, weight_decay=1e-4"), ANY),
    "another beta2": (("optimizer_of", ADAM, f"{ADAM}, betas=(0.9, 0.99)"), ANY),
    "another epsilon": (("optimizer_of", ADAM, f"{ADAM}, eps=1e-6"), ANY),
    "AMSGrad": (("optimizer_of", ADAM, f"{ADAM}, amsgrad=True"), ANY),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_network_or_training_is_noticed(name, edit, places):
    (target, before, after), configs = EDITS[name]
    edit(target, before, after)
    assert [config for config in configs if not NN_tutorial.objection(config, places)] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_a_stack_would_take_for_another_is_noticed_and_named(name, monkeypatch):
    answering(monkeypatch, name)
    objection = NN_tutorial.objection(Config(), PLACES["three integer codes"]())
    assert bool(objection) == (name not in KNOWN)
    assert name not in REFUSED or REFUSED[name][1] in objection
    assert torch.get_default_dtype() == torch.float32


def test_layers_of_several_widths_train_without_a_warning(monkeypatch, recwarn):
    build = lambda *sizes: net(nn.Sequential(nn.Linear(2, 8), nn.ReLU()), layer(8))  # noqa: E731
    monkeypatch.setattr(NN_tutorial, "mlp", build)
    arguments = Config(epochs=1), PLACES["three integer codes"](), [0], "cpu", lambda fraction: None
    assert NN_tutorial.train(*arguments)["1.1.0.weight"].shape == (1, 4, 8)
    assert [str(warning.message) for warning in recwarn] == []
