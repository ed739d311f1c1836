"""lab/nets/xgb_matrices.py: photos as XGBoost's tables, whole or in pages, grey or not: the same trees."""

import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import xgboost
from PIL import Image

import xg
from lab.data.photos import View, load_photos
from lab.nets import xgb_matrices
from lab.study import SPLITS


@pytest.fixture(scope="module")
def kept(photo_folder):
    return load_photos(photo_folder, [xg.VIEW])


def margins(trees: int, x: np.ndarray, y: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """What plain XGBoost, grown on x and y, says of other pixels, one after the other."""
    model = xgboost.XGBClassifier(n_estimators=trees, n_jobs=1).fit(x, y)
    return np.concatenate([model.predict(other, output_margin=True) for other in others])


def test_one_channel_of_grey_photos_gives_the_same_trees(kept):
    narrow = [xgb_matrices.pixel_table(kept, xg.VIEW, split) for split in SPLITS]
    wide = [kept.pixels(xg.VIEW, split).reshape(len(kept.y[split]), -1) for split in SPLITS]
    assert (narrow[0].shape[1], wide[0].shape[1]) == (64 * 64, 3 * 64 * 64)
    assert np.array_equal(*(margins(5, x[0], kept.y["train"], *x) for x in (narrow, wide)))


def test_colour_in_any_split_keeps_all_channels(tmp_path):
    for number in range(12):
        split, label = ("train", "val", "test")[number // 4], ("real", "fake")[number % 2]
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (8, 8), (number, number, number + (number == 11)))
        image.save(tmp_path / split / label / f"{number}.png")
    photos = load_photos(tmp_path, [View(8, 8)])
    assert xgb_matrices.pixel_table(photos, View(8, 8), "train").shape == (4, 3 * 8 * 8)


def test_photos_on_disk_give_what_plain_xgboost_gives(kept, photo_folder, tmp_path, monkeypatch, silent, recwarn):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(xgb_matrices.Pages, "size", 8)
    monkeypatch.setattr(xgb_matrices.Pages, "batches", 2)  # five pages to train
    streamed = load_photos(photo_folder, [], memory=0)
    whole, paged = (xg.train(xg.Config(rounds=10), photos, silent) for photos in (kept, streamed))
    for name in whole.keys() - {"seconds"}:
        np.testing.assert_allclose(paged[name], whole[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert not list(tmp_path.iterdir())  # nothing is left of the cache
    assert not [str(w.message) for w in recwarn.list]
    tables = [xgb_matrices.pixel_table(kept, xg.VIEW, split) for split in SPLITS]
    plain = margins(10, tables[0], kept.y["train"], *tables)
    np.testing.assert_allclose(np.concatenate([whole[f"logits_{s}"] for s in SPLITS]), plain, rtol=1e-5, atol=1e-6)


def test_too_little_room_for_pages_fails_before_xgboost_ends_the_process(photo_folder, monkeypatch, silent):
    streamed = load_photos(photo_folder, [], memory=0)
    monkeypatch.setattr(xgb_matrices.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(OSError, match=r"1 MB are free of \d+ that the pages need, name a folder with TMPDIR"):
        xg.train(xg.Config(rounds=1), streamed, silent)
