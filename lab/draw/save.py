"""Figures: made, written with what was collected on their axes, and saved, the same numbers as the same bytes."""

import io
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

from lab import files
from lab.errors import printable, quoted, some, warn
from lab.run import interrupt

STYLE = matplotlib.rc_params_from_file(interrupt.STYLE, use_default_template=False)
FORMATS = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no version, no date
WEBP = {"lossless": True, "quality": 60, "method": 4}


def figure(title: str, foot: str = "", rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 5), **options):
    """A figure whose title states the finding and whose foot says what bands and n are; axes as plt.subplots.

    No pyplot: it would draw into the notebook that has started a script, or need a display.
    """
    fig = Figure(figsize=size)
    axes = fig.subplots(rows, columns, **options)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", wrap=True)
    fig.foot = foot
    return fig, axes


def settle(fig: Figure) -> None:
    """Write the foot and the end labels where they belong as the scales are now; done again, they move there."""
    fig.supxlabel(fig.foot, x=0.01, ha="left", fontsize="small", color="0.35", wrap=True)
    for ax in fig.axes:
        if getattr(ax, "end_labels", []):
            write_end_labels(ax)


def write_end_labels(ax: Axes) -> None:
    """Write the collected (y, text, colour) right of the axes at the height y, moved apart where they would overlap."""
    for text in getattr(ax, "written", ()):
        text.remove()
    labels = [label for label in ax.end_labels if np.isfinite(label[0])]
    to_height = ax.transScale + ax.transLimits  # a share of the height of the axes
    heights = np.array([np.clip(to_height.transform((ax.get_xlim()[1], y))[1], 0, 1) for y, _, _ in labels])
    order = np.argsort(heights, kind="stable")
    look = {"transform": ax.transAxes, "va": "center", "fontsize": "small", "parse_math": False}
    ax.written = [ax.text(1.015, heights[i], labels[i][1], color=labels[i][2], **look) for i in order]
    # The layout, which takes as long as drawing, will leave the axes 9 tenths of this height (points) or more.
    high = 0.9 * ax.get_subplotspec().get_position(ax.figure).height * 72 * ax.figure.get_figheight()
    sizes = np.array([1.35 * text.get_fontsize() * len(text.get_text().splitlines()) / high for text in ax.written])
    for text, height in zip(ax.written, moved_apart(heights[order], sizes) if labels else (), strict=True):
        text.set_y(height)


def moved_apart(middles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Middles (n,), in rising order, moved as little up as down until things of these sizes don't overlap in 0 to 1."""
    offsets = np.concatenate([[0], np.cumsum((sizes[1:] + sizes[:-1]) / 2)])
    free = middles - offsets  # where this doesn't fall, nothing overlaps
    free = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2
    return np.clip(free, 0, 1 - offsets[-1]) + offsets


# ---------------------------------------------------------------------------- in words


def title_of(fig: Figure) -> str:
    return " ".join(fig.get_suptitle().split())


def alt_text(fig: Figure) -> str:
    """What is seen, for those who don't see it: the finding, then each panel's title, axes and names, up to six."""
    settle(fig)
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


# ---------------------------------------------------------------------------- as files


def frame(fig: Figure) -> Image.Image:
    """A figure as it is now."""
    canvas = FigureCanvasAgg(fig)
    with any_script():
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save(fig: Figure, path: Path) -> None:
    """Save as PNG, which the gallery shows, and in the format of --format; the same numbers give the same bytes."""
    settle(fig)
    for kind in dict.fromkeys(("png", matplotlib.rcParams["savefig.format"])):
        picture = io.BytesIO()
        with any_script():
            fig.savefig(picture, format=kind, metadata=FORMATS[kind])
        files.write_whole(path.with_suffix(f".{kind}"), picture.getvalue())
    interrupt.check()


def save_animation(frames: Iterable[Image.Image], path: Path, seconds: float = 0.15, last: float = 4) -> None:
    """Save as an animated WebP, which starts again after its last frame, in which it rests."""
    first, *others = frames
    durations = [int(1000 * seconds)] * len(others) + [int(1000 * last)]
    picture = io.BytesIO()
    first.save(picture, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, **WEBP)
    files.write_whole(path, picture.getvalue())
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
