"""Prediction spaces as maps: what any function from points to countries says, drawn where the places are."""

import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from lab.data.places import Places
from lab.draw import save
from lab.errors import printable
from lab.study import SPLITS


class Animation(NamedTuple):
    """An animated picture whose frames are drawn as they are asked for; title: what is seen."""

    title: str
    frames: Iterator[Image.Image]


Predict = Callable[[np.ndarray], np.ndarray]  # points (..., 2), degrees, to numbers of countries (...)


def several(labels: np.ndarray, width: int) -> np.ndarray:
    """Where a window of width x width around a cell holds more than one label."""
    return ndimage.maximum_filter(labels, width) != ndimage.minimum_filter(labels, width)


def degrees(value: float, _: int, plus: str, minus: str) -> str:
    return f"{round(abs(value), 6):.10g}°{plus if value > 0 else minus if value < 0 else ''}"


COUNTRY = {  # how its name is written
    "ha": "center",
    "va": "center",
    "color": "0.1",
    "linespacing": 0.95,
    "path_effects": [patheffects.withStroke(linewidth=1.6, foreground="white", alpha=0.8)],
    "parse_math": False,  # of a $
    "in_layout": False,
}


def nearest(places: Places) -> Predict:
    """What the nearest train place, in degrees, says: looked up, as drawing again fits no classifier."""
    tree, y = cKDTree(places.x["train"]), places.y["train"]
    return lambda points: y[tree.query(points)[1]]


def to_another_country(places: Places, split: str = "test") -> np.ndarray:
    """Distance (n,) in km from each place of a split to the nearest train place of another country."""

    def on_sphere(x: np.ndarray) -> np.ndarray:
        long, lat = np.radians(x.astype(float)).T
        return 6371 * np.stack([np.cos(lat) * np.cos(long), np.cos(lat) * np.sin(long), np.sin(lat)], axis=1)

    train, own = on_sphere(places.x["train"]), on_sphere(places.x[split])
    distance = np.empty(len(own))
    for country in np.unique(places.y[split]):
        mine = places.y[split] == country
        distance[mine] = cKDTree(train[places.y["train"] != country]).query(own[mine])[0]
    return distance


class Atlas:
    """Draws what a network predicts for every point of the map around the places.

    The map is made of the places alone: where they are dense enough is land, no file of coasts or borders is read.
    Longitude and latitude stay straight axes, as the network sees them; a degree of each is as long as on the ground
    in the middle of the map.
    """

    COARSE = 4  # cells along a coarse cell, where the picture is smooth
    REACHES = (0.0, 0.005, 0.01, 0.02, 0.04)  # the least distance, in widths of the map, that a place reaches
    SHADES = ("#74A3D1", "#DB927E", "#72B5A0", "#EDB871", "#C9B2DB", "#CBD27F", "#C4E3F0", "#F7E9AE")  # dark to light

    def __init__(self, places: Places, cells: int = 1600, colours: np.ndarray | None = None):
        """`cells`: of the map along its longer side; colours (countries, 3): those of another map, else its own."""
        self.places = places
        everywhere = np.concatenate([places.x[split] for split in SPLITS]).astype(float)
        middle = (everywhere.min(axis=0) + everywhere.max(axis=0)) / 2
        self.aspect = 1 / np.cos(np.radians(np.clip(middle[1], -80, 80)))  # how many of longitude make one of latitude
        scale = np.array([1.0, self.aspect])
        tree = cKDTree(places.x["train"] * scale)
        for reach in self.REACHES:  # cities on a map of the world are to be seen, too
            span = 1.03 * np.maximum(np.ptp(everywhere, axis=0) * scale, 1e-4)  # ten metres
            span = np.maximum(span + 2 * reach * span.max(), span.max() / (1.5, 4))  # no mere strip
            self.low, self.high = middle - span / scale / 2, middle + span / scale / 2
            self.columns, self.rows = (span / span.max() * cells / self.COARSE).astype(int) * self.COARSE
            distance, nearest = tree.query(self.grid(self.COARSE) * scale)
            self.land = self._land(tree, distance, nearest, span.max(), reach)
            if (self.land.flat[self._cells(places.x["train"])] > 0).mean() > 0.95 and (self.land > 0).mean() > 0.02:
                break
        if colours is None:
            save.warn_of_letters(places.countries, "the maps")
        self.colours = self._colours(places.y["train"][nearest]) if colours is None else colours

    def grid(self, step: int) -> np.ndarray:
        """The middles of squares of step x step cells, (rows, columns, 2), degrees."""
        sides = [
            low + (np.arange(0, count, step) + step / 2) * (high - low) / count
            for low, high, count in zip(self.low, self.high, (self.columns, self.rows), strict=True)
        ]
        return np.stack(np.meshgrid(*sides), axis=-1).astype(np.float32)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        return self.low[0], self.high[0], self.low[1], self.high[1]

    def enlarge(self, values: np.ndarray, step: int, order: int) -> np.ndarray:
        """Values of coarse cells on the finer `grid(step)`: the nearest (order 0) or between the nearest ones (1)."""
        return ndimage.zoom(values, self.COARSE // step, order=order, grid_mode=True, mode="nearest")

    def _cells(self, points: np.ndarray) -> np.ndarray:
        """The numbers of the coarse cells in which points (n, 2) lie."""
        counts = np.array([self.columns, self.rows]) // self.COARSE
        column, row = np.clip((points - self.low) / (self.high - self.low) * counts, 0, counts - 1).astype(int).T
        return row * counts[0] + column

    def _land(self, tree: cKDTree, distance: np.ndarray, nearest: np.ndarray, span: float, least: float) -> np.ndarray:
        """How deep inside the area that has places each coarse cell is, in cells, negative outside.

        A place reaches about as far as its fourth neighbour; gulfs narrower than a usual gap are closed. least: of
        REACHES.
        """
        gaps = tree.query(tree.data, k=[min(5, tree.n)])[0][:, 0]
        usual = np.clip(np.quantile(gaps, 0.95), 0.004 * span, 0.03 * span)
        reached = distance < np.maximum(np.clip(0.8 * gaps, usual / 2, 2 * usual), least * span)[nearest]
        closing = 2 * usual / span * max(distance.shape)
        wide = ndimage.distance_transform_edt(~reached) < closing
        return ndimage.gaussian_filter(ndimage.distance_transform_edt(wide) - closing, 1.2)

    def _colours(self, truth: np.ndarray) -> np.ndarray:
        """One colour per country, (countries, 3); those that touch differ in colour and, where possible, in grey.

        Greedy graph colouring in three rounds: countries of most neighbours first, then each again, seeing all others.
        """
        count = len(self.places.countries)
        borders = np.zeros((count, count))
        for a, b in ((truth[:-1], truth[1:]), (truth[:, :-1], truth[:, 1:])):
            np.add.at(borders, (a.ravel(), b.ravel()), 1)
        borders = np.sqrt(borders + borders.T)
        np.fill_diagonal(borders, 0)
        shades = np.array([to_rgb(shade) for shade in self.SHADES])
        grey = shades @ (0.299, 0.587, 0.114)
        alike = np.exp(-(((grey[:, None] - grey) / 0.05) ** 2)) + 9 * np.eye(len(shades))
        chosen = np.zeros((count, len(shades)))  # 1 where a country has a colour
        for country in 3 * np.argsort(-(borders > 0).sum(axis=1), kind="stable").tolist():
            chosen[country] = 0
            clash = borders[country] @ chosen @ alike + 0.3 * chosen.sum(axis=0)
            chosen[country, clash.argmin()] = 1
        return chosen @ shades

    def figure(self, title: str, foot: str, columns: int = 1) -> tuple[Figure, Axes | np.ndarray]:
        """A figure for maps side by side, as high as they need."""
        height = 8.6 * self.rows / self.columns
        fig, axes = save.figure(title, foot, 1, columns, (8.6 * columns + 0.9, height + 1.6))
        fig.set_layout_engine("compressed")
        return fig, axes

    def picture(self, predict: Predict, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The colours of all squares of step x step cells, (rows, columns, 3), and the countries of the coarse ones.

        Only squares near a border are predicted one by one, a tenth of them.
        """
        coarse = predict(self.grid(self.COARSE))
        labels, mixed = (self.enlarge(values, step, 0) for values in (coarse, several(coarse, 3)))
        labels[mixed] = predict(self.grid(step)[mixed])
        inside = np.clip(self.COARSE / step * self.enlarge(self.land, step, 1), 0, 1)[..., None]
        colours = self.colours[labels]
        sea = 0.16 * colours + 0.84 * np.array([0.98, 0.99, 1.0])
        land = np.where(several(labels, 2)[..., None], 1.0, colours)  # with white borders
        return (255 * (sea + inside * (land - sea))).astype(np.uint8), coarse

    def draw(self, ax: Axes, predict: Predict, small: bool = False) -> None:
        """A prediction space: countries in colour and by name, wrong test places as dots.

        The small one has no names, degrees or legend.
        """
        picture, labels = self.picture(predict, 2 if small else 1)
        ax.imshow(picture, origin="lower", extent=self.extent, aspect=self.aspect, interpolation="antialiased")
        x, y = self.places.x["test"], self.places.y["test"]
        wrong = predict(x) != y
        label = f"test place given to the wrong country: {wrong.sum():,} of {len(y):,}"
        dots = ax.scatter(*x[wrong].T, s=0.5 if small else 6, color="0.1", linewidths=0, label=label)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        if small:
            ax.set(xticks=[], yticks=[])
            return
        ax.tick_params(length=3, color="0.6", labelcolor="0.3", labelsize="small")
        for axis, (plus, minus) in ((ax.xaxis, "EW"), (ax.yaxis, "NS")):
            axis.set_major_formatter(partial(degrees, plus=plus, minus=minus))
        pale = Patch(facecolor="0.95", edgecolor="0.8", label="pale: no training places near")
        ax.legend(handles=[dots, pale], loc="upper left", bbox_to_anchor=(0, -0.03), handletextpad=0.4, ncols=2)
        self.write_names(ax, np.where(self.land > 0, labels, -1))

    def write_names(self, ax: Axes, labels: np.ndarray) -> None:
        """Write each country's name where it has most room; labels (rows, columns) of coarse cells, -1 for none."""
        for where, size, _, name in self.spots(ax, labels):
            ax.text(*where, name, fontsize=size, **COUNTRY)

    def names(self, predict: Predict) -> list[tuple[np.ndarray, float, int, str]]:
        """The `spots` on a map that fills its figure, sizes as shares of the map's width."""
        fig, ax = self.figure("", "")
        ax.imshow(self.land, origin="lower", extent=self.extent, aspect=self.aspect)
        found = self.spots(ax, np.where(self.land > 0, predict(self.grid(self.COARSE)), -1))
        width = 72 * ax.bbox.width / fig.dpi  # in points
        return [(where, size / width, country, name) for where, size, country, name in found]

    def spots(self, ax: Axes, labels: np.ndarray) -> list[tuple[np.ndarray, float, int, str]]:
        """Where names stand: middle (long, lat), size in points, number of the country, its name in lines.

        A name is as large as its country allows, from 6 to 11 points. The larger ones come first; one that would cover
        another is moved up or down, or left out.
        """
        taken: dict[int, tuple] = {}
        found = []
        for size, country, name, middle, unit in sorted(self.rooms(ax, labels), key=lambda room: -room[0]):
            size = float(np.clip(size, 6, 11))
            half = unit * size / 2
            for shift in (0, 1, -1, 2, -2):
                spot = np.clip(middle + shift * half * (0, 1), half, labels.shape[::-1] - half)
                free = all((abs(spot - other) > half + room).any() for other, room in taken.values())
                if free and country not in taken and (2 * half < labels.shape[::-1]).all():
                    taken[country] = spot, half
                    where = self.low + spot / labels.shape[::-1] * (self.high - self.low)
                    found.append((where, size, country, name))
        return found

    def rooms(self, ax: Axes, labels: np.ndarray) -> Iterable[tuple[float, int, str, np.ndarray, np.ndarray]]:
        """How large each name could be: font size (points), country, the name on one line and on several, the middle
        of its room (column, row), width and height per point of font size (cells).
        """
        ax.figure.get_layout_engine().execute(ax.figure)
        ax.apply_aspect()  # now the map has the size that it will have
        cell = ax.bbox.width / labels.shape[1]  # in pixels
        for country, box in enumerate(ndimage.find_objects(labels + 1)):
            if box is None:
                continue
            own = np.pad(labels[box] == country, 1)
            name = printable(self.places.countries[country], 60)
            for lines in dict.fromkeys((name, textwrap.fill(name, 12))):
                text = ax.text(0, 0, lines, fontsize=10, **COUNTRY)
                with warnings.catch_warnings(action="ignore"):  # of scripts that the font lacks
                    extent = text.get_window_extent()
                text.remove()
                width, height = unit = np.maximum([extent.width, extent.height], 1) / 10 / cell  # of marks alone: 0
                room = ndimage.distance_transform_edt(own, sampling=(width / height, 1))  # for ellipses of its form
                row, column = np.unravel_index(room.argmax(), room.shape)
                middle = np.array([box[1].start + column - 0.5, box[0].start + row - 0.5])
                yield 1.5 * room.max() / width, country, lines, middle, unit

    def animation(self, title: str, foot: str, stages: Iterable[tuple[str, Predict]]) -> Animation:
        """The map at stages of a training, (what is written above it, what is predicted) each, one frame after another.

        All that doesn't change stays where it is: frame, colours, and the names, which stand where the countries are.
        """

        def frames() -> Iterator[Image.Image]:
            fig, ax = self.figure(title, foot)
            save.settle(fig)
            fig.set_dpi(80)
            picture = ax.imshow(self.land, origin="lower", extent=self.extent, aspect=self.aspect)
            ax.grid(False)
            ax.set(xticks=[], yticks=[], title=" ")
            ax.spines[:].set_visible(False)
            self.write_names(ax, np.where(self.land > 0, nearest(self.places)(self.grid(self.COARSE)), -1))
            save.frame(fig)
            fig.set_layout_engine("none")  # nothing moves from now on
            for name, predict in stages:
                picture.set(data=self.picture(predict, 1)[0], cmap=None)
                ax.set_title(name)
                yield save.frame(fig)

        return Animation(f"{title}, from before training to the last epoch", frames())

    def forming(self, title: str, foot: str, stages: dict[str, Predict]) -> Figure:
        """The map at stages of a training, {its title: what is predicted}: the last one large, the others small."""
        *early, last = stages
        columns = -(-len(early) // 2)
        height = 2 * 17 / (columns + 2) * self.rows / self.columns  # of the large one
        fig, axes = save.figure(title, foot, 2, columns + 2, (18, height + 1.6))
        fig.set_layout_engine("compressed")
        grid = axes[0, 0].get_gridspec()
        for name, ax in zip_longest(early, axes[:, :columns].flat):
            if name is None:
                ax.remove()
            else:
                self.draw(ax, stages[name], small=True)
                ax.set_title(name)
        for ax in axes[:, columns:].flat:
            ax.remove()
        ax = fig.add_subplot(grid[:, columns:])
        self.draw(ax, stages[last])
        ax.set_title(last)
        return fig
