"""What is recorded of a training: losses and right answers of any networks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import nn

from lab.nets import record
from lab.nets.record import evaluate
from lab.nets.stack import Plain, Stack
from NN_tutorial import Config, mlp


@given(st.integers(1, 3), st.integers(2, 5), st.integers(1, 30), st.sampled_from([1e-3, 1.0, 1e3]), st.integers(1, 40))
def test_loss_and_accuracy_are_those_of_the_textbook(n, classes, places, scale, block):
    torch.manual_seed(n)
    models = [mlp(Config(depth=1, width=8), 2, classes).double() for _ in range(n)]
    for model in models:
        model[-1].weight.data *= scale
    x, y = torch.randn(2, places, dtype=torch.float64), torch.randint(classes, (places,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "BLOCK", block)
        losses, right = evaluate(Stack(models), x, y)
    for model, loss, found in zip(models, losses, right, strict=True):
        logits = model(x.T).detach().numpy()
        expected = (logsumexp(logits, axis=1) - logits[np.arange(places), y]).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(found, logits.argmax(axis=1) == y.numpy())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_overflow_are_never_right_and_harm_no_other_network(value):
    x, y = torch.zeros(2, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    models = [mlp(Config(depth=1), 2, 3) for _ in range(2)]
    for model, bias in zip(models, ([value] * 3, [0.0, 9.0, 0.0]), strict=True):
        nn.init.zeros_(model[-1].weight)
        model[-1].bias.data = torch.tensor(bias)
    assert not evaluate(Plain(models[0]), x, y)[1].any()
    losses, right = evaluate(Stack(models), x, y)
    assert right.sum(axis=1).tolist() == [0, 2]
    assert np.isfinite(losses).tolist() == [False, True]
