"""Figures: their files, their labels, and what becomes of a run that diverged."""

import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import NN_tutorial
from lab.data.places import Places
from lab.draw import charts
from lab.study import SPLITS, Result


@pytest.mark.parametrize("kind", charts.FORMATS)
def test_a_figure_comes_as_png_and_in_the_format_asked_for_with_the_same_bytes(kind, tmp_path):
    def draw(folder: str) -> dict[str, bytes]:
        (tmp_path / folder).mkdir()
        fig, ax = charts.figure("A finding that takes more room than there is " * 4, "A note.")
        charts.band(ax, np.arange(3), np.array([[1, 2, 3], [2, 3, 5.0]]), label="a 東京 $_$")
        charts.save(fig, tmp_path / folder / "6.1.1_a.b.png")
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    with matplotlib.rc_context():
        charts.output(kind, quick=True)
        first = draw("first")
        assert first.keys() == {"6.1.1_a.b.png", f"6.1.1_a.b.{kind}"}
        assert first == draw("second")
        for quick, size in ((True, (900, 500)), (False, (1800, 1000))):
            charts.output("png", quick)
            charts.save(charts.figure("Title", "A note.")[0], tmp_path / "a.png")
            with Image.open(tmp_path / "a.png") as image:
                assert image.size == size


LOOKS = {
    **{"text.usetex": True, "font.size": 30, "figure.facecolor": "black", "axes.facecolor": "black"},
    **{"axes.prop_cycle": matplotlib.cycler(color=["white"]), "savefig.dpi": 20, "axes.grid": False},
}
DRAW = """
import lab.run.interrupt, sys
from pathlib import Path
from lab.draw import charts
fig, ax = charts.figure("A finding", "A note.")
ax.plot([1, 2], [1, 3], label="a")
ax.legend()
charts.save(fig, Path(sys.argv[1]))
"""


def test_the_look_of_a_figure_depends_on_nothing_outside_the_repository(copied, python, tmp_path):
    script = copied({}) / "draw.py"
    script.write_text(DRAW)
    (tmp_path / "matplotlibrc").write_bytes(b"axes.facecolor: black\nnonsense: 3\naxes.grid: perhaps\n\xff\n")
    theirs = {
        "MATPLOTLIBRC": str(tmp_path),
        "MPLBACKEND": "nonsense",
        "MPLCONFIGDIR": "/proc/none",
        "HOME": "/proc/none",
    }
    done = python(script, tmp_path / "script.png", env=os.environ | theirs)
    assert (done.returncode, done.stderr) == (0, "")
    with matplotlib.rc_context():
        matplotlib.rcParams.update(LOOKS)  # as a notebook has it
        charts.output("png", quick=False)
        fig, ax = charts.figure("A finding", "A note.")
        ax.plot([1, 2], [1, 3], label="a")
        ax.legend()
        charts.save(fig, tmp_path / "notebook.png")
    assert (tmp_path / "script.png").read_bytes() == (tmp_path / "notebook.png").read_bytes()
    assert plt.get_fignums() == []  # no notebook shows it


HEIGHTS = st.lists(st.floats(-2, 12) | st.sampled_from([1.0, np.nan, np.inf, -np.inf]), max_size=15)


@given(HEIGHTS, st.sampled_from(["linear", "log"]))
def test_labels_of_what_is_finite_stand_apart_in_the_order_of_their_heights(heights, scale):
    _, ax = charts.figure("")
    ax.set(yscale=scale, ylim=(0.1, 10))
    charts.end_labels(ax, [(y, str(number), "black") for number, y in enumerate(heights)])
    places = {int(text.get_text()): text.get_position()[1] for text in ax.texts}
    plt.close("all")
    assert sorted(places) == [number for number, y in enumerate(heights) if np.isfinite(y)]
    ordered = sorted(places, key=lambda number: (np.clip(heights[number], 0.1, 10), number))
    assert (np.diff([places[number] for number in ordered]) > 0.0449).all()
    assert all(0 <= place <= 1 for place in places.values())


def test_a_label_that_has_room_stands_at_its_height():
    _, ax = charts.figure("")
    ax.set(yscale="log", ylim=(1e-2, 1e2))
    charts.end_labels(ax, [(10, "high", "red"), (1, "middle", "blue")])
    assert [text.get_position()[1] for text in ax.texts] == pytest.approx([0.5, 0.75])
    assert [(text.get_text(), text.get_color()) for text in ax.texts] == [("middle", "blue"), ("high", "red")]


def test_references_of_the_same_number_share_a_label_and_each_has_its_line():
    _, ax = charts.figure("")
    labels = charts.references(ax, {"forest": 0.9001, "majority": 0.5, "neighbour": 0.8999})
    assert [label[:2] for label in labels] == [(0.9, "forest and\nneighbour 0.900"), (0.5, "majority 0.500")]
    assert [line.get_ydata()[0] for line in ax.lines] == [0.9001, 0.5, 0.8999]


def test_a_diverged_run_is_drawn_and_marked(tmp_path):
    def result(config, *curve) -> Result:
        curves = np.tile(curve, (2, 1))
        accuracies = {f"accuracy_{split}": np.full(curves.shape, 0.9) for split in SPLITS}
        return Result(config, accuracies | {f"loss_{split}": curves for split in SPLITS})

    y = dict.fromkeys(SPLITS, np.array([0, 0, 1, 1]))
    places = Places(dict.fromkeys(SPLITS, np.zeros((4, 2), np.float32)), y, ["a", "b"])
    study = NN_tutorial.Study(places, range(2), False, {})
    assert study.prior_loss == pytest.approx(np.log(2))
    curves = [0.9, np.inf, np.nan], [0.9, 0.8, 0.9], [0.9, 0.5, 0.1], [0.9, 0.85, 0.8]
    configs = NN_tutorial.LEARNING_RATES.items()
    results = {label: result(config, *curve) for (label, config), curve in zip(configs, curves, strict=True)}
    report = NN_tutorial.learning_rate.report(results, study)
    first, second, *_ = names = list(results)
    assert [report.rows[name]["train", "diverged"].tolist() for name in names] == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert report.headline.endswith(f"; {first} and {second} diverged")
    fig = report.figures["6.1.1_learning_rate"]
    marks = {text.get_text() for text in fig.axes[0].texts}
    assert marks == {"class frequencies only", f"{second} (diverged)", *names[2:]}  # the first one has no end
    charts.save(fig, tmp_path / "a.png")
