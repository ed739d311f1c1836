"""Baselines that tell real from fake photos, held against each other, and single photos.

found: a lab.tell.baselines.Comparison. Where what a figure shows decides its title and foot, these are functions here;
its axes come from the report: `draw_pairs(report.figure(name, pairs_headline(found), pairs_note(found), ...), found)`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from sklearn import metrics

from lab.data.photos import CLASSES, Photos, View
from lab.draw.accuracies import accuracy_floor
from lab.draw.curves import chance_line, figure_legend
from lab.draw.save import warn_of_letters
from lab.errors import plural
from lab.study import SPLITS
from lab.tell.baselines import Comparison, Samples
from lab.tell.phrases import rate_name
from lab.tell.statistics import accuracy_on_test

RATES_NOTE = "Means over seeds; rings: chosen on validation."
ROC_NOTE = "Learning rates chosen on validation; areas: means over seeds; curves: seed 0."
SAMPLES = {"rows": 3, "columns": 5, "size": (13, 8), "height_ratios": (1, 1, 0.55)}  # of the figure of draw_samples
TITLE = 22  # characters of a name over a photo

# ---------------------------------------------------------------------------- all test photos


def draw_baselines(ax: Axes, found: Comparison) -> None:
    """Test accuracy of the baselines with Wilson's intervals, the highest on top, with a line of detail each."""
    places = np.arange(len(found.scores))[::-1]
    for place, (name, cells) in zip(places, found.scores.items(), strict=True):
        mean, low, high = accuracy_on_test(cells, len(found.y))
        rate = rate_name(found.rates(name)[found.chosen[name]], "default" if name == "XGBoost" else "no learning rate")
        seeds = plural(len(cells["test", "accuracy"]), "seed")
        ax.barh(place, mean, color=found.looks[name]["color"], height=0.62)
        ax.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="black", capsize=5)
        ax.text(1.01, place + 0.14, f"{mean:.3f}  [{low:.3f}, {high:.3f}]", fontsize=12, va="center")
        detail = f"{rate}, ROC-AUC {cells['test', 'roc_auc'].mean():.3f}, {seeds}"
        ax.text(1.01, place - 0.2, detail, fontsize="small", color="0.35", va="center")
    chance = found.chance["test"]
    ax.axvline(chance, color="black", linewidth=1.2, linestyle=":")
    ax.text(chance + 0.005, len(places) - 0.6, "chance", color="0.35")
    ax.set(xlim=(0, 1), ylim=(-0.5, len(places) - 0.3), xlabel="test accuracy (share of photos)")
    ax.set_yticks(places, list(found.scores), fontsize=12)
    ax.grid(axis="y", visible=False)


def pairs_headline(found: Comparison) -> str:
    shown = sum(difference.shown for difference in found.pairs.values())
    return f"A difference between two baselines is shown for {shown} of {len(found.pairs)} pairs"


def pairs_note(found: Comparison) -> str:
    over = " or ".join(dict.fromkeys(difference.over for difference in found.pairs.values()))
    return (
        "Filled: p < 0.05 after Holm's correction. Hollow: no difference shown, though an uncorrected interval may "
        f"leave out 0. [ ]: 95% interval, uncorrected; p: corrected; both over {over}."
    )


def draw_pairs(ax: Axes, found: Comparison) -> None:
    """The difference in test accuracy of every pair, with its interval and p, filled where it is shown."""
    places = np.arange(len(found.pairs))[::-1]
    for place, difference in zip(places, found.pairs.values(), strict=True):
        mean, colour = difference.gain.mean(), "black" if difference.shown else "0.6"
        reach = [[mean - difference.low], [difference.high - mean]]
        fill = colour if difference.shown else "white"
        ax.errorbar(mean, place, xerr=reach, fmt="o", color=colour, markerfacecolor=fill, capsize=4, markersize=7)
        end = "" if difference.shown else "   no difference shown"
        text = f"{mean:+.3f}  [{difference.low:+.3f}, {difference.high:+.3f}]  p = {difference.p:.2g}{end}"
        look = {"va": "center", "color": "black" if difference.shown else "0.4"}
        ax.text(1.01, place, text, transform=ax.get_yaxis_transform(), **look)
    ax.axvline(0, color="0.35", linewidth=1)
    ax.text(0, len(places) - 0.45, "equal", color="0.35", fontsize="small", ha="center", va="bottom")
    ax.set_yticks(places, [f"{one} − {other}" for one, other in found.pairs])
    ax.set(ylim=(-0.6, len(places) - 0.4), xlabel="difference in test accuracy")
    ax.grid(axis="y", visible=False)


def rates_headline(found: Comparison) -> str:
    validation = {
        n: [cells["validation", "accuracy"].mean() for cells in rows.values()] for n, rows in found.rows.items()
    }
    reach = {name: f"{np.ptp(means):.2f}" for name, means in validation.items() if len(means) > 1}
    most = max(reach.values(), key=float)
    names = " and ".join(name for name, each in reach.items() if each == most)
    return f"The learning rate moves {names} most: validation accuracy by {most}"


def draw_rates(axes: Sequence[Axes], found: Comparison, backbone: str) -> None:
    """Mean accuracy against the learning rate, a line for each baseline and a panel for each split.

    The rate None is a default, which is left out, or that of a baseline that has none, which is drawn as a level.
    """
    for ax, split in zip(axes, SPLITS, strict=True):
        for name, look in found.looks.items():
            rates, chosen = found.rates(name), found.chosen[name]
            means = {label: cells[split, "accuracy"].mean() for label, cells in found.rows[name].items()}
            if len(means) == 1:
                ax.axhline(*means.values(), label=f"{name} (has none)", **(look | {"marker": None}))
                continue
            points = [(rates[label], mean) for label, mean in means.items() if rates[label] is not None]
            ax.plot(*zip(*points, strict=True), label=name, **look)
            if rates[chosen] is not None:
                ring = {"s": 130, "zorder": 3, "facecolor": "none", "edgecolor": "black", "linewidth": 1.2}
                ax.scatter(rates[chosen], means[chosen], **ring)
        chance_line(ax, found.chance[split])
        ax.set(xscale="log", title=split, xlabel="learning rate")
    every = (cells for rows in found.rows.values() for cells in rows.values())
    low = accuracy_floor(cells[split, "accuracy"].mean() for cells in every for split in SPLITS)
    axes[0].set(ylabel="accuracy", ylim=(low, 1.03))
    figure_legend(axes[0], backbone)


def areas(found: Comparison) -> dict[str, float]:
    """Areas under the ROC curves, means over seeds, the largest first."""
    area = {name: cells["test", "roc_auc"].mean() for name, cells in found.scores.items()}
    return dict(sorted(area.items(), key=lambda one: -np.nan_to_num(one[1])))


def roc_headline(found: Comparison) -> str:
    name, area = next(iter(areas(found).items()))
    return f"{name} has the highest ROC-AUC on the test photos, {area:.3f}"


def draw_roc(ax: Axes, found: Comparison) -> None:
    """ROC curves at the chosen learning rates, seed 0, on the test photos; areas: means over seeds."""
    for name, area in areas(found).items():
        wrong, right, _ = metrics.roc_curve(found.y, found.fake(name))
        ax.plot(wrong, right, label=f"{name}  {area:.3f}", **(found.looks[name] | {"marker": None}))
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance  0.500")
    ax.set(xlabel="real photos called fake (share)", ylabel="fake photos found (share)", aspect="equal", anchor="W")
    seeds = max(len(cells["test", "roc_auc"]) for cells in found.scores.values())
    title = f"mean AUC of {seeds} seeds;\ncurve: seed 0" if seeds > 1 else "AUC"
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title=title)


def plane(ax: Axes, points: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> None:
    """Points (n, 2) of two classes."""
    looks = ({"marker": "o", "facecolor": "none", "edgecolor": "0.45"}, {"marker": "x", "color": "#8B1A1A"})
    for value, look in enumerate(looks):
        ax.scatter(*points[y == value].T, s=18, linewidth=1, label=classes[value], **look)


# ---------------------------------------------------------------------------- single photos


def samples_note(shown: Samples) -> str:
    return (
        f"Seed 0; the largest gaps between {shown.best} and {' and '.join(shown.group)}; as far as there are such, no "
        "person twice, fake and real in turn. ✗ and bold: wrong."
    )


def draw_samples(
    axes: np.ndarray, shown: Samples, photos: Photos, maps: np.ndarray | None, view: View, of_trees: View
) -> None:
    """A column per photo: itself, Grad-CAM of the best baseline or what XGBoost sees, and what each baseline says.

    axes: of a figure with SAMPLES, (3, 5); maps: evidence for fake (picked, rows, columns), None where XGBoost is best.
    """
    picked, heat = shown.picked, None
    fake = {name: shown.found.fake(name) for name in shown.found.looks}
    for ax in axes.flat:
        ax.axis("off")
    warn_of_letters([photos.name("test", number) for number in picked], "7.5.2_samples")
    seen = photos.pixels(view, "test", picked) if len(picked) else ()
    for column, (number, pixels) in enumerate(zip(picked, seen, strict=True)):
        photo, cam, says = axes[:, column]
        is_fake = bool(photos.y["test"][number])
        name, file = CLASSES[is_fake], photos.name("test", number)
        cut = file if len(file) <= TITLE else f"…{file[1 - TITLE :]}"  # names differ at their ends
        photo.set_title(f"{name.upper()}\n{cut}", fontsize=10, parse_math=False)  # of a $ in a name
        photo.imshow(pixels)
        if maps is None:
            cam.imshow(photos.pixels(of_trees, "test", [number])[0])
            cam.set_title("what XGBoost sees")
        else:
            heat = overlay(cam, pixels, maps[column].astype(float) * (1 if is_fake else -1))
            cam.set_title(f"speaks for {name}")
        probabilities(says, {name: values[number] for name, values in fake.items()}, is_fake, shown.found.looks)
        says.set_yticks(range(len(fake)), fake if column == 0 else [""] * len(fake))
        says.tick_params(axis="y", length=0)
    if heat is not None:
        bar = heat.figure.colorbar(heat, ax=axes[1, :], shrink=0.95, aspect=30, pad=0.01)
        bar.set_label(f"Grad-CAM of {shown.best}\n(share of largest)")


def overlay(ax: Axes, pixels: np.ndarray, evidence: np.ndarray) -> AxesImage:
    """Positive evidence (rows, columns) in colour over a grey photo; returns the image for a colour bar."""
    share = np.clip(evidence, 0, None)
    share = share / (share.max() or 1)
    grey = ax.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    options = {"extent": grey.get_extent(), "interpolation": "bilinear", "vmin": 0, "vmax": 1}
    return ax.imshow(share, cmap="inferno", alpha=0.1 + 0.6 * share, **options)  # the photo shows where nothing speaks


def probabilities(ax: Axes, fake: Mapping[str, float], is_fake: bool, looks: Mapping[str, dict]) -> None:
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


def photo_rows(axes: np.ndarray, photos: Mapping[str, np.ndarray]) -> None:
    """{class: photos (n, rows, columns, 3)}, a row of axes each."""
    for row, (name, pixels) in zip(axes, photos.items(), strict=True):
        for ax, one in zip(row, pixels, strict=True):
            photo(ax, one)
        row[0].set_ylabel(name, fontsize=12)


def photo(ax: Axes, pixels: np.ndarray) -> None:
    ax.imshow(pixels)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
