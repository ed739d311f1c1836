"""Intervals, tests and choices: published examples, and laws that hold for any numbers."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics

from lab.study import SPLITS, Result
from lab.tell import statistics
from lab.tell.statistics import (
    UNCLEAR,
    Difference,
    chance,
    chance_loss,
    choose,
    compared,
    detection_scores,
    difference,
    interval,
    mcnemar,
    newcombe,
    paired,
    show,
    wilson,
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_the_interval_is_students_symmetric_and_the_same_in_any_order(values, generator):
    mean, half = interval(values)
    assert interval([-value for value in values]) == pytest.approx((-mean, half))
    assert np.isnan(interval(np.array(values[:1]))[1])
    generator.shuffle(values)
    assert interval(values) == pytest.approx((mean, half), rel=1e-6, abs=1e-6)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    if error > 1e-6:
        ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert ends == pytest.approx((mean - half, mean + half), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("right", "n", "ends"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_published_wilson_intervals(right, n, ends):
    """Newcombe (1998), Two-sided confidence intervals for the single proportion, table I."""
    assert wilson(right / n, n) == pytest.approx(ends, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(2, 50))
def test_wilsons_interval_contains_the_share_mirrors_with_it_and_shrinks_with_n(counts, times):
    right, n = counts
    low, high = wilson(right / n, n)
    assert 0 <= low <= right / n <= high <= 1
    for end in (low, high):  # the shares from which this one is just 1.96 standard errors away
        assert abs(end - right / n) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n), abs=1e-6)
    many_low, many_high = wilson(right / n, times * n)
    assert many_high - many_low < high - low
    assert wilson(1 - right / n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0000"), (0.98765, "0.9877"), (0.0, "0.0000"), (2.93531, "2.935"), (17.9796, "17.98"), (76812, "76,812"),
     (1.2e-4, "1.2e-04"), (np.nan, "nan"), (np.inf, "inf")],
)  # fmt: skip
def test_four_digits_and_few_seeds_have_the_interval_of_the_examples(value, text):
    assert show(np.array([value])) == text
    low, high = wilson(0.75, 160)
    assert show(np.array([0.7, 0.8]), 160) == f"0.7500 [{low:.4f}, {high:.4f}]"
    assert show(np.array([1.0]), 10) == "1.0000 [0.7225, 1.0000]"  # which no ± could say
    assert show(np.array([0.7, 0.8])) == "0.7500"
    assert show(np.array([0.7, 0.8, 0.75]), 160) == "0.7500 ± 0.1242"


def test_one_number_that_every_seed_has_is_shown_once_and_without_an_interval():
    assert show(np.full(5, 1.26)) == "1.260"  # the seconds of one stack of five seeds
    assert show(np.full(5, 1 / 3)) == "0.3333"
    assert show(np.array([1.26, 1.26, 1.26, 1.26, 1.27])) == "1.262 ± 0.006"
    rows = {label: {("train", "seconds"): np.full(5, seconds)} for label, seconds in (("a", 3.0), ("b", 2.0))}
    found = difference(rows, "b", "a", "train", "seconds")
    assert (str(found), found.shown) == ("+1.000, no interval", False)


def test_the_interval_of_a_mean_over_seeds_is_not_that_of_a_rounded_count():
    low, high = wilson(32.5 / 54, 54)
    assert wilson(32 / 54, 54)[0] < low < wilson(33 / 54, 54)[0]
    assert wilson(32 / 54, 54)[1] < high < wilson(33 / 54, 54)[1]


def test_where_one_class_is_larger_chance_is_its_share_and_accuracy_has_a_balanced_one_beside_it():
    few, equal = np.arange(10) < 2, np.arange(10) < 5
    assert (chance(few), chance(~few), chance(equal)) == (0.8, 0.8, 0.5)
    assert chance_loss(equal) == pytest.approx(np.log(2))
    assert chance_loss(few) == pytest.approx(-0.2 * np.log(0.2) - 0.8 * np.log(0.8))
    always_real = np.full((1, 10), -1.0)
    result = Result(None, {f"logits_{split}": always_real for split in SPLITS} | {"seconds": np.zeros(1)})
    cells = detection_scores(result, {"train": few, "validation": equal, "test": ~few})
    balanced = {split: cells[split, metric][0] for split, metric in cells if metric == "balanced_accuracy"}
    assert balanced == {"train": 0.5, "test": 0.5}
    assert [cells[split, "accuracy"][0] for split in SPLITS] == [0.8, 0.5, 0.2]


def losses(a, b) -> Difference:
    """Row b minus row a, of losses (seeds,)."""
    rows = {label: {("test", "loss"): np.array(values)} for label, values in (("a", a), ("b", b))}
    return difference(rows, "a", "b", metric="loss")


def answers(*counts) -> dict:
    """The cells of seeds that get so many of 100 examples right."""
    right = np.arange(100) < np.array(counts)[:, None]  # (seeds, n)
    return {("test", "accuracy"): right.mean(axis=1), ("test", "right"): right}


def test_from_four_seeds_on_accuracies_are_compared_over_seeds_and_over_examples_below():
    rows = {"few": answers(90, 50), "fewer": answers(70, 30), "reference": answers(60), "four": answers(90, 50, 90, 50)}
    found = difference(rows, "fewer", "few")
    assert (found.word, found.over) == ("higher", "the examples of each of 2 seeds")  # two seeds alone can't show it
    assert (-found).word == difference(rows, "few", "fewer").word == "lower"
    assert difference(rows, "reference", "few").word == UNCLEAR  # higher with one seed, lower with the other
    assert difference(rows, "reference", "four").over == "4 seeds"
    rows["alike"] = answers(90, 90, 90, 90)  # such as nets that all know one class alone
    assert difference(rows, "reference", "alike").over == "the examples of each of 4 seeds"
    assert difference(rows, "alike", "reference").word == "lower"
    del rows["few"]["test", "right"]
    assert str(difference(rows, "fewer", "few")) == "+0.200, no interval"


def test_all_rows_are_held_against_one_with_p_for_their_number():
    rows = {"few": answers(90), "reference": answers(60), "more": answers(67), "unpaired": answers(9, 8, 7)}
    rows |= {"no accuracy": {}, "two seeds": answers(60, 60)}
    del rows["unpaired"]["test", "right"]
    found = compared(rows, "reference")
    assert list(found) == ["few", "more", "unpaired", "two seeds"]
    alone = {label: difference(rows, "reference", label).p for label in found}
    assert found["few"].p == pytest.approx(3 * alone["few"])  # what can't be tested isn't counted
    assert found["more"].p == pytest.approx(2 * alone["more"])
    assert found["few"].shown
    assert (found["unpaired"].p, found["two seeds"].p) == (1, 1)
    assert compared(rows, "two seeds")["unpaired"].gain == pytest.approx([0.08 - 0.6])  # three seeds against two
    assert "Holm" in compared.rule


def test_the_factor_per_layer_ends_where_a_layer_is_dead_or_rounding_is_all_that_is_left():
    decay = 0.5 ** np.arange(20.0)
    dead = decay * (np.arange(20) < 7)
    noise = np.maximum(0.01 ** np.arange(20.0), 1e-17)
    assert statistics.per_layer(np.array([decay, dead, noise])) == pytest.approx([0.5, 0.5, 0.01])
    assert np.isnan(statistics.per_layer(np.array([[1.0, 0.5, 0]]))).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=4, max_size=12))
def test_a_comparison_is_the_paired_t_test_and_mirrors(pairs):
    a, b = np.transpose(pairs)
    assume(np.ptp(b - a) > 1e-3 and np.ptp(b) > 1e-3)
    found = losses(a, b)
    ends = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert found.gain == pytest.approx(b - a)
    assert found.word == ("higher" if ends.low > 0 else "lower" if ends.high < 0 else UNCLEAR)
    assert losses(b, a).word == {"higher": "lower", "lower": "higher"}.get(found.word, found.word)
    reference = a[:1]  # has no seeds
    ends = stats.ttest_1samp(b - reference, 0).confidence_interval(0.95)
    assert (losses(reference, b).low, losses(reference, b).high) == pytest.approx((ends.low, ends.high))
    same = losses(b, b + 1e-10)
    assert (same.gain.any(), same.p, str(same)) == (False, 1.0, "+0.0000 [+0.0000, +0.0000], p = 1")
    assert str(losses(reference, reference + 0.05)) == "+0.050, no interval"


def test_losses_of_diverged_runs_are_compared_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses([1, np.inf, np.nan, 1], [np.inf, np.inf, 1, 1]).word == UNCLEAR
        assert losses([1.0] * 4, [np.inf] * 4).word == UNCLEAR


def test_a_small_difference_is_told_in_more_digits():
    assert str(Difference(np.array([0.0017]), 0.0014, 0.0020, 2e-5)) == "+0.0017 [+0.0014, +0.0020], p = 2e-05"
    assert str(Difference(np.array([0.21]), 0.1, 0.32, 0.003)) == "+0.210 [+0.100, +0.320], p = 0.003"


def fourfold(both, first, second, neither):
    """Two arrays of right and wrong answers with these counts."""
    counts = (both, first, second, neither)
    return tuple(np.repeat(answers, counts).astype(bool) for answers in ((1, 1, 0, 0), (1, 0, 1, 0)))


def test_published_paired_proportions():
    """Airway hyper-responsiveness before and after a transplantation, Fagerland, Lydersen and Laake (2014), table 1."""
    assert mcnemar(*fourfold(1, 1, 7, 12)) == pytest.approx(0.0703, abs=1e-4)
    assert mcnemar(*fourfold(5, 0, 0, 3)) == 1.0
    assert newcombe(*fourfold(1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombes_interval_covers_the_truth():
    draws, covered = np.random.default_rng(0), 0
    for counts in draws.multinomial(160, (0.6, 0.2, 0.1, 0.1), size=400):
        low, high = newcombe(*fourfold(*counts))
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_every_seed_must_show_a_difference():
    def right(*counts):
        return np.arange(40) < np.array(counts)[:, None]  # (seeds, n)

    clear = paired(right(38, 35), right(10))  # one without seeds against two seeds
    assert clear.gain == pytest.approx([0.7, 0.625])
    assert clear.shown
    assert "p < 0.05," in paired.rule
    assert clear.p == paired(right(35), right(10)).p
    assert clear.low < 0.625 < 0.7 < clear.high
    assert (clear.low, clear.high) == (-(-clear).high, -(-clear).low)
    assert paired(right(38, 10), right(10, 30)).p == 1.0  # the seeds disagree
    assert not paired(right(38, 12), right(10)).shown  # the second seed alone shows nothing


def test_holm_adjusts_as_r_does_and_keeps_the_order():
    given = {i: Difference(np.zeros(1), -1, 1, p) for i, p in enumerate((0.01, 0.04, 0.03, 0.005))}
    adjusted = statistics.holm(given)  # p.adjust's example
    assert list(adjusted) == [0, 1, 2, 3]
    assert [one.p for one in adjusted.values()] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [Difference(np.zeros(1), -1, 1, p).shown for p in (0.049, 0.05)] == [True, False]


def test_scores_of_logits_are_those_of_scikit_learn_and_of_what_is_no_number_those_of_real():
    assert statistics.probability(np.array([np.nan, np.inf, -np.inf, 0])).tolist() == [0.5, 1.0, 0.0, 0.5]
    y = {split: np.array([0, 1, 1, 0, split == "test"]) for split in SPLITS}
    one, lost = [-1.0, 2.0, 0.5, 3.0, 0.1], [np.nan] * 5
    run = Result(None, {f"logits_{split}": np.array([one, lost]) for split in SPLITS} | {"seconds": np.array([2, 3])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = statistics.detection_scores(run, y)
    for split in SPLITS:
        right = [(np.array(one) > 0) == y[split], y[split] == 0]
        assert (cells[split, "right"] == right).all()
        assert cells[split, "accuracy"] == pytest.approx(np.mean(right, axis=1))
        expected = metrics.log_loss(y[split], special.expit(one)), metrics.roc_auc_score(y[split], one)
        assert (cells[split, "loss"][0], cells[split, "roc_auc"][0]) == pytest.approx(expected)
        assert np.isnan(cells[split, "roc_auc"][1])
    assert cells["train", "seconds"].tolist() == [2, 3]


def cells(validation, test=0.5, loss=1.0):
    values = {("validation", "accuracy"): validation, ("validation", "loss"): loss, ("test", "accuracy"): test}
    return {key: np.atleast_1d(value) for key, value in values.items()}


def test_the_test_split_chooses_nothing_and_the_loss_among_equals():
    assert choose({"a": cells(0.8, 0.1, 0.5), "b": cells(0.7, 0.9, 0.1)}) == "a"
    equals = {"a": cells(0.8, 0.9, np.nan), "b": cells(0.8, 0.1, 0.4), "c": cells(0.8, 0.9, 0.5)}
    assert choose(equals) == "b"
    assert choose(equals, "ca") == "c"
    assert choose(equals, "bc", sign=-1) == "c"  # the worst of equals has the highest loss


def test_how_much_choosing_on_test_would_flatter():
    rows = {"a": cells([0.90, 0.90], [0.80, 0.90]), "b": cells([0.80, 0.92], [0.85, 0.89])}
    rows["c"] = cells([0.7, 0.7], [0.7, 0.7])
    label, gain, by_seed = statistics.selection_bias(rows, "ab")
    assert label == "b"
    assert gain == pytest.approx([0.05, -0.01])
    assert by_seed == pytest.approx([0.05, 0.01])  # 0.85 for 0.80, and 0.90 for 0.89
    assert statistics.selection_bias(rows, "bc")[1].tolist() == [0, 0]
    label, gain, _ = statistics.selection_bias({"a": cells(0.7, 0.8), "b": cells(0.8, 0.8)})
    assert (label, gain.tolist()) == ("b", [0.0])  # what validation chooses, if it is as good
