"""lab/data/copies.py: copies of a photo are found, however they were saved; photos of different people are none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lab.data.copies import PhotoSet, mirrored, most_alike, of_both_classes, of_one_folder, repeats, thumbnail
from lab.data.photos import demo_faces


@pytest.fixture(scope="module")
def faces() -> list[Image.Image]:
    """A photo of each of eight people, aligned and grey: as alike as different people are."""
    return [Image.open(path).convert("RGB") for path in sorted((demo_faces() / "test" / "real").glob("*_01.bmp"))]


def saved_again(image: Image.Image, quality: int, share: float) -> Image.Image:
    file = io.BytesIO()
    image.resize((int(image.width * share), int(image.height * share))).save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(("quality", "share"), [(95, 1.0), (50, 0.6), (20, 0.3)])
def test_a_copy_is_found_however_small_and_poor_it_is_mirrored_too(faces, quality, share):
    known = np.array([thumbnail(face) for face in faces])
    copies = np.array([thumbnail(saved_again(face, quality, share)) for face in faces])
    assert most_alike(copies, known).tolist() == list(range(8))
    flipped = np.array([thumbnail(saved_again(ImageOps.mirror(face), quality, share)) for face in faces])
    assert most_alike(mirrored(flipped), known).tolist() == list(range(8))


def test_photos_of_different_people_are_no_copies_and_one_colour_is_like_no_other(faces):
    known = np.array([thumbnail(face) for face in faces])
    for number in range(8):
        assert most_alike(known[[number]], np.delete(known, number, axis=0)).tolist() == [-1]
    plain = np.array([thumbnail(Image.new("RGB", (9, 9), grey)) for grey in ("grey", "black")])
    assert most_alike(plain, plain).tolist() == [-1, -1]
    assert most_alike(known, known[:0]).tolist() == [-1] * 8


def photos(folder: str, names: list[str], digests: str, images: list[Image.Image], labels: list[int]) -> PhotoSet:
    looks = np.array([thumbnail(image) for image in images]).reshape(-1, 768)
    return PhotoSet(
        [Path(folder, name) for name in names], names, [d.encode() for d in digests], looks, np.array(labels)
    )


def test_each_photo_of_a_later_split_is_named_once_with_the_first_one_that_it_repeats(faces):
    a, b, c, d = faces[:4]
    early = photos("train", ["a", "a2", "v/b", "v/c"], "xxyz", [a, a, b, c], [0, 0, 1, 0])
    names = ["same", "again", "v/other", "w/mirrored"]
    late = photos("test", names, "xstu", [a, saved_again(b, 50, 0.5), d, ImageOps.mirror(c)], [1, 1, 1, 0])
    assert {kind: [tuple(map(str, pair)) for pair in pairs] for kind, pairs in repeats(late, early).items()} == {
        "the same bytes": [("test/same", "train/a")],
        "nearly the same": [("test/again", "train/v/b")],
        "mirrored": [("test/w/mirrored", "train/v/c")],
    }
    assert of_one_folder(late, early) == ["v"]
    assert of_both_classes(early) == []
    assert of_both_classes(early + late) == [(Path("train/a"), Path("test/same"))]
