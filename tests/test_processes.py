"""lab/processes.py: several processes train as one, whatever their shares, and none waits for one that is gone."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lab import processes
from lab.errors import InputError

ROOT = Path(__file__).parents[1]
PARTS = [np.arange(7), np.arange(7, 12), np.arange(12, 14), np.arange(14, 15)]  # of the last, one process gets none


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4 * 6 * 6, 1)).double()


def train() -> dict[str, np.ndarray]:
    """Losses, logits, parameters and running statistics of a small network after Adam's steps on PARTS."""
    inputs = 3 + torch.randn(15, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = (torch.arange(15) % 3 > 0).double()
    made, losses = network(), []
    model, loss_of = processes.parallel(made), processes.mean(binary_cross_entropy_with_logits)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for part in PARTS:
        own = processes.share(part)
        optimizer.zero_grad()
        loss = loss_of(model(inputs[own]).squeeze(1), targets[own])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    made.eval()
    with torch.inference_mode():
        logits = processes.collect((made(inputs[part]).numpy() for part in processes.share(PARTS)), PARTS)
    return {"losses": np.array(losses), "logits": logits} | {k: v.numpy() for k, v in made.state_dict().items()}


def fail(number: int) -> dict[str, np.ndarray]:
    """Process `number` raises, and the others wait for it."""
    if processes.rank() == number:
        raise ValueError(f"process {number} fails")
    return {"sum": processes.total(torch.ones(1)).numpy()}


def process() -> None:
    """The program of one process: they train, process 0 saves that in the file of its argument, then 1 fails."""
    processes.start()
    if processes.rank() > 0:
        while task := processes.receive():
            function, given = task
            function(*given)
    else:
        np.savez(sys.argv[1], **processes.on_all(train)())
        processes.on_all(fail)(1)
    processes.stop()


def test_two_processes_train_as_one_and_an_error_in_shared_work_ends_both(python, tmp_path, monkeypatch, capsys):
    saved = tmp_path / "two.npz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2
    done = python(*torchrun, __file__, saved, env=environment, timeout=120)
    assert saved.exists(), done.stderr
    one, two = train(), np.load(saved)
    assert one.keys() == set(two)
    assert np.abs(one["0.weight"] - network()[0].weight.detach().numpy()).max() > 0.1  # it has trained
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    assert done.returncode == 1
    assert "ValueError: process 1 fails" in done.stderr
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "send", lambda message: None)
    with pytest.raises(SystemExit):  # no Exception, which would be one failed run among others
        processes.on_all(fail)(0)
    assert "ValueError: process 0 fails" in capsys.readouterr().err


def test_batch_norm_is_torchs():
    ours, theirs = processes.BatchNorm2d(5, eps=1e-3), nn.BatchNorm2d(5, eps=1e-3)
    for layer in (ours, theirs):
        nn.init.uniform_(layer.weight, 0.5, 2, generator=torch.Generator().manual_seed(0))
    for dtype, close in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        x = (100 + torch.randn(6, 5, 4, 3)).to(dtype)  # far from zero: a single pass would be inaccurate
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [layer(x) for layer, x in zip((ours, theirs), inputs, strict=True)]
        assert outputs[0].dtype == dtype
        torch.testing.assert_close(*outputs, rtol=close, atol=close)
        for output in outputs:
            output.float().pow(3).sum().backward()
        torch.testing.assert_close(*(x.grad for x in inputs), rtol=close, atol=20 * close)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x.float()), theirs.eval()(x.float()))


def test_options_that_several_processes_cannot_work_with(monkeypatch):
    processes.check("mps", "tcp://somewhere")  # one process can
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    processes.check("cpu", None)
    for device in ("mps", "cuda"):
        with pytest.raises(InputError, match=f"2 processes need .*--device {device}.*--nproc-per-node"):
            processes.check(device, None)
    with pytest.raises(InputError, match="--cluster tcp://somewhere"):
        processes.check("cpu", "tcp://somewhere")


if __name__ == "__main__":
    process()
