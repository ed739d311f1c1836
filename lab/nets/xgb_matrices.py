"""Photos as tables of pixels for XGBoost, in memory where they are, in pages read from the files where they are not."""

import errno
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import xgboost

from lab.data.photos import Photos, View, split_into
from lab.study import SPLITS


def pixel_table(photos: Photos, view: View, split: str) -> np.ndarray:
    """The pixels of a split as columns, (n, 3 * 64 * 64) uint8; one channel where all photos are grey.

    Three equal channels offer every split three times and the first is taken, so that leaving two
    out changes no prediction and takes a third of the time.
    """
    pixels = photos.kept[view]
    grey = all((pixels[s][..., channel] == pixels[s][..., 0]).all() for s in SPLITS for channel in (1, 2))
    return (pixels[split][..., :1] if grey else pixels[split]).reshape(len(pixels[split]), -1)


def batches(photos: Photos, view: View, split: str, size: int = 256) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pixels, (size, 3 * 64 * 64) uint8, and labels of a split, without more than a few batches in memory."""
    for pixels, labels in photos.batches(view, split, split_into(np.arange(len(photos.y[split])), size)):
        yield pixels.permute(0, 2, 3, 1).reshape(len(labels), -1).numpy(), labels.numpy()


class Pages(xgboost.DataIter):
    """A split in pages of some batches, read from the photo files each time XGBoost asks for them.

    XGBoost keeps the pages' quantiles in a file beside `cache`: up to 25 MB for each page and 2 bytes for each pixel.
    """

    size, batches = 256, 16  # photos of a batch, batches of a page

    def __init__(self, photos: Photos, view: View, split: str, cache: Path):
        super().__init__(cache_prefix=str(cache))
        self.source = photos, view, split, self.size

    def reset(self) -> None:
        self.stream = batches(*self.source)

    def next(self, input_data: Callable) -> bool:
        page = list(itertools.islice(self.stream, self.batches))
        if page:
            pixels, labels = (np.concatenate(parts) for parts in zip(*page, strict=True))
            input_data(data=pixels, label=labels)
        return bool(page)


def column_values(tables: Iterable[np.ndarray]) -> np.ndarray:
    """What values the columns of some uint8 tables have, (256, columns): in row v the largest up to v, or the smallest.

    These are all that XGBoost needs for its quantiles, at most 256 a column. Searching for them among many photos it
    would take some 300 kB a column, 4 GB in all.
    """
    found = None
    for table in tables:
        if found is None:
            found = np.zeros((table.shape[1], 256), bool)
        found[np.arange(len(found)), table] = True
    largest = np.maximum.accumulate(np.where(found, np.arange(256), -1), axis=1)
    return np.where(largest < 0, found.argmax(axis=1)[:, None], largest).astype(np.uint8).T


def check_room(folder: Path, values: np.ndarray, counts: dict[str, int]) -> None:
    """Raises OSError where there is no room for the pages of splits of so many photos; XGBoost ends the process there.

    values: see column_values. A page takes 8 bytes for each value of a column and 2 for each pixel, as measured.
    """
    different = values.shape[1] + int((np.diff(np.sort(values, axis=0), axis=0) != 0).sum())
    pages = sum(-(-count // (Pages.size * Pages.batches)) for count in counts.values())
    needed = 1.05 * (8 * different * pages + 2 * values.shape[1] * sum(counts.values()))
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"{free / 1e6:,.0f} MB are free of {needed / 1e6:,.0f} that the pages need, name a folder with TMPDIR"
        raise OSError(errno.ENOSPC, what, str(folder))


def matrices(photos: Photos, view: View, cache: Path) -> dict[str, xgboost.DMatrix]:
    """XGBoost's quantiles of the pixels of each split, in memory if the photos are and in the folder `cache` if not."""
    if view in photos.kept:
        make = xgboost.QuantileDMatrix
        sources = {split: {"data": pixel_table(photos, view, split), "label": photos.y[split]} for split in SPLITS}
        known = column_values(split_into(sources["train"]["data"], 256))
    else:
        make = xgboost.ExtMemQuantileDMatrix
        sources = {split: {"data": Pages(photos, view, split, cache / split)} for split in SPLITS}
        known = column_values(pixels for pixels, _ in batches(photos, view, "train"))
        check_room(cache, known, {split: len(photos.y[split]) for split in SPLITS})
    train = make(**sources["train"], ref=xgboost.QuantileDMatrix(known, nthread=1), nthread=1)
    return {split: train if split == "train" else make(**sources[split], ref=train, nthread=1) for split in SPLITS}
