"""What a study is made of: curves read after an epoch, runs joined to one result, experiments and their reports."""

import numpy as np

from lab.results import Experiment, Report, Result, experiment, experiments_in, join


def test_curves_are_read_after_an_epoch_counted_from_1():
    result = Result(None, {"loss_train": np.array([[3, 2, 1], [6, 5, 4]])})
    assert [result.at("loss_train", epoch).tolist() for epoch in (1, 2, 3, None)] == [[3, 6], [2, 5], [1, 4], [1, 4]]
    assert "loss_train" in result
    assert "loss_test" not in result


def test_curves_end_where_training_might_have_and_all_else_stays():
    arrays = {"loss_train": np.arange(8).reshape(2, 4), "gradient": np.ones((2, 4, 7)), "updates": np.full(2, 9)}
    result = Result("config", arrays | {"check_loss": np.ones((2, 12))}, 5.0, ("here",))
    cut = result.until(2)
    assert cut["loss_train"].tolist() == [[0, 1], [4, 5]]
    assert {name: values.shape for name, values in cut.arrays.items()} == {
        "loss_train": (2, 2),
        "gradient": (2, 2, 7),
        "updates": (2,),
        "check_loss": (2, 12),
    }
    assert (cut.config, cut.seconds, cut.machines) == ("config", 5.0, ("here",))
    assert result["loss_train"].shape == (2, 4)


def test_parameters_are_kept_whole_though_there_are_as_many_countries_as_epochs():
    arrays = {"loss_train": np.ones((3, 2)), "1.6.weight": np.ones((3, 2, 16)), "1.6.bias": np.ones((3, 2))}
    cut = Result(None, arrays).until(1)
    assert [cut[name].shape for name in arrays] == [(3, 1), (3, 2, 16), (3, 2)]


def test_runs_are_joined_in_their_order_with_all_their_time_and_every_machine_once():
    def run(seeds, machine):
        return seeds, {"accuracy": 0.1 * np.array(seeds), "run_seconds": np.array(1.5), "made_on": np.array(machine)}

    result = join("config", [run((3, 4), "d"), run((0,), "c"), run((1,), "a"), run((2,), "b"), run((5,), "d")])
    assert np.allclose(result["accuracy"], [0.3, 0.4, 0.0, 0.1, 0.2, 0.5])
    assert (result.config, result.seconds, result.machines) == ("config", 7.5, ("a", "b", "c", "d"))
    assert list(result.arrays) == ["accuracy"]


def test_a_run_of_one_has_no_axis_of_seeds_and_gets_one():
    result = join(None, [(None, {"logits": np.arange(3), "seconds": np.array(s)}) for s in (5, 7)])
    assert result["logits"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert result["seconds"].tolist() == [5, 7]
    assert (result.seconds, result.machines) == (0.0, ())  # of arrays that tell neither


def test_what_has_no_axis_of_seeds_is_repeated_for_each():
    result = join(None, [((0, 1, 2), {"own": np.array(8), "pair": np.arange(2)}), ((3,), {"own": 9, "pair": [5, 6]})])
    assert result["own"].tolist() == [8, 8, 8, 9]
    assert result["pair"].tolist() == [[0, 1], [0, 1], [0, 1], [5, 6]]


def test_arrays_of_other_shapes_in_other_runs_stay_apart():
    result = join(None, [((0, 1), {"x": np.zeros((2, 3))}), (None, {"x": np.ones(2)})])
    assert [part.tolist() for part in result["x"]] == [[0, 0, 0], [0, 0, 0], [1, 1]]


def judge():
    pass


judge.rule = "higher: more"


def test_rules_are_texts_and_those_of_functions():
    assert Report({}, "", [], ["a rule", judge]).rule == "a rule; higher: more"


@experiment("2.1", "second", "what it does", {"a": 1, "b": 2, "c": 3})
def asks(results, study):
    """Is it so?"""
    return results, study


def test_an_experiment_stands_in_its_script_under_the_name_of_its_report():
    assert (asks.section, asks.name, asks.summary, asks.configs) == (
        "2.1",
        "second",
        "what it does",
        dict(a=1, b=2, c=3),
    )
    assert asks.report({}, "study") == ({}, "study")
    assert asks.report.__doc__ == "Is it so?"
    first = Experiment("1.1", "first", "", {}, judge)
    assert experiments_in({"asks": asks, "judge": judge, "number": 1, "first": first}) == [asks, first]


def test_an_adapted_experiment_has_other_configurations_and_keeps_the_rest():
    adapted = asks.adapted(lambda label, config: (label.upper(), 10 * config) if config != 2 else None)
    assert adapted.configs == {"A": 10, "C": 30}
    assert (adapted.section, adapted.name, adapted.report) == (asks.section, asks.name, asks.report)
    assert asks.configs == {"a": 1, "b": 2, "c": 3}
