"""The whole of section 6's training, in this study and in JAX with optax: python benchmarks/section.py [--updates 300]

Every configuration of the default run, 5 seeds at once, one process, one thread, float32. Both start from the same
weights and take the same places in the same order. Ours is what `train` does but for evaluating: the check against the
plain loop, and lab/nets/stack.py's training. JAX's is a step under scan over the batches and vmap over seeds, jitted
once per architecture; learning rates are arguments, so that configurations that differ in nothing else share what is
compiled, and the layers of networks of 100 layers are scanned, which XLA compiles in seconds instead of minutes.

Of each configuration four parts of N updates are raced, contestants in turn. The first part has all that comes once:
compiling or checking; of the others the median counts, and the whole is computed: first + median * (updates - N) / N.
With --updates 0, the whole is trained (half an hour). Both must reach the same loss, or the benchmark fails. Seconds
are of processor time; what a process does once, loading and warming up, isn't counted.

Writes benchmark.section.csv to plots/ (--out) and prints a table. Needs the extra `bench`.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import helpers
import NN_tutorial
from lab.nets import replicas, stack
from lab.run.pool import machine, one_thread
from NN_tutorial import Config

ROOT = Path(__file__).parents[1]
SEEDS = range(5)
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "leaky_relu": jax.nn.leaky_relu}
MOMENTUM, EPSILON = 0.1, 1e-5  # nn.BatchNorm1d's
SCANNED = 20  # hidden layers from which on they are scanned

# ---------------------------------------------------------------------------- JAX


def stacked(config: Config, inputs: int, classes: int) -> tuple[dict, dict]:
    """Parameters and running statistics of all seeds' networks: layer 0, the others (S, depth - 1, ...), the head."""
    networks = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        state = NN_tutorial.mlp(config, inputs, classes).state_dict()
        networks.append({name: value.numpy() for name, value in state.items()})
    all_of = {name: np.stack([network[name] for network in networks]) for name in networks[0]}

    def block(number: int) -> dict:
        start = f"{number}.layer." if config.residual and number else f"{number}."
        found = {"weight": all_of[f"{start}0.weight"].transpose(0, 2, 1), "bias": all_of[f"{start}0.bias"]}
        if config.batch_norm:
            found |= {"scale": all_of[f"{start}1.weight"], "shift": all_of[f"{start}1.bias"]}
        return found | ({"gate": all_of[f"{number}.gate"]} if config.init == "rezero" and number else {})

    blocks = [block(number) for number in range(config.depth)]
    hidden = {name: np.stack([each[name] for each in blocks[1:]], axis=1) for name in (blocks[1:] or [{}])[0]}
    head = {"weight": all_of[f"{config.depth}.weight"].transpose(0, 2, 1), "bias": all_of[f"{config.depth}.bias"]}
    running = {"first": (len(SEEDS), config.width), "hidden": (len(SEEDS), config.depth - 1, config.width)}
    ones_and_zeros = {n: (np.zeros(s, np.float32), np.ones(s, np.float32)) for n, s in running.items()}
    return {"first": blocks[0], "hidden": hidden, "head": head}, ones_and_zeros if config.batch_norm else {}


def layer(x, values: dict, running, activation: Callable):
    """What a hidden layer passes on, and its running mean and variance after the batch."""
    z = x @ values["weight"] + values["bias"]
    if running is not None:
        mean, variance, count = z.mean(axis=0), z.var(axis=0), len(z)
        z = (z - mean) * jax.lax.rsqrt(variance + EPSILON) * values["scale"] + values["shift"]
        unbiased = variance * count / (count - 1)
        now = zip(running, (mean, unbiased), strict=True)
        running = tuple(before + MOMENTUM * (value - before) for before, value in now)
    return activation(z), running


@functools.cache
def part_of(depth: int, activation: str, batch_norm: bool, residual: bool) -> Callable:
    """part(state, x, y, order (S, n, B), rates (n,), betas (n,)): n updates of all networks; new state and losses."""
    act = ACTIVATIONS[activation]
    optimizer = optax.inject_hyperparams(optax.adam)(1e-3, b1=0.9)

    def loss_of(parameters, running, inputs, targets):
        x, first = layer(inputs, parameters["first"], running.get("first"), act)

        def step(x, given):
            values, before = given
            h, after = layer(x, values, before, act)
            if residual:
                h = x + values.get("gate", 1.0) * h
            return h, after

        if depth > 1:
            given = parameters["hidden"], running.get("hidden")
            x, hidden = jax.lax.scan(step, x, given, unroll=True if depth < SCANNED else 1)
        logits = x @ parameters["head"]["weight"] + parameters["head"]["bias"]
        after = {"first": first, "hidden": hidden} if batch_norm else {}
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), after

    def update(state, given):
        parameters, running, moments = state
        inputs, targets, rate, beta = given
        moments.hyperparams.update(learning_rate=rate, b1=beta)
        (loss, running), gradient = jax.value_and_grad(loss_of, has_aux=True)(parameters, running, inputs, targets)
        change, moments = optimizer.update(gradient, moments, parameters)
        return (optax.apply_updates(parameters, change), running, moments), loss

    def part(state, x, y, order, rates, betas):
        return jax.lax.scan(update, state, (x[order], y[order], rates, betas))

    part = jax.jit(jax.vmap(part, in_axes=(0, None, 0, 0, None, None)))
    part.start = jax.jit(jax.vmap(optimizer.init))
    return part


def orders(config: Config, rows: int) -> Iterator[np.ndarray]:
    """First of which place each place has the label, (S, rows), then the places of each epoch's batches, (S, n, B)."""
    size, updates = NN_tutorial.batches_of(config, rows)
    shuffles = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    yield np.stack([torch.randperm(rows, generator=s) if config.shuffled_labels else np.arange(rows) for s in shuffles])
    for _ in range(config.epochs):
        order = [torch.randperm(rows, generator=shuffle)[: updates * size] for shuffle in shuffles]
        yield torch.stack(order).view(len(SEEDS), updates, size).numpy()


def in_jax(config: Config, places: helpers.Places, updates: int) -> Iterator[np.ndarray]:
    """Train on and on; yields the losses (S, updates) of each part."""
    x, y = NN_tutorial.lesson().tensors(places, "train", config)
    parameters, running = stacked(config, x.shape[1], len(places.countries))
    part = part_of(config.depth, config.activation, config.batch_norm, config.residual)
    state = jax.tree.map(jnp.asarray, (parameters, running))
    state = *state, part.start(state[0])
    total = NN_tutorial.batches_of(config, len(y))[1] * config.epochs
    optimizer = functools.partial(NN_tutorial.optimizer_of, config=config, updates=total)
    plan, done = np.array(stack.adam_plan(optimizer, total), np.float32), 0
    epochs = orders(config, len(y))
    labels = next(epochs)
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy()[labels])
    for order in epochs:
        for start in range(0, order.shape[1], updates):
            batches = order[:, start : start + updates]
            rates, betas = plan[done : done + batches.shape[1]].T
            state, losses = part(state, x, y, batches, rates, betas)
            done += batches.shape[1]
            yield np.asarray(losses)


# ---------------------------------------------------------------------------- the race


def in_ours(config: Config, places: helpers.Places, updates: int) -> Iterator[np.ndarray]:
    """The same; the check against the plain loop is in the first part."""
    assert not replicas.objection(NN_tutorial.lesson(), config, places)
    with torch.inference_mode():
        training = replicas.train_stack(NN_tutorial.lesson(), config, places, SEEDS)
    while losses := part_of_ours(training, updates):
        yield torch.stack(losses, dim=1).numpy()


@torch.inference_mode()
def part_of_ours(training: Iterator, updates: int) -> list[torch.Tensor]:
    return [loss.mean(dim=(1, 2)) for _, loss in islice(training, updates)]


CONTESTANTS = {"this study": in_ours, "JAX": in_jax}
PARTS = 4


def race(configs: dict[str, Config], places: helpers.Places, updates: int) -> pd.DataFrame:
    """Rows run, contestant, updates in all and of a part, seconds of the first part, of the others and of all, loss."""
    rows = []
    for name, config in configs.items():
        per_epoch = NN_tutorial.batches_of(config, len(places.y["train"]))[1]
        total = per_epoch * config.epochs
        n = min(updates or total, per_epoch, total // PARTS)
        trainings = {contestant: train(config, places, n) for contestant, train in CONTESTANTS.items()}
        seconds, losses = ({contestant: [] for contestant in CONTESTANTS} for _ in range(2))
        for _ in range(PARTS if updates else -(-per_epoch // n) * config.epochs):
            for contestant, training in trainings.items():
                started = time.process_time()
                losses[contestant].append(next(training).mean())
                seconds[contestant].append(time.process_time() - started)
        for contestant, (first, *others) in seconds.items():
            other = float(np.median(others))
            whole = first + other * (total - n) / n if updates else first + sum(others)
            rows.append((name, contestant, total, n, first, other, whole, float(np.mean(losses[contestant][:PARTS]))))
            print("{:42} {:11} {:8} {:5} {:7.2f} {:7.3f} {:7.1f} s  loss {:.4f}".format(*rows[-1]), flush=True)
    columns = ["run", "contestant", "updates", "raced", "first_seconds", "part_seconds", "seconds", "loss"]
    return pd.DataFrame(rows, columns=columns)


def of_the_section() -> dict[str, Config]:
    """All configurations by the name of their runs."""
    names: dict[Config, str] = {}
    for one in helpers.experiments_in(vars(NN_tutorial)):
        for label, config in one.configs.items():
            names.setdefault(config, f"{one.name} {label}")
    return {name: config for config, name in names.items()}


def told(results: pd.DataFrame) -> list[str]:
    """The table as lines: a row per configuration, slowest first, and the sum; and where the losses differ."""
    by = {name: of.set_index("run") for name, of in results.groupby("contestant", sort=False)}
    ours, theirs = by["this study"], by["JAX"]
    once = {name: (of.first_seconds - of.part_seconds).clip(lower=0) for name, of in by.items()}
    lines = ["run | this study, s | of it once | JAX, s | of it once | JAX / this study", "---|---|---|---|---|---"]
    for run in ours.sort_values("seconds", ascending=False).index:
        a, b = ours.seconds[run], theirs.seconds[run]
        lines.append(
            f"{run} | {a:.1f} | {once['this study'][run]:.1f} | {b:.1f} | {once['JAX'][run]:.1f} | {b / a:.2f}"
        )
    a, b = ours.seconds.sum(), theirs.seconds.sum()
    lines.append(f"all | {a:.0f} | {once['this study'].sum():.0f} | {b:.0f} | {once['JAX'].sum():.0f} | {b / a:.2f}")
    apart = (theirs.loss / ours.loss - 1).abs()
    lines += [f"- Missed: {run} has losses {gap:.1%} apart." for run, gap in apart.items() if gap > 0.02]
    return [*lines, f"Losses are at most {apart.max():.2%} apart."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=300, help="of a part; 0: train the whole (default: %(default)s)")
    parser.add_argument("--only", default="", help="configurations whose name holds this")
    parser.add_argument("--out", type=Path, default=ROOT / "plots")
    given = parser.parse_args()
    one_thread()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    configs = {name: config for name, config in of_the_section().items() if given.only in name}
    with threadpool_limits(1):
        places = helpers.load_places(ROOT / "data")
        for train in CONTESTANTS.values():
            next(train(Config(depth=1, width=2), places.head(3000), 1))  # warm up
        results = race(configs, places, given.updates)
    given.out.mkdir(parents=True, exist_ok=True)
    results.round(4).to_csv(given.out / "benchmark.section.csv", index=False)
    lines = [f"{machine()}, jax {jax.__version__}, optax {optax.__version__}", *told(results)]
    print("\n".join(lines))
    sys.exit("- Missed" in "".join(lines))


if __name__ == "__main__":
    main()
