"""Sections as data: JSON that comes back the same, every number in a table, and files of others left alone."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from made_up import arguments, asked, fill, make, make_all

from lab.errors import InputError, RunsFailed
from lab.gallery import sections
from lab.gallery.report import Report
from lab.gallery.reports import describe
from lab.study import Runs
from lab.tell.statistics import Difference


def plain(runs, report) -> None:
    """Does it work?"""
    fill(report, ["a", "b"], 2)
    report.headline = "It works"


def test_the_gallery_grows_in_order_and_the_same_runs_give_the_same_bytes(tmp_path):
    def files() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in {".md", ".html", ".json"}
        }

    make(tmp_path, asked("1.2", plain), asked("1.10", plain))
    make(tmp_path, asked("1.1", plain), script="two")
    before = files()
    assert before.keys() == {"README.md", "index.html", "1.1.json", "1.2.json", "1.10.json"}
    assert [one["section"] for one in sections.read(tmp_path)[0]] == ["1.1", "1.2", "1.10"]
    for view in ("README.md", "index.html"):
        (tmp_path / view).unlink()  # rendered of the sections alone
    make(tmp_path, asked("1.2", plain))
    assert files() == before


def test_every_number_is_in_one_table_and_times_in_their_own(tmp_path):
    def found(runs, report):
        cells = {("test", "accuracy"): np.array([0.5, 0.6]), ("test", "right"): np.ones((2, 9))}
        report.rows = {"a": cells | {("train", "seconds"): np.array([12.345])}, "b": cells, "c": cells, "d": cells}
        report.differences = {
            "b": Difference(np.array([0.1, 0.2]), 0.125, 0.25, 0.03),
            "c": Difference(np.array([0.1]), np.nan, np.nan, 1.0),
            "d": Difference(np.array([np.nan]), np.nan, np.nan, 1.0),
        }

    make(tmp_path, asked("1.10", found), asked("1.2", found))
    with pytest.raises(RunsFailed, match=r"1\.3 lacks b, c"):
        make(tmp_path, asked("1.3", found, a="a", b="b", c="c"), lost=("b", "c"))
    make(tmp_path, asked("1.10", found))
    lines = (tmp_path / "one.csv").read_text().splitlines()
    of_two = ["a,0,test,accuracy,0.5", "a,1,test,accuracy,0.6", "b,0,test,accuracy,0.5", "b,1,test,accuracy,0.6"]
    of_two += ["b,,test,gain,0.15000000000000002", "b,,test,gain_low,0.125", "b,,test,gain_high,0.25"]
    of_two += ["b,,test,gain_holm_p,0.03", "c,0,test,accuracy,0.5", "c,1,test,accuracy,0.6", "c,,test,gain,0.1"]
    of_two += ["c,,test,gain_holm_p,1.0", "d,0,test,accuracy,0.5", "d,1,test,accuracy,0.6"]
    failed = ["1.3,b,,,failed,1.0", "1.3,c,,,failed,1.0"]
    wanted = [*(f"1.2,{line}" for line in of_two), *failed, *(f"1.10,{line}" for line in of_two)]
    assert lines == [",".join(sections.COLUMNS), *wanted]
    times = pd.read_csv(tmp_path / "one.seconds.csv", dtype=str)
    assert times.to_numpy().tolist() == [[s, "a", "0", "train", "seconds", "12.345"] for s in ("1.2", "1.10")]


def test_scripts_that_write_at_the_same_time_lose_no_section(tmp_path):
    sections.check_out(tmp_path, "one")

    def write(number: int) -> None:
        one, given = asked(f"1.{number}"), arguments(tmp_path)
        report = Report(one, Runs(), given)
        report.rows = {"a": {("test", "loss"): np.ones(1)}}
        with sections.writing(tmp_path):
            sections.save(tmp_path, describe(one, report, given), report)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    wanted = [f"1.{number}" for number in range(24)]
    assert [one["section"] for one in sections.read(tmp_path)[0]] == wanted
    assert pd.read_csv(tmp_path / "one.csv", dtype=str).section.tolist() == wanted


def test_other_data_in_the_gallery_of_a_script_are_told(tmp_path, capsys):
    def told(section: str, script: str, read: str) -> str:
        make(tmp_path, asked(section, plain), script=script, read=read)
        return capsys.readouterr().err

    assert [told("1.1", "one", "5 *\nplaces"), told("1.2", "one", "5 *\nplaces"), told("1.3", "two", "3")] == [""] * 3
    warning = told("1.2", "one", "6 places")
    assert warning.startswith("warning: section 1.1 is of other data")
    assert len(warning.splitlines()) == 1
    assert told("1.1", "one", "6 places") == ""


def test_what_live_figures_share_is_kept_once_and_as_long_as_it_is_used(tmp_path):
    def live(*shared: str):
        def found(runs, report):
            report.live = {"kind": "map", "shared": {name: {"here": name} for name in shared}, "networks": []}

        return found if shared else plain

    def parts() -> list[str]:
        held, shared = sections.read(tmp_path)
        assert all(shared[name] == {"here": name} for one in held if one["live"] for name in one["live"]["uses"])
        return [*shared]

    make(tmp_path, asked("1.1", live("p-a")), asked("1.2", live("p-a")))
    assert parts() == ["p-a"]
    make(tmp_path, asked("1.2", live("p-b")))
    assert parts() == ["p-a", "p-b"]
    make(tmp_path, asked("1.1", plain))
    assert parts() == ["p-b"]
    (tmp_path / "sections" / "p-b.json").unlink()
    with pytest.raises(InputError, match=r"is missing, section 1.2 uses it, .*p-b.json, restore it"):
        sections.check_out(tmp_path, "one")


def damaged(change):
    """A section after a change of its JSON."""

    def break_it(out):
        path = out / "sections" / "6.1.1.json"
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return break_it


def written(name: str, text: str):
    return lambda out: (out / name).write_text(text)


FOREIGN = {
    "a README of others": (written("README.md", "my notes\n"), "is not a gallery of ours, .*README.md, move it away"),
    "a page of others": (written("index.html", "<p>mine"), "is not a page of ours, .*index.html"),
    "a binary page": (lambda out: (out / "index.html").write_bytes(b"\xff\0"), "is not a page of ours"),
    "a table of others": (written("one.csv", "a,b\n1,2\n"), "is not a table of results, .*one.csv"),
    "a section in no JSON": (written("sections/6.1.1.json", '{"gallery": "MLPs'), "is not a section of ours"),
    "JSON of others": (written("sections/notes.json", "[1, 2]"), "is not a section of ours, .*notes.json"),
    "another number": (lambda out: (out / "sections/6.1.1.json").rename(out / "sections/6.1.json"), "not a section"),
    "a field less": (damaged(lambda held: held.pop("rules")), "is not a section of ours, or damaged, .*6.1.1.json"),
    "a field of another kind": (damaged(lambda held: held["whys"][0].update(holds="yes")), "is not a section of ours"),
    "a row too short": (damaged(lambda held: held["table"]["rows"][0].pop()), "is not a section of ours"),
    "no section": (
        lambda out: [path.unlink() for path in out.glob("sections/*")],
        "is a gallery without its sections/, which would be lost, .*README.md, move it away",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("made")).parent


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_and_damaged_ones_are_told_and_left_alone(name, whole, tmp_path):
    out, (change, told) = shutil.copytree(whole, tmp_path / "copy"), FOREIGN[name]
    sections.check_out(out, "one")
    change(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=told) as caught:
        sections.check_out(out, "one")
    assert re.fullmatch(r"[^\n]+", str(caught.value))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
