"""Where photos of real and fake faces lie in a folder: two layouts, what is found in them, and what is left out."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from lab.errors import InputError, printable, some
from lab.files import check_folder
from lab.study import SPLITS

CLASSES = ("real", "fake")  # label 0 and label 1
CLASS_FOLDERS = {"real": ("real", "0_real"), "fake": ("fake", "1_fake")}
FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
SHARES = {"train": 0.7, "validation": 0.8, "test": 1.0}  # upper end of each split's share where there are no splits
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm",
    ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".jxl",
)  # fmt: skip
NO_PHOTOS = (  # what lies beside photos and is nobody's photo
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".htm", ".md", ".pdf", ".yaml", ".yml", ".log",
    ".py", ".ipynb", ".sha256", ".md5", ".db", ".ini", ".npy", ".npz", ".mat", ".pkl", ".zip", ".gz", ".tar", ".lnk",
    ".url",
)  # fmt: skip
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")
SYSTEM_FOLDERS = ("@eadir", "__macosx", "$recycle.bin", "lost+found", "#recycle")


@dataclass(frozen=True)
class PhotoFile:
    path: Path
    name: str  # its path below the folder of its class


@dataclass
class Layout:
    """files[split][class], in the order of their paths; read: the folders; left_out[reason]: what is not read."""

    files: dict[str, dict[str, list[PhotoFile]]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path) -> None:
        self.left_out.setdefault(reason, []).append(path)

    def what_is_left_out(self, folder: Path) -> list[str]:
        """`hidden photos: 3, such as train/real/.x.jpg` of each reason."""
        return [
            f"{reason}: {len(paths):,}, such as {printable(os.path.relpath(min(paths), folder), 80)}"
            for reason, paths in self.left_out.items()
        ]


def find_photos(folder: Path) -> Layout:
    """The photos in train|val|test with real|fake in each, or in 0_real|1_fake, which are split 70/10/20.

    Folders inside those of the classes belong to them, links too; hidden ones do not. Raises InputError.
    """
    check_folder(folder, "give --data a folder of photos")
    layout = Layout()
    splits = {split: _subfolder(folder, names) for split, names in FOLDERS.items()}
    if any(splits.values()):
        for split, path in splits.items():
            if path is None:
                names = " or ".join(FOLDERS[split])
                raise InputError(f"has no {split} photos{_but(folder)}", str(folder), f"add a folder {names}")
        layout.files = {split: _classes(path, layout) for split, path in splits.items()}
    elif any(_subfolder(folder, names) for names in CLASS_FOLDERS.values()):
        layout.files = split_photos(_classes(folder, layout), folder)
    else:
        raise InputError(f"has no photos of real and fake faces{_but(folder)}", str(folder), _what_helps(folder))
    _look_beside(folder, layout)
    return layout


# ---------------------------------------------------------------------------- folders


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        what = f"can't be read as a folder ({error.strerror})"
        raise InputError(what, str(folder), "make it readable, or give --data a folder of photos") from None


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    matching = [path for path in _entries(folder) if os.path.isdir(path) and path.name.lower() in names]
    if len(matching) > 1:
        raise InputError(f"has both {matching[0].name} and {matching[1].name}", str(folder), "keep one of them")
    return matching[0] if matching else None


def _classes(folder: Path, layout: Layout) -> dict[str, list[PhotoFile]]:
    found = {}
    for name, names in CLASS_FOLDERS.items():
        path = _subfolder(folder, names)
        if path is None:
            remedy = f"add a folder {' or '.join(names)}, or rename the one that holds them"
            raise InputError(f"has no {name} photos{_but(folder)}", str(folder), remedy)
        _entries(path)  # which raises where it can't be read
        seen: set[str] = set()
        files = [file for file in walk(path, layout, seen) if _is_photo(file, layout)]
        layout.read |= seen
        if not files:
            raise InputError("has no photos", str(path), "put photos such as JPEG, PNG, WebP, TIFF or BMP files there")
        found[name] = [PhotoFile(file, file.relative_to(path).as_posix()) for file in sorted(files)]
    return found


def walk(folder: Path, layout: Layout, seen: set[str]) -> Iterator[Path]:
    """All files below a folder that are not hidden, those of a folder once, however many links lead there."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        # No link before what it leads to.
        entries = sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path))
    except OSError as error:
        return layout.leave_out(f"folders that can't be read ({error.strerror})", folder)
    for path in entries:
        if path.name[0] == "." or path.name.lower() in SYSTEM_FOLDERS:
            _leave_out_hidden(path, layout)
        elif os.path.isdir(path):
            yield from walk(path, layout, seen)
        elif os.path.isfile(path) or not os.path.exists(path):  # which is told when it is read
            yield path


def _leave_out_hidden(path: Path, layout: Layout) -> None:
    inside = (Path(root, name) for root, _, names in os.walk(path) for name in names)
    for file in inside if os.path.isdir(path) else [path]:
        if file.suffix.lower() in SUFFIXES:
            layout.leave_out("hidden photos", file)


def _is_photo(path: Path, layout: Layout) -> bool:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix in NO_PHOTOS:
        return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            known = image.format in FORMATS
    except Exception:  # Pillow raises nearly anything on what is no image
        known = False
    if not known:
        layout.leave_out("files that are no photos", path)
    return known


def _look_beside(folder: Path, layout: Layout) -> None:
    """Leave out, and count, the photos that are in none of the folders that are read."""
    for path in walk(folder, Layout(), set(layout.read)):
        if path.suffix.lower() in SUFFIXES:
            layout.leave_out("photos beside the folders that are read", path)


def _but(folder: Path) -> str:
    """What folders there are instead."""
    names = [printable(path.name, 30) for path in _entries(folder) if os.path.isdir(path) and path.name[0] != "."]
    return f" but {'folders' if len(names) > 1 else 'a folder'} {some(names, ', ', 8)}" if names else ""


def _what_helps(folder: Path) -> str:
    """What to do about a folder that is in neither layout: the right one may lie in it, under these names or others."""
    for inside in _folders_inside(folder, 3):
        names = {path.name.lower() for path in _folders_inside(inside, 1)}
        if names.issuperset(("train", "test")) or all(names.intersection(each) for each in CLASS_FOLDERS.values()):
            return f"give --data {printable(str(inside), 200)}"
    names = [path.name for path in _folders_inside(folder, 1)]
    of = {name: [each for each in names if name in each.lower()] for name in CLASSES}
    if all(len(each) == 1 for each in of.values()) and of["real"] != of["fake"]:
        return f"rename {printable(of['real'][0], 60)} to 0_real and {printable(of['fake'][0], 60)} to 1_fake"
    return "give --data a folder with train, val and test, or with 0_real and 1_fake, of photos"


def _folders_inside(folder: Path, deep: int) -> Iterator[Path]:
    """The folders in a folder, then those in these, and so on, as far as they can be read."""
    level = [folder]
    for _ in range(deep):
        level = [path for above in level if os.access(above, os.R_OK) for path in sorted(above.iterdir())]
        level = [path for path in level if os.path.isdir(path) and path.name[0] != "."][:1000]
        yield from level


# ---------------------------------------------------------------------------- splits


def split_photos(classes: dict[str, list[PhotoFile]], folder: Path) -> dict[str, dict[str, list[PhotoFile]]]:
    """70/10/20, by the SHA-256 of names, the same each time. Raises InputError.

    Where photos lie in folders, as those of a video or a person may, a folder and those of the same name of the other
    class are kept together, if that leaves photos of both classes for each split.
    """
    for name, files in classes.items():
        if len(files) < 10:
            raise InputError(f"{len(files)} {name} photos are too few to split", str(folder), "give at least 10")
    if any("/" in file.name for files in classes.values() for file in files):
        for depth in (1, None):  # the folder in that of the class, or the innermost
            found = _split_groups(classes, depth)
            if found and all(files for split in found.values() for files in split.values()):
                return found
    found = {split: {} for split in SPLITS}
    for name, files in classes.items():
        ranked = sorted(files, key=lambda file: _digest(file.path.name))
        lower = 0
        for split, share in SHARES.items():
            upper = round(share * len(ranked))
            found[split][name], lower = sorted(ranked[lower:upper], key=lambda file: file.path), upper
    return found


def _split_groups(
    classes: dict[str, list[PhotoFile]], depth: int | None
) -> dict[str, dict[str, list[PhotoFile]]] | None:
    """Whole folders for each split, as near to its share as they allow; None where there are fewer than three."""

    def group(file: PhotoFile) -> str:
        parts = PurePosixPath(file.name).parts
        return "/".join(parts[:-1][:depth]) or file.name

    groups = sorted({group(file) for files in classes.values() for file in files}, key=_digest)
    if len(groups) < 3:
        return None
    place = {name: number for number, name in enumerate(groups)}
    sizes = np.bincount([place[group(file)] for files in classes.values() for file in files])
    upto = np.cumsum(sizes)  # photos up to and with a group
    first = int(np.abs(upto[:-2] - SHARES["train"] * upto[-1]).argmin())  # the last group of train
    second = first + 1 + int(np.abs(upto[first + 1 : -1] - SHARES["validation"] * upto[-1]).argmin())
    ends = {"train": first, "validation": second, "test": len(groups)}
    found, lower = {}, -1
    for split, upper in ends.items():
        found[split] = {
            name: [file for file in files if lower < place[group(file)] <= upper] for name, files in classes.items()
        }
        lower = upper
    return found


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()
