"""What a study is made of: curves read after an epoch, runs joined to one result, experiments and their reports."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from lab.errors import InputError
from lab.study import Experiment, Result, Runs, check, experiment, experiments_in, join


def test_curves_are_read_after_an_epoch_counted_from_1_and_end_where_training_might_have():
    arrays = {"loss_train": np.array([[3, 2, 1], [6, 5, 4]]), "gradient": np.ones((2, 3, 7)), "updates": np.full(2, 9)}
    arrays |= {"check_loss": np.ones((2, 9)), "1.6.weight": np.ones((2, 3, 16)), "1.6.bias": np.ones((2, 3))}
    result = Result("config", arrays, 5.0, ("here",))
    assert [result.at("loss_train", epoch).tolist() for epoch in (1, 2, 3, None)] == [[3, 6], [2, 5], [1, 4], [1, 4]]
    cut = result.until(2)
    assert cut["loss_train"].tolist() == [[3, 2], [6, 5]]
    shapes = {"loss_train": (2, 2), "gradient": (2, 2, 7), "updates": (2,), "check_loss": (2, 9)}
    shapes |= {"1.6.weight": (2, 3, 16), "1.6.bias": (2, 3)}  # three countries, not three epochs
    assert {name: values.shape for name, values in cut.arrays.items()} == shapes
    assert (cut.config, cut.seconds, cut.machines) == ("config", 5.0, ("here",))
    assert result["loss_train"].shape == (2, 3)


def test_runs_are_joined_in_their_order_with_all_their_time_and_every_machine_once():
    def run(seeds, machine):
        return seeds, {"accuracy": 0.1 * np.array(seeds), "run_seconds": np.array(1.5), "made_on": np.array(machine)}

    result = join("config", [run((3, 4), "d"), run((0,), "c"), run((1,), "a"), run((2,), "b"), run((5,), "d")])
    assert np.allclose(result["accuracy"], [0.3, 0.4, 0.0, 0.1, 0.2, 0.5])
    assert (result.config, result.seconds, result.machines) == ("config", 7.5, ("a", "b", "c", "d"))
    assert list(result.arrays) == ["accuracy"]
    film = [((seed,), {"film.w": np.full(3, seed), "1.w": np.zeros(1), "12.w": np.zeros(1)}) for seed in (7, 8)]
    assert join("config", film)["film.w"].tolist() == [7, 7, 7]  # of the first seed alone
    assert join("config", film).kept == [1, 12]


@pytest.mark.parametrize(("given", "joined"), [
    ([(None, [0, 1, 2]), (None, [3, 4, 5])], [[0, 1, 2], [3, 4, 5]]),  # a run of one has no axis of seeds
    ([((0, 1, 2), 8), ((3,), 9)], [8, 8, 8, 9]),  # nor has what all seeds share
    ([((0, 1, 2), [0, 1]), ((3,), [5, 6])], [[0, 1], [0, 1], [0, 1], [5, 6]]),
    ([((0, 1, 2), "mine")], ["mine"] * 3),
    ([((0, 1), np.zeros((2, 3))), (None, np.ones(2))], [[0, 0, 0], [0, 0, 0], [1, 1]]),  # of any length
])  # fmt: skip
def test_whatever_runs_return_is_joined_by_seed(given, joined):
    found = join(None, [(seeds, {"x": np.array(values)}) for seeds, values in given])
    assert [np.asarray(part).tolist() for part in found["x"]] == joined
    assert (found.seconds, found.machines) == (0.0, ())  # of arrays that tell neither


@dataclass(frozen=True)
class Config:
    size: int = 1
    rate: float = 0.1
    kind: str = "a"
    flag: bool = False
    start: int = 0
    epochs: int = 3
    keep: tuple[int, ...] = ()

    def budget(self, arguments):
        return replace(self, size=arguments * self.size) if self.size != 2 else None


CONFIGS = {"a": Config(1), "b": Config(2), "c": Config(3)}


@experiment("2.1", "second", "what it does", CONFIGS, beside={"r": Config(4)})
def asks(runs, report):
    """Is it so?"""
    report.append(runs)


def test_an_experiment_stands_in_its_script_under_the_name_of_its_report():
    assert (asks.section, asks.name, asks.summary, asks.configs) == ("2.1", "second", "what it does", CONFIGS)
    adapted = asks.adapted(10)
    assert (adapted.section, adapted.report, adapted.configs) == (
        asks.section,
        asks.report,
        {"a": Config(10), "c": Config(30)},
    )
    assert adapted.needed == {"a": Config(10), "c": Config(30), "r": Config(40)}
    asks.report({}, told := [])
    assert told == [{}]
    assert asks.report.__doc__ == "Is it so?"
    first = Experiment("1.1", "first", "", {}, None)
    assert experiments_in({"asks": asks, "print": print, "number": 1, "first": first}) == [asks, first]


def test_a_condition_holds_or_tells_what_was_measured_instead():
    def largest_weight(result):
        return result["w"]

    runs = Runs({"lr 1": Result(None, {"w": np.array([3.0, 4.0])}), "lr 0.1": Result(None, {"w": np.array([0.25])})})
    column = runs.each(largest_weight)
    assert (column.name, column["lr 1"]) == ("largest_weight", 3.5)
    holds, fails = column["lr 1"] > column["lr 0.1"], column["lr 1"] <= 2
    assert str(holds) == "largest weight of lr 1: 3.5, above 0.25 (largest weight of lr 0.1)"
    assert str(fails) == "largest weight of lr 1: 3.5, not at most 2"
    assert [bool(c) for c in (holds, fails, holds & fails, holds & holds, ~fails, fails & fails)] == [1, 0, 0, 1, 1, 0]
    assert (str(holds & fails), str(holds & ~fails)) == (str(fails), f"{holds}; {fails}")
    assert [bool(column["lr 1"] < 4), bool(column["lr 1"] >= 3.5)] == [True, True]


def test_runs_are_cut_where_the_shortest_stopped_and_chosen_by_label():
    runs = Runs({n: Result(n, {"loss_train": np.arange(n)[None]}) for n in (4, 2, 3)})
    assert [result["loss_train"].tolist() for result in runs.cut_to_shortest().values()] == [[[0, 1]]] * 3
    assert list(runs.only([3, 4])) == [3, 4]


@pytest.mark.parametrize(("wrong", "said"), [
    ({"size": 0}, "size=0 is not possible, here, choose a whole number from 1 on"),
    ({"size": 1.5}, "choose a whole number from 1 on"), ({"size": True}, "size=True"), ({"start": -1}, "from 0 on"),
    ({"rate": 0.0}, "choose a number above 0"), ({"rate": math.nan}, "rate=nan"), ({"rate": math.inf}, "rate=inf"),
    ({"kind": "c"}, "choose one of a, b"), ({"kind": 1}, "kind=1"), ({"flag": 1}, "choose True or False"),
    ({"keep": (4,)}, "choose a tuple of epochs from 1 to 3"), ({"keep": [1]}, "keep=[1]"),
])  # fmt: skip
def test_a_field_that_is_not_possible_is_named_with_what_is(wrong, said):
    check(Config(2, 1, "b", True, 7, 5, (1, 5)), "here", kind="ab")
    with pytest.raises(InputError, match=re.escape(said)):
        check(Config(**wrong), "here", kind="ab")
