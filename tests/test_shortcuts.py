"""lab/data/shortcuts.py: what files are, and when that tells the classes apart."""

import io

import numpy as np
import pytest
from PIL import Image

from lab.data.shortcuts import Cues, cues_of, find_shortcut
from lab.study import SPLITS

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
PLAIN = Cues("PNG", 30, 20, False, 101.0)


def of(image: Image.Image, kind: str, **options) -> Cues:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return cues_of(file.getvalue(), Image.open(file).convert("RGB"))


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_that_with_which_it_was_saved(quality):
    assert of(NOISE, "jpeg", quality=quality).quality == pytest.approx(quality, abs=1 if quality > 9 else 12)


def test_cues_are_those_of_the_file():
    assert of(NOISE, "png") == PLAIN
    assert of(NOISE.convert("L"), "webp", lossless=True) == Cues("WEBP", 30, 20, True, 101.0)


def photos(real: list[Cues], fake: list[Cues], times: int = 10) -> tuple[dict, dict]:
    """The same photos in every split."""
    cues, y = real * times + fake * times, np.repeat([0, 1], [len(real) * times, len(fake) * times])
    return dict.fromkeys(SPLITS, cues), dict.fromkeys(SPLITS, y)


def test_a_shortcut_is_a_cue_that_is_right_often_enough_in_both_classes():
    jpeg = Cues("JPEG", 30, 20, False, 90.0)
    found = find_shortcut(*photos([PLAIN], [jpeg]))
    assert found.cells() == {(split, "accuracy"): np.array([1.0]) for split in SPLITS}
    assert "is right on 1.000 of the test photos" in found.sentence()
    assert (found.accuracy, found.balanced) == (dict.fromkeys(SPLITS, 1.0), 1.0)
    assert found.cue in ("file format JPEG", "file format PNG", "JPEG quality")
    assert find_shortcut(*photos([PLAIN], [PLAIN])) is None  # nothing to ask
    assert find_shortcut(*photos([PLAIN, jpeg], [PLAIN, jpeg])) is None
    assert find_shortcut(*photos([PLAIN] * 6 + [jpeg] * 4, [PLAIN] * 4 + [jpeg] * 6)) is None  # 0.6
    assert find_shortcut(*photos([PLAIN] * 7 + [jpeg] * 3, [PLAIN] * 3 + [jpeg] * 7)).balanced == pytest.approx(0.7)
    assert find_shortcut(*photos([PLAIN, PLAIN, jpeg], [PLAIN, jpeg, jpeg], 1)) is None  # 8 right of 12


def test_unequal_classes_are_no_shortcut_by_themselves():
    jpeg = Cues("JPEG", 30, 20, False, 90.0)
    assert find_shortcut(*photos([PLAIN, jpeg], [PLAIN, jpeg] * 9)) is None
    found = find_shortcut(*photos([PLAIN], [jpeg] * 8 + [PLAIN]))
    assert found.balanced == pytest.approx((1 + 8 / 9) / 2)
    assert found.accuracy["test"] == pytest.approx(0.9)


def test_a_shortcut_that_train_alone_has_is_none():
    cues, y = photos([PLAIN], [Cues("JPEG", 30, 20, False, 90.0)])
    cues = cues | dict.fromkeys(("validation", "test"), [PLAIN] * 20)
    assert find_shortcut(cues, y) is None
