"""lab/data/shortcuts.py: what files are, and when that tells the classes apart."""

import io

import numpy as np
import pytest
from PIL import Image

from lab.data.shortcuts import FileTraits, find_shortcut, traits_of
from lab.study import SPLITS

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
PNG, JPEG = FileTraits("PNG", 30, 20, False, 101.0), FileTraits("JPEG", 30, 20, False, 90.0)


def of(image: Image.Image, kind: str, **options) -> FileTraits:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return traits_of(file.getvalue(), Image.open(file).convert("RGB"))


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_that_with_which_it_was_saved(quality):
    assert of(NOISE, "jpeg", quality=quality).quality == pytest.approx(quality, abs=1 if quality > 9 else 12)


def test_traits_are_those_of_the_file():
    assert of(NOISE, "png") == PNG
    assert of(NOISE.convert("L"), "webp", lossless=True) == FileTraits("WEBP", 30, 20, True, 101.0)


def photos(real: list[FileTraits], fake: list[FileTraits], times: int = 10) -> tuple[dict, dict]:
    """The same photos in every split."""
    traits, y = real * times + fake * times, np.repeat([0, 1], [len(real) * times, len(fake) * times])
    return dict.fromkeys(SPLITS, traits), dict.fromkeys(SPLITS, y)


def test_a_shortcut_is_a_trait_that_is_right_often_enough_in_both_classes():
    found = find_shortcut(*photos([PNG], [JPEG]))
    assert found.cells() == {(split, "accuracy"): np.array([1.0]) for split in SPLITS}
    assert "is right on 1.000 of the test photos" in found.sentence()
    assert (found.accuracy, found.balanced) == (dict.fromkeys(SPLITS, 1.0), 1.0)
    assert found.trait in ("file format JPEG", "file format PNG", "JPEG quality")
    assert find_shortcut(*photos([PNG] * 7 + [JPEG] * 3, [PNG] * 3 + [JPEG] * 7)).balanced == pytest.approx(0.7)
    unequal = find_shortcut(*photos([PNG], [JPEG] * 8 + [PNG]))
    assert (unequal.balanced, unequal.accuracy["test"]) == pytest.approx(((1 + 8 / 9) / 2, 0.9))


@pytest.mark.parametrize(("real", "fake", "times"), [
    ([PNG], [PNG], 10),  # nothing to ask
    ([PNG, JPEG], [PNG, JPEG], 10),
    ([PNG, JPEG], [PNG, JPEG] * 9, 10),  # unequal classes
    ([PNG] * 6 + [JPEG] * 4, [PNG] * 4 + [JPEG] * 6, 10),  # 0.6
    ([PNG, PNG, JPEG], [PNG, JPEG, JPEG], 1),  # 8 right of 12
])  # fmt: skip
def test_what_is_not_right_often_enough_is_no_shortcut(real, fake, times):
    assert find_shortcut(*photos(real, fake, times)) is None


def test_a_shortcut_that_train_alone_has_is_none():
    traits, y = photos([PNG], [JPEG])
    assert find_shortcut(traits | dict.fromkeys(("validation", "test"), [PNG] * 20), y) is None
