"""Accuracies: scales, references, steps and grids."""

import numpy as np
import pytest

from lab.draw import accuracies, curves, save
from lab.study import SPLITS, Measured, Result


def cells(*accuracy: float) -> dict:
    return {(split, "accuracy"): np.array(accuracy) for split in SPLITS}


def named(ax) -> list[tuple[float, str]]:
    return [(round(float(y), 4), text) for y, text, _ in ax.end_labels]


def test_references_of_the_same_number_share_a_label_and_each_has_its_line():
    _, ax = save.figure("A finding")
    accuracies.references(ax, {"forest": 0.9001, "majority": 0.5, "neighbour": 0.8999})
    assert named(ax) == [(0.9, "forest and\nneighbour 0.900"), (0.5, "majority 0.500")]
    assert [line.get_ydata()[0] for line in ax.lines] == [0.9001, 0.5, 0.8999]


@pytest.mark.parametrize("highest", [0.3, 0.96, 0.9999, 1.0])
def test_the_scale_of_the_error_holds_what_is_drawn_and_gives_each_halving_the_same_room(highest):
    _, ax = save.figure("A finding")
    ax.plot([0.1, highest])
    curves.accuracy_axis(ax)
    low, high = ax.get_ylim()
    assert low == 0
    assert min(highest, 0.9995) < high < 1
    heights = ax.transScale.transform([[0, accuracy] for accuracy in (0.5, 0.75, 0.875)])[:, 1]
    assert np.diff(heights) == pytest.approx(np.log10([2, 2]))
    assert all(
        float(label.get_text()) == tick for label, tick in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)
    )


def test_scores_are_means_with_intervals_at_their_positions_and_one_seed_has_none():
    _, (left, right) = save.figure("A finding", columns=2)
    accuracies.scores(left, {"a": cells(0.8, 0.9), "b": cells(0.7)})
    mean, _, (bars,) = left.containers[2]
    np.testing.assert_allclose(mean.get_xydata(), [[0.12, 0.85], [1.12, 0.7]])
    reach = 12.7062 * 0.05  # Student's t of one degree of freedom times the standard error
    np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars.get_segments()], [2 * reach, 0], rtol=1e-4)
    accuracies.against(right, {"width 8": cells(0.8), "width 32": cells(0.9)}, (8, 32), "units")
    assert right.get_xlabel() == "units (log scale)"
    assert right.get_xticks().tolist() == [3, 5]
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["8", "32"]


def test_before_and_after_share_a_scale_that_holds_both(tmp_path):
    def run(accuracy: float) -> Result:
        arrays = {f"{metric}_{split}": np.full((2, 3), accuracy) for metric in ("accuracy", "loss") for split in SPLITS}
        return Result(None, arrays)

    fig, axes = save.figure("A finding", "", 2, 2, (11, 8), sharex=True, sharey="row")
    rows = {"before": cells(0.98), "after": cells(0.9)}
    accuracies.before_and_after(axes, {"before": run(0.98), "after": run(0.9)}, rows, {"majority": 0.2})
    save.save(fig, tmp_path / "a.png")
    assert [ax.get_title("left") for ax in axes[0]] == ["before", "after"]
    assert axes[1, 0].get_ylim() == axes[1, 1].get_ylim() == (0, pytest.approx(1 - 0.7 * 0.02))
    names = [sorted(text.get_text() for text in ax.texts) for ax in axes.flat]
    assert names[:3] == [sorted(SPLITS), sorted(SPLITS), ["test 0.980", "train 0.980", "validation 0.980"]]
    assert names[3] == ["majority 0.200", "test 0.900", "train 0.900", "validation 0.900"]


def test_a_ladder_says_what_each_step_gains_and_a_grid_where_each_line_ends():
    _, (left, right) = save.figure("A finding", columns=2)
    rows, mark = {"raw": cells(0.9, 0.9), "waves": cells(0.95, 0.97)}, Measured(0.93, "neighbour")
    accuracies.ladder(left, rows, mark)
    assert [text.get_text() for text in left.texts] == ["0.9000", "0.9600  (+0.0600)", "nearest neighbour 0.9300"]
    accuracies.grid_lines(right, {"width 8": [*rows.values()]}, ("raw", "waves"), mark)
    assert named(right) == [(0.96, "width 8"), (0.93, "neighbour")]
    for low, high in (left.get_xlim(), right.get_ylim()):
        assert low < 0.9 < 0.96 < high


def test_distances_of_errors_and_of_all_places_are_cumulative_shares():
    _, ax = save.figure("A finding")
    right = {"network": np.array([[True, False, False], [True, True, False]]), "neighbour": np.ones((1, 3), bool)}
    accuracies.distances(ax, np.array([4.0, 2.0, 1.0]), right)
    errors, none, every = ax.lines
    np.testing.assert_allclose(errors.get_xydata(), [[1, 1 / 3], [1, 2 / 3], [2, 1]])
    assert (len(none.get_xdata()), every.get_xdata().tolist()) == (0, [1, 2, 4])


def test_accuracy_against_the_rate_is_in_the_order_of_the_rates_and_bars_reach_from_seed_to_seed():
    _, ax = save.figure("A finding")
    rows, rates = {"default": cells(0.8, 0.9), "lr 0.1": cells(0.6, 0.6)}, {"default": 0.3, "lr 0.1": 0.1}
    accuracies.accuracy_against_rate(ax, rows, rates, "default", 0.4)
    accuracies.control(ax, rows, rates, "shuffled")
    chosen, *_, control = ax.lines
    mean, _, (bars,) = ax.containers[0]
    np.testing.assert_allclose(mean.get_xydata(), [[0.1, 0.6], [0.3, 0.85]])
    np.testing.assert_allclose(bars.get_segments()[1], [[0.3, 0.8], [0.3, 0.9]])
    assert chosen.get_xdata()[0] == 0.3
    assert (control.get_label(), control.get_ydata().tolist()) == ("shuffled", pytest.approx([0.85, 0.6]))
