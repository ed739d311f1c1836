"""Baselines held against each other: which photos are shown."""

import numpy as np
import pytest

from lab.tell import baselines


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
