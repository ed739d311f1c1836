"""The report that accumulates: rows with what was measured, differences, reasons with conditions, rules told once."""

import numpy as np
import pytest
from made_up import arguments, asked

from lab.gallery.report import Report
from lab.study import SPLITS, Condition, Result, Runs


class Scored(Report):
    """Of runs that are their accuracies."""

    def cells(self, result):
        return {(split, "accuracy"): result["accuracy"] for split in SPLITS} | {
            ("test", "loss"): 1 - result["accuracy"]
        }

    def called(self, label, result):
        return f"run {label}"


def runs(**means: float) -> Runs:
    noise = np.linspace(-0.001, 0.001, 5)
    return Runs(
        {label: Result(label, {"accuracy": mean + np.roll(noise, n)}) for n, (label, mean) in enumerate(means.items())}
    )


def width(result: Result) -> np.ndarray:
    return 10 * result["accuracy"]


@pytest.fixture
def report() -> Scored:
    made = Scored(asked("1.1"), runs(nobody=0.9991), arguments(None))
    those = runs(a=0.5, b=0.8, c=0.8001)
    made.table(those, those.each(width))
    return made


def test_rows_are_the_runs_with_their_columns_and_those_beside_all_held_against_what_validation_chooses(report):
    assert [*report.rows] == ["run a", "run b", "run c", "nobody"]
    assert report.of("run a") == pytest.approx(0.5)
    assert str(report.of("run a", "width", "train") > 6) == "width of run a: 5, not above 6"
    assert ("train", "width") not in report.rows["nobody"]
    assert report.reference == "run c"  # of the own rows
    assert report.differences.keys() == {"run a", "run b", "nobody"}
    assert [report.differences[name].shown for name in report.differences] == [True, False, True]
    assert report.level == ["run c", "run b"]


def test_better_asks_the_one_rule_in_the_tables_metric_and_any_other(report):
    assert not report.higher("run b", "run c")
    assert report.higher("nobody", "run c")
    assert not report.higher("nobody", "run c", "loss")
    assert report.higher("run a", "run c", "loss")
    told = str(report.higher("run a", "run b"))
    assert told.startswith("test accuracy of run a against run b: -0.30")
    assert told.endswith(", not shown to be higher")
    report.table(runs(a=0.5, b=0.8, c=0.8001), against="run b", metric="loss")
    assert (report.reference, report.judged) == ("run b", ("test", "loss"))
    assert report.higher("nobody", "run b")  # of which the table has no difference


def test_rules_are_told_once_and_reasons_need_a_condition(report):
    before = [*report.rules]
    report.say("a fact", "one: it;\ntwo: is", "one: it")
    assert report.rules == [*before, "one: it", "two: is"]
    assert report.said == ["a fact"]
    report.why("because", Condition(True, "1, above 0"), "shortly")
    assert [(why.text, str(why.condition), why.short) for why in report.whys] == [("because", "1, above 0", "shortly")]
    with pytest.raises(TypeError, match="holds=True is no Condition"):
        report.why("because", holds=True)


def test_the_first_figures_headline_is_the_finding(report):
    report.figure("1.1_a", "It is so").plot([1, 2])
    report.figure("1.1_b", "And so")
    assert [*report.figures] == ["1.1_a", "1.1_b"]
    assert report.headline == "It is so"
