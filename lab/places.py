"""Places and their countries: the files that are read, and what is said of those that can't be."""

import gzip
import hashlib
import io
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.errors import READING, InputError, about
from lab.files import check_folder, warn_of_repeats
from lab.results import SPLITS


@dataclass
class Places:
    """Coordinates in degrees, x[split]: (n, 2) float32 as (long, lat), and labels y[split]: (n,) int64."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    countries: list[str]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.countries).encode())
        for split in SPLITS:
            digest.update(self.x[split].tobytes() + self.y[split].tobytes())
        return digest.hexdigest()

    def head(self, rows: int) -> "Places":
        """The first places of each split."""
        return Places(
            {split: x[:rows] for split, x in self.x.items()},
            {split: y[:rows] for split, y in self.y.items()},
            self.countries,
        )


@about("the places", READING)
def load_places(folder: Path) -> Places:
    """Read train.csv, validation.csv and test.csv (columns long, lat, country; others are ignored).

    Separated by commas, semicolons (with decimal points or commas) or tabs; gzipped or not.

    `country` is a name or an integer code; the labels are those of the training file, names in alphabetical
    and codes in numerical order. Raises InputError, which names the file and the line, for anything that
    can't be trained on.
    """
    check_folder(folder, "give --data a folder with train.csv, validation.csv, test.csv")
    tables = {split: _read_places(folder / f"{split}.csv") for split in SPLITS}
    names = sorted(tables["train"]["country"].unique())
    if all(re.fullmatch(r"-?\d{1,4000}", name) for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise InputError("only one country", str(folder / "train.csv"), "give at least two to tell apart")
    code = {name: number for number, name in enumerate(names)}
    for split, table in tables.items():
        unseen = ~table["country"].isin(code)
        if unseen.any():
            raise InputError(
                f"country '{table['country'][unseen].iloc[0]}' is not in train.csv",
                f"{folder / split}.csv line {_line_of(unseen)}",
                "add places of it to train.csv or remove its rows",
            )
    warn_of_repeats(folder, "places", {split: t[["long", "lat", "country"]] for split, t in tables.items()})
    return Places(
        x={split: table[["long", "lat"]].to_numpy(np.float32) for split, table in tables.items()},
        y={split: table["country"].map(code).to_numpy(np.int64) for split, table in tables.items()},
        countries=names,
    )


def _line_of(bad: pd.Series) -> int:
    return int(bad.idxmax()) + 2  # the header is line 1


def _read_places(path: Path) -> pd.DataFrame:
    packed = path.with_name(f"{path.name}.gz")
    if packed.exists() and not path.exists():
        path = packed
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        if not data.strip():
            raise InputError("file is empty", str(path), "give it the columns long, lat, country and rows")
        header = io.BytesIO(data).readline()
        separator = max(",;\t", key=lambda character: header.count(character.encode()))
        table = pd.read_csv(
            io.BytesIO(data),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
            skip_blank_lines=False,  # they count in the line numbers of what is wrong
        )
    except FileNotFoundError:
        raise InputError("file is missing", str(path), "put it there or name another folder with --data") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"can't be read ({error})", str(path), "save it as a comma-separated UTF-8 text") from None
    table = table.reset_index(drop=True).fillna("")
    table = table[(table != "").any(axis=1)]
    table.columns = table.columns.str.strip().str.lower()
    for column in ("long", "lat", "country"):
        if list(table.columns).count(column) != 1:
            found = " ".join(table.columns)[:80]
            raise InputError(
                f"needs one column '{column}' but has '{found}'", str(path), "name the columns long, lat, country"
            )
    if table.empty:
        raise InputError("has no rows", str(path), "add at least one place")
    for column, limit in (("long", 180), ("lat", 90)):
        texts = table[column].str.replace(",", ".") if separator == ";" else table[column]
        numbers = pd.to_numeric(texts, errors="coerce")
        unusable = ~np.isfinite(numbers)
        if unusable.any():
            text = table[column][unusable].iloc[0]
            raise InputError(
                f"{column} '{text}' is not a number", f"{path} line {_line_of(unusable)}", "correct or remove the row"
            )
        outside = numbers.abs() > limit
        if outside.any():
            raise InputError(
                f"{column} {numbers[outside].iloc[0]:g} is outside -{limit} to {limit} degrees",
                f"{path} line {_line_of(outside)}",
                "correct or remove the row",
            )
        table[column] = numbers
    # A column of codes that once held a gap comes out of pandas as 3.0, 7.0, ...
    table["country"] = table["country"].str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    nameless = table["country"].str.lower().isin(["", "nan"])
    if nameless.any():
        raise InputError("country is missing", f"{path} line {_line_of(nameless)}", "fill it in or remove the row")
    return table
