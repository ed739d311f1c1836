"""Baselines held against each other: which is chosen and first, and which photos are shown."""

from types import SimpleNamespace

import numpy as np
import pytest

from lab.study import SPLITS, Result, Runs
from lab.tell import baselines

Y = dict.fromkeys(SPLITS, np.arange(40) % 2)


def run(right: int, rate: float | None = None, seeds: int = 1) -> Result:
    """Logits that are wrong on the first 40 - `right` photos, the surer the higher the number of the photo."""
    wrong = np.arange(40) < 40 - right
    logits = (2 * Y["test"] - 1) * (1 - 2 * wrong) * np.linspace(1, 3, 40)
    config = SimpleNamespace() if rate is None else SimpleNamespace(learning_rate=rate)
    arrays = {f"logits_{split}": np.tile(logits, (seeds, 1)) for split in SPLITS}
    return Result(config, arrays | {"seconds": np.ones(seeds)})


def compared() -> baselines.Comparison:
    runs = {
        "trees": Runs(default=run(24)),
        "net": Runs({"net slow": run(30, 1e-4, 2), "net fast": run(38, 1e-2, 2)}),
        "probe": Runs(probe=run(20, None, 2)),
    }
    return baselines.compare_baselines(runs, Y, {name: {} for name in ("probe", "net", "trees")})


def test_each_baseline_stands_at_the_rate_that_validation_chose_and_the_highest_comes_first():
    found = compared()
    assert found.chosen == {"probe": "probe", "net": "net fast", "trees": "default"}
    assert list(found.scores) == ["net", "trees", "probe"]
    assert list(found.pairs) == [("net", "trees"), ("net", "probe"), ("trees", "probe")]
    assert found.pairs["net", "probe"].gain.tolist() == pytest.approx([0.45, 0.45])
    assert [difference.shown for difference in found.pairs.values()] == [True, True, False]
    assert found.rates("net") == {"net slow": 1e-4, "net fast": 1e-2}
    assert found.rates("probe") == {"probe": None}
    assert found.chance == dict.fromkeys(SPLITS, 0.5)


def test_samples_are_what_the_best_gets_right_and_all_that_are_tied_for_last_wrong():
    found = compared()
    people = [f"p{number}" for number in range(40)]
    shown = baselines.find_samples(found, people)
    assert (shown.best, shown.group) == ("net", ["trees", "probe"])
    assert shown.candidates.tolist() == list(range(2, 16))  # where both are wrong and the best is right
    assert shown.picked.tolist() == [15, 14, 13, 12, 11]  # the largest gaps first, real and fake in turn
    assert found.fake("net")[shown.picked].round().tolist() == Y["test"][shown.picked].tolist()
    people[13] = people[15]
    assert baselines.find_samples(found, people).picked.tolist() == [15, 14, 11, 12, 9]


@pytest.mark.parametrize(("photos", "picked"), [  # photos as person and class, best first
    ("aR aR bR cR dR eF fF gF hF", "aR eF bR fF cR"),
    ("aR bR cR dR eR fR aF", "aR aF bR cR dR"),  # rather one person twice than one class alone
    ("aR bR cR dR eR fR", "aR bR cR dR eR"),
    ("aF aR aR aF aF aR", "aF aR aF aR aF"),
    ("aF bR", "aF bR"),
    ("", ""),
])  # fmt: skip
def test_sample_photos_are_of_both_classes_and_of_different_people(photos, picked):
    names = photos.split()
    fake = np.array([name[1] == "F" for name in names])
    numbers = baselines.pick(np.arange(len(names)), fake, [name[0] for name in names])
    assert " ".join(names[number] for number in numbers) == picked
