"""One training over several processes, as torchrun starts them: `torchrun --nproc-per-node 2 cnn.py`.

Process 0 does what a single process would do. Where it comes to work that can be shared, it asks the others, which
have loaded the same photos, to join in. With one process, as usual, nothing here does anything.
"""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lab.errors import InputError

WAIT = timedelta(days=7)  # for process 0, which does some work alone


def start() -> None:
    """Meet the other processes that torchrun has started, if there are any."""
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        return
    own = int(os.environ["LOCAL_RANK"])
    if own < torch.cuda.device_count():
        torch.cuda.set_device(own)  # which is then what "cuda" means
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=WAIT)


def stop() -> None:
    """Part, when process 0 has no more work to share; the others have received it as None."""
    if count() > 1:
        if rank() == 0:
            send(None)
        dist.barrier()
        dist.destroy_process_group()


def count() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process; 0 reads the command line, prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def count_here() -> int:
    """How many of them are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if count() > 1 else 1


def check(device: str, cluster: str | None) -> None:
    """Raises InputError for options that several processes can't work with."""
    if count() == 1:
        return
    if device == "mps" or (device == "cuda" and count_here() > torch.cuda.device_count()):
        what = f"{count_here()} processes need as many CUDA GPUs, or the CPU"
        raise InputError(what, f"--device {device}", "use --device cpu or a smaller --nproc-per-node")
    if cluster:
        raise InputError(
            "several processes train together on no cluster", f"--cluster {cluster}", "start one with python"
        )


# ---------------------------------------------------------------------------- who does what


def send(message: Any) -> None:
    """Process 0 sends a message to the others."""
    if count() > 1:
        dist.broadcast_object_list([message], device=torch.device("cpu"))


def receive() -> Any:
    """What process 0 sends."""
    message = [None]
    try:
        dist.broadcast_object_list(message, device=torch.device("cpu"))
    except RuntimeError:
        sys.exit(0)  # process 0 has ended; its exit code says why
    return message[0]


def on_all(function: Callable) -> Callable:
    """`function` for process 0 to call, so that all processes do it together.

    The others receive the function and its first argument, the configuration; they have the rest. An error ends this
    process, and torchrun then the others, for these are in the middle of the same work.
    """
    if count() == 1:
        return function

    @functools.wraps(function)
    def call(*arguments):
        send((function, arguments[:1]))
        try:
            return function(*arguments)
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    return call


def share(things: Sequence) -> Sequence:
    """This process's share of a sequence, the same on all processes."""
    return things[rank() :: count()]


def collect(pieces: Iterable[np.ndarray], parts: Sequence[Sequence]) -> np.ndarray | None:
    """What all processes made of their share of `parts`, rows for rows, as one array in their order on process 0."""
    pieces, found, filled = iter(pieces), None, 0
    for _ in range(0, len(parts), count()):
        for piece in _gather(next(pieces, None)):
            if found is None:  # filled as pieces come, as both may be large
                found = np.empty((sum(map(len, parts)), *piece.shape[1:]), piece.dtype)
            found[filled : filled + len(piece)] = piece
            filled += len(piece)
    return found


def _gather(piece: np.ndarray | None) -> list[np.ndarray]:
    if count() == 1:
        return [piece]
    every = [None] * count() if rank() == 0 else None
    dist.gather_object(piece, every)
    return [piece for piece in every or () if piece is not None]


# ---------------------------------------------------------------------------- training together


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context, values: torch.Tensor) -> torch.Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        return _Total.apply(gradient)


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes; differentiable."""
    return _Total.apply(values) if count() > 1 else values


def mean(loss: Callable) -> Callable:
    """`loss(outputs, targets)` as the mean over the examples of all processes; some may have fewer, or none.

    Every process differentiates it; DistributedDataParallel takes the mean of what they find, which is the gradient.
    """
    if count() == 1:
        return loss

    def call(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = loss(outputs, targets, reduction="none")
        both = total(torch.stack([values.sum(), values.new_tensor(values.numel())]))
        return both[0] / both[1]

    return call


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of the whole batch, over all processes, as nn.SyncBatchNorm, which needs GPUs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, self.weight.dtype))  # of bfloat16, float32
        sums = total(torch.cat([values.sum((0, 2, 3)), values.new_tensor([x.numel() / x.shape[1]])]))
        number = sums[-1].detach()
        mean = sums[:-1] / number
        centred = values - mean[:, None, None]
        variance = total(centred.square().sum((0, 2, 3))) / number
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def parallel(network: nn.Module) -> nn.Module:
    """The network itself or, with several processes, one that learns from the batches of all of them as from one.

    Its parameters and running statistics are those of `network`.
    """
    if count() == 1:
        return network
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNorm2d
    return DistributedDataParallel(network)
