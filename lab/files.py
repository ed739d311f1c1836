"""What loading and saving share: folders that can be read, rows that are in two splits, files that are whole or not."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from lab.errors import InputError, warn, warn_once

ROOT = Path(__file__).parents[1]


def short(folder: Path) -> str:
    """A folder as it was given, or, inside this repository, from its root, so that it is the same on any machine."""
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)


def check_folder(folder: Path, remedy: str) -> None:
    """Raises InputError for a folder of data that isn't there or can't be read."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        raise InputError("no such folder", str(folder), remedy) from None
    except OSError as error:
        raise InputError(f"can't be read as a folder ({error.strerror})", str(folder), remedy) from None


OTHER_KINDS = {  # what people have under the name of another kind of file, by its first bytes, and what helps
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "fetch it with git lfs pull"),
    b"PK\x03\x04": ("a zip or Excel file", "unpack it, or save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save the sheet as CSV"),
    b"PAR1": ("a Parquet file", "save it as CSV"),
    b"SQLite format 3": ("a database", "export the table as CSV"),
    b"%PDF": ("a PDF", "export what it holds"),
    b"<!doctype html": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
    b"<svg": ("an SVG drawing", "save it as PNG"),
    b"\xff\x0a": ("JPEG XL, which can't be read", "save it as JPEG"),
    b"\0\0\0\x0cJXL ": ("JPEG XL, which can't be read", "save it as JPEG"),
}
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")


def other_kind(data: bytes) -> tuple[str, str] | None:
    """What a file is, by its first bytes, where it is known to be neither a table nor a photo, and what helps."""
    if data[4:12] in HEIC:
        return "HEIC, which can't be read", "save it as JPEG"
    start = data[:64].lstrip().lower()
    return next((found for begin, found in OTHER_KINDS.items() if start.startswith(begin.lower())), None)


def warn_of_repeats(folder: Path, what: str, splits: dict[str, pd.DataFrame]) -> None:
    """Warn where rows of validation or test are in an earlier split too, since that flatters their accuracy."""
    hashes = {split: pd.util.hash_pandas_object(rows, index=False).to_numpy() for split, rows in splits.items()}
    late = np.isin(hashes["validation"], hashes["train"])
    late = [*late, *np.isin(hashes["test"], np.concatenate([hashes["train"], hashes["validation"]]))]
    if any(late):
        found = f"{sum(late)} of {len(late)} {what} of validation and test are in an earlier split too"
        warn(f"{found}, {folder}, remove them or distrust the accuracies")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or, where the disk is full, leave the old one."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk names no file itself


def lock(path: Path) -> FileLock | AbstractContextManager:
    """Inside, other processes that ask for the same file wait; where files can't be locked, one warning says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = _no_locks(path)
    if reason:
        warn_once(f"no file can be locked ({reason}), {path.parent}, run one script at a time there")
    return nullcontext() if reason else FileLock(path)


def _no_locks(path: Path) -> str:
    """What the file system says when a file is to be locked, as some network file systems do; empty where it can."""
    try:
        import fcntl
    except ImportError:  # Windows, whose file systems can
        return ""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return ""  # another process has it
        except OSError as error:
            return error.strerror
    return ""
