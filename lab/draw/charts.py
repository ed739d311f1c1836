"""Figures from arrays and numbers. Nothing here knows a script, its configurations or what they mean.

Axes are drawn on in place; functions that return labels give them as (y, text, colour), for `end_labels`, which is
called when the scale of the axes is settled.
"""

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

from lab import files
from lab.errors import printable, quoted, some, warn
from lab.run import interrupt
from lab.study import SPLITS, Cells, Result
from lab.tell.statistics import interval, wilson

STYLE = matplotlib.rc_params_from_file(interrupt.STYLE, use_default_template=False)
FORMATS = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no version, no date
WEBP = {"lossless": True, "quality": 60, "method": 4}
# Okabe and Ito's colour-blind safe colours; the line styles keep them apart in grey.
LOOK = {
    "train": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "validation": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "test": {"color": "#000000", "linestyle": ":", "marker": "^"},
}
THIN = {"color": "0.55", "linewidth": 1, "linestyle": (0, (1, 1)), "zorder": 0}  # lines of reference
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]  # of texts on lines
Label = tuple[float, str, str]

# ---------------------------------------------------------------------------- figures


def figure(title: str, foot: str = "", rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 5), **options):
    """A figure whose title states the finding and whose foot says what bands and n are; axes as plt.subplots.

    No pyplot: it would draw into the notebook that has started a script, or need a display.
    """
    fig = Figure(figsize=size)
    axes = fig.subplots(rows, columns, **options)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", wrap=True)
    fig.foot = foot
    return fig, axes


def title_of(fig: Figure) -> str:
    return " ".join(fig.get_suptitle().split())


def alt_text(fig: Figure) -> str:
    """What is seen, for those who don't see it: the finding, then each panel's title, axes and names, up to six."""
    panels = []
    for ax in fig.axes:
        if ax.has_data() and ax.get_label() != "<colorbar>":
            sides = " against ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
            legends = [*filter(None, [ax.get_legend()]), *fig.legends]
            texts = [*(text for legend in legends for text in legend.get_texts()), *ax.texts]
            names = [name for name in dict.fromkeys(text.get_text() for text in texts) if re.search(r"[^\W\d]", name)]
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            shown = f"shown: {', '.join(names[:6])}{more}" if names else ""
            panels.append("; ".join(filter(None, (ax.get_title(loc="left"), sides, shown))))
    sentences = dict.fromkeys(" ".join(text.split()) for text in (title_of(fig), *panels) if text)
    return textwrap.shorten(". ".join(sentences), 700, placeholder=" ...")


def write_foot(fig: Figure) -> None:
    fig.supxlabel(fig.foot, x=0.01, ha="left", fontsize="small", color="0.35", wrap=True)


def save_animation(frames: Iterable[Image.Image], path: Path, seconds: float = 0.15, last: float = 4) -> None:
    """Save as an animated WebP, which starts again after its last frame, in which it rests."""
    first, *others = frames
    durations = [int(1000 * seconds)] * len(others) + [int(1000 * last)]
    picture = io.BytesIO()
    first.save(picture, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, **WEBP)
    files.write_whole(path, picture.getvalue())
    interrupt.check()


def warn_of_letters(names: Sequence[str], where: str) -> None:
    """Warn of names with letters that the font of the figures lacks: a box is drawn for each."""
    known = get_font(findfont(FontProperties())).get_charmap()
    lacking = [name for name in names if not all(ord(sign) in known for sign in printable(name))]
    if lacking:
        what = f"{len(lacking)} of {len(names)} names have letters that the figures' font lacks and shows as boxes"
        warn(f"{what} ({some([quoted(name) for name in lacking], ', ', 3)}), {where}, write them in Latin letters")


@contextmanager
def any_script() -> Iterator[None]:
    """Draw inside what may hold names in scripts that the font lacks: a box is drawn, and nothing is said."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def frame(fig: Figure) -> Image.Image:
    """A figure as it is now."""
    canvas = FigureCanvasAgg(fig)
    with any_script():
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save(fig: Figure, path: Path) -> None:
    """Save as PNG, which the gallery shows, and in the format of --format; the same numbers give the same bytes."""
    write_foot(fig)
    for kind in dict.fromkeys(("png", matplotlib.rcParams["savefig.format"])):
        picture = io.BytesIO()
        with any_script():
            fig.savefig(picture, format=kind, metadata=FORMATS[kind])
        files.write_whole(path.with_suffix(f".{kind}"), picture.getvalue())
    interrupt.check()


def output(kind: str, quick: bool) -> None:
    """What `save` writes; drawing is most of a quick run, whose figures have half the resolution.

    The look is matplotlib's own with study.mplstyle's changes, whatever the user's matplotlibrc or a notebook says.
    """
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    matplotlib.rcParams["savefig.format"] = kind
    matplotlib.rcParams["savefig.dpi"] = STYLE["savefig.dpi"] / (2 if quick else 1)


output("png", quick=False)


# ---------------------------------------------------------------------------- axes and labels


def plain_log_ticks(ax: Axes) -> None:
    """0.2, 0.5, 1, 2 instead of powers of ten."""
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def error_scale(floor: float) -> tuple[Callable, Callable]:
    """From accuracy to height on a log scale of the error, which ends at `floor`, and back."""

    def forward(accuracy):
        return -np.log10(np.clip(1 - np.asarray(accuracy, float), floor, 1.0))

    def back(height):
        return 1 - 10.0 ** -np.asarray(height, float)

    return forward, back


def accuracy_axis(ax: Axes, floor: float = 1e-3) -> None:
    """Accuracy on a log scale of the error 1 - accuracy, 0.9 to 0.99 takes as much room as 0 to 0.9."""
    highest = min(ax.dataLim.y1, 1.0)
    ticks = [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
    ax.set_yscale("function", functions=error_scale(floor))
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(0, 1 - max(floor, 0.7 * (1 - highest)))


def end_labels(ax: Axes, labels: Sequence[Label], gap: float = 0.045) -> None:
    """Write (y, text, colour) right of the axes at the height y, moved apart where they would overlap."""
    labels = [label for label in labels if np.isfinite(label[0])]
    bottom, top = ax.get_ylim()
    scale = ax.yaxis.get_transform().transform
    low, high = scale([bottom, top])
    heights = [float(np.clip((scale([y])[0] - low) / (high - low), 0, 1)) for y, _, _ in labels]
    order = np.argsort(heights, kind="stable")
    placed = [heights[i] for i in order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed)):  # what was pushed over the top comes down again
        placed[i] = min(placed[i], 1.0 - (len(placed) - 1 - i) * gap)
    for height, i in zip(placed, order, strict=True):
        _, text, colour = labels[i]
        ax.text(1.015, height, text, transform=ax.transAxes, color=colour, va="center", fontsize="small")


def level(ax: Axes, y: float, text: str = "") -> Label:
    """A thin horizontal line and its label."""
    ax.axhline(y, **THIN)
    return y, text, "0.4"


def chance_line(ax: Axes, y: float) -> None:
    """A thin line that the legend names."""
    ax.axhline(y, color="0.5", linewidth=1, zorder=1, label="chance")


def ordered(labels: Iterable[str]) -> dict[str, np.ndarray]:
    """A colour for each label, the later the darker."""
    labels = list(labels)
    return dict(zip(labels, colormaps["viridis"](np.linspace(0.7, 0, len(labels))), strict=True))


def rate_look(rate: float) -> dict[str, Any]:
    """Colour and line style of a learning rate, the same in all figures; larger rates are darker."""
    decade = float(np.clip(np.log10(rate), -5, 0))
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
    return {"color": colormaps["plasma"](-0.16 * decade), "linestyle": dashes[round(-decade)]}


# ---------------------------------------------------------------------------- curves


def band(ax: Axes, x: np.ndarray, curves: np.ndarray, **look) -> Line2D:
    """Median over seeds as a line, smallest to largest as a band; curves: (seeds, points)."""
    look = {key: value for key, value in look.items() if key != "marker"}
    (line,) = ax.plot(x, np.median(curves, axis=0), **look)
    ax.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def loss_axis(ax: Axes, epochs: int, what: str = "validation cross-entropy (nats)") -> None:
    """Losses on a log scale against the epoch."""
    ax.set(yscale="log", xlabel="epoch", ylabel=what, xlim=(0, epochs))
    plain_log_ticks(ax)


def curve(ax: Axes, values: np.ndarray, label: str, **look) -> Label:
    """A band (seeds, epochs) against the epoch; returns the label of its end."""
    line = band(ax, np.arange(1, values.shape[1] + 1), values, **look)
    return float(np.median(values[:, -1])), label, line.get_color()


def splits(ax: Axes, result: Result, metric: str) -> list[Label]:
    """Curves of the splits, loss or accuracy, against the epoch; returns their end labels."""
    labels = [curve(ax, result[f"{metric}_{split}"], split, **LOOK[split]) for split in SPLITS]
    epochs = result[f"{metric}_train"].shape[1]
    if metric == "loss":
        loss_axis(ax, epochs, "cross-entropy (nats)")
    else:
        ax.set(xlabel="epoch", xlim=(0, epochs), ylabel="accuracy (log scale of the error)")
    return labels


def marked_epochs(ax: Axes, result: Result, epochs: Sequence[int]) -> None:
    """Circles and numbers at the median validation loss after these epochs, on a log scale of the epoch."""
    colour, last = LOOK["validation"]["color"], result["loss_validation"].shape[1]
    for epoch in epochs:
        loss = np.median(result.at("loss_validation", epoch))
        ax.plot(epoch, loss, "o", color="white", markeredgecolor=colour, markersize=7, zorder=5)
        below = min(result.at(f"loss_{split}", epoch).min() for split in SPLITS)
        where = {"xytext": (0, -5), "textcoords": "offset points", "ha": "center" if epoch == 1 else "right"}
        ax.annotate(f"{loss:.2f}", (epoch, below), va="top", color=colour, **where)
    ax.set(xscale="log", xlabel="epoch (log scale)", xlim=(0.9, 1.1 * last))
    ax.set_xticks(epochs, map(str, epochs))
    ax.minorticks_off()


# ---------------------------------------------------------------------------- accuracies


def references(ax: Axes, accuracies: dict[str, float]) -> list[Label]:
    """Horizontal lines at accuracies, and their scale; names of the same number share a label."""
    names: dict[str, list[str]] = {}
    for name, accuracy in accuracies.items():
        names.setdefault(f"{accuracy:.3f}", []).append(name)
        ax.axhline(accuracy, **THIN)
    accuracy_axis(ax)
    return [(float(number), " and\n".join(same) + f" {number}", "0.4") for number, same in names.items()]


def scores(ax: Axes, rows: dict[str, Cells], positions: Iterable[float] | None = None) -> None:
    """Accuracy of the three splits for each row: mean and 95% interval over seeds."""
    positions = np.arange(len(rows)) if positions is None else np.array([*positions])
    step = float(np.diff(positions).min()) if len(positions) > 1 else 1.0
    for shift, split in zip((-0.12, 0, 0.12), SPLITS, strict=True):
        means, halves = np.transpose([interval(cells[split, "accuracy"]) for cells in rows.values()])
        look = LOOK[split] | {"linestyle": "none"}
        ax.errorbar(
            positions + shift * step, means, np.nan_to_num(halves), **look, label=split, capsize=3, linewidth=1.3
        )
    ax.set_xticks(positions, list(rows))
    ax.set_xlim(positions[0] - 0.5 * step, positions[-1] + 0.5 * step)
    ax.set_ylabel("accuracy (log scale of the error)")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handletextpad=0.1)


def spreads(ax: Axes, rows: dict[str, np.ndarray], positions: np.ndarray) -> None:
    """Mean and 95% interval over seeds of one number for each row, on a log scale."""
    means, halves = np.transpose([interval(values) for values in rows.values()])
    ax.errorbar(positions, means, np.nan_to_num(halves), color="black", marker="o", linestyle="none", capsize=3)
    ax.set_xticks(positions, list(rows))
    ax.set(yscale="log")
    plain_log_ticks(ax)


def way_down(ax: Axes, lines: dict[str, tuple[np.ndarray, np.ndarray]], target: float, text: str = "") -> None:
    """Losses (seeds, points) against updates or seconds (points,), both log, and a loss that all reach."""
    for (label, (x, losses)), colour in zip(lines.items(), ordered(lines).values(), strict=True):
        line = band(ax, x, losses, color=colour)
        end = x[-1], line.get_ydata()[-1]
        look = {"color": colour, "path_effects": HALO}
        ax.annotate(label, end, (4, 0), textcoords="offset points", va="center", **look)
    label = level(ax, target, text)
    ax.set(xscale="log", yscale="log", ylabel="validation cross-entropy (nats)")
    ax.set_xlim(right=2 * ax.get_xlim()[1])
    plain_log_ticks(ax)
    end_labels(ax, [label])


def before_and_after(axes: np.ndarray, results: dict[str, Result], rows: dict[str, Cells], levels: dict) -> None:
    """A column for each of two results: losses above, accuracies below; levels: accuracies to compare with."""
    ends, lines = {}, []
    for column, (label, result) in enumerate(results.items()):
        axes[0, column].set_title(label)
        ends[label] = splits(axes[0, column], result, "loss")
        splits(axes[1, column], result, "accuracy")
        lines = references(axes[1, column], levels)
    for ax in axes[:, 1]:
        ax.set_ylabel("")
    for ax in axes[0]:
        ax.set_xlabel("")
    for column, label in enumerate(results):
        end_labels(axes[0, column], ends[label])
        means = {split: rows[label][split, "accuracy"].mean() for split in SPLITS}
        finals = [(mean, f"{split} {mean:.3f}", LOOK[split]["color"]) for split, mean in means.items()]
        end_labels(axes[1, column], finals + (lines if column else []), gap=0.06)


# ---------------------------------------------------------------------------- gradients

GRADIENT_COLOURS = LogNorm(1e-9, 1e9)  # one scale for all heat maps; what lies beyond has its end's colour
EXACT_ZERO = {"facecolor": "white", "edgecolor": "0.8", "hatch": "////", "linewidth": 0.5}


def gradient_range(gradients: Iterable[np.ndarray], layers: Sequence[int]) -> tuple[float, float]:
    """Powers of ten from the smallest positive to the largest gradient in some layers, at least -6 to 0."""
    values = np.concatenate([gradient[:, :, layers].ravel() for gradient in gradients])
    values = np.log10(values[np.isfinite(values) & (values > 0)].astype(float))
    return values.min(initial=-6), values.max(initial=0)


def gradient_curves(ax: Axes, gradient: np.ndarray, layers: Sequence[int], decades: tuple[float, float]) -> None:
    """Mean absolute gradients (seeds, epochs, hidden layers) of some layers against the epoch."""
    epochs = np.arange(1, gradient.shape[1] + 1)
    low, high = decades
    room = 0.06 * (high - low)
    zero = 10 ** (low - 2 * room)  # where an exact 0 is drawn
    ax.axhspan(zero / 10**room, zero * 10**room, **EXACT_ZERO)
    colours = dict(zip(layers, colormaps["viridis"](np.linspace(0, 0.85, len(layers))), strict=True))
    ends = {}
    for layer, colour in colours.items():
        curves = np.maximum(gradient[:, :, layer].astype(float), zero)
        middle = np.median(curves, axis=0)
        ax.plot(epochs, curves.T, color=colour, linewidth=0.5, alpha=0.5)
        ax.plot(epochs, middle, color=colour, marker="o", markersize=3)
        ends[layer] = middle[-1]
    ax.set(yscale="log", xlabel="epoch", xlim=(0.5, len(epochs) + 0.5), ylim=(zero / 10**room, 10 ** (high + room)))
    step = math.ceil((high - low) / 6)
    ticks = step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    ax.set_yticks([zero, *10.0**ticks], ["exactly 0", *(f"$10^{{{tick}}}$" for tick in ticks)])
    ax.yaxis.set_minor_locator(NullLocator())
    alike = [list(group) for _, group in groupby(layers, key=ends.get)]
    names = [f"{group[0]}\N{EN DASH}{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in alike]
    end_labels(ax, [(ends[g[-1]], name, colours[g[-1]]) for g, name in zip(alike, names, strict=True)], gap=0.04)
    ax.text(1.015, -0.02, "layer", transform=ax.transAxes, color="0.4", va="top", fontsize="small")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def gradient_map(ax: Axes, gradient: np.ndarray):
    """The median over seeds of all hidden layers and epochs as a heat map; returns its image."""
    ax.patch.set(**EXACT_ZERO)
    middle = np.median(gradient.astype(float), axis=0).T
    image = ax.imshow(
        np.ma.masked_equal(middle, 0),
        aspect="auto",
        norm=GRADIENT_COLOURS,
        cmap=colormaps["magma"].with_extremes(bad="none"),
        interpolation="nearest",
        extent=(0.5, middle.shape[1] + 0.5, middle.shape[0] - 0.5, -0.5),
    )
    ax.set(xlabel="epoch")
    ax.grid(False)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return image


def gradient_bar(axes: np.ndarray | Axes, image) -> None:
    """The colour bar of heat maps of gradients, and what an exact 0 looks like."""
    bar = image.figure.colorbar(image, ax=axes, extend="both", label="mean absolute gradient")
    bar.set_ticks(10.0 ** np.arange(-9, 10, 3))
    bar.minorticks_off()
    handles = [Patch(**EXACT_ZERO, label="exactly 0")]
    bar.ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.8, -0.06), borderpad=0, handlelength=1.2)


def gradient_panels(title: str, foot: str, panels: dict[str, tuple[np.ndarray, Sequence[int]]]) -> Figure:
    """{its title: gradients and the layers drawn as curves}: curves above, heat map below, side by side."""
    fig, axes = figure(title, foot, 2, len(panels), (2.7 * len(panels), 7.5), sharey="row", squeeze=False)
    layers = next(iter(panels.values()))[1]
    decades = gradient_range([gradient for gradient, _ in panels.values()], layers)
    for (top, bottom), (name, (gradient, layers)) in zip(axes.T, panels.items(), strict=True):
        gradient_curves(top, gradient, layers, decades)
        image = gradient_map(bottom, gradient)
        top.set_title(name)
    axes[0, 0].set_ylabel("mean absolute gradient of the weights")
    axes[1, 0].set_ylabel("hidden layer (0 is at the input)")
    gradient_bar(axes[1, :], image)
    return fig


def through_layers(ax: Axes, lines: dict[str, tuple[np.ndarray, np.ndarray | None]]) -> None:
    """Positive values (seeds, layers) against the layer, log scale: median over the seeds that still have some.

    With them, where a layer is dead, (seeds, layers) bool: a cross at the bottom where a seed has its first one.
    """
    colours = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7")  # Okabe and Ito's
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
    for (label, (values, dead)), colour, dash in zip(lines.items(), colours, dashes, strict=False):
        values = np.where(values > 1e-300, values, np.nan).astype(float)
        with warnings.catch_warnings(action="ignore"):  # of layers where nobody has any
            middle = np.nanmedian(values, axis=0)
        ax.plot(middle, color=colour, linestyle=dash, linewidth=1.8, label=label)
        first = [row.argmax() for row in dead if row.any()] if dead is not None else []
        look = {"linestyle": "", "color": colour, "markersize": 8, "markeredgewidth": 2}
        at_the_bottom = ax.get_xaxis_transform()  # not on the line: a seed may pass on nothing there already
        ax.plot(first, [0.03] * len(first), "x", transform=at_the_bottom, **look)
    ax.set(yscale="log", xlabel="hidden layer (0 is at the input)", xlim=(0, values.shape[1]))


# ---------------------------------------------------------------------------- ladders


def ladder(ax: Axes, steps: dict[str, np.ndarray], mark: float) -> None:
    """Accuracies (seeds,) of steps that each change one thing, from top to bottom, and a mark to reach."""
    places = np.arange(len(steps))[::-1]
    means, halves = np.transpose([interval(values) for values in steps.values()])
    for i in range(1, len(steps)):
        ax.plot(means[i - 1 : i + 1], [places[i]] * 2, color="0.75", linewidth=7, solid_capstyle="butt", zorder=1)
    ax.errorbar(means, places, xerr=np.nan_to_num(halves), fmt="o", color="black", capsize=3, zorder=3)
    for i, (mean, place) in enumerate(zip(means, places, strict=True)):
        gain = f"  ({mean - means[i - 1]:+.4f})" if i else ""
        ax.text(1.01, place, f"{mean:.4f}{gain}", transform=ax.get_yaxis_transform(), va="center", fontsize="small")
    ax.axvline(mark, **THIN)
    ax.text(mark, len(steps) - 0.45, f"nearest neighbour {mark:.4f}", ha="right", fontsize="small", color="0.35")
    ax.set_yticks(places, list(steps))
    ax.grid(axis="y", visible=False)
    error_axis(ax, "x", min(means), max(*means, mark))
    ax.set(ylim=(-0.6, len(steps)), xlabel="test accuracy (log scale of the error)")


def grid_lines(ax: Axes, lines: dict[str, list[np.ndarray]], ticks: Sequence[str], mark: float) -> None:
    """Accuracies (seeds,) of a grid: one line per row of it, against its columns."""
    ends = []
    for (label, values), look in zip(lines.items(), (LOOK["train"], LOOK["validation"], LOOK["test"]), strict=False):
        means, halves = np.transpose([interval(v) for v in values])
        ax.errorbar(range(len(ticks)), means, np.nan_to_num(halves), capsize=3, label=label, **look)
        ends.append((means[-1], label, look["color"]))
    label = level(ax, mark, "neighbour")
    error_axis(ax, "y", min(v.mean() for row in lines.values() for v in row), mark)
    ax.set_xticks(range(len(ticks)), ticks)
    ax.set(ylabel="test accuracy (log scale of the error)", xlabel="inputs of a net of 6 hidden layers")
    end_labels(ax, [*ends, label])


def error_axis(ax: Axes, which: str, low: float, high: float) -> None:
    """Accuracies on a log scale of the error, from a little below `low` to a little above `high`."""
    ticks = [0, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998]
    low, high = 1 - min(1.0, 1.3 * (1 - low)), 1 - 0.75 * (1 - min(high, 0.9995))
    ticks = [tick for tick in ticks if low <= tick <= high]
    getattr(ax, f"set_{which}scale")("function", functions=error_scale(1e-4))
    getattr(ax, f"set_{which}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(ax, f"set_{which}lim")(low, high)


def distances(ax: Axes, distance: np.ndarray, right: dict[str, np.ndarray]) -> None:
    """How far all places (n,), and those that are wrong, lie from another country: cumulative shares; right: (S, n)."""
    parts = {f"wrong: {name}": np.broadcast_to(distance, each.shape)[~each] for name, each in right.items()}
    wrong, other = LOOK["validation"]["color"], LOOK["train"]["color"]
    looks = {"color": wrong}, {"color": other, "linestyle": "--"}, {"color": "black", "linestyle": ":"}
    for (name, values), look in zip((parts | {"all test places": distance}).items(), looks, strict=True):
        ax.plot(np.sort(values), np.arange(1, len(values) + 1) / max(1, len(values)), label=name, **look)
    ax.set(xscale="log", ylim=(0, 1), xlabel="distance to the nearest train place of another country (km)")
    ax.set(ylabel="share within this distance")
    ax.legend(loc="upper left")


# ---------------------------------------------------------------------------- learning rates


def accuracy_floor(accuracies: Iterable[float]) -> float:
    """Where an axis of accuracies of two classes begins: a little below chance, lower where one of them is."""
    return min(0.38, min(accuracies) - 0.04)


def accuracy_against_rate(
    ax: Axes, rows: list[Cells], rates: Sequence[float], chosen: float, chance: float = 0.5
) -> None:
    """One line per split over the learning rates; bars from the smallest to the largest of several seeds."""
    ax.axvline(chosen, color="0.88", linewidth=14, zorder=0)
    several = any(len(row["test", "accuracy"]) > 1 for row in rows)
    for split in SPLITS:
        values = [row[split, "accuracy"] for row in rows]
        means = np.array([value.mean() for value in values])
        spread = [means - [value.min() for value in values], [value.max() for value in values] - means]
        ax.errorbar(rates, means, yerr=spread if several else None, capsize=3, label=split, **LOOK[split])
    chance_line(ax, chance)
    low = accuracy_floor(row[split, "accuracy"].min() for row in rows for split in SPLITS)
    ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy", ylim=(low, 1.02))
    ax.set_title("Accuracy after training (grey: chosen on validation)")


def accuracy_against_epochs(
    ax: Axes, lines: dict[str, dict], alone: dict[str, tuple], looks: dict, photos: int, chance: float
) -> None:
    """{baseline: {epochs: cells}}: test accuracy with Wilson's interval and, dashed, train accuracy; alone: {label:
    (epochs, cells)} of single runs, as stars."""
    for name, by in lines.items():
        colour, marker = looks[name]["color"], looks[name]["marker"]
        means = {split: np.array([cells[split, "accuracy"].mean() for cells in by.values()]) for split in SPLITS}
        ends = np.array([wilson(mean, photos) for mean in means["test"]]).T
        reach = np.abs(ends - means["test"])
        ax.errorbar(list(by), means["test"], yerr=reach, color=colour, marker=marker, capsize=4, label=f"{name}: test")
        ax.plot(
            list(by), means["train"], color=colour, linestyle="--", marker=marker, alpha=0.6, label=f"{name}: train"
        )
    for label, (epochs, cells) in alone.items():
        ax.plot(epochs, cells["test", "accuracy"].mean(), "*", color="black", markersize=15, label=f"{label}: test")
    chance_line(ax, chance)
    epochs = sorted({epochs for by in lines.values() for epochs in by} | {epochs for epochs, _ in alone.values()})
    ax.set(xscale="log", xlabel="epochs", ylabel="accuracy", ylim=(None, 1.02))
    ax.set_xticks(epochs, [str(each) for each in epochs])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def note_below(ax: Axes, x: float, text: str) -> None:
    """A small word just above the axis, at a place on it."""
    where = {"xycoords": ax.get_xaxis_transform(), "xytext": (0, 4), "textcoords": "offset points"}
    ax.annotate(text, (x, 0.0), ha="center", fontsize="small", color="0.35", **where)


def rounds(ax: Axes, losses: dict[str, np.ndarray], chance: float) -> None:
    """Losses (rounds,) of the splits against the boosting round; chance: the loss of knowing nothing."""
    for split, values in losses.items():
        ax.plot(np.arange(1, len(values) + 1), values, label=split, **{**LOOK[split], "marker": None})
    chance_line(ax, chance)
    ax.set(xlabel="boosting round", ylabel="cross-entropy (nats)")
    ax.set_ylim(bottom=0)


def step_losses(ax: Axes, losses: dict[str, tuple[float, np.ndarray]], chance: float) -> None:
    """The training loss of every learning rate over the steps; {label: (rate, losses (seeds, steps))}.

    chance: the loss of knowing nothing.
    """
    for label, (rate, values) in losses.items():
        curves = np.nan_to_num(np.clip(values, 1e-4, 1e3), nan=1e3)  # a loss at a rate of 0.1 may leave any axis
        band(ax, np.arange(1, curves.shape[1] + 1), curves, label=label, **rate_look(rate))
    chance_line(ax, chance)
    ax.set(yscale="log", xlabel="training step (batches of 32)", ylabel="cross-entropy (nats)", title="Training loss")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


# ---------------------------------------------------------------------------- baselines


def bars(
    ax: Axes, values: dict[str, tuple[float, float, float]], details: dict[str, str], looks: dict, chance: float
) -> None:
    """Accuracies (mean, low, high) of the baselines as bars, the first on top, with a line of detail each."""
    places = np.arange(len(values))[::-1]
    for place, (name, (mean, low, high)) in zip(places, values.items(), strict=True):
        ax.barh(place, mean, color=looks[name]["color"], height=0.62)
        ax.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="black", capsize=5)
        ax.text(1.01, place + 0.14, f"{mean:.3f}  [{low:.3f}, {high:.3f}]", fontsize=12, va="center")
        ax.text(1.01, place - 0.2, details[name], fontsize="small", color="0.35", va="center")
    ax.axvline(chance, color="black", linewidth=1.2, linestyle=":")
    ax.text(chance + 0.005, len(places) - 0.6, "chance", color="0.35")
    ax.set(xlim=(0, 1), ylim=(-0.5, len(places) - 0.3), xlabel="test accuracy (share of photos)")
    ax.set_yticks(places, list(values), fontsize=12)
    ax.grid(axis="y", visible=False)


def pairs(ax: Axes, differences: dict[str, Any]) -> None:
    """{name of a pair: statistics.Difference}: each with its interval and p, filled where a difference is shown."""
    places = np.arange(len(differences))[::-1]
    for place, difference in zip(places, differences.values(), strict=True):
        mean, colour = difference.gain.mean(), "black" if difference.shown else "0.6"
        reach = [[mean - difference.low], [difference.high - mean]]
        fill = colour if difference.shown else "white"
        ax.errorbar(mean, place, xerr=reach, fmt="o", color=colour, markerfacecolor=fill, capsize=4, markersize=7)
        ends = "" if difference.shown else "   no difference shown"
        text = f"{mean:+.3f}  [{difference.low:+.3f}, {difference.high:+.3f}]  p = {difference.p:.2g}{ends}"
        look = {"va": "center", "color": "black" if difference.shown else "0.4"}
        ax.text(1.01, place, text, transform=ax.get_yaxis_transform(), **look)
    ax.axvline(0, color="0.35", linewidth=1)
    ax.text(0, len(places) - 0.45, "equal", color="0.35", fontsize="small", ha="center", va="bottom")
    ax.set_yticks(places, list(differences))
    ax.set(ylim=(-0.6, len(places) - 0.4), xlabel="difference in test accuracy")
    ax.grid(axis="y", visible=False)


def rate_panels(
    axes: Sequence[Axes],
    baselines: dict[str, dict],
    chosen: dict[str, float | None],
    looks: dict,
    chance: dict[str, float],
) -> None:
    """Mean accuracy against the learning rate, a panel per split; baselines: {name: {rate: cells}}, chosen: its rate.

    chance: of each split. The rate None is a default, or that of a baseline that has none and is drawn as a level.
    """
    for ax, split in zip(axes, SPLITS, strict=True):
        for name, rows in baselines.items():
            means = {rate: cells[split, "accuracy"].mean() for rate, cells in rows.items()}
            if len(means) == 1:
                ax.axhline(means[None], label=f"{name} (has none)", **{**looks[name], "marker": None})
                continue
            means.pop(None, None)
            ax.plot(list(means), list(means.values()), label=name, **looks[name])
            if (rate := chosen[name]) is not None:
                ax.scatter(rate, means[rate], s=130, zorder=3, facecolor="none", edgecolor="black", linewidth=1.2)
        chance_line(ax, chance[split])
        ax.set(xscale="log", title=split, xlabel="learning rate")
    every = (cells for rows in baselines.values() for cells in rows.values())
    low = accuracy_floor(cells[split, "accuracy"].mean() for cells in every for split in SPLITS)
    axes[0].set(ylabel="accuracy", ylim=(low, 1.03))


def roc(ax: Axes, curves: dict[str, tuple], areas: dict[str, float], looks: dict, title: str) -> None:
    """ROC curves (false positive rates, true positive rates) in the order of their areas."""
    for name, (wrong, right) in curves.items():
        ax.plot(wrong, right, label=f"{name}  {areas[name]:.3f}", **{**looks[name], "marker": None})
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance  0.500")
    ax.set(xlabel="real photos called fake (share)", ylabel="fake photos found (share)", aspect="equal", anchor="W")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title=title)


def plane(ax: Axes, points: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> None:
    """Points (n, 2) of two classes."""
    looks = ({"marker": "o", "facecolor": "none", "edgecolor": "0.45"}, {"marker": "x", "color": "#8B1A1A"})
    for value, look in enumerate(looks):
        ax.scatter(*points[y == value].T, s=18, linewidth=1, label=classes[value], **look)


# ---------------------------------------------------------------------------- photos


def photo_rows(axes: np.ndarray, photos: dict[str, np.ndarray]) -> None:
    """{class: photos (n, rows, columns, 3)}, a row of axes each."""
    for row, (name, pixels) in zip(axes, photos.items(), strict=True):
        for ax, one in zip(row, pixels, strict=True):
            photo(ax, one)
        row[0].set_ylabel(name, fontsize=12)


def photo(ax: Axes, pixels: np.ndarray) -> None:
    ax.imshow(pixels)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def overlay(ax: Axes, pixels: np.ndarray, evidence: np.ndarray):
    """Positive evidence (rows, columns) in colour over a grey photo; returns the image for a colour bar."""
    share = np.clip(evidence, 0, None)
    share = share / (share.max() or 1)
    grey = ax.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    options = {"extent": grey.get_extent(), "interpolation": "bilinear", "vmin": 0, "vmax": 1}
    return ax.imshow(share, cmap="inferno", alpha=0.1 + 0.6 * share, **options)  # the photo shows where nothing speaks


def probabilities(ax: Axes, fake: dict[str, float], is_fake: bool, looks: dict) -> None:
    """Each baseline's probability of fake as a bar, its number at the right, and whether the answer is wrong."""
    ax.axis("on")
    for place, (name, value) in enumerate(fake.items()):
        wrong = (value > 0.5) != is_fake
        ax.barh(place, value, color=looks[name]["color"], height=0.85)
        text = f"{value:.2f}{' ✗' if wrong else ''}"
        ax.text(1.04, place, text, va="center", fontsize=10, fontweight="bold" if wrong else "normal")
    ax.axvline(0.5, color="black", linewidth=1, linestyle=":")
    ax.set(xlim=(0, 1), ylim=(len(fake) - 0.4, -0.6), xticks=[0, 0.5, 1], xlabel="probability of fake")
    ax.grid(visible=False)
