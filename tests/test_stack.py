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
from lab.nets import replicas
from lab.nets.stack import Stack, Unknown, group_size
from NN_tutorial import Config, mlp

INPUTS, CLASSES = 2, 3
COMPANIES = st.lists(
    st.integers(0, 10**6), min_size=1, max_size=4, unique=True
)  # seeds of networks that are trained together
BATCHES = st.integers(2, 12)
CONFIGS = st.builds(
    lambda skip, activation, **others: Config(
        residual=skip[0],
        init="default" if (skip[1], activation) == ("he", "tanh") else skip[1],
        activation=activation,
        **others,
    ),
    st.sampled_from([(False, "default"), (False, "he"), (True, "default"), (True, "he"), (True, "rezero")]),
    depth=st.integers(1, 4),
    width=st.integers(1, 6),
    activation=st.sampled_from(sorted(NN_tutorial.ACTIVATIONS)),
    batch_norm=st.booleans(),
)


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


def trained(config: Config, seeds: list[int], size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Losses (N, steps) and state after three steps."""
    networks = Stack([network(config, seed) for seed in seeds])
    x, y = batch(seeds, size)
    losses = [networks.step(x * (step + 1), y, 1e-2, 0.9).mean(dim=(1, 2)) for step in range(3)]
    return torch.stack(losses, dim=1), networks.state()


@given(CONFIGS, COMPANIES, BATCHES, st.data())
def test_a_seed_is_that_seed_alone_and_in_any_company(config, seeds, size, data):
    changed = data.draw(st.integers(0, len(seeds) - 1))
    others = [number for number in range(len(seeds)) if number != changed]
    losses, state = trained(config, seeds, size)
    again, other_state = trained(config, [*seeds[:changed], 10**6 + 1, *seeds[changed + 1 :]], size)
    assert losses[others].equal(again[others])
    assert not losses[changed].equal(again[changed])
    for name, values in state.items():
        assert values[others].equal(other_state[name][others]), name
    alone = torch.cat([trained(config, [seed], size)[0] for seed in seeds])
    torch.testing.assert_close(losses, alone)


def test_many_seeds_train_in_groups_of_bounded_memory(monkeypatch):
    assert group_size(76_812, 2, "cpu") == 5
    assert group_size(10**7, 2, "cpu") == 4  # 24 bytes a place and seed, at most 1 GiB
    assert group_size(10**7, 20, "cpu") == group_size(10**10, 2, "cpu") == 1
    gpu = type("Properties", (), {"total_memory": 80 * 2**30})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: gpu)
    assert group_size(76_812, 2, "cuda") == 1000
    assert group_size(10**8, 2, "cuda") == 17


class Abs(nn.Module):
    def forward(self, x):
        return x.abs()


class Own(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def layer(inputs: int, *after: nn.Module, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 4, bias), *(after or [nn.ReLU()]))


def net(*layers: nn.Module, kind: type = nn.Sequential) -> nn.Sequential:
    return kind(*layers, nn.Linear(4, 3))


def norm(inputs: int = 2, **how) -> nn.Sequential:
    return layer(inputs, nn.BatchNorm1d(4, **how), nn.ReLU())


def skip(gated: bool = False) -> nn.Module:
    return NN_tutorial.Residual(layer(4), gated)


KNOWN = {
    "plain": lambda: net(layer(2), layer(4)),
    "batch norm": lambda: net(norm(), norm(4)),
    "residual": lambda: net(layer(2), skip(), skip()),
    "ReZero": lambda: net(layer(2), skip(gated=True)),
}
REFUSED = {  # how the refusal names it
    "dropout": (lambda: net(layer(2), layer(4, nn.ReLU(), nn.Dropout())), "nn.Dropout"),
    "layer norm": (lambda: net(layer(2, nn.LayerNorm(4), nn.ReLU())), "nn.LayerNorm"),
    "another activation": (lambda: net(layer(2, nn.GELU())), "nn.GELU"),
    "a layer of one's own": (lambda: net(layer(2, Abs())), "Abs"),
    "a network of one's own": (lambda: net(layer(2), kind=Own), "Own"),
    "activation before batch norm": (lambda: net(layer(2, nn.ReLU(), nn.BatchNorm1d(4))), "nn.BatchNorm1d"),
    "no activation": (lambda: net(layer(2, nn.Identity())[:1]), "activation"),
    "two activations": (lambda: net(layer(2), layer(4, nn.Tanh())), "layers"),
    "batch norm now and then": (lambda: net(norm(), layer(4)), "layers"),
    "a skip in the middle only": (lambda: net(layer(2), skip(), layer(4)), "layers"),
}
ODD = {  # whose modules a stack knows, but not with these settings
    "no bias": lambda: net(layer(2), layer(4, bias=False)),
    "batch norm without parameters": lambda: net(norm(affine=False)),
    "batch norm without running statistics": lambda: net(norm(track_running_stats=False)),
    "batch norm of two kinds": lambda: net(norm(eps=1.0), norm(4)),
    "batch norm of two momenta": lambda: net(norm(momentum=0.9), norm(4)),
}
NETWORKS = KNOWN | ODD | {name: build for name, (build, _) in REFUSED.items()}


def generated(low: tuple, high: tuple, label) -> Places:
    generator = np.random.default_rng(1)
    x = {split: generator.uniform(low, high, (700, 2)).astype(np.float32) for split in SPLITS}
    y = {split: label(*points.T).astype(np.int64) for split, points in x.items()}
    return Places(x, y, [str(number) for number in range(y["train"].max() + 1)])


COMMITTED = helpers.load_places(Path(__file__).parents[1] / "data")
CODES = generated((100, -40), (150, -10), lambda long, lat: (long > 120) + (lat > -25.0))
PLACES = {
    "committed": COMMITTED,
    "a campus": generated((8.650, 49.870), (8.664, 49.879), lambda long, lat: 2 * (long > 8.657) + (lat > 49.875)),
    "the world": generated((-180, -90), (180, 90), lambda long, lat: 2 * (long // 60 + 3) + (lat > 0)),
    "three integer codes": CODES,
}


def objection(config: Config, places: Places) -> str:
    return replicas.objection(NN_tutorial.lesson(), config, places)


@pytest.mark.parametrize("name", PLACES)
def test_nothing_speaks_against_a_stack_of_any_configuration_of_the_study(name):
    configs = {
        config
        for one in helpers.experiments_in(vars(NN_tutorial))
        for config in one.needed.values()
        if type(config) is Config
    }
    assert {config: why for config in configs if (why := objection(config, PLACES[name]))} == {}
    if name == "a campus":  # rounding that a hundred layers of batch norm blow up is no objection
        assert objection(replace(NN_tutorial.DEEP, batch_norm=True), PLACES[name]) == ""


CLIP = "nn.utils.clip_grad_value_(model.parameters(), 1e-9)"
LOOP, ORDER = "for _ in range(config.epochs):", "order = torch.randperm(len(y), generator=shuffle)"
ADAM = "torch.optim.Adam(parameters, config.lr"
OPTIMIZER = "optimizer_of(model.parameters(), config, updates * config.epochs)"
STANDARD, SLOW, NORMED = Config(), Config(lr=1e-5), Config(batch_norm=True)
ANY = (STANDARD, SLOW, NORMED, NN_tutorial.TUNED, NN_tutorial.REMEDIES["residual + batch norm"])
SKIPPING = tuple(replace(NN_tutorial.DEEP, residual=True, init=init) for init in ("default", "rezero"))
EDITS = {  # (what is edited, before, after), and the configurations that it touches
    "an edited skip": (("Residual", "x + self", "x + 0.5 * self"), SKIPPING[:1]),
    "an edited gate": (("Residual", "self.gate * self", "2 * self.gate * self"), SKIPPING[1:]),
    "one layer twice": (("mlp", "(*layers,", "(layers[0], *layers[-1:] * (config.depth - 1),"), (*ANY, *SKIPPING)),
    "another slope": (("mlp", "ACTIVATIONS[config.activation]()", "nn.LeakyReLU(0.5)"), ANY),
    "a frozen layer": (("mlp", "return nn", "layers[0].requires_grad_(False)\n    return nn"), ANY),
    "label smoothing": (("train_one", "y[batch])", "y[batch], label_smoothing=0.1)"), ANY),
    "a penalty": (("train_one", "loss.backward()", "(loss + 0.1 * model[-1].weight.abs().sum()).backward()"), ANY),
    "clipped gradients": (("train_one", "optimizer.step()", f"{CLIP}; optimizer.step()"), ANY),
    "one order": (("train_one", f"{LOOP}\n        {ORDER}", f"{ORDER}\n    {LOOP}"), ANY),
    "AdamW in the loop": (("train_one", OPTIMIZER, "torch.optim.AdamW(model.parameters(), config.lr), None"), ANY),
    "SGD": (("optimizer_of", ADAM, "torch.optim.SGD(parameters, config.lr"), ANY),
    "NAdam": (("optimizer_of", ADAM, "torch.optim.NAdam(parameters, config.lr"), ANY),
    "weight decay": (("optimizer_of", ADAM, f"{ADAM}, weight_decay=1e-4"), ANY),
    "another beta2": (("optimizer_of", ADAM, f"{ADAM}, betas=(0.9, 0.99)"), ANY),
    "another epsilon": (("optimizer_of", ADAM, f"{ADAM}, eps=1e-6"), ANY),
    "AMSGrad": (("optimizer_of", ADAM, f"{ADAM}, amsgrad=True"), ANY),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_network_or_training_is_noticed(name, edit):
    (target, before, after), configs = EDITS[name]
    edit(target, before, after)
    assert [config for config in configs if not objection(config, COMMITTED.head(3000))] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_a_stack_would_take_for_another_is_noticed_and_named(name, monkeypatch):
    monkeypatch.setattr(NN_tutorial, "mlp", lambda config, inputs, classes: NETWORKS[name]())
    why = objection(Config(), CODES)
    assert bool(why) == (name not in KNOWN)
    if name in REFUSED:
        assert REFUSED[name][1] in why
        with pytest.raises(Unknown, match=REFUSED[name][1]):
            Stack([NETWORKS[name]()])
    assert torch.get_default_dtype() == torch.float32


def test_layers_of_several_widths_train_without_a_warning(monkeypatch, recwarn):
    build = lambda *sizes: net(nn.Sequential(nn.Linear(2, 8), nn.ReLU()), layer(8))  # noqa: E731
    monkeypatch.setattr(NN_tutorial, "mlp", build)
    arguments = Config(epochs=1), CODES, "cpu", [0], lambda fraction: None
    assert NN_tutorial.train(*arguments)["1.1.0.weight"].shape == (1, 4, 8)
    assert [str(warning.message) for warning in recwarn] == []
