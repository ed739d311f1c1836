"""What loading and saving share: folders that can be read, rows that are in two splits, files that are whole or not."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

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
