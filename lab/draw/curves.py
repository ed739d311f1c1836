"""Losses and accuracies on their way: against epochs, updates, steps, seconds or boosting rounds.

Axes are drawn on in place. Names at the ends of lines are collected on the axes, see `end_label`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lab.study import SPLITS, Result

# Okabe and Ito's colour-blind safe colours; the line styles keep them apart in grey.
LOOK = {
    "train": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "validation": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "test": {"color": "#000000", "linestyle": ":", "marker": "^"},
}
LINES = (  # of what is none of the splits
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#0072B2", "linestyle": "-.", "marker": "^"},
    {"color": "#009E73", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
)
THIN = {"color": "0.55", "linewidth": 1, "linestyle": (0, (1, 1)), "zorder": 0}  # lines of reference
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]  # of texts on lines

# ---------------------------------------------------------------------------- labels and legends


def end_label(ax: Axes, y: float, text: str, colour: Any = "0.4") -> None:
    """Have a text written right of the axes at the height y, by `save.settle`, once their scale is settled."""
    ax.end_labels = [*getattr(ax, "end_labels", []), (float(y), text, colour)]


def level(ax: Axes, y: float, text: str = "") -> None:
    """A thin horizontal line and, where there is a text, its end label."""
    ax.axhline(float(y), **THIN)
    if text:
        end_label(ax, y, text)


def chance_line(ax: Axes, y: float) -> None:
    """A thin line that the legend names."""
    ax.axhline(y, color="0.5", linewidth=1, zorder=1, label="chance")


def legend(ax: Axes) -> None:
    """The legend right of the axes."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def figure_legend(ax: Axes, title: str | None = None) -> None:
    """The legend of these axes for all of the figure, at its right."""
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", title=title)


# ---------------------------------------------------------------------------- looks


def ordered(labels: Iterable[str]) -> dict[str, np.ndarray]:
    """A colour for each label, the later the darker."""
    labels = list(labels)
    return dict(zip(labels, colormaps["viridis"](np.linspace(0.7, 0, len(labels))), strict=True))


def by_rate(result: Result) -> dict[str, Any]:
    """Colour and line style of a run's learning rate, the same in all figures; larger rates are darker."""
    rate = getattr(result.config, "lr", None) or result.config.learning_rate
    decade = float(np.clip(np.log10(rate), -5, 0))
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
    return {"color": colormaps["plasma"](-0.16 * decade), "linestyle": dashes[round(-decade)]}


# ---------------------------------------------------------------------------- scales


def plain_log_ticks(ax: Axes) -> None:
    """0.2, 0.5, 1, 2 instead of powers of ten."""
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def accuracy_axis(ax: Axes, which: str = "y", low: float = 0.0, high: float | None = None) -> None:
    """Accuracy on a log scale of the error 1 - accuracy: 0.9 to 0.99 takes as much room as 0 to 0.9.

    From a little below `low` to a little above `high`, by default the highest on axes that share this one.
    """
    if high is None:
        high = max(each.dataLim.y1 for each in ax.get_shared_y_axes().get_siblings(ax))
    low, high = 1 - min(1.0, 1.3 * (1 - low)), 1 - max(4e-4, 0.7 * (1 - high))
    ticks = [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999]
    ticks = [tick for tick in ticks if low <= tick <= high]

    def forward(accuracy: np.ndarray) -> np.ndarray:
        return -np.log10(np.clip(1 - np.asarray(accuracy, float), 1e-4, 1.0))

    def back(height: np.ndarray) -> np.ndarray:
        return 1 - 10.0 ** -np.asarray(height, float)

    getattr(ax, f"set_{which}scale")("function", functions=(forward, back))
    getattr(ax, f"set_{which}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(ax, f"set_{which}lim")(low, high)


def epoch_axis(ax: Axes, epochs: int, metric: str, what: str = "") -> None:
    """Loss or accuracy, `metric`, on a log scale against the epoch; what: whose."""
    ax.set(xlabel="epoch", xlim=(0, epochs))
    if metric == "loss":
        ax.set(yscale="log", ylabel=f"{what} cross-entropy (nats)".strip())
        plain_log_ticks(ax)
    else:
        ax.set_ylabel(f"{what} accuracy (log scale of the error)".strip())
        accuracy_axis(ax)


# ---------------------------------------------------------------------------- curves


def band(ax: Axes, x: np.ndarray, values: np.ndarray, **look) -> Line2D:
    """Median over seeds as a line, smallest to largest as a band; values: (seeds, points)."""
    look = {key: value for key, value in look.items() if key != "marker"}
    (line,) = ax.plot(x, np.median(values, axis=0), **look)
    ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def curve(ax: Axes, values: np.ndarray, text: str = "", **look) -> None:
    """A band (seeds, epochs) against the epoch, with its end label."""
    line = band(ax, np.arange(1, values.shape[1] + 1), values, **look)
    end_label(ax, np.median(values[:, -1]), text, line.get_color())


def curves(
    ax: Axes,
    runs: Mapping[str, Result],
    metric: str = "loss_validation",
    look: Callable[[Result], dict] | None = None,
    named: Mapping[str, str] | None = None,
) -> None:
    """The curves (seeds, epochs) of all runs; `named`: end labels that are not the runs' own labels.

    look: from a result to the style of its line, by default a colour, the later the darker.
    """
    colours = ordered(runs)
    for label, result in runs.items():
        style = look(result) if look else {"color": colours[label]}
        curve(ax, result[metric], (named or {}).get(label, label), **style)
    epoch_axis(ax, max(result[metric].shape[1] for result in runs.values()), *metric.split("_"))


def splits(ax: Axes, result: Result, metric: str = "loss") -> None:
    """Curves of the three splits, loss or accuracy, against the epoch."""
    for split in SPLITS:
        curve(ax, result[f"{metric}_{split}"], split, **LOOK[split])
    epoch_axis(ax, result[f"{metric}_train"].shape[1], metric)


def marked_epochs(ax: Axes, result: Result, epochs: Sequence[int]) -> None:
    """Circles and numbers at the median validation loss after these epochs, on a log scale of the epoch."""
    colour, last = LOOK["validation"]["color"], result["loss_validation"].shape[1]
    for epoch in epochs:
        loss = np.median(result.at("loss_validation", epoch))
        ax.plot(epoch, loss, "o", color="white", markeredgecolor=colour, markersize=7, zorder=5)
        below = min(result.at(f"loss_{split}", epoch).min() for split in SPLITS)
        where = {"xytext": (0, -5), "textcoords": "offset points", "ha": "left" if epoch == 1 else "right"}
        ax.annotate(f"{loss:.2f}", (epoch, below), va="top", color=colour, **where)
    ax.set(xscale="log", xlabel="epoch (log scale)", xlim=(0.9, 1.1 * last))
    ax.set_xticks(epochs, map(str, epochs))
    ax.minorticks_off()


def way_down(
    ax: Axes,
    runs: Mapping[str, Result],
    against: str,
    target: float,
    text: str = "",
    named: Mapping[str, str] | None = None,
) -> None:
    """check_loss (seeds, points) against check_updates or check_seconds, both log, and a loss that all reach.

    against: updates or seconds; text: the name of that loss; named: texts on the lines that are not the runs' labels.
    """
    for (label, result), colour in zip(runs.items(), ordered(runs).values(), strict=True):
        line = band(ax, result[f"check_{against}"].mean(axis=0), result["check_loss"], color=colour)
        look = {"color": colour, "path_effects": HALO, "va": "center"}
        ax.annotate((named or {}).get(label, label), line.get_xydata()[-1], (4, 0), textcoords="offset points", **look)
    level(ax, target, text)
    ax.set(xscale="log", yscale="log", xlabel=against, ylabel="validation cross-entropy (nats)")
    ax.set_xlim(right=2 * ax.get_xlim()[1])
    plain_log_ticks(ax)


def rounds(ax: Axes, result: Result, chance: float) -> None:
    """loss_SPLIT (1, rounds) of the splits against the boosting round; chance: the loss of knowing nothing."""
    for split in SPLITS:
        (values,) = result[f"loss_{split}"]
        ax.plot(np.arange(1, len(values) + 1), values, label=split, **{**LOOK[split], "marker": None})
    chance_line(ax, chance)
    ax.set(xlabel="boosting round", ylabel="cross-entropy (nats)")
    ax.set_ylim(bottom=0)


def step_losses(ax: Axes, runs: Mapping[str, Result], chance: float, named: Mapping[str, str] | None = None) -> None:
    """step_loss (seeds, steps) of every run, in the look of its learning rate; chance: the loss of knowing nothing.

    named: what the legend calls a run, where that isn't its label.
    """
    for label, result in runs.items():
        values = np.nan_to_num(
            np.clip(result["step_loss"], 1e-4, 1e3), nan=1e3
        )  # at a rate of 0.1 it may leave any axis
        text = (named or {}).get(label, label)
        band(ax, np.arange(1, values.shape[1] + 1), values, label=text, **by_rate(result))
    chance_line(ax, chance)
    ax.set(yscale="log", xlabel="training step", ylabel="cross-entropy (nats)", title="Training loss")
