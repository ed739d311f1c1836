"""Places and their countries: the files that are read, and what is said of those that can't be."""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.tables import read_table
from lab.errors import READING, InputError, about, quoted, some, warn
from lab.files import check_folder, short, warn_of_repeats
from lab.study import SPLITS

LIMITS = {"long": 180, "lat": 90}  # degrees
FOR_MISSING = (  # names, in small letters, that programs and people write for none; NA is Namibia
    *("none", "null", "(null)", "<null>", "nil", "nul", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "n.a.", "#null!"),
    *("\\n", "-nan", "#nan", "missing", "<missing>", "unknown", "undefined", "not available", "not known", "nat"),
    *("-", "--", "—", "?", "??", ".", "*", "#ref!", "#value!", "#name?", "-9", "-99", "-999", "-9999", "-99999"),
)


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


def describe_places(places: Places, folder: Path) -> str:
    """What was read: how many places of each split, how many countries, and where on the globe they are."""
    rows = " + ".join(f"{len(places.y[split]):,}" for split in SPLITS)
    everywhere = np.concatenate([places.x[split] for split in SPLITS]).astype(float)
    low, high = everywhere.min(axis=0), everywhere.max(axis=0)
    digits = max(1, 1 - int(np.floor(np.log10(max((high - low).max(), 1e-5)))))
    long, lat = (f"{a:.{digits}f} to {b:.{digits}f}" for a, b in zip(low, high, strict=True))
    return f"{rows} places, {len(places.countries)} countries, longitude {long}, latitude {lat}, from {short(folder)}"


@about("the places", READING)
def load_places(folder: Path) -> Places:
    """Read train.csv, validation.csv and test.csv (columns long, lat, country; others are ignored).

    Separated by commas or, with decimal points or commas, by semicolons, tabs or |; gzipped or not.

    `country` is a name or an integer code; the labels are those of the training file, names in alphabetical
    and codes in numerical order. Spellings that differ in case, leading zeros or what can't be seen are one country.
    Raises InputError, which names the file and the line, for anything that can't be trained on.
    """
    check_folder(folder, "give --data a folder with train.csv, validation.csv, test.csv")
    tables = {split: _read_places(folder / f"{split}.csv") for split in SPLITS}
    _unite_spellings(tables, folder)
    names = sorted(tables["train"]["country"].unique())
    if all(re.fullmatch(r"-?\d{1,4000}", name) for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise InputError("only one country", str(folder / "train.csv"), "give at least two to tell apart")
    code = {name: number for number, name in enumerate(names)}
    _refuse_unseen(tables, names, folder)
    _warn_of_missing(tables, folder)
    warn_of_repeats(folder, "places", tables)
    return Places(
        x={split: table[["long", "lat"]].to_numpy(np.float32) for split, table in tables.items()},
        y={split: table["country"].map(code).to_numpy(np.int64) for split, table in tables.items()},
        countries=names,
    )


def draw_places(places: Places, rows: int) -> Places:
    """So many places of each split, drawn at random, the same ones each time; of train at least one of each country."""
    drawn = {}
    for split, y in places.y.items():
        order = np.random.default_rng(0).permutation(len(y))
        first = np.unique(y[order], return_index=True)[1] if split == "train" else []
        order = np.concatenate([order[first], np.delete(order, first)]).astype(int)
        drawn[split] = np.sort(order[: max(rows, len(first))])
    x, y = ({split: values[split][numbers] for split, numbers in drawn.items()} for values in (places.x, places.y))
    return Places(x, y, places.countries)


# ---------------------------------------------------------------------------- one file


def _read_places(path: Path) -> pd.DataFrame:
    """The columns long and lat as numbers, country as text, by the line of the file."""
    table, separator = read_table(path, ("long", "lat", "country"), numbers=("long", "lat"))
    if table.empty:
        raise InputError("has no rows", str(path), "add at least one place")
    for column in LIMITS:
        texts = table[column].str.replace("−", "-")  # the minus sign of word processors
        numbers = pd.to_numeric(texts if separator == "," else texts.str.replace(",", "."), errors="coerce")
        _refuse_texts(table[column], ~np.isfinite(numbers), path, separator)
        table[column] = numbers
    for column, limit in LIMITS.items():
        _refuse_outside(table, column, limit, path)
    # A column of codes that once held a gap comes out of pandas as 3.0, 7.0, ...; as 3,0 with decimal commas.
    point = r"\." if separator == "," else "[.,]"
    table["country"] = table["country"].str.replace(rf"^(-?\d+){point}0+$", r"\1", regex=True)
    nameless = table["country"].map(_seen).str.lower().isin(["", "nan"])
    if nameless.any():
        raise InputError(
            "country is missing" + _count(nameless), _where(path, nameless), _remedy(nameless, "fill it in")
        )
    return table


def _refuse_texts(texts: pd.Series, bad: pd.Series, path: Path, separator: str) -> None:
    if bad.any():
        text = texts[bad].iloc[0]
        remedy = _remedy(bad, "correct it")
        if re.search(r"\d\s*[°ºNSEWnsew]", text):
            remedy = "give decimal degrees such as -48.85, negative in the west and south"
        elif separator == "," and re.fullmatch(r"-?\d+,\d+", text):
            remedy = "write decimal points, or separate the columns by semicolons"
        raise InputError(f"{texts.name} {quoted(text)} is not a number{_count(bad)}", _where(path, bad), remedy)


def _refuse_outside(table: pd.DataFrame, column: str, limit: int, path: Path) -> None:
    numbers = table[column]
    bad = numbers.abs() > limit
    if bad.any():
        remedy = _remedy(bad, "correct it")
        if column == "long" and numbers.between(0, 360).all():
            remedy = "subtract 360 from those above 180, as longitudes run from -180 to 180"
        elif (numbers.abs() > 360).mean() > 0.5:
            remedy = "give degrees (WGS 84), not metres or other units"
        elif column == "lat" and numbers.abs().le(180).all() and table["long"].abs().le(90).all():
            remedy = "see whether long and lat are swapped"
        what = f"{column} {numbers[bad].iloc[0]:g} is outside -{limit} to {limit} degrees{_count(bad)}"
        raise InputError(what, _where(path, bad), remedy)


def _where(path: Path, bad: pd.Series) -> str:
    return f"{path} line {bad.idxmax()}"


def _count(bad: pd.Series) -> str:
    return f" in {bad.sum():,} of {len(bad):,} rows" if bad.sum() > 1 else ""


def _remedy(bad: pd.Series, first: str) -> str:
    if bad.sum() == 1:
        return f"{first} or remove the row"
    return f"{first} or remove these rows" if bad.mean() < 0.5 else "see whether this is the right column"


# ---------------------------------------------------------------------------- the countries of all files


def _seen(name: str) -> str:
    """A name as it is seen: accents in one encoding, no control and format characters, one blank between words."""
    signs = (
        s for s in unicodedata.normalize("NFC", name) if s.isspace() or unicodedata.category(s) not in ("Cc", "Cf")
    )
    return " ".join("".join(signs).split())


def _same(seen: str) -> str:
    """What spellings of a country have in common."""
    return re.sub(r"^(-?)0+(?=\d)", r"\1", seen) if re.fullmatch("-?[0-9]+", seen) else seen.lower()


def _unite_spellings(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Give each country one spelling, Germany of GERMANY, 16 of 016; say so where they can be seen to differ."""
    counts = pd.concat([table["country"] for table in tables.values()]).value_counts()
    spellings: dict[str, list[str]] = {}
    for name in counts.index.sort_values():
        spellings.setdefault(_same(_seen(name)), []).append(name)
    spellings = {same: names for same, names in spellings.items() if len(names) > 1}
    if not spellings:
        return

    def preference(name: str) -> tuple:
        return name not in (name.upper(), name.lower()), -len(name), counts[name]

    common = {name: max(names, key=preference) for names in spellings.values() for name in names}
    for table in tables.values():
        table["country"] = table["country"].map(lambda name: common.get(name, name))
    told = []
    for names in spellings.values():
        others = sorted({_seen(name) for name in names} - {_seen(common[names[0]])})
        told += [f"{', '.join(map(quoted, others))} as {quoted(common[names[0]])}"] if others else []
    if told:
        what = f"spellings that differ only in case or leading zeros are read as one country: {some(told, '; ')}"
        warn(f"{what}, {folder}, rename what is another country")


def _refuse_unseen(tables: dict[str, pd.DataFrame], names: list[str], folder: Path) -> None:
    unseen = {split: table["country"][~table["country"].isin(names)] for split, table in tables.items()}
    counts = pd.concat(list(unseen.values())).value_counts()
    if counts.empty:
        return
    split, first = next((split, rows) for split, rows in unseen.items() if len(rows))
    rows = "row" if counts.sum() == 1 else f"{counts.sum():,} rows"
    what, them, whose = f"country {quoted(counts.index[0])} is not in train.csv", "it", "its"
    if len(counts) > 1:
        each = some([f"{quoted(name)} {count:,}" for name, count in counts.items()], ", ", 25)
        what, them, whose = f"{len(counts)} countries are not in train.csv (rows: {each})", "them", "their"
    remedy = f"add places of {them} to train.csv or remove {whose} {rows} from the other files"
    raise InputError(what, f"{folder / split}.csv line {first.index[0]}", remedy)


def _warn_of_missing(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    names = pd.concat([table["country"] for table in tables.values()])
    counts = names[names.str.lower().isin(FOR_MISSING)].value_counts()
    if len(counts):
        each = some([f"{quoted(name)} {count:,}" for name, count in counts.items()], ", ")
        what = f"{counts.sum():,} of {len(names):,} places have a country that may mean none ({each})"
        warn(f"{what}, {folder}, remove these rows if so")
