"""Gradients of deep networks: what is exactly 0 is told apart from what is small."""

import numpy as np
import pytest

from lab.draw import gradients, save


def gradient() -> np.ndarray:
    """2 seeds, 3 epochs, 4 layers: nothing arrives at the first two; the last one's is 1e-3, then 1e-2."""
    values = np.zeros((2, 3, 4))
    values[:, :, 2:] = 1e-8, 1e-3
    values[1, :, 3] = 1e-2
    return values


def test_curves_and_heat_maps_show_an_exact_0_as_such_and_layers_alike_share_a_label():
    _, axes = save.figure("A finding", "", 2, 2, sharey="row")
    gradients.panels(axes, {"a": gradient(), "b": gradient() * 1e12}, (0, 1, 2, 3))
    (top, _), (bottom, _) = axes
    low, high = gradients.gradient_range([gradient(), gradient() * 1e12], (0, 1, 2, 3))
    assert (low, high) == pytest.approx((-8, 10))
    ends = {text: y for y, text, _ in top.end_labels}
    assert {text: y for text, y in ends.items() if text != "0–1"} == pytest.approx({"2": 1e-8, "3": 5.5e-3})
    assert top.get_ylim()[0] < ends["0–1"] < 1e-8
    assert top.get_yticklabels()[0].get_text() == "exactly 0"
    shown = bottom.images[0].get_array()  # (layers, epochs)
    assert shown.mask.all(axis=1).tolist() == [True, True, False, False]
    np.testing.assert_allclose(shown[3], 5.5e-3)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["mean absolute gradient of the weights", gradients.LAYER]
    assert [ax.get_title("left") for ax in axes[0]] == ["a", "b"]


def test_one_gradient_stands_side_by_side_and_its_range_is_a_million_at_least():
    assert gradients.gradient_range([np.array([[[0.1, np.nan, np.inf, 0.0]]])], (0, 1, 2, 3)) == (-6, 0)
    fig, axes = save.figure("A finding", "", 1, 2)
    gradients.panels(axes, {"": gradient()}, (0, 3))
    assert [len(ax.images) for ax in axes] == [0, 1]
    assert len(fig.axes) == 3  # with the colour bar


def test_the_median_is_over_seeds_that_pass_something_on_and_a_cross_marks_each_ones_first_dead_layer():
    values = {"a": np.array([[1.0, 1e-320, 0], [4, 2, 0], [7, 0, 0]]), "b": np.ones((3, 3))}
    dead = {"a": np.array([[0, 1, 1], [0, 0, 0], [0, 1, 1]], bool), "b": np.zeros((3, 3), bool)}
    _, ax = save.figure("A finding")
    gradients.through_layers(ax, values, dead)
    line, crosses, other, none = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), [4, 2, np.nan])
    assert list(crosses.get_xdata()) == [1, 1]
    assert other.get_linestyle() != line.get_linestyle()
    assert len(none.get_xdata()) == 0
    with pytest.raises(ValueError, match="zip"):
        gradients.through_layers(ax, {str(number): np.ones((1, 2)) for number in range(6)})
