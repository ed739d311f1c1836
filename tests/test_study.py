"""What a study is made of: curves read after an epoch, runs joined to one result, experiments and their reports."""

import numpy as np
import pytest

from lab.study import Experiment, Result, experiment, experiments_in, join


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


CONFIGS = {"a": 1, "b": 2, "c": 3}


@experiment("2.1", "second", "what it does", CONFIGS)
def asks(results, study):
    """Is it so?"""
    return results, study


def test_an_experiment_stands_in_its_script_under_the_name_of_its_report():
    assert (asks.section, asks.name, asks.summary, asks.configs) == ("2.1", "second", "what it does", CONFIGS)
    adapted = asks.adapted(lambda label, config: (label.upper(), 10 * config) if config != 2 else None)
    assert (adapted.section, adapted.report, adapted.configs) == (asks.section, asks.report, {"A": 10, "C": 30})
    assert asks.report({}, "study") == ({}, "study")
    assert asks.report.__doc__ == "Is it so?"
    first = Experiment("1.1", "first", "", {}, None)
    assert experiments_in({"asks": asks, "print": print, "number": 1, "first": first}) == [asks, first]
