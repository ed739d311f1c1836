"""Grad-CAM: where on a photo the last convolution of a network speaks for a class (Selvaraju et al. 2017)."""

import math

import numpy as np
import torch
from torch import nn


def with_grad_cam(detector: nn.Module, photos: torch.Tensor) -> torch.Tensor:
    """Logits and, behind each, where the last convolution speaks for fake or against, (n, 1 + rows * columns).

    Without the final ReLU, so that either class can be asked for. As only average pooling, `detector.pool`, and a
    linear layer, `detector.head`, follow, the logit's gradient is the head's weight over the number of places.
    """
    seen = []
    hook = detector.pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    logits = detector(photos)
    hook.remove()
    (activations,) = seen
    maps = torch.einsum("nkij,k->nij", activations, detector.head.weight[0]) / activations[0, 0].numel()
    return torch.cat([logits[:, None], maps.flatten(1)], 1)


def maps_in(seen: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """The maps in what with_grad_cam gives, (n, rows, columns)."""
    side = math.isqrt(seen.shape[1] - 1)  # as photos are square
    return seen[:, 1:].reshape(-1, side, side)
