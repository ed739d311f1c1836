"""What comes back through the layers of deep networks, and what they pass on.

A gradient is the mean absolute one of a layer's weights, (seeds, epochs, hidden layers).
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from lab.draw.curves import LINES, end_label

COLOURS = LogNorm(1e-9, 1e9)  # one scale for all heat maps; what lies beyond has its end's colour
EXACT_ZERO = {"facecolor": "white", "edgecolor": "0.8", "hatch": "////", "linewidth": 0.5}
WHAT, LAYER = "mean absolute gradient", "hidden layer (0 is at the input)"


def panels(axes: np.ndarray, gradients: Mapping[str, np.ndarray], layers: Sequence[int]) -> None:
    """{title: gradient}: curves of some layers above, all as a heat map below; axes (2, n), or (2,) of a single one."""
    axes = axes.reshape(2, -1)
    decades = gradient_range(gradients.values(), layers)
    for (top, bottom), (title, gradient) in zip(axes.T, gradients.items(), strict=True):
        curves(top, gradient, layers, decades)
        image = heat_map(bottom, gradient)
        top.set_title(title)
    axes[0, 0].set_ylabel(f"{WHAT} of the weights")
    axes[1, 0].set_ylabel(LAYER)
    bar(axes[1], image)


def gradient_range(gradients: Iterable[np.ndarray], layers: Sequence[int]) -> tuple[float, float]:
    """Powers of ten from the smallest positive to the largest gradient in some layers, at least -6 to 0."""
    values = np.concatenate([gradient[:, :, layers].ravel() for gradient in gradients])
    values = np.log10(values[np.isfinite(values) & (values > 0)].astype(float))
    return values.min(initial=-6), values.max(initial=0)


def curves(ax: Axes, gradient: np.ndarray, layers: Sequence[int], decades: tuple[float, float] | None = None) -> None:
    """The gradient of some layers against the epoch: medians and, thin, each seed; decades: powers of ten shown."""
    low, high = decades or gradient_range([gradient], layers)
    epochs, room = np.arange(1, gradient.shape[1] + 1), 0.06 * (high - low)
    zero = 10 ** (low - 2 * room)  # where an exact 0 is drawn
    ax.axhspan(zero / 10**room, zero * 10**room, **EXACT_ZERO)
    colours = dict(zip(layers, colormaps["viridis"](np.linspace(0, 0.85, len(layers))), strict=True))
    ends = {}
    for layer, colour in colours.items():
        values = np.maximum(gradient[:, :, layer].astype(float), zero)
        middle = np.median(values, axis=0)
        ax.plot(epochs, values.T, color=colour, linewidth=0.5, alpha=0.5)
        ax.plot(epochs, middle, color=colour, marker="o", markersize=3)
        ends[layer] = middle[-1]
    ax.set(yscale="log", xlabel="epoch", xlim=(0.5, len(epochs) + 0.5), ylim=(zero / 10**room, 10 ** (high + room)))
    step = math.ceil((high - low) / 6)
    ticks = step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    ax.set_yticks([zero, *10.0**ticks], ["exactly 0", *(f"$10^{{{tick}}}$" for tick in ticks)])
    ax.yaxis.set_minor_locator(NullLocator())
    for end, group in groupby(layers, key=ends.get):
        first, *others = group
        last = others[-1] if others else first
        end_label(ax, end, f"{first}\N{EN DASH}{last}" if others else f"{first}", colours[last])
    below = {"xycoords": "axes fraction", "xytext": (0, -18), "textcoords": "offset points", "va": "top"}
    ax.annotate("layer", (1.015, 0), color="0.4", fontsize="small", **below)  # what the end labels are
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def heat_map(ax: Axes, gradient: np.ndarray) -> AxesImage:
    """The median over seeds of all hidden layers and epochs."""
    ax.patch.set(**EXACT_ZERO)
    middle = np.median(gradient.astype(float), axis=0).T
    image = ax.imshow(
        np.ma.masked_equal(middle, 0),
        aspect="auto",
        norm=COLOURS,
        cmap=colormaps["magma"].with_extremes(bad="none"),
        interpolation="nearest",
        extent=(0.5, middle.shape[1] + 0.5, middle.shape[0] - 0.5, -0.5),
    )
    ax.set(xlabel="epoch")
    ax.grid(False)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return image


def bar(axes: np.ndarray | Axes, image: AxesImage) -> None:
    """The colour bar of heat maps, and what an exact 0 looks like."""
    colour_bar = image.figure.colorbar(image, ax=axes, extend="both", label=WHAT)
    colour_bar.set_ticks(10.0 ** np.arange(-9, 10, 3))
    colour_bar.minorticks_off()
    handles = [Patch(**EXACT_ZERO, label="exactly 0")]
    colour_bar.ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.8, -0.06), borderpad=0, handlelength=1.2)


def through_layers(ax: Axes, values: Mapping[str, np.ndarray], dead: Mapping[str, np.ndarray] | None = None) -> None:
    """Positive values (seeds, layers) of up to five runs against the layer, log scale: median over those that have any.

    dead (seeds, layers) bool: which layers are; a cross at the bottom where a seed has its first one.
    """
    for (label, each), style in zip(values.items(), LINES[: len(values)], strict=True):
        each = np.where(each > 1e-300, each, np.nan).astype(float)
        with warnings.catch_warnings(action="ignore"):  # of layers where nobody has any
            middle = np.nanmedian(each, axis=0)
        ax.plot(middle, linewidth=1.8, label=label, **(style | {"marker": None}))
        first = [row.argmax() for row in dead[label] if row.any()] if dead else []
        look = {"linestyle": "", "color": style["color"], "markersize": 8, "markeredgewidth": 2}
        at_the_bottom = ax.get_xaxis_transform()  # not on the line: a seed may pass on nothing there already
        ax.plot(first, [0.03] * len(first), "x", transform=at_the_bottom, **look)
    ax.set(yscale="log", xlabel=LAYER, xlim=(0, each.shape[1]))
