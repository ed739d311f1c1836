"""How fast the stack of networks trains, against peers doing the same work: python benchmarks/replicas.py

The work: Adam steps of the standard net (6 hidden layers of 16, learning rate 1e-3) on the committed places, on one
thread. Peers: the usual PyTorch loop over a DataLoader; the same loop over sliced tensors; PyTorch's own way to stack
models, torch.func; skorch; and scikit-learn's MLPClassifier. Each row is timed in turn, several rounds; what counts is
the ratio within a round. Prints microseconds per trained network and step: median (smallest to largest), and the
median ratio to the stack of 5. Needs the extra `bench`; about two minutes.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import helpers  # noqa: E402
from NN_tutorial import Config, mlp, replica_loss, replicas  # noqa: E402


def batches(x: torch.Tensor, y: torch.Tensor, n: int, size: int):
    order = torch.stack([torch.randperm(len(x)) for _ in range(n)])
    inputs, targets = x[order], y[order]
    for i in range(0, len(x) - size + 1, size):
        yield inputs[:, i : i + size], targets[:, i : i + size]


def stack_of(n: int):
    def run(x, y, size, classes):
        model = replicas(Config(), range(n), 2, classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        helpers.train_epoch(model, batches(x, y, n, size), replica_loss, optimizer)
        return n

    return run


def data_loader(x, y, size, classes):
    model = mlp(Config(), 2, classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x, y), size, shuffle=True, drop_last=True)
    helpers.train_epoch(model, loader, F.cross_entropy, optimizer)
    return 1


def sliced(x, y, size, classes):
    model = mlp(Config(), 2, classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    pairs = ((inputs[0], targets[0]) for inputs, targets in batches(x, y, 1, size))
    helpers.train_epoch(model, pairs, F.cross_entropy, optimizer)
    return 1


def torch_func(x, y, size, classes):
    models = [mlp(Config(), 2, classes) for _ in range(5)]
    skeleton = mlp(Config(), 2, classes).to("meta")
    parameters, buffers = torch.func.stack_module_state(models)
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3, fused=True)
    call = torch.func.vmap(lambda p, b, inputs: torch.func.functional_call(skeleton, (p, b), (inputs,)))
    model = torch.nn.Module()
    model.forward = lambda inputs: call(parameters, buffers, inputs)
    helpers.train_epoch(model, batches(x, y, 5, size), replica_loss, optimizer)
    return 5


def skorch(x, y, size, classes):
    model = NeuralNetClassifier(
        mlp(Config(), 2, classes),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=size,
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,
        max_epochs=1,
        train_split=None,
        verbose=0,
    )
    model.fit(x, y)
    return 1


def scikit_learn(x, y, size, classes):
    with warnings.catch_warnings(action="ignore"):  # that one epoch does not converge
        MLPClassifier((16,) * 6, batch_size=size, max_iter=1).fit(x.numpy(), y.numpy())
    return 1


PEERS = {
    "stack of 5 (this study)": stack_of(5),
    "stack of 1 (this study)": stack_of(1),
    "PyTorch, DataLoader": data_loader,
    "PyTorch, sliced tensors": sliced,
    "torch.func, stack of 5": torch_func,
    "skorch": skorch,
    "scikit-learn MLPClassifier": scikit_learn,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[256, 16])
    parser.add_argument("--steps", type=int, default=150, help="steps per timing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    places = helpers.load_places(ROOT / "data")
    for size in arguments.batch_size:
        rows = size * arguments.steps
        x, y = torch.tensor(places.x["train"][:rows]), torch.tensor(places.y["train"][:rows])
        steps = len(x) // size
        times: dict[str, list[float]] = {name: [] for name in PEERS}
        for counted in range(-1, arguments.rounds):  # the first round warms up
            for name, run in PEERS.items():
                started = time.perf_counter()
                trained = run(x, y, size, len(places.countries))
                if counted >= 0:
                    times[name].append((time.perf_counter() - started) / steps / trained * 1e6)
        ours = np.array(times["stack of 5 (this study)"])
        print(f"\nbatch size {size}, {arguments.rounds} rounds of {steps} steps\n")
        print(f"| {'':26} | us per network and step | times the stack of 5 |")
        print(f"|{'-' * 28}|{'-' * 25}|{'-' * 22}|")
        for name, values in times.items():
            spread = f"{np.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
            print(f"| {name:26} | {spread:>23} | {np.median(np.array(values) / ours):>20.1f} |")


if __name__ == "__main__":
    main()
