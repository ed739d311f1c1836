"""Accuracies after training: of runs side by side, step by step, and against what is varied.

Rows are {what stands at the axis: table cells}; dots are means, bars 95% intervals over seeds, unless said.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from lab.draw import curves
from lab.draw.curves import LINES, LOOK, THIN, accuracy_axis, end_label, level
from lab.study import SPLITS, Cells, Result, Rows
from lab.tell.statistics import interval, wilson

SCALE = "accuracy (log scale of the error)"


def means(values: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Means of numbers (seeds,) and half of their 95% intervals, 0 where one seed has none."""
    middles, halves = np.transpose([interval(each) for each in values])
    return middles, np.nan_to_num(halves)


def of_test(rows: Iterable[Cells]) -> list[np.ndarray]:
    return [cells["test", "accuracy"] for cells in rows]


# ---------------------------------------------------------------------------- side by side


def scores(ax: Axes, rows: Rows, positions: Iterable[float] | None = None) -> None:
    """Accuracy of the three splits for each row."""
    positions = np.arange(len(rows)) if positions is None else np.array([*positions])
    step = float(np.diff(positions).min()) if len(positions) > 1 else 1.0
    for shift, split in zip((-0.12, 0, 0.12), SPLITS, strict=True):
        look = LOOK[split] | {"linestyle": "none", "label": split, "capsize": 3, "linewidth": 1.3}
        ax.errorbar(positions + shift * step, *means(cells[split, "accuracy"] for cells in rows.values()), **look)
    ax.set_xticks(positions, list(rows))
    ax.set(xlim=(positions[0] - 0.5 * step, positions[-1] + 0.5 * step), ylabel=SCALE)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handletextpad=0.1)
    accuracy_axis(ax)


def against(ax: Axes, rows: Rows, values: Sequence[float], axis: str) -> None:
    """Accuracy of the three splits against a number of each row on a log scale; axis: what is counted."""
    scores(ax, {f"{value:g}": cells for value, cells in zip(values, rows.values(), strict=True)}, np.log2(values))
    ax.set_xlabel(f"{axis} (log scale)")


def spreads(ax: Axes, values: Mapping[str, np.ndarray], positions: Sequence[float]) -> None:
    """One number (seeds,) for each tick, on a log scale."""
    middles, halves = means(values.values())
    ax.errorbar(positions, middles, halves, color="black", marker="o", linestyle="none", capsize=3)
    ax.set_xticks(positions, list(values))
    ax.set(yscale="log")
    curves.plain_log_ticks(ax)


def references(ax: Axes, levels: Mapping[str, float], labels: bool = True) -> None:
    """Thin lines at accuracies, with end labels, which those of the same number share, and the scale with them."""
    names: dict[str, list[str]] = {}
    for name, accuracy in levels.items():
        level(ax, accuracy)
        names.setdefault(f"{accuracy:.3f}", []).append(name)
    accuracy_axis(ax)
    for number, same in names.items() if labels else ():
        end_label(ax, float(number), " and\n".join(same) + f" {number}")


def before_and_after(axes: np.ndarray, runs: Mapping[str, Result], rows: Rows, levels: Mapping[str, float]) -> None:
    """A column for each run: losses above, accuracies below, with levels to compare with; axes (2, runs)."""
    for (top, bottom), (label, result) in zip(axes.T, runs.items(), strict=True):
        curves.splits(top, result, "loss")
        for split in SPLITS:
            mean = rows[label][split, "accuracy"].mean()
            curves.curve(bottom, result[f"accuracy_{split}"], f"{split} {mean:.3f}", **LOOK[split])
        curves.epoch_axis(bottom, result["accuracy_train"].shape[1], "accuracy")
        references(bottom, levels, labels=bottom is axes[1, -1])
        top.set(title=label, xlabel="")
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")


# ---------------------------------------------------------------------------- step by step


def ladder(ax: Axes, rows: Rows, mark: float, text: str = "nearest neighbour") -> None:
    """Test accuracies of steps that each change one thing, from top to bottom, and a mark to reach."""
    places = np.arange(len(rows))[::-1]
    middles, halves = means(of_test(rows.values()))
    for i in range(1, len(rows)):
        ax.plot(middles[i - 1 : i + 1], [places[i]] * 2, color="0.75", linewidth=7, solid_capstyle="butt", zorder=1)
    ax.errorbar(middles, places, xerr=halves, fmt="o", color="black", capsize=3, zorder=3)
    for i, (mean, place) in enumerate(zip(middles, places, strict=True)):
        gain = f"  ({mean - middles[i - 1]:+.4f})" if i else ""
        ax.text(1.01, place, f"{mean:.4f}{gain}", transform=ax.get_yaxis_transform(), va="center", fontsize="small")
    ax.axvline(float(mark), **THIN)
    ax.text(mark, len(rows) - 0.45, f"{text} {mark:.4f}", ha="right", fontsize="small", color="0.35")
    ax.set_yticks(places, list(rows))
    ax.grid(axis="y", visible=False)
    accuracy_axis(ax, "x", min(middles), max(*middles, mark))
    ax.set(ylim=(-0.6, len(rows)), xlabel=f"test {SCALE}")


def grid_lines(
    ax: Axes, lines: Mapping[str, Sequence[Cells]], ticks: Sequence[str], mark: float, text: str = "neighbour"
) -> None:
    """Test accuracies of a grid: a line for each row of it, up to five, against its columns, and a mark."""
    lows = []
    for (label, cells), look in zip(lines.items(), LINES[: len(lines)], strict=True):
        middles, halves = means(of_test(cells))
        ax.errorbar(range(len(ticks)), middles, halves, capsize=3, label=label, **look)
        end_label(ax, middles[-1], label, look["color"])
        lows.append(min(middles))
    level(ax, mark, text)
    accuracy_axis(ax, "y", min(lows), max(ax.dataLim.y1, mark))
    ax.set_xticks(range(len(ticks)), ticks)
    ax.set_ylabel(f"test {SCALE}")


def distances(ax: Axes, distance: np.ndarray, right: Mapping[str, np.ndarray]) -> None:
    """How far all places (n,), and those that are wrong, lie from another country: cumulative shares; right: (S, n)."""
    wrong = {f"wrong: {name}": np.broadcast_to(distance, each.shape)[~each] for name, each in right.items()}
    every = wrong | {"all test places": distance}
    for (name, values), look in zip(every.items(), (*LINES[1 : len(every)], LINES[0]), strict=True):
        shares = np.arange(1, len(values) + 1) / max(1, len(values))
        ax.plot(np.sort(values), shares, label=name, **(look | {"marker": None}))
    ax.set(xscale="log", ylim=(0, 1), xlabel="distance to the nearest train place of another country (km)")
    ax.set(ylabel="share within this distance")
    ax.legend(loc="upper left")


# ---------------------------------------------------------------------------- two classes


def accuracy_floor(accuracies: Iterable[float]) -> float:
    """Where an axis of accuracies of two classes begins: a little below chance, lower where one of them is."""
    return min(0.38, min(accuracies) - 0.04)


def accuracy_against_rate(ax: Axes, rows: Rows, rates: Mapping[str, float], chosen: str, chance: float = 0.5) -> None:
    """A line for each split over the learning rates of the rows; bars from the smallest to the largest of the seeds."""
    ax.axvline(rates[chosen], color="0.88", linewidth=14, zorder=0)
    labels = sorted(rows, key=rates.get)
    for split in SPLITS:
        values = [rows[label][split, "accuracy"] for label in labels]
        middles = np.array([each.mean() for each in values])
        spread = [middles - [each.min() for each in values], [each.max() for each in values] - middles]
        bars = spread if max(map(len, values)) > 1 else None
        ax.errorbar([rates[x] for x in labels], middles, yerr=bars, capsize=3, label=split, **LOOK[split])
    curves.chance_line(ax, chance)
    low = accuracy_floor(row[split, "accuracy"].min() for row in rows.values() for split in SPLITS)
    ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy", ylim=(low, 1.02))
    ax.set_title("Accuracy after training (grey: chosen on validation)")


def control(ax: Axes, rows: Rows, rates: Mapping[str, float], text: str) -> None:
    """Test accuracies of a control over its learning rates as a thick grey line, which the legend calls `text`."""
    values = [each.mean() for each in of_test(rows.values())]
    ax.plot([rates[label] for label in rows], values, color="0.55", linewidth=4, zorder=1, label=text)


def accuracy_against_epochs(
    ax: Axes,
    lines: Mapping[str, Mapping[int, Cells]],
    alone: Mapping[str, tuple[int, Cells]],
    looks: Mapping[str, dict],
    photos: int,
    chance: float,
) -> None:
    """{baseline: {epochs: cells}}: test accuracy with Wilson's interval and, dashed, train accuracy; alone: {label:
    (epochs, cells)} of single runs, as stars."""
    for name, by in lines.items():
        look = {key: looks[name][key] for key in ("color", "marker")}
        test, train = (np.array([cells[s, "accuracy"].mean() for cells in by.values()]) for s in ("test", "train"))
        reach = np.abs(np.transpose([wilson(mean, photos) for mean in test]) - test)
        ax.errorbar(list(by), test, yerr=reach, capsize=4, label=f"{name}: test", **look)
        ax.plot(list(by), train, linestyle="--", alpha=0.6, label=f"{name}: train", **look)
    for label, (epochs, cells) in alone.items():
        ax.plot(epochs, cells["test", "accuracy"].mean(), "*", color="black", markersize=15, label=f"{label}: test")
    curves.chance_line(ax, chance)
    epochs = sorted({epochs for by in lines.values() for epochs in by} | {epochs for epochs, _ in alone.values()})
    ax.set(xscale="log", xlabel="epochs", ylabel="accuracy", ylim=(None, 1.02))
    ax.set_xticks(epochs, [str(each) for each in epochs])
    ax.minorticks_off()
    curves.legend(ax)


def note_below(ax: Axes, x: float, text: str) -> None:
    """A small word just above the axis, at a place on it."""
    where = {"xycoords": ax.get_xaxis_transform(), "xytext": (0, 4), "textcoords": "offset points"}
    ax.annotate(text, (x, 0.0), ha="center", fontsize="small", color="0.35", **where)
