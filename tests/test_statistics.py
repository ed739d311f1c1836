"""Intervals, tests and choices: published examples, and laws that hold for any numbers."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics

from lab import statistics
from lab.results import SPLITS, Result
from lab.statistics import UNCLEAR, Difference, best, choose, compare, interval, mcnemar, newcombe, paired, show, wilson

law = settings(derandomize=True, deadline=None, max_examples=50)

# ---------------------------------------------------------------------------- intervals


def test_interval_by_hand():
    assert interval(np.arange(1, 6)) == pytest.approx((3, 2.776445 * np.sqrt(2.5 / 5)))
    assert np.isnan(interval(np.ones(1))[1])


@law
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_the_interval_is_students_symmetric_and_the_same_in_any_order(values, generator):
    mean, half = interval(values)
    assert half >= 0
    assert interval([-value for value in values]) == pytest.approx((-mean, half))
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


@law
@given(st.floats(0, 1), st.integers(1, 10**6))
def test_wilsons_interval_of_any_share_lies_in_0_to_1_and_contains_it(share, n):
    low, high = wilson(share, n)
    assert 0 <= low <= share <= high <= 1


@law
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(2, 50))
def test_wilsons_interval_shrinks_with_n_and_mirrors_with_the_share(counts, times):
    right, n = counts
    low, high = wilson(right / n, n)
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
def test_four_digits(value, text):
    assert show(np.array([value])) == text


def test_two_seeds_have_the_interval_of_the_examples():
    low, high = wilson(0.75, 160)
    assert show(np.array([0.7, 0.8]), 160) == f"0.7500 ± {(high - low) / 2:.4f}"
    assert show(np.array([0.7, 0.8])) == "0.7500"
    assert show(np.array([0.7, 0.8, 0.75]), 160) == "0.7500 ± 0.1242"


def test_the_median_stands_where_the_lower_one_of_the_middle_stands():
    assert [statistics.median_of(np.array(x)) for x in ([5], [3, 1, 2], [4, 1, 3, 2], [2, 2, 1])] == [0, 2, 3, 0]


# ---------------------------------------------------------------------------- over seeds


def test_compare_by_hand():
    low = np.array([0.90, 0.91, 0.92])
    assert compare(low, low + np.arange(1, 4)) == (
        UNCLEAR,
        "+2.0000, 95% interval -0.4841 to +4.4841",
    )  # 4.3027 / sqrt(3)
    assert compare(low, low + 1e-10)[0] == "the same"
    assert compare(low[:1], low[:1] + 0.05) == (UNCLEAR, "+0.0500, no interval with one seed")


@law
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_a_comparison_is_the_paired_t_test_and_mirrors(pairs):
    a, b = np.transpose(pairs)
    assume(np.ptp(b - a) > 1e-3 and np.ptp(b) > 1e-3)
    word, text = compare(a, b)
    ends = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert text == f"{(b - a).mean():+.4f}, 95% interval {ends.low:+.4f} to {ends.high:+.4f}"
    assert word == ("higher" if ends.low > 0 else "lower" if ends.high < 0 else UNCLEAR)
    assert compare(b, a)[0] == {"higher": "lower", "lower": "higher"}.get(word, word)
    reference = a[:1]  # has no seeds
    ends = stats.ttest_1samp(b - reference, 0).confidence_interval(0.95)
    assert f"interval {ends.low:+.4f} to {ends.high:+.4f}" in compare(reference, b)[1]


def test_seeds_that_differ_more_than_two_runs_do_are_paired():
    seeds = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    better = seeds + np.array([0.010, 0.011, 0.012, 0.011, 0.010])
    assert compare(seeds, better)[0] == "higher"
    assert stats.ttest_ind(better, seeds).pvalue > 0.9  # which an unpaired test can't see
    assert compare(seeds, better[::-1])[0] == UNCLEAR  # the same values of other seeds


def test_losses_of_diverged_runs_are_compared_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compare(np.array([1, np.inf, np.nan]), np.array([np.inf, np.inf, 1]))[0] == UNCLEAR


# ---------------------------------------------------------------------------- over examples


def fourfold(both, first, second, neither):
    """Two arrays of right and wrong answers with these counts."""
    counts = (both, first, second, neither)
    return tuple(np.repeat(answers, counts).astype(bool) for answers in ((1, 1, 0, 0), (1, 0, 1, 0)))


def test_mcnemar_by_hand():
    assert mcnemar(*fourfold(5, 8, 2, 0)) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(*fourfold(5, 0, 0, 3)) == 1.0


def test_published_paired_proportions():
    """Airway hyper-responsiveness before and after a transplantation, Fagerland, Lydersen and Laake (2014), table 1."""
    assert mcnemar(*fourfold(1, 1, 7, 12)) == pytest.approx(0.0703, abs=1e-4)
    assert newcombe(*fourfold(1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombes_interval_covers_the_truth():
    draws, covered = np.random.default_rng(0), 0
    for counts in draws.multinomial(160, (0.6, 0.2, 0.1, 0.1), size=400):
        low, high = newcombe(*fourfold(*counts))
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.98
    low, high = newcombe(*fourfold(9, 0, 0, 0))
    assert low < 0 < high


def test_every_seed_must_show_a_difference():
    def right(*counts):
        return np.arange(40) < np.array(counts)[:, None]  # (seeds, n)

    clear = paired(right(38, 35), right(10))  # one without seeds against two seeds
    assert clear.gain == pytest.approx([0.7, 0.625])
    assert clear.shown
    assert clear.p == paired(right(35), right(10)).p
    assert clear.low < 0.625 < 0.7 < clear.high
    assert (clear.low, clear.high) == (-(-clear).high, -(-clear).low)
    disagreeing = paired(right(38, 10), right(10, 30))
    assert disagreeing.p == 1.0
    assert disagreeing.low < 0 < disagreeing.high
    assert not paired(right(38, 12), right(10)).shown  # the second seed alone shows nothing


def test_a_difference_is_shown_below_the_p_that_the_rule_states():
    assert "p < 0.05 " in paired.rule
    assert [Difference(np.zeros(1), -1, 1, p).shown for p in (0.049, 0.05)] == [True, False]


def test_holm_adjusts_as_r_does_and_keeps_the_order():
    given = {i: Difference(np.zeros(1), -1, 1, p) for i, p in enumerate((0.01, 0.04, 0.03, 0.005))}
    adjusted = statistics.holm(given)  # p.adjust's example
    assert list(adjusted) == [0, 1, 2, 3]
    assert [one.p for one in adjusted.values()] == pytest.approx([0.03, 0.06, 0.06, 0.02])


# ---------------------------------------------------------------------------- real or fake


def test_scores_of_logits_are_those_of_scikit_learn_and_of_what_is_no_number_those_of_real():
    y = {split: np.array([0, 1, 1, 0, split == "test"]) for split in SPLITS}
    one, lost = [-1.0, 2.0, 0.5, 3.0, 0.1], [np.nan] * 5
    run = Result(None, {f"logits_{split}": np.array([one, lost]) for split in SPLITS} | {"seconds": np.array([2, 3])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = statistics.detection_scores(run, y)
    for split in SPLITS:
        assert cells[split, "accuracy"] == pytest.approx(
            [np.mean((np.array(one) > 0) == y[split]), 1 - y[split].mean()]
        )
        expected = metrics.log_loss(y[split], special.expit(one)), metrics.roc_auc_score(y[split], one)
        assert (cells[split, "loss"][0], cells[split, "roc_auc"][0]) == pytest.approx(expected)
        assert np.isnan(cells[split, "roc_auc"][1])
    assert cells["train", "seconds"].tolist() == [2, 3]


def test_probabilities_of_what_diverged_are_undecided():
    assert statistics.probability(np.array([np.nan, np.inf, -np.inf, 0])).tolist() == [0.5, 1.0, 0.0, 0.5]


# ---------------------------------------------------------------------------- choices


def cells(validation, test=0.5, loss=1.0):
    values = {("validation", "accuracy"): validation, ("validation", "loss"): loss, ("test", "accuracy"): test}
    return {key: np.atleast_1d(value) for key, value in values.items()}


def test_the_test_split_chooses_nothing_and_the_loss_among_equals():
    assert choose({"a": cells(0.8, 0.1, 0.5), "b": cells(0.7, 0.9, 0.1)}) == "a"
    equals = {"a": cells(0.8, 0.9, np.nan), "b": cells(0.8, 0.1, 0.4), "c": cells(0.8, 0.9, 0.5)}
    assert choose(equals) == "b"
    assert choose(equals, "ca") == "c"
    assert choose(equals, "bc", sign=-1) == "c"  # the worst of equals has the highest loss


def test_the_best_is_named_with_all_to_which_no_difference_is_shown():
    accuracies = {"a": [0.7, 0.8, 0.9], "b": [0.71, 0.79, 0.9], "c": [0.6, 0.7, 0.8], "d": [0.7, 0.8, 0.9]}
    rows = {name: cells(values) for name, values in accuracies.items()}
    assert best(rows) == ["a", "b", "d"]
    assert best(rows, sign=-1) == ["c"]
    assert best(rows, "bc") == ["b"]


def test_how_much_choosing_on_test_would_flatter():
    rows = {
        "a": cells([0.90, 0.90], [0.80, 0.90]),
        "b": cells([0.80, 0.92], [0.85, 0.89]),
        "c": cells([0.70, 0.70], [0.70, 0.99]),
    }
    label, gain, by_seed = statistics.selection_bias(rows, "ab")
    assert label == "b"
    assert gain == pytest.approx([0.05, -0.01])
    assert by_seed == pytest.approx([0.05, 0.01])  # 0.85 for 0.80, and 0.90 for 0.89
    assert statistics.selection_bias(rows)[2].max() == pytest.approx(0.10)
    assert statistics.selection_bias(rows, "bc")[1].tolist() == [0, 0]
    label, gain, _ = statistics.selection_bias({"a": cells(0.7, 0.8), "b": cells(0.8, 0.8)})
    assert (label, gain.tolist()) == ("b", [0.0])  # what validation chooses, if it is as good
