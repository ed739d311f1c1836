"""Figures: their files, the labels at the ends of lines, and what is seen in words."""

import os
from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lab.draw import curves, save


@pytest.mark.parametrize("kind", save.FORMATS)
def test_a_figure_comes_as_png_and_in_the_format_asked_for_with_the_same_bytes(kind, tmp_path):
    def draw(folder: str) -> dict[str, bytes]:
        (tmp_path / folder).mkdir()
        fig, ax = save.figure("A finding that takes more room than there is " * 4, "A note.")
        curves.curve(ax, np.array([[1, 2, 3], [2, 3, 5.0]]), "a 東京 $_$")
        save.save(fig, tmp_path / folder / "6.1.1_a.b.png")
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    with matplotlib.rc_context():
        save.output(kind, quick=True)
        first = draw("first")
        assert first.keys() == {"6.1.1_a.b.png", f"6.1.1_a.b.{kind}"}
        assert first == draw("second")
        for quick, size in ((True, (900, 500)), (False, (1800, 1000))):
            save.output("png", quick)
            save.save(save.figure("Title", "A note.")[0], tmp_path / "a.png")
            with Image.open(tmp_path / "a.png") as image:
                assert image.size == size


LOOKS = {
    **{"text.usetex": True, "font.size": 30, "figure.facecolor": "black", "axes.facecolor": "black"},
    **{"axes.prop_cycle": matplotlib.cycler(color=["white"]), "savefig.dpi": 20, "axes.grid": False},
}
DRAW = """
import lab.run.interrupt, sys
from pathlib import Path
from lab.draw import save
fig, ax = save.figure("A finding", "A note.")
ax.plot([1, 2], [1, 3], label="a")
ax.legend()
save.save(fig, Path(sys.argv[1]))
"""


def test_the_look_of_a_figure_depends_on_nothing_outside_the_repository(copied, python, tmp_path):
    script = copied({}) / "draw.py"
    script.write_text(DRAW)
    (tmp_path / "matplotlibrc").write_bytes(b"axes.facecolor: black\nnonsense: 3\naxes.grid: perhaps\n\xff\n")
    theirs = {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "nonsense", "MPLCONFIGDIR": "/proc/none"}
    done = python(script, tmp_path / "script.png", env=os.environ | theirs | {"HOME": "/proc/none"})
    assert (done.returncode, done.stderr) == (0, "")
    with matplotlib.rc_context():
        matplotlib.rcParams.update(LOOKS)  # as a notebook has it
        save.output("png", quick=False)
        exec(DRAW.replace("sys.argv[1]", "path"), {"path": tmp_path / "notebook.png"})
    assert (tmp_path / "script.png").read_bytes() == (tmp_path / "notebook.png").read_bytes()
    assert plt.get_fignums() == []  # no notebook shows it


HEIGHTS = st.lists(st.floats(-2, 12) | st.sampled_from([1.0, np.nan, np.inf, -np.inf]), max_size=15)


@given(HEIGHTS, st.sampled_from(["linear", "log"]))
def test_labels_of_what_is_finite_stand_apart_in_the_order_of_their_heights(heights, scale):
    fig, ax = save.figure("A finding " * 12, "A note.\n\nThree lines.", size=(9, 6))
    ax.set(yscale=scale, ylim=(0.1, 10))
    for number, y in enumerate(heights):
        curves.end_label(ax, y, f"{number}" + "\nin two lines" * (number % 3 == 0))
    save.settle(fig)
    fig.draw_without_rendering()
    texts = {int(text.get_text().split()[0]): text for text in ax.texts}
    assert sorted(texts) == [number for number, y in enumerate(heights) if np.isfinite(y)]
    ordered = sorted(texts, key=lambda number: (np.clip(heights[number], 0.1, 10), number))
    boxes = [texts[number].get_window_extent() for number in ordered]
    assert all(lower.y1 < upper.y0 for lower, upper in pairwise(boxes))
    assert all(0 <= text.get_position()[1] <= 1 for text in ax.texts)


def test_a_label_that_has_room_stands_at_its_height_as_the_scale_is_in_the_end():
    fig, ax = save.figure("A finding", "A note.")
    curves.end_label(ax, 10, "high $x", "red")
    curves.end_label(ax, 1, "middle", "blue")
    ax.plot([1, 2])
    for low, places in ((1e-2, [0.5, 0.75]), (1e-6, [0.75, 0.875])):
        ax.set(yscale="log", ylim=(low, 1e2))
        assert "shown: middle, high $x" in save.alt_text(fig)
        assert [text.get_position()[1] for text in ax.texts] == pytest.approx(places)
        assert [(text.get_text(), text.get_color()) for text in ax.texts] == [("middle", "blue"), ("high $x", "red")]
    assert fig.get_supxlabel() == "A note."
    assert save.moved_apart(np.array([0.1, 0.5, 0.5]), np.full(3, 0.1)) == pytest.approx([0.1, 0.45, 0.55])


def test_what_is_seen_is_told_panel_by_panel():
    fig, (left, right) = save.figure("A  finding\nin two lines", columns=2)
    left.plot([1, 2], label="a line")
    left.set(title="losses", xlabel="epoch", ylabel="nats")
    left.legend()
    for number in range(8):
        curves.end_label(right, number, f"{number} units")
    assert (
        save.alt_text(fig) == "A finding in two lines. losses; nats against epoch; shown: a line"
    )  # nothing in it yet
    right.plot([0, 8])
    names = ", ".join(f"{number} units" for number in range(6))
    assert save.alt_text(fig).endswith(f"shown: a line. shown: {names} and 2 more")
