"""Baselines as figures: what is shown of their comparison and of single photos."""

from types import SimpleNamespace

import numpy as np
import pytest

from lab.draw import baselines, save
from lab.study import SPLITS, Result, Runs
from lab.tell.baselines import Comparison, Samples, compare_baselines

LOOKS = {name: {"color": "0.5", "marker": "x", "linestyle": "-"} for name in ("trees", "probe", "fine-tune")}


@pytest.fixture(scope="module")
def found() -> Comparison:
    """40 photos: fine-tune is always right at 0.01, trees and the probe, which has no rate, on three of four."""
    y = dict.fromkeys(SPLITS, np.arange(40) % 2)

    def run(rate: float | None, wrong: int) -> Result:
        sign = np.where(np.arange(40) < wrong, -1, 1) * (2 * y["test"] - 1)
        logits = {f"logits_{split}": np.tile(sign * np.linspace(1, 3, 40), (2, 1)) for split in SPLITS}
        return Result(SimpleNamespace(learning_rate=rate), logits | {"seconds": np.ones(2)})

    rates = {"lr 0.1": run(0.1, 20), "lr 0.01": run(0.01, 0)}
    trees = {"default": run(None, 10), "lr 0.1": run(0.1, 12)}
    return compare_baselines(
        {"trees": Runs(trees), "probe": Runs({"p": run(None, 10)}), "fine-tune": Runs(rates)}, y, LOOKS
    )


def test_a_difference_is_filled_where_it_is_shown(found):
    _, ax = save.figure(baselines.pairs_headline(found), baselines.pairs_note(found))
    baselines.draw_pairs(ax, found)
    assert baselines.pairs_headline(found).endswith("is shown for 2 of 3 pairs")
    filled = [container[0].get_markerfacecolor() for container in ax.containers]
    assert filled == ["white" if text.get_text().endswith("no difference shown") else "black" for text in ax.texts[:3]]
    assert filled.count("black") == 2


def test_baselines_stand_in_their_order_with_rate_and_area(found):
    _, ax = save.figure("A finding")
    baselines.draw_baselines(ax, found)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["fine-tune", "trees", "probe"]
    assert [bar.get_width() for bar in ax.patches] == [1, 0.75, 0.75]
    assert [text.get_text() for text in ax.texts[:2]] == ["1.000  [0.912, 1.000]", "lr 0.01, ROC-AUC 1.000, 2 seeds"]


def test_rates_are_lines_with_a_ring_at_the_chosen_one_and_what_has_none_is_a_level(found):
    _, axes = save.figure(baselines.rates_headline(found), columns=3, sharey=True)
    baselines.draw_rates(axes, found, "a backbone")
    assert baselines.rates_headline(found) == "The learning rate moves fine-tune most: validation accuracy by 0.50"
    trees, probe, fine_tune, _ = axes[2].lines
    assert trees.get_xydata().tolist() == [[0.1, 0.7]]
    assert (probe.get_label(), set(probe.get_ydata())) == ("probe (has none)", {0.75})
    assert fine_tune.get_xydata().tolist() == [[0.1, 0.5], [0.01, 1]]
    assert [ring.get_offsets().tolist() for ring in axes[2].collections] == [[[0.01, 1]]]


@pytest.mark.parametrize("maps", [np.ones((2, 3, 3)), None])
@pytest.mark.parametrize("many", [2, 0])
def test_samples_show_each_photo_what_speaks_and_who_is_wrong(maps, many, found, tmp_path, capsys):
    names = {0: "a $ in a name that is longer than there is room", 1: "脸.png"}
    pixels = SimpleNamespace(
        y={"test": found.y}, name=lambda split, n: names[n], pixels=lambda view, split, n: np.zeros((len(n), 8, 8, 3))
    )
    shown = Samples(found, "fine-tune", ["trees", "probe"], np.arange(10), np.arange(many))
    fig, axes = save.figure("A finding", baselines.samples_note(shown), **baselines.SAMPLES)
    baselines.draw_samples(axes, shown, pixels, maps, None, None)
    save.save(fig, tmp_path / "a.png")
    titles = [ax.get_title("left") for ax in axes.T[:many].flat]
    speaks = ["what XGBoost sees"] * 2 if maps is None else ["speaks for real", "speaks for fake"]
    assert titles[::3] == ["REAL\n…er than there is room", "FAKE\n脸.png"][:many]
    assert titles[1::3] == speaks[:many]
    assert len(fig.axes) == 15 + (maps is not None and many > 0)
    marks = [text.get_text().endswith("✗") for text in axes[2, 0].texts]
    assert marks == ([True, True, False] if many else [])
    assert ("1 of 2 names have letters" in capsys.readouterr().err) == (many > 0)
