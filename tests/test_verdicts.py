"""The sentences of the reports: numbers whose verdict is known, thresholds as their rules state them, rows cited."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

import NN_tutorial
from lab import verdicts
from lab.places import Places
from lab.results import SPLITS, Result, experiments_in
from lab.statistics import Difference, wilson


def run(train, validation, accuracy_train=0.98, accuracy_validation=0.98) -> Result:
    """Two seeds with the same curves."""
    accuracies = {"train": accuracy_train, "validation": accuracy_validation}
    arrays = {"loss_train": np.tile(train, (2, 1)), "loss_validation": np.tile(validation, (2, 1))}
    return Result(None, arrays | {f"accuracy_{s}": np.full((2, len(train)), a) for s, a in accuracies.items()})


def row(train, validation, test=0.5) -> dict:
    return {(s, "accuracy"): np.atleast_1d(a) for s, a in zip(SPLITS, (train, validation, test), strict=True)}


def gap(gain, p) -> Difference:
    return Difference(np.array([gain]), gain - 0.1, gain + 0.1, p)


# ---------------------------------------------------------------------------- rows and rankings


def test_rows_are_cited_by_number_once():
    rows = dict.fromkeys("abc")
    assert verdicts.cite(rows, "c", "a", "c") == "(rows 3, 1)"
    assert verdicts.cite(rows, "b") == "(row 2)"


def test_a_difference_says_what_of_which_rows_it_compares():
    rows = {
        name: {("train", "seconds_to_target"): np.array(x)} for name, x in {"a": [1, 2, 3], "b": [2, 3, 4.1]}.items()
    }
    assert verdicts.difference(rows, "a", "b", "train", "seconds_to_target") == (
        "b against a, train seconds to target: higher (+1.0333, 95% interval +0.8899 to +1.1768) (rows 1, 2)."
    )


def test_the_best_is_named_with_those_that_are_level():
    assert verdicts.named(["c"]) == "c"
    assert verdicts.named(["a", "b", "c"]) == "a (no difference shown to b, c)"
    assert verdicts.named(list("abcd")) == "a (no difference shown to 3 others)"
    rows = dict.fromkeys("ab", row(0, 0, [0.7, 0.8, 0.75]))
    said = verdicts.chosen(["b", "a"], rows)
    assert said == "Chosen on validation: b (no difference shown to a), test accuracy 0.7500 ± 0.1242 (rows 2, 1)."


def test_best_to_worst_names_two_ends_only_where_they_differ():
    test = {"a": 0.9, "b": 0.8}
    assert verdicts.best_to_worst(["a"], ["b"], test) == "Best: a, test accuracy 0.900; worst: b, 0.800"
    level = verdicts.best_to_worst(["a", "b"], ["b", "a"], test)
    assert level == "No difference shown between best, a, and worst, b: test accuracy 0.900, 0.800"
    same = verdicts.best_to_worst(["a", "b"], ["a", "b"], test)
    assert same == "All have the same validation accuracy; test accuracy of a: 0.900"


def test_how_much_choosing_on_test_would_flatter():
    rows = {
        "a": row(0, [0.90, 0.90], [0.80, 0.90]),
        "b": row(0, [0.80, 0.92], [0.85, 0.89]),
        "c": row(0, [0.70, 0.70], [0.70, 0.99]),
    }
    text = verdicts.selection_bias(rows, "ab")
    assert "picked b and flattered the test accuracy by 0.0200;" in text
    assert "for each seed, by 0.0300, at most 0.0500 (rows 1, 2)." in text  # 0.85 for 0.80, and 0.90 for 0.89
    assert "picked a too and flattered the test accuracy by 0.0000; " in verdicts.selection_bias(rows, "a")
    assert "at most 0.1000 (row" in verdicts.selection_bias(rows, "abc")


# ---------------------------------------------------------------------------- curves


def test_fit():
    def found(*arguments) -> str:
        return verdicts.fit(run(*arguments), 0.99).split(":")[0]

    assert found([3, 2, 1], [3, 2, 1]) == "neither over- nor under-fits"
    assert found([3, 2, 1], [3, 2, 2.2]) == "over-fits"
    assert found([3, 2, 2.2], [3, 2, 2.2]) == "neither over- nor under-fits"  # both rise: noise, not over-fitting
    assert found([3, 2, 1], [3, 2, 1], 0.99, 0.97) == "over-fits"
    assert found([3, 2, 1], [3, 2, 1], 0.90, 0.90) == "under-fits"
    assert found([3, 2, 1], [3, 2, 1], 0.90, 0.80) == "over-fits and under-fits at once"
    facts = verdicts.fit(run([1], [1], 0.9, 0.8), 0.99).split(": ")[1]
    assert facts == "train accuracy 0.9000, validation 0.8000, nearest neighbour 0.9900"


def test_diverged():
    def lost(train, validation) -> list[bool]:
        return verdicts.diverged(run(train, validation), np.log(2)).tolist()

    assert lost([0.9, 0.8, 0.6], [0.9, 0.8, 0.6]) == [False, False]
    assert lost([0.9, 0.8, 0.9], [0.9, 0.8, 0.9]) == [True, True]
    assert lost([0.9, 0.85, 0.8], [0.9, 0.85, 0.8]) == [False, False]  # slow, but falling
    assert lost([0.9, np.nan, 0.1], [0.9, 0.5, 0.1]) == lost([0.9, 0.5, 0.1], [0.9, np.inf, 0.1]) == [True, True]


@pytest.mark.parametrize(
    ("curve", "lost", "words"),
    [
        ([1.0] * 10, [True, False], "diverged in 1 of 2 seeds"),
        ([1.0] * 10 + [0.9, 0.8], [False, False], "is not finished: its loss fell by 20% in the last 2 epochs"),
        ([1.0] * 9 + [1.2], [False, False], "is unstable: it ends 1.20 times above its best epoch"),
        ([2.0] + [1.0] * 9, [False, False], "has settled"),
        ([1.0], [False, False], "has settled"),
    ],
)
def test_course(curve, lost, words):
    rows = {"other": None, "lr 1": None}
    assert verdicts.course("lr 1", run(curve, curve), np.array(lost), rows) == f"lr 1 {words} (row 2)."


def test_sooner_names_the_first_epoch_that_is_as_good_as_the_others_last():
    rows, slow = {"without": None, "with": None}, run([4, 3, 2], [4, 3, 2])
    (said,) = verdicts.sooner(run([9, 2, 1], [9, 2, 1]), slow, rows, "with", "without")
    assert said.startswith("With batch norm, epoch 2 reaches the median validation loss")
    assert said.endswith("after 3 (rows 1, 2).")
    assert verdicts.sooner(run([9, 9, 2.1], [9, 9, 2.1]), slow, rows, "with", "without") == []


def test_trade_offs():
    def cells(accuracy, epoch, to_target, spread):
        values = {"seconds_per_epoch": epoch, "batch_loss_std": spread}
        cells = {("train", name): np.array([value]) for name, value in values.items()}
        validation = {"accuracy": accuracy, "seconds_to_target": to_target}
        return cells | {("validation", name): np.array([value]) for name, value in validation.items()}

    rows = {"one": cells(0.7, 90, 30, 0.5), "two": cells(0.9, 20, 10, 0.2), "three": cells(0.8, 10, 20, 0.1)}
    assert verdicts.trade_offs(rows, 1.25, ["two"], ["two", "three"], ["three"]) == [
        "Accuracy: two has the best validation accuracy, 0.9000 (row 2).",
        "Speed: an epoch of three takes 1/9 of the time of one of one (rows 1, 3).",
        "Speed: two (no difference shown to three) is the first at validation loss 1.250 (rows 2, 3).",
        "The last takes 3.0 times as long: one against two, validation seconds to target: no difference shown "
        "(+20.0000, no interval with one seed) (rows 2, 1).",
        "Stability: from batch to batch the loss spreads least at three, by 0.100 nats, against 0.500 at one "
        "(rows 1, 3).",
    ]


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [
        (1e-9, 1e-2, "vanishing"),
        (0, 0, "vanishing"),
        (1e-2, 1e-2, "even"),
        (20, 1e-3, "exploding"),
        (1e5, 1e5, "exploding"),
        (np.inf, 1, "exploding"),
    ],
)
def test_flow(first, last, word):
    found, facts = verdicts.flow(np.array([[first, 1, 2, last]] * 2))
    assert found == word
    assert f"{first:.1e} in layer 0 and {last:.1e} in the last hidden layer" in facts


# ---------------------------------------------------------------------------- over examples


def test_words_claim_no_more_than_is_shown():
    said = verdicts.against({"a": gap(0.2, 0.001), "b": gap(0.02, 0.6), "c": gap(-0.3, 0.01)})
    assert said == (
        "better than a (+0.200 [+0.100, +0.300], p = 0.001); worse than c (-0.300 [-0.400, -0.200], p = 0.01); "
        "no difference shown to b (+0.020 [-0.080, +0.120], p = 0.6)"
    )


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
    assert verdicts.standing(MEANS, all_pairs(**p)) == words


def test_tied_are_those_to_which_no_difference_is_shown_either_way_round():
    pairs = all_pairs(ab=0.2, bd=0.05)
    assert [verdicts.tied_with(name, MEANS, pairs) for name in "abcd"] == [["b"], ["a", "d"], [], ["b"]]


def test_best_and_worst_are_held_against_all_others():
    numbers = dict(zip("dcba", range(1, 5), strict=True))
    best, worst, count, flattered = verdicts.best_and_worst(
        numbers, list(MEANS), all_pairs(ab=0.2), {"c": np.array([0.02, 0.04])}
    )
    shown = "+0.100 [+0.000, +0.200], p ="
    assert best == (
        f"Best by test accuracy: a (row 4): better than c, row 2 ({shown} 0.001), d, row 1 ({shown} 0.001); "
        f"no difference shown to b, row 3 ({shown} 0.2). So no single best one is shown."
    )
    assert worst.startswith(
        "Worst by test accuracy: d (row 1): worse than a, row 4 (-0.100 [-0.200, -0.000], p = 0.001)"
    )
    assert "single" not in worst
    assert count == "A difference is shown for 5 of all 6 pairs (rows 5 to 10)."
    assert flattered == "Choosing the learning rate on the test photos would have flattered c by 0.030 (row 2)."


def test_a_control_is_at_chance_or_puts_the_rest_in_doubt():
    fine, doubtful = (verdicts.control(np.array(accuracy), 6) for accuracy in ([0.4, 0.5, 0.62], [0.52, 0.53, 0.54]))
    assert fine.startswith("Control (row 6): trained on shuffled labels")
    assert "the same probe stays at chance: test accuracy 0.507 [" in fine
    assert "does not stay at chance, which puts the other rows in doubt: test accuracy 0.530 [0.505, 0.555]" in doubtful
    assert doubtful.endswith("over 3 shuffles.")


def test_over_fitting_is_train_above_the_interval_of_validation():
    high = wilson(0.8, 100)[1]
    for train, words in ((high - 0.01, ""), (high + 0.01, "it over-fits, ")):
        said = verdicts.over_fits("b", {"a": None, "b": row(train, 0.8, 0.7)}, 100)
        gain = f"{train - 0.8:+.3f}"
        assert said == f"Default settings (row 2): test accuracy 0.700; {words}train is {gain} above validation."


@pytest.mark.parametrize(
    ("accuracy", "where"),
    [(0.6, "above"), (0.59, "not distinguishable from"), (0.41, "not distinguishable from"), (0.4, "below")],
)
def test_chance_is_left_when_the_interval_does(accuracy, where):
    low, high = wilson(accuracy, 100)
    assert verdicts.above_chance("a", {"a": row(1, 1, accuracy)}, 100) == (
        f"Row 1, which validation chooses, is at test accuracy {accuracy:.3f} {where} chance "
        f"(95% interval {low:.3f} to {high:.3f})."
    )


# ---------------------------------------------------------------------------- learning rates

RATES = {"x tiny": 1e-4, "x low": 1e-3, "x mid": 1e-2, "x high": 0.1}


def test_rates_say_how_both_sides_of_the_chosen_one_end():
    rows = dict(zip(RATES, (row(0.7, 0.55), row(0.5, 0.5), row(0.99, 0.9), row(0.8, 0.6)), strict=True))
    assert verdicts.rates("x", rows, RATES, 100) == (
        "x: validation accuracy is highest, 0.900, at lr 0.01 (row 3); lower ones go down to 0.500 (lr 0.001, row 2, "
        "which doesn't even fit the train photos: 0.500); higher ones go down to 0.600 (lr 0.1, row 4, which fits the "
        "train photos: 0.800)."
    )
    del rows["x high"]
    assert verdicts.rates("x", rows, RATES, 100).endswith("; none higher was tried.")
    rows["x mid"] = row(0.99, 0.6)
    assert verdicts.rates("x", rows, RATES, 10) == (
        "x: no learning rate takes validation accuracy above chance; the highest is 0.600 of 10 photos at lr 0.01 "
        "(row 3), the highest train accuracy 0.990."
    )


def test_the_chosen_rate_is_held_against_the_others_and_against_choosing_on_test():
    names = {label: verdicts.rate_name(rate) for label, rate in RATES.items()}
    right = {label: np.arange(40)[None] < n for label, n in zip(RATES, (10, 30, 36, 38), strict=True)}
    accuracy = zip(RATES, (0.5, 0.5, 0.9, 0.8), strict=True)
    rows = {label: row(1, validation, right[label].mean()) for label, validation in accuracy}
    chosen, flattered = verdicts.chosen_rate("x", right, rows, names)
    assert re.sub(r"\([+-].+?\], ", "(", chosen) == (  # 0.062: twice that of six photos that all fall one way
        "x: validation chooses lr 0.01 (row 3) with accuracy 0.900. On the test photos: better than lr 0.0001, row 1 "
        "(p = 8.9e-08); no difference shown to lr 0.001, row 2 (p = 0.062), lr 0.1, row 4 (p = 0.5)."
    )
    assert "taken lr 0.1 (row 4) and flattered the test accuracy by 0.050." in flattered
    rows["x high"] = row(1, 0.8, 0)
    _, flattered = verdicts.chosen_rate("x", right, rows, names)
    assert "taken the same and flattered the test accuracy by 0.000." in flattered
    assert [verdicts.rate_name(None), verdicts.rate_name(None, "default")] == ["none", "default"]


# ---------------------------------------------------------------------------- rules


def goes(validation: list, lost: bool = False) -> str:
    return verdicts.course("a", run(validation, validation), np.array([lost]), {"a": None})


def lower_one(train: float) -> str:
    rows = {"x low": row(train, 0.5), "x mid": row(1, 0.9)}
    return verdicts.rates("x", rows, RATES, 100)


# The constant, how its rule states it, that rule, and a verdict that changes where the number does.
THRESHOLDS = [
    ("ABOVE_PRIOR", "ends more than {:.0%} above the loss", verdicts.diverged,
     lambda x: verdicts.diverged(run([1, 1], [0.5, 2 * (1 + x)]), 2).all()),
    ("STILL_FALLING", "fell by more than {:.0%} in the last fifth", verdicts.course,
     lambda x: "not finished" in goes([1] * 9 + [1 - x])),
    ("UNSTABLE", "ends more than {:.0%} above its minimum", verdicts.course,
     lambda x: "unstable" in goes([1] * 9 + [1 + x])),
    ("RISEN", "ends more than {:.0%} above its minimum", verdicts.loss_rises,
     lambda x: verdicts.loss_rises(run([2, 1], [1, 1 + x]))),
    ("OVER_FIT", "more than {} above validation", verdicts.fit,
     lambda x: verdicts.fit(run([2, 1], [2, 1], 0.9 + x, 0.9), 0).startswith("over-fits")),
    ("UNDER_FIT", "more than {} below the nearest", verdicts.fit,
     lambda x: verdicts.fit(run([2, 1], [2, 1], 0.9, 0.9), 0.9 + x).startswith("under-fits")),
    ("EVEN_WITHIN", "less than 1/{} of the last", verdicts.flow,
     lambda x: verdicts.flow(np.array([[1, x]]))[0] == "vanishing"),
    ("EVEN_WITHIN", "more than {} times that", verdicts.flow,
     lambda x: verdicts.flow(np.array([[x, 1]]) / 1e3)[0] == "exploding"),
    ("TOO_LARGE", "or more than {};", verdicts.flow,
     lambda x: verdicts.flow(np.array([[x, x]]))[0] == "exploding"),
    ("FITS_TRAIN", "accuracy there above {}", verdicts.rates,
     lambda x: "which fits the train photos" in lower_one(x)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "rule", "verdict"), THRESHOLDS)
def test_a_verdict_changes_at_the_number_that_its_rule_states(name, words, rule, verdict):
    number = getattr(verdicts, name)
    assert words.format(number) in rule.rule
    assert [bool(verdict(factor * number)) for factor in (0.99, 1.01)] == [False, True]


def test_every_threshold_is_stated_by_a_rule():
    numbers = {name for name, value in vars(verdicts).items() if name.isupper() and isinstance(value, int | float)}
    assert numbers == {name for name, *_ in THRESHOLDS}


# ---------------------------------------------------------------------------- reports


def made_up(config: NN_tutorial.Config, draws: np.random.Generator) -> Result:
    """What training might have given, of two seeds."""
    epochs, checks = (2, config.epochs), (2, config.epochs * config.checks)
    arrays = {f"{metric}_{split}": draws.uniform(0.5, 1, epochs) for metric in ("loss", "accuracy") for split in SPLITS}
    arrays |= {name: draws.uniform(0.1, 1, epochs) for name in ("batch_loss_std", "seconds")}
    arrays |= {f"check_{name}": np.sort(draws.uniform(0.1, 1, checks)) for name in ("loss", "updates", "seconds")}
    arrays |= {"gradient": draws.uniform(0, 1, (*epochs, config.depth + 1)), "updates": np.full(2, 9)}
    return Result(config, arrays)


@pytest.fixture(scope="module")
def study() -> NN_tutorial.Study:
    x = np.random.default_rng(0).uniform((0, 40), (20, 60), (60, 2)).astype(np.float32)
    places = Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, np.arange(60) % 3), ["a", "b", "c"])
    reference = {(split, "accuracy"): np.array([0.5]) for split in SPLITS}
    return NN_tutorial.Study(places, range(2), True, dict.fromkeys(NN_tutorial.REFERENCES, reference))


@pytest.mark.parametrize("one", experiments_in(vars(NN_tutorial)), ids=lambda one: one.name)
def test_every_sentence_of_a_report_names_its_row(one, study):
    draws = np.random.default_rng(0)
    configs = one.adapted(NN_tutorial.quick).configs
    report = one.report({label: made_up(config, draws) for label, config in configs.items()}, study)
    plt.close("all")
    for sentence in report.verdicts:
        cited = [int(n) for numbers in re.findall(r"\(rows? ([\d, ]+)\)", sentence) for n in numbers.split(", ")]
        assert cited, sentence
        assert set(cited) <= set(range(1, len(report.rows) + 1)), sentence


@pytest.mark.parametrize(("one", "ends"), [(NN_tutorial.best_model, (0.9, 0.7)), (NN_tutorial.worst_model, (0.7, 0.9))])
def test_an_end_of_the_seven_is_compared_with_another_where_two_are_alike(one, ends, study):
    draws = np.random.default_rng(0)
    results = {label: made_up(config, draws) for label, config in one.adapted(NN_tutorial.quick).configs.items()}
    for number, result in enumerate(results.values()):
        result["accuracy_validation"][:] = ends[number > 1]  # the first two are alike
        result["loss_validation"][:] = 1 + number
    said = " ".join(one.report(results, study).verdicts)
    plt.close("all")
    pair = re.search(r"Next to it: (.+?) against (.+?), validation", said)
    assert set(pair.groups()) == {"(1, 16)", "(2, 16)"}
