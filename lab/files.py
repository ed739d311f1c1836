"""What loading and saving share: folders that can be read, rows that are in two splits, files that are whole or not."""

import functools
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from lab.errors import InputError, warn


def check_folder(folder: Path, remedy: str) -> None:
    """Raises InputError for a folder of data that isn't there or can't be read."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        raise InputError("no such folder", str(folder), remedy) from None
    except OSError as error:
        raise InputError(f"can't be read as a folder ({error.strerror})", str(folder), remedy) from None


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
        _warn_of_no_locks(path.parent, reason)
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


@functools.cache
def _warn_of_no_locks(folder: Path, reason: str) -> None:
    warn(f"no file can be locked ({reason}), {folder}, run one script at a time there")
