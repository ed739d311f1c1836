"""Curves: what is drawn of runs, under which names, and that one that diverged is drawn too."""

from types import SimpleNamespace

import numpy as np
import pytest

from lab.draw import curves, save
from lab.study import SPLITS, Result


def named(ax) -> dict[str, float]:
    """End labels with their heights."""
    return {text: y for y, text, _ in ax.end_labels}


def run(*curve: float, **config) -> Result:
    """Two seeds, the second of twice the losses."""
    losses = np.outer([1, 2], curve)
    return Result(
        SimpleNamespace(**config), {f"loss_{split}": losses for split in SPLITS} | {"accuracy_test": losses / 9}
    )


def test_every_run_has_a_band_in_its_look_and_its_name_at_the_median_of_its_end(tmp_path):
    runs = {"lr 1": run(0.9, np.inf, np.nan, lr=1.0), "lr 0.01": run(0.9, 0.7, 0.8, lr=0.01), "b": run(1.0, lr=1e-3)}
    fig, ax = save.figure("A finding")
    curves.level(ax, 3.0, "chance")
    curves.level(ax, 3.1)
    curves.curves(ax, runs, look=curves.by_rate, named={"lr 0.01": "lr 0.01 (unstable)"})
    level, thin, *lines = ax.lines
    assert [level.get_ydata()[0], thin.get_ydata()[0]] == [3.0, 3.1]
    assert [line.get_color() for line in lines] == [curves.by_rate(result)["color"] for result in runs.values()]
    np.testing.assert_allclose(lines[1].get_xydata(), [[1, 1.35], [2, 1.05], [3, 1.2]])
    ends = named(ax)
    assert np.isnan(ends.pop("lr 1"))
    assert ends == pytest.approx({"chance": 3.0, "lr 0.01 (unstable)": 1.2, "b": 1.5})
    assert (ax.get_yscale(), ax.get_ylabel(), ax.get_xlim()) == ("log", "validation cross-entropy (nats)", (0, 3))
    save.save(fig, tmp_path / "a.png")
    assert [text.get_text() for text in ax.texts] == ["lr 0.01 (unstable)", "b", "chance"]


def test_without_a_look_later_runs_are_darker_and_accuracies_are_on_the_scale_of_the_error():
    _, ax = save.figure("A finding")
    curves.curves(ax, {label: run(0.9) for label in "abc"}, "accuracy_test")
    assert (np.diff([np.sum(line.get_color()[:3]) for line in ax.lines]) < 0).all()
    assert (ax.get_yscale(), ax.get_ylabel()) == ("function", "test accuracy (log scale of the error)")


@pytest.mark.parametrize("name", ["lr", "learning_rate"])
def test_each_learning_rate_has_a_look_of_its_own_the_larger_the_darker(name):
    looks = [curves.by_rate(run(1.0, **{name: 10.0**-decade})) for decade in range(6)]
    assert len({str(look["linestyle"]) for look in looks}) == 6
    assert (np.diff([np.sum(look["color"][:3]) for look in looks]) > 0).all()


def test_epochs_are_marked_at_the_median_validation_loss():
    _, ax = save.figure("A finding")
    result = run(*np.linspace(2, 1, 10))
    curves.splits(ax, result)
    curves.marked_epochs(ax, result, (1, 5, 10))
    assert set(named(ax)) == set(SPLITS)
    assert [text.get_text() for text in ax.texts] == ["3.00", "2.33", "1.50"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "5", "10"]
    np.testing.assert_allclose([line.get_xydata()[0] for line in ax.lines[3:]], [[1, 3], [5, 7 / 3], [10, 1.5]])


def test_the_way_down_is_drawn_against_what_is_asked_for():
    checks = {"check_loss": np.array([[4, 2.0], [2, 1]]), "check_updates": np.array([[10, 20], [10, 20.0]])}
    runs = {"batch size 1": Result(None, checks), "batch size 8": Result(None, checks)}
    _, ax = save.figure("A finding")
    curves.way_down(ax, runs, "updates", 1.8, "reached by all", {"batch size 8": "8"})
    assert ax.lines[0].get_xydata().tolist() == [[10, 3], [20, 1.5]]
    assert [text.get_text() for text in ax.texts] == ["batch size 1", "8"]
    assert (named(ax), ax.get_xlabel()) == ({"reached by all": 1.8}, "updates")


def test_losses_of_steps_and_rounds_are_named_in_the_legend_and_stay_on_the_axes():
    _, (left, right) = save.figure("A finding", columns=2)
    losses = np.array([[0.7, np.inf, np.nan], [0.7, 0.0, 0.1]])
    curves.step_losses(
        left, {"a": Result(SimpleNamespace(learning_rate=0.1), {"step_loss": losses})}, 0.69, {"a": "lr 0.1"}
    )
    curves.legend(left)
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["lr 0.1", "chance"]
    assert np.isfinite(left.lines[0].get_ydata()).all()
    curves.rounds(right, Result(None, {f"loss_{split}": np.array([[0.6, 0.5]]) for split in SPLITS}), 0.69)
    assert [line.get_label() for line in right.lines] == [*SPLITS, "chance"]
    assert right.lines[0].get_xydata().tolist() == [[1, 0.6], [2, 0.5]]
