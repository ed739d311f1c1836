"""Photos that are in two splits, or in both classes: the same bytes, nearly the same picture, a mirrored one.

Two pictures are nearly the same where their thumbnails of 16 x 16 pixels correlate by 0.95 or more. Copies saved again
as JPEG of quality 20 at a third of the size do (0.967 and more, on the demo set's 92 x 112 pixels), aligned faces of
different people don't (0.92 and less, on photos, too); 64-bit perceptual hashes mix these up (of 64 bits, copies differ
in up to 9, different people in 5 and more).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from lab.errors import printable, warn
from lab.study import SPLITS

SIDE = 16
ALIKE = 0.95
MOST_PAIRS = 1e9  # that are compared; of more, validation and test photos drawn at random


def thumbnail(image: Image.Image) -> np.ndarray:
    """An RGB image in 16 x 16, with mean 0 and length 1: a product of two is their correlation. (768,) float32."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), float).ravel()
    pixels -= pixels.mean()
    length = np.linalg.norm(pixels)
    return (pixels / length if length > 1 else np.zeros_like(pixels)).astype(np.float32)  # one grey is like no other


def most_alike(late: np.ndarray, early: np.ndarray) -> np.ndarray:
    """Of thumbnails (n, 768): the number of the earlier one that is nearly the same, -1 for none, (n,)."""
    found = np.full(len(late), -1)
    for start in range(0, len(late) if len(early) else 0, 256):
        alike = late[start : start + 256] @ early.T
        best = alike.argmax(axis=1)
        found[start : start + 256] = np.where(alike.max(axis=1) >= ALIKE, best, -1)
    return found


def mirrored(thumbnails: np.ndarray) -> np.ndarray:
    return thumbnails.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(-1, 3 * SIDE**2)


@dataclass
class PhotoSet:
    """Photos in one order: files, names below the folder of their class, digests, thumbnails (n, 768), labels (n,)."""

    paths: list[Path]
    names: list[str]
    digests: list[bytes]
    thumbnails: np.ndarray
    labels: np.ndarray

    def __add__(self, other: "PhotoSet") -> "PhotoSet":
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return PhotoSet(
            *(np.concatenate(pair) if isinstance(pair[0], np.ndarray) else pair[0] + pair[1] for pair in both)
        )


def repeats(late: PhotoSet, early: PhotoSet) -> dict[str, list[tuple[Path, Path]]]:
    """{kind: pairs of a later split's photo and one of an earlier split}; each later photo once, in its first kind."""
    first = {digest: path for path, digest in reversed(list(zip(early.paths, early.digests, strict=True)))}
    chosen = np.arange(len(late.paths))
    if len(chosen) * len(early.paths) > MOST_PAIRS:
        chosen = np.random.default_rng(0).permutation(chosen)[: int(MOST_PAIRS / len(early.paths))]
    found: dict[str, list] = {"the same bytes": [], "nearly the same": [], "mirrored": []}
    same = [number for number, digest in enumerate(late.digests) if digest in first]
    found["the same bytes"] = [(late.paths[number], first[late.digests[number]]) for number in same]
    left = np.setdiff1d(chosen, same)
    for kind, change in (("nearly the same", lambda x: x), ("mirrored", mirrored)):
        partner = most_alike(change(late.thumbnails[left]), early.thumbnails)
        pairs = zip(left[partner >= 0], partner[partner >= 0], strict=True)
        found[kind] = [(late.paths[number], early.paths[other]) for number, other in pairs]
        left = left[partner < 0]
    return found


def of_one_folder(late: PhotoSet, early: PhotoSet) -> list[str]:
    """The folders, one for each later photo, that an earlier split has too, as those of a video or a person."""

    def folders(names: Sequence[str]) -> list[str]:
        return [str(PurePosixPath(name).parent) for name in names]

    known = set(folders(early.names)) - {"."}
    return [folder for folder in folders(late.names) if folder in known]


def of_both_classes(everything: PhotoSet) -> list[tuple[Path, Path]]:
    """Pairs of a real and a fake photo of the same bytes."""
    rows = list(zip(everything.paths, everything.digests, everything.labels, strict=True))
    real = {digest: path for path, digest, label in reversed(rows) if label == 0}
    return [(real[digest], path) for path, digest, label in rows if label == 1 and digest in real]


def warn_of_copies(splits: dict[str, PhotoSet], folder: Path) -> None:
    """One warning of all that makes the accuracies on validation and test better than they are, with an example."""

    def example(pairs: list[tuple[Path, Path]]) -> str:
        return " and ".join(printable(str(path.relative_to(folder)), 80) for path in pairs[0])

    train, validation, test = (splits[split] for split in SPLITS)
    steps = [(validation, train), (test, train + validation)]
    found: dict[str, list] = {}
    for late, early in steps:
        for kind, pairs in repeats(late, early).items():
            found.setdefault(kind, []).extend(pairs)
    total, told = sum(len(late.paths) for late, _ in steps), []
    if copies := [pair for pairs in found.values() for pair in pairs]:
        kinds = ", ".join(f"{len(pairs):,} {kind}" for kind, pairs in found.items() if pairs)
        told.append(
            f"{len(copies):,} of {total:,} photos of validation and test are in an earlier split too ({kinds}, such as "
            f"{example(copies)})"
        )
    elif folders := Counter(folder for late, early in steps for folder in of_one_folder(late, early)):
        name, _ = folders.most_common(1)[0]
        told.append(
            f"{sum(folders.values()):,} of {total:,} photos of validation and test are in folders that an earlier "
            f"split has too, perhaps of the same video or person (such as {printable(name, 60)})"
        )
    if both := of_both_classes(train + validation + test):
        what = f"{len(both):,} photos are" if len(both) > 1 else "1 photo is"
        told.append(f"{what} real and fake at once, the same bytes (such as {example(both)})")
    if told:
        warn(f"{'; '.join(told)}, {folder}, remove them or distrust the accuracies")
