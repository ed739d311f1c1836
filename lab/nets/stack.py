"""N networks of one architecture trained at once, fast. What they compute is what the plain loop computes.

`train_one` in NN_tutorial.py is the definition of training; `Stack.train` here does the same for all seeds, many times
as fast. It knows few modules and one order of them, and refuses everything else (`Unknown`); `objection` lets both do
their first updates in float64 and compares. Where there is an objection, the plain loop trains.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

LEAKY = nn.LeakyReLU().negative_slope
# An activation in place; its backward from its output, which has no public name; what constants that takes.
KERNELS = {
    nn.ReLU: (torch.Tensor.relu_, torch.ops.aten.threshold_backward.grad_input, (0,)),
    nn.Tanh: (torch.Tensor.tanh_, torch.ops.aten.tanh_backward.grad_input, ()),
    nn.LeakyReLU: (F.leaky_relu_, torch.ops.aten.leaky_relu_backward.grad_input, (LEAKY, True)),
}


class Unknown(Exception):
    """What a stack can't train, in words."""


def name_of(module: nn.Module) -> str:
    kind = type(module)
    return f"nn.{kind.__name__}" if kind.__module__.startswith("torch.nn") else kind.__name__


class Block(NamedTuple):
    """The modules of one layer, and the names of its parameters in the network's state_dict."""

    linear: nn.Linear
    norm: nn.BatchNorm1d | None = None
    activation: type | None = None
    residual: nn.Module | None = None


def read(model: nn.Module) -> list[Block]:
    """The layers of a network: [Linear, BatchNorm1d or not, activation] each, the last one Linear alone.

    From the second one on they may all lie in a module with the attributes `layer` and `gate`, a parameter or None,
    that is taken for a residual connection, x + layer(x) or x + gate * layer(x). Raises Unknown for anything else.
    """
    strange = [m for m in model.modules() if not list(m.children()) and not isinstance(m, (nn.Linear, nn.BatchNorm1d))]
    strange = [m for m in strange if type(m) not in KERNELS]
    if strange or type(model) is not nn.Sequential:
        raise Unknown(" and ".join(dict.fromkeys(name_of(module) for module in strange or [model])))
    blocks = []
    for module in model:
        residual = module if hasattr(module, "layer") and hasattr(module, "gate") else None
        inner = module.layer if residual else module
        linear, *rest = inner if type(inner) is nn.Sequential else [inner]
        norm = rest.pop(0) if rest and type(rest[0]) is nn.BatchNorm1d else None
        activation = type(rest.pop(0)) if rest else None
        if rest or type(linear) is not nn.Linear or activation not in {None, *KERNELS}:
            raise Unknown(f"{name_of(module)} of {', '.join(map(name_of, module.modules()))}")
        blocks.append(Block(linear, norm, activation, residual))
    *hidden, head = blocks
    alike = {(block.norm is None, block.activation) for block in hidden}
    skipping = {block.residual is None for block in hidden[1:]}
    if any(head[1:]) or len(alike) != 1 or len(skipping) > 1 or hidden[0].residual:
        raise Unknown("this order of layers")
    if hidden[0].activation is None or len({block.linear.out_features for block in hidden}) > 1:
        raise Unknown("a layer without activation or of another width")
    return blocks


class Layer(NamedTuple):
    """The parameters of one layer in N networks, or their gradients; batch norm and gate where the layer has them."""

    weight: torch.Tensor  # (N, out, in)
    bias: torch.Tensor  # (N, out, 1)
    scale: torch.Tensor | None = None  # (N * out,)
    shift: torch.Tensor | None = None  # (N * out,)
    gate: torch.Tensor | None = None  # (N, 1, 1)


class Tape:
    """What backpropagation remembers of a forward pass on batches of B, in buffers that every batch uses again."""

    def __init__(self, layers: list[Layer], batch: int):
        def room(layer: Layer) -> torch.Tensor:
            return layer.bias.new_empty(*layer.bias.shape[:2], batch)

        self.x = [layers[0].weight] * len(layers)  # a layer's input, set by each forward pass
        self.z = [room(layer) for layer in layers]  # W x + b
        self.h = self.z[:-1]  # activation of z, in its place, or of its batch norm
        self.statistics = [(layers[0].bias, layers[0].bias)] * len(layers)  # mean and 1 / deviation of z in the batch
        self.p = room(layers[-1])  # of the classes
        self.gradients = room(layers[0]), room(layers[0])
        self.minus_one = layers[0].bias.new_full((len(layers[0].bias), 1, batch), -1.0)


class Stack:
    """N networks of one architecture as one stack, trained by backpropagation that is written out.

    Takes over the parameters of N networks and computes what they would, each on inputs of its own. Places are columns:
    a layer is W x + b, one batched matrix product for all networks. Nothing is shared, and the gradient of a sum of N
    losses is N gradients.

    Microseconds per network of a bare step, for 5 of the standard net at batch size 256 on one Zen 4 core: autograd,
    with rows for places and a tensor per parameter 220; gradients written out, buffers used again, Adam on one flat
    vector of all parameters 100; columns for places, so that matrices few units wide still have long rows, and a
    softmax from powers of two 83; without autograd's bookkeeping (inference mode) 79.
    """

    def __init__(self, models: Sequence[nn.Module], device: str = "cpu"):
        """Raises Unknown for networks that it can't train."""
        networks = list(zip(*map(read, models), strict=True))  # the N blocks of each layer

        def stack(tensors) -> torch.Tensor:
            return torch.stack([tensor.detach() for tensor in tensors])

        values = []
        for blocks in networks:
            value = Layer(stack(b.linear.weight for b in blocks), stack(b.linear.bias[:, None] for b in blocks))
            if blocks[0].norm:
                scale, shift = (stack(getattr(b.norm, n) for b in blocks).flatten() for n in ("weight", "bias"))
                value = value._replace(scale=scale, shift=shift)
            if blocks[0].residual and blocks[0].residual.gate is not None:
                value = value._replace(gate=stack(b.residual.gate[:, None] for b in blocks))
            values.append(value)
        self.residual = len(networks) > 2 and networks[1][0].residual is not None
        self.flat = torch.cat([value.flatten() for layer in values for value in layer if value is not None]).to(device)
        self.gradient = torch.zeros_like(self.flat)
        self.layers, self.gradients = self.split(self.flat, values), self.split(self.gradient, values)
        self.moments = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.updates = torch.zeros((), device=device, dtype=torch.float32)
        norms = [blocks[0].norm for blocks in networks if blocks[0].norm]
        self.norm = (norms[0].momentum, norms[0].eps) if norms else ()
        self.running = [  # mean and variance
            tuple(stack(getattr(b.norm, f"running_{n}") for b in blocks).flatten().to(device) for n in ("mean", "var"))
            for blocks in networks
            if blocks[0].norm
        ]
        self.activate, self.activate_backward, self.constants = KERNELS[networks[0][0].activation]
        self.tape: Tape | None = None
        self.count = len(models)
        names = {module: name for name, module in models[0].named_modules()}
        self.names = [Block(*(names.get(module) for module in blocks[0])) for blocks in networks]

    @staticmethod
    def split(flat: torch.Tensor, like: list[Layer]) -> list[Layer]:
        """The flat vector as the layers' parameters, without copying."""
        parts = iter(flat.split([value.numel() for layer in like for value in layer if value is not None]))
        return [Layer(*(None if value is None else next(parts).view(value.shape) for value in layer)) for layer in like]

    def state(self) -> dict[str, torch.Tensor]:
        """The networks' state_dicts, {name: (N, ...)}, but for the counters of batch norm."""
        state, running = {}, iter(self.running)
        for names, layer in zip(self.names, self.layers, strict=True):
            state[f"{names.linear}.weight"], state[f"{names.linear}.bias"] = layer.weight, layer.bias[..., 0]
            if names.norm:
                mean, variance = next(running)
                of_norm = {"weight": layer.scale, "bias": layer.shift, "running_mean": mean, "running_var": variance}
                state |= {f"{names.norm}.{name}": value.view(self.count, -1) for name, value in of_norm.items()}
            if layer.gate is not None:
                state[f"{names.residual}.gate"] = layer.gate[..., 0]
        return state

    def weight_means(self, flat: torch.Tensor) -> torch.Tensor:
        """The mean over each layer's weights of a vector like `gradient`, (N, layers)."""
        return torch.stack([layer.weight.mean(dim=(1, 2)) for layer in self.split(flat, self.layers)], dim=1)

    def forward(self, x: torch.Tensor, tape: Tape | None = None) -> torch.Tensor:
        """Logits (N, classes, B) of inputs (N, in, B).

        A tape means training: batch norm takes the batch's statistics, and the tape is filled for `backward`.
        """
        *hidden, head = self.layers
        for i, layer in enumerate(hidden):
            h = torch.baddbmm(layer.bias, layer.weight, x, out=tape and tape.z[i])
            if layer.scale is not None:
                h, *statistics = torch.native_batch_norm(
                    h.view(1, len(layer.scale), -1),
                    *(layer.scale, layer.shift, *self.running[i]),
                    *(tape is not None, *self.norm),
                )
                h = h.view(len(x), -1, x.shape[2])
            self.activate(h)
            if tape:
                tape.x[i], tape.h[i] = x, h
                if layer.scale is not None:
                    tape.statistics[i] = statistics
            if not self.residual or i == 0:
                x = h
            elif layer.gate is None:
                x = x + h
            else:
                x = torch.addcmul(x, layer.gate, h)
        if tape:
            tape.x[-1] = x
        return torch.baddbmm(head.bias, head.weight, x, out=tape and tape.z[-1])

    def backward(self, tape: Tape, y: torch.Tensor) -> torch.Tensor:
        """Fill `gradients` with those of the mean cross-entropy of the tape's logits for classes (N, 1, B).

        Returns the logarithm of the true class's probability, (N, 1, B).
        """
        p = torch.log_softmax(tape.z[-1], dim=1, out=tape.p)
        log_p = p.gather(1, y)
        p.mul_(1 / math.log(2)).exp2_()  # PyTorch's exp takes three times as long as its exp2 here
        dz = p.scatter_add_(1, y, tape.minus_one).mul_(1 / y.shape[2])  # of the logits
        dx, buffer = tape.gradients
        for i in reversed(range(len(self.layers))):
            torch.bmm(dz, tape.x[i].mT, out=self.gradients[i].weight)
            torch.sum(dz, dim=2, keepdim=True, out=self.gradients[i].bias)
            if i == 0:
                break
            if self.residual and i < len(self.layers) - 1:
                dx.baddbmm_(self.layers[i].weight.mT, dz)  # to what passed the layer by, what went through it
            else:
                torch.bmm(self.layers[i].weight.mT, dz, out=dx)
            below, gradient, h = self.layers[i - 1], self.gradients[i - 1], tape.h[i - 1]
            dh = dx
            if not self.residual:
                dx, buffer = buffer, dx  # dz takes the place of dh
            if below.gate is not None:
                torch.sum(dx * h, dim=(1, 2), keepdim=True, out=gradient.gate)
                dh = dx * below.gate
            dz = self.activate_backward(dh, h, *self.constants, grad_input=buffer)
            if below.scale is not None:
                z, scale = tape.z[i - 1].view(1, len(below.scale), -1), below.scale
                saved = *self.running[i - 1], *tape.statistics[i - 1], True, self.norm[1], [True] * 3
                dz, *of_norm = torch.ops.aten.native_batch_norm_backward(dz.view_as(z), z, scale, *saved)
                gradient.scale.copy_(of_norm[0])
                gradient.shift.copy_(of_norm[1])
                dz = dz.view_as(h)
        return log_p

    def differentiate(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Fill `gradient` with that of the mean cross-entropy on (N, in, B), (N, 1, B); returns losses (N, 1, B)."""
        if self.tape is None or self.tape.p.shape[2] != x.shape[2]:
            self.tape = Tape(self.layers, x.shape[2])
        self.forward(x, self.tape)
        return self.backward(self.tape, y).neg_()

    def step(self, x: torch.Tensor, y: torch.Tensor, lr: float, beta1: float) -> torch.Tensor:
        """One update of Adam on batches (N, in, B) with classes (N, 1, B); returns the losses (N, 1, B) before it."""
        losses = self.differentiate(x, y)
        self.updates += 1
        torch._fused_adam_(  # all that torch.optim.Adam(fused=True) comes down to: 6 us of its 39 for 10,000 parameters
            [self.flat],
            [self.gradient],
            [self.moments[0]],
            [self.moments[1]],
            [],
            [self.updates],
            lr=lr,
            beta1=beta1,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
        return losses

    def train(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        seeds: Sequence[int],
        batch_size: int,
        plan: Sequence[tuple[float, float]],
        permuted_labels: bool = False,
    ) -> Iterator[tuple["Stack", torch.Tensor]]:
        """Train on (in, rows), (rows,); yields itself and the losses (N, 1, B) of the batch after every update.

        plan: learning rate and beta1 of every update. Each network shuffles by its seed, as `train_one` does.
        """
        rows, device = len(y), x.device
        updates = rows // batch_size
        shuffles = [torch.Generator().manual_seed(seed) for seed in seeds]
        if permuted_labels:
            permutation = torch.stack([torch.randperm(rows, generator=shuffle) for shuffle in shuffles])
        for epoch in range(len(plan) // updates):
            order = [torch.randperm(rows, generator=shuffle)[: updates * batch_size] for shuffle in shuffles]
            order = labels = torch.stack(order)
            if permuted_labels:
                labels = permutation.gather(1, order)
            order, labels = (
                o.view(len(seeds), updates, batch_size).transpose(0, 1).flatten().to(device) for o in (order, labels)
            )
            inputs = x.index_select(1, order).view(-1, updates, len(seeds), batch_size)
            inputs = inputs.permute(1, 2, 0, 3)  # (updates, N, in, B)
            targets = y.index_select(0, labels).view(updates, len(seeds), 1, batch_size)
            rates = plan[epoch * updates : (epoch + 1) * updates]
            for *batch, (lr, beta1) in zip(inputs.unbind(), targets.unbind(), rates, strict=True):
                yield self, self.step(*batch, lr, beta1)


class Plain:
    """One network of any kind behind the face of a Stack of one; PyTorch computes."""

    count = 1

    def __init__(self, model: nn.Module):
        self.model = model
        self.weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]

    @property
    def gradient(self) -> torch.Tensor:
        return torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in self.weights])

    def weight_means(self, flat: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.mean() for part in flat.split([w.numel() for w in self.weights])])[None]

    def state(self) -> dict[str, torch.Tensor]:
        return {name: value.detach()[None] for name, value in self.model.state_dict().items()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (1, classes, B) of inputs (1, in, B), as the trained network gives them."""
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            logits = self.model(x[0].T).T[None]
        self.model.train(training)
        return logits


def adam_plan(scheduled: Callable, updates: int) -> list[tuple[float, float]]:
    """Learning rate and beta1 of every update; scheduled(parameters) gives Adam and its schedule or None."""
    optimizer, schedule = scheduled([torch.zeros(1)])
    (group,) = optimizer.param_groups
    if type(optimizer) is not torch.optim.Adam:
        raise Unknown(f"torch.optim.{type(optimizer).__name__}")
    usual = torch.optim.Adam([torch.zeros(1)]).param_groups[0] | {"betas": (group["betas"][0], 0.999)}
    if odd := [
        f"{name}={group[name]}" for name in usual if name not in ("params", "lr") and group[name] != usual[name]
    ]:
        raise Unknown(f"Adam with {' and '.join(odd)}")
    plan = [(group["lr"], group["betas"][0])]
    if schedule is None:
        return plan * updates
    while len(plan) < updates:
        optimizer.step()
        schedule.step()
        plan.append((group["lr"], group["betas"][0]))
    return plan


UPDATES = 4  # that are compared
SHAKE, MARGIN = 1e-14, 1e3


def objection(
    plain: Callable[[], Iterator],
    fast: Callable[[], Iterator],
    shaken: Callable[[], Iterator],
    points: Callable[[], torch.Tensor],
) -> str:
    """Why a stack may not train: what it doesn't know, or that its first updates differ; empty where nothing speaks
    against it.

    plain, fast: start the training of one network, which yields (Plain or Stack, losses); points: gives inputs
    (1, in, n) on which their answers are compared at the end. In float64; how far rounding carries two trainings apart
    is seen from `shaken`, a third one like `fast`, whose places are moved by SHAKE and its parameters after an update.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        trainings = zip(plain(), fast(), shaken(), strict=False)
        for update, (one, two, three) in enumerate(islice(trainings, UPDATES)):
            reach = MARGIN * (two[1] - three[1]).abs().max() + 1e-11 * one[1].abs()
            if not _near(one[1], two[1].mean(), reach):
                return "a training that differs from lab/nets/stack.py's"
            if update == 0:
                noise = torch.randn(three[0].flat.shape, generator=torch.Generator().manual_seed(0))
                three[0].flat.mul_(1 + SHAKE * noise)
        answers, others, third = (network.forward(points()) for network, _ in (one, two, three))
        reach = MARGIN * (others - third).abs().max() + 1e-9 * answers.abs().max()
        return "" if _near(answers, others, reach) else "a network that answers otherwise than lab/nets/stack.py's"
    except Unknown as unknown:
        return str(unknown)
    except Exception as error:  # of a stack that takes a module for what it isn't, or the network's own, heard again
        return f"what ends with {type(error).__name__} in lab/nets/stack.py"
    finally:
        torch.set_default_dtype(before)


def _near(a: torch.Tensor, b: torch.Tensor, reach: torch.Tensor) -> bool:
    return bool((((a - b).abs() <= reach) | (a.isnan() & b.isnan()) | (a == b)).all())


def group_size(rows: int, inputs: int, device: str) -> int:
    """How many seeds train as one stack; more of them are further runs, whose memory is that of the first.

    On a processor 5, for larger stacks are not faster there and a study of more seeds then keeps what one of fewer has
    trained; fewer where an epoch's places take more than 1 GiB. On a GPU as many as half of its memory holds.
    """
    room = torch.cuda.get_device_properties(0).total_memory // 2 if device == "cuda" else 2**30
    epoch = rows * (8 + 8 + 4 * inputs)  # bytes a seed: order, classes and inputs of all its batches
    return max(1, min(room // epoch, 1000 if device == "cuda" else 5))
