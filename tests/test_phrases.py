"""Headlines and words: numbers whose verdict is known, committed runs' curves, thresholds as their rules state them."""

from argparse import Namespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from lab.gallery.report import Report
from lab.nets.record import passed_on
from lab.study import SPLITS, Result, Runs
from lab.tell import phrases
from lab.tell.statistics import Difference, wilson

PRIOR = 2.8697  # nats, of knowing how frequent the countries of data/ are


def run(train, validation, accuracy=0.98) -> Result:
    """Curves, (epochs,) of two seeds or (seeds, epochs)."""
    curves = {"loss_train": train, "loss_validation": validation, "accuracy_train": [accuracy]}
    return Result(None, {name: np.array([each, each] if np.ndim(each) == 1 else each) for name, each in curves.items()})


def row(train, validation, test=0.5) -> dict:
    return {(s, "accuracy"): np.atleast_1d(a) for s, a in zip(SPLITS, (train, validation, test), strict=True)}


def gap(gain, p) -> Difference:
    return Difference(np.array([gain]), gain - 0.1, gain + 0.1, p)


# ---------------------------------------------------------------------------- headlines


def answers(count: int) -> dict:
    """A row that gets so many of 100 examples right, on every split."""
    right = np.arange(100)[None] < count
    return {(s, "accuracy"): right.mean(axis=1) for s in SPLITS} | {(s, "right"): right for s in SPLITS}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((90, 60, 88), "Best: a (no difference shown to c), test accuracy 0.900; worst: b, 0.600"),
        ((90, 60, 61), "Best: a, test accuracy 0.900; worst: b, 0.600"),
        ((90, 89, 90), "No difference shown between best, a, and worst, b: test accuracy 0.900, 0.890"),
    ],
)
def test_best_to_worst_names_two_ends_only_where_they_differ(counts, words):
    report = Report(None, Runs(), Namespace())
    report.table({label: answers(count) for label, count in zip("abc", counts, strict=True)})
    report.rows["reference"], report.beside["reference"] = answers(10), None  # is never the worst
    assert phrases.best_to_worst(report) == words
    assert phrases.best(report).startswith("Best: a (" if "c)" in words or words[0] == "N" else "Best: a, ")
    alone = Report(None, Runs(), Namespace())
    alone.table({"a": answers(90)})
    assert phrases.best_to_worst(alone) == "All have the same validation accuracy; test accuracy of a: 0.900"


def test_names_and_scores():
    assert phrases.named("ab") == "a (no difference shown to b)"
    assert phrases.named("abcd") == "a (no difference shown to 3 others)"
    low, high = wilson(0.9, 100)
    assert phrases.scored("net", answers(90), 100) == f"net: test accuracy 0.900 [{low:.3f}, {high:.3f}]"


# ---------------------------------------------------------------------------- curves

# Validation losses of committed runs, every few epochs up to the last, and how they went.
COURSES = {
    "lr 1": ([2.92, 2.93, 2.90, 2.93, 2.97, 2.92], "collapsed"),
    "lr 0.01": ([0.50, 0.30, 0.18, 0.26, 0.224, 0.2034], "unstable"),  # 13% above its best, though it fell by 10% last
    "lr 0.001": ([0.90, 0.60, 0.45, 0.38, 0.34, 0.27], "not finished"),
    "lr 0.00001": ([3.55, 3.07, 2.69, 2.28, 2.00, 1.88], "not finished"),
    "one epoch of it": ([3.58], "settled"),  # on its way to the class frequencies, not back at them
    "shuffled labels": ([2.95, 2.90, 2.89, 2.887, 2.886, 2.886], "collapsed"),
    "100 layers": ([2.89, 2.871, 2.870, 2.870, 2.870, 2.870], "collapsed"),
    "100 layers, batch norm": ([3.26, 2.95, 2.97, 2.96, 9768.0, 5.03], "collapsed"),
    "100 layers, residual": ([1.4e7, 2.5e6, 1.0e6, 5.4e5, 3.2e5, 2.6e5], "diverged"),
    "100 layers, width 16, He": ([2.40, 1.80, 1.40, 1.309, 1.35, 1.442], "unstable"),
    "(3, 64) of waves": ([0.10, 0.05, 0.03, 0.025, 0.0258, 0.0259], "settled"),
    "not a number": ([2.9, np.nan, np.nan, np.nan, np.nan, np.nan], "diverged"),
    "infinite once": ([2.9, np.inf, 2.0, 1.0, 1.0, 1.0], "diverged"),
}


@pytest.mark.parametrize(("curve", "word"), COURSES.values(), ids=COURSES)
def test_the_course_of_committed_runs(curve, word):
    result = run(curve, curve)
    assert phrases.course(result, PRIOR) == word
    assert phrases.diverged(result, PRIOR).tolist() == [word == "diverged"] * 2
    assert phrases.collapsed(result, PRIOR).tolist() == [word == "collapsed"] * 2


def test_a_run_goes_the_way_of_most_of_its_seeds_and_each_seed_is_told():
    good, lost, dead = [2, 1, 1, 1, 1], [2, 1, 1, 1, 1e6], [2.87] * 5
    seeds = [good, lost, good, dead, good]
    result = run(seeds, seeds)
    assert phrases.diverged(result, PRIOR).tolist() == [False, True, False, False, False]
    assert phrases.collapsed(result, PRIOR).tolist() == [False, False, False, True, False]
    assert phrases.course(result, PRIOR) == "settled"
    assert phrases.course(run([good] * 3, [dead, good, dead]), PRIOR) == "collapsed"
    assert phrases.diverged(run([good, lost], [good, good]), PRIOR).tolist() == [False, True]  # by the train loss
    slowest = [3.58, 3.26, 2.99, 2.91, 2.85, 2.722]  # of lr 0.00001
    assert not phrases.collapsed(run(slowest, slowest), PRIOR).any()
    assert phrases.course(run([3, 2, 1, 0.5, 0.2], [3, 2, 1, 1.3, 1.5]), PRIOR) == "settled"  # over-fits, not unstable


FITS = {  # training and validation losses, the train accuracy, and what that is beside a neighbour's 0.9920 of 9,605
    "(6, 64)": ([0.20, 0.0900, 0.0596], [0.20, 0.0890, 0.0588], 0.9799, "under-fits"),
    "sines (6, 32)": ([0.20, 0.0193, 0.0190], [0.20, 0.0275, 0.0276], 0.9920, "neither over- nor under-fits"),
    "waves (3, 64)": ([0.10, 0.0056, 0.0046], [0.10, 0.0250, 0.0259], 0.9985, "neither over- nor under-fits"),
    "waves, blocks held out": ([0.10, 0.0056, 0.0046], [0.40, 0.1500, 0.2300], 0.9985, "over-fits"),
    "both rise, which is noise": ([3, 2, 2.2], [3, 2, 2.2], 0.9985, "neither over- nor under-fits"),
    "both at once": ([3, 2, 1], [3, 2, 2.2], 0.9, "over-fits and under-fits"),
}


@pytest.mark.parametrize(("train", "validation", "accuracy", "word"), FITS.values(), ids=FITS)
def test_one_definition_of_over_fitting_and_one_of_under_fitting(train, validation, accuracy, word):
    assert phrases.fit(run(train, validation, accuracy), 0.9920, 9605) == word
    assert bool(phrases.over_fits(train, validation)) == ("over-fits" in word)


def test_over_fitting_of_rounds_and_of_numbers_of_epochs():
    default = phrases.over_fits([[0.65, 0.559, 0.1, 0.0141]], [[0.70, 0.696, 0.9, 1.028]])  # of XGBoost, one run
    assert default
    assert str(default) == (
        "validation loss 0.696 at its lowest, 1.03 at the end; training loss 0.559 there, 0.0141 at the end"
    )
    assert not phrases.over_fits([0.693, 0.690], [0.693, 0.693])  # at a learning rate of 0.0001
    assert phrases.over_fits([0.6, 0.3, 0.1], [0.6, 0.4, 0.5])  # after 1, 3 and 10 epochs
    assert not phrases.over_fits([[0.6, 0.1]] * 3, [[0.6, 0.5], [0.6, 0.5], [0.6, 0.9]])  # the median seed doesn't


def test_under_fitting_is_below_the_interval_of_what_the_reference_gets():
    low, high = wilson(0.956, 160)
    for accuracy in (low - 0.001, low + 0.001):
        found = phrases.under_fits(accuracy, 0.956, 160)
        assert bool(found) == (accuracy < low)
        word = "below" if accuracy < low else "not below"
        where = f"the reference's 0.9560 [{low:.4f}, {high:.4f}]"
        assert str(found) == f"train accuracy {accuracy:.4f}, {word} {where} on validation"


# ---------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [(0, 0, "vanishing"), (1e-2, 1e-2, "even"), (1e5, 1e5, "exploding"), (np.inf, 1, "exploding")],
)
def test_flow(first, last, word):
    assert flow([first, 1, 2, last]) == word


def flow(gradient: list[float]) -> str:
    gradient = np.array([gradient, gradient], float)
    return phrases.flow(gradient, np.zeros(gradient.shape))


def deep(gain: float, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Of 30 layers of ReLU with orthogonal weights of this gain: the gradient (1, 30) and what is silent (1, 30)."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8) for _ in range(30)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.constant_(layer.bias, 0.1)
    nn.init.constant_(layers[9].bias, bias)
    model = nn.Sequential(*(module for layer in layers for module in (layer, nn.ReLU())), nn.Linear(8, 3))
    x = torch.randn(256, 8)
    F.cross_entropy(model(x), torch.arange(256) % 3).backward()
    silent, _ = passed_on(model, x)
    return np.array([[layer.weight.grad.abs().mean() for layer in layers]]), np.array([silent])


@pytest.mark.parametrize(
    ("gain", "bias", "word", "dead"),
    [(2**0.5, 0.1, "even", 0), (1, 0.1, "vanishing", 0), (2.4, 0.1, "exploding", 0), (1, -1e3, "dead", 1)],
)
def test_a_net_that_decays_explodes_or_has_a_dead_layer_is_told_apart(gain, bias, word, dead):
    gradient, silent = deep(gain, bias)
    assert phrases.flow(gradient, silent) == word
    assert phrases.dead_layers(silent).tolist() == [dead]
    assert (gradient == 0).sum() == (11 if dead else 0)  # all up to the dead one, and the one that it feeds
    assert bool(phrases.stopped_by_dead(gradient, silent)) == bool(dead)


@pytest.mark.parametrize(
    ("dead", "zeros", "holds"),
    [
        (([1, 3], [3]), (range(5), range(5)), True),  # as all plain nets of 100 layers are
        (([1, 3], [3]), (range(5), range(4)), False),  # the one that the dead layer feeds still gets something
        (([3], [3]), (range(5), [0, 1, 3, 4]), False),  # a residual goes round it
        (([], []), ((), ()), False),
        (([], []), (range(2), range(2)), False),  # leaky ReLU: lost in rounding, not by a dead layer
        (([3], []), (range(5), range(2)), False),  # width 16: one seed of the two has a dead layer
    ],
)
def test_that_dead_layers_stop_the_gradient_is_claimed_only_where_it_is_so(dead, zeros, holds):
    silent, gradient = np.zeros((2, 6)), np.ones((2, 6))
    for seed in range(2):
        silent[seed, list(dead[seed])], gradient[seed, list(zeros[seed])] = 1, 0
    found = phrases.stopped_by_dead(gradient, silent)
    assert bool(found) == holds
    assert str(found).startswith(f"dead layers by seed: {phrases.several([len(dead[0]), len(dead[1])])}; ")


# ---------------------------------------------------------------------------- baselines


MEANS = {"a": 0.9, "b": 0.8, "c": 0.6, "d": 0.5}


def all_pairs(**p) -> dict:
    return {(a, b): gap(0.1, p.get(a + b, 0.001)) for a, b in ("ab", "ac", "ad", "bc", "bd", "cd")}


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ({}, "a is best on the test photos, 0.900; d is worst, 0.500"),
        ({"ab": 0.2}, "a leads on the test photos, 0.900, no difference shown to b; d is worst, 0.500"),
        (
            {"cd": 0.2, "bd": 0.2},
            "a is best on the test photos, 0.900; d is last, 0.500, no difference shown to b and c",
        ),
        ({"ad": 0.2}, "No difference shown between highest and lowest: a (0.900) and d (0.500)"),
    ],
)
def test_standing(p, words):
    assert phrases.standing(MEANS, all_pairs(**p)) == words


def test_a_control_is_at_chance_or_puts_the_rest_in_doubt():
    shuffles = np.linspace(0.52, 0.54, 10)
    doubt = "does not stay at chance, which puts the other rows in doubt: test accuracy 0.530 [0.525, 0.535]"
    assert phrases.control(np.array([0.4, 0.5, 0.62]), 0.5)
    assert "stays at chance: test accuracy 0.507 [" in str(phrases.control(np.array([0.4, 0.5, 0.62]), 0.5))
    assert doubt in str(phrases.control(shuffles, 0.5))
    assert phrases.control(shuffles, 0.53)  # of unequal classes


def test_a_control_rarely_raises_a_false_alarm():
    clean = np.random.default_rng(0).normal(0.5, 0.04, (2000, 10))
    assert sum(not phrases.control(accuracy, 0.5) for accuracy in clean) <= 4


@pytest.mark.parametrize(
    ("accuracy", "where"),
    [(0.6, "above"), (0.59, "not distinguishable from"), (0.41, "not distinguishable from"), (0.4, "below")],
)
def test_chance_is_left_when_the_interval_does(accuracy, where):
    found = phrases.above_chance(accuracy, 100, 0.5)
    assert bool(found) == (where == "above")
    assert str(found).startswith(f"test accuracy {accuracy:.3f} [")
    assert str(found).endswith(f"], {where} chance, 0.5")
    assert not phrases.above_chance(accuracy, 100, 0.8)


@pytest.mark.parametrize(
    ("accuracies", "since"),
    [
        ((0.50, 0.57, 0.52, 0.55), None),  # after 3 epochs by luck: with 300 photos 0.57 is above chance, 0.55 isn't
        ((0.50, 0.57, 0.52, 0.60), 30),
        ((0.50, 0.52, 0.70, 0.90), 10),
        ((0.80, 0.90, 0.95, 0.96), 1),
    ],
)
def test_a_network_sees_from_where_on_all_larger_numbers_of_epochs_are_above_chance(accuracies, since):
    assert phrases.above_chance(0.57, 300, 0.5)
    given = dict(zip((30, 1, 3, 10), np.roll(accuracies, 1), strict=True))  # in any order
    assert phrases.begins_to_see(given, 300, 0.5) == since


# ---------------------------------------------------------------------------- learning rates

RATES = {"x tiny": 1e-4, "x low": 1e-3, "x mid": 1e-2, "x high": 0.1}
EQUAL = dict.fromkeys(SPLITS, np.arange(240) % 2)


def test_rates_say_how_both_sides_of_the_chosen_one_end():
    rows = dict(zip(RATES, (row(0.7, 0.65), row(0.5, 0.5), row(0.8, 0.9), row(0.99, 0.6)), strict=True))
    said = phrases.rates("x", rows, RATES, EQUAL)
    assert said == (
        "x: validation accuracy is highest, 0.900, at lr 0.01 (train: 0.800); lower ones go down to 0.500 (lr 0.001, "
        "which fits fewer of the train photos: 0.500); higher ones go down to 0.600 (lr 0.1, which fits more of the "
        "train photos: 0.990)."
    )
    del rows["x high"]
    assert phrases.rates("x", rows, RATES, EQUAL).endswith("; none higher was tried.")
    nothing = "no learning rate takes validation accuracy above chance"
    assert nothing in phrases.rates("x", rows, RATES, dict.fromkeys(SPLITS, np.arange(240) % 8 > 0))  # 0.88 fake
    rows["x mid"] = row(0.99, 0.6)
    assert nothing in phrases.rates("x", rows, RATES, dict.fromkeys(SPLITS, np.arange(10) % 2))


def test_what_fits_the_train_photos_is_measured_by_the_chosen_rate():
    """Linear-probe of the committed runs: 0.756 isn't said to fit where the chosen rate's 0.735 would not."""
    rows = {"x mid": row(0.735, 0.731), "x high": row(0.756, 0.638)}
    assert "(lr 0.1, which fits as many of the train photos: 0.756)" in phrases.rates("x", rows, RATES, EQUAL)


# ---------------------------------------------------------------------------- rules


def fell(x: float) -> str:
    return phrases.course(run([1] * 9 + [1 - x], [1] * 9 + [1 - x]), PRIOR)


def rose(x: float) -> str:
    return phrases.course(run([1] * 9 + [1 + x], [1] * 9 + [1 + x]), PRIOR)


# The constant, how its rule states it, that rule, and a verdict that changes where the number does.
SHUFFLES = np.arange(10) - 4.5
THRESHOLDS = [
    ("UNBOUNDED", "ends at more than {} times that", phrases.diverged,
     lambda x: phrases.diverged(run([1, 1], [1, 2 * x]), 2).all()),
    ("NEAR_PRIOR", "came within {:.0%} of", phrases.collapsed,
     lambda x: not phrases.collapsed(run([1, 1], [3, 2 * (1 + x)]), 2).any()),
    ("NEAR_PRIOR", "ends no more than {:.0%} below", phrases.collapsed,
     lambda x: not phrases.collapsed(run([1, 1], [3, 2 * (1 - x)]), 2).any()),
    ("STILL_FALLING", "fell by more than {:.0%} in the last fifth", phrases.course,
     lambda x: fell(x) == "not finished"),
    ("UNSTABLE", "ends more than {:.0%} above its minimum", phrases.course,
     lambda x: rose(x) == "unstable"),
    ("RISEN", "ends more than {:.0%} above its lowest", phrases.over_fits,
     lambda x: phrases.over_fits([2, 1], [1, 1 + x])),
    ("EVEN_WITHIN", "less than 1/{} of the last", phrases.flow,
     lambda x: flow([1, x]) == "vanishing"),
    ("EVEN_WITHIN", "more than {} times that", phrases.flow,
     lambda x: flow([x / 1e3, 1e-3]) == "exploding"),
    ("TOO_LARGE", "or more than {};", phrases.flow,
     lambda x: flow([x, x]) == "exploding"),
    ("CRIES_WOLF", "with p < {} (Student's t)", phrases.control,
     lambda p: phrases.control(0.5 + (SHUFFLES + stats.t.isf(p / 2, 9) * stats.sem(SHUFFLES)) / 99, 0.5)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "rule", "verdict"), THRESHOLDS)
def test_a_verdict_changes_at_the_number_that_its_rule_states(name, words, rule, verdict):
    number = getattr(phrases, name)
    assert words.format(number) in rule.rule
    assert [bool(verdict(factor * number)) for factor in (0.99, 1.01)] == [False, True]


def test_every_threshold_is_stated_by_a_rule():
    numbers = {name for name, value in vars(phrases).items() if name.isupper() and isinstance(value, int | float)}
    assert numbers == {name for name, *_ in THRESHOLDS}
