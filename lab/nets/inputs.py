"""What a network is given of a place: degrees, standardised or not, or waves of them; described once for all."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from lab.data.places import Places


@dataclass(frozen=True)
class Inputs:
    """From degrees x (n, 2) to inputs (n, in): x or (x - mean) / deviation; with frequencies, waves of these.

    These are, for each frequency, what each of `waves` (names of torch, such as sin) makes of frequency times both.
    """

    standardised: bool = False
    frequencies: tuple[float, ...] = ()
    waves: tuple[str, ...] = ("sin",)

    def __call__(self, x: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
        z = (x - mean) / deviation if self.standardised else x
        parts = [getattr(torch, wave)(frequency * z) for frequency in self.frequencies for wave in self.waves]
        return torch.cat(parts, dim=1) if parts else z

    def described(self) -> dict[str, Any]:
        """As JSON, from which the page computes the same."""
        return asdict(self)


def scale_of(x: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of places (n, 2), as (2, 2); where they don't differ, the deviation is 1."""
    x = x.astype(float)
    deviation = x.std(axis=0)
    return np.stack([x.mean(axis=0), np.where(deviation > 0, deviation, 1.0)])


def represent(x: np.ndarray, inputs: Callable, scale: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """Coordinates (n, 2) as a network's inputs (n, in), in torch's default precision; inputs: like an Inputs."""
    x, scale = (torch.tensor(values, dtype=torch.get_default_dtype(), device=device) for values in (x, scale))
    return inputs(x, *scale)


def tensors(
    places: Places, split: str, inputs: Callable, scale: np.ndarray | None = None, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """A network's inputs (n, in) and the numbers of the countries (n,) of a split; by default of the scale of train."""
    scale = scale_of(places.x["train"]) if scale is None else scale
    return represent(places.x[split], inputs, scale, device), torch.tensor(places.y[split], device=device)
