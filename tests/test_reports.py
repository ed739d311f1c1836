"""Each experiment is reported as soon as its runs are there, what is missing at the end, and the terminal's text."""

import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import arguments, asked, fill, make

from lab.errors import InputError, RunsFailed
from lab.gallery import sections
from lab.gallery.report import Report
from lab.gallery.reports import Reports, brief, describe, made_in
from lab.study import SPLITS, Condition, Experiment, Result, Runs


def test_an_experiment_is_reported_and_saved_as_soon_as_its_last_run_is_there(tmp_path, capsys):
    seen = []

    def found(runs, report):
        seen.append((dict(runs), dict(report.beside)))
        fill(report, ["a", "b"], 2)
        report.headline = "It is so"

    one = Experiment("1.1", "first", "asks", {"a": "A"}, found, beside={"b": "B"})
    sections.check_out(tmp_path, "one")
    of = arguments(tmp_path)
    reports = Reports([asked("1.2", found, c="C"), one], lambda one, beside: Report(one, beside, of), of)
    results = {config: Result(config, {}, 1.0, ("m",)) for config in "ABC"}
    reports.add({"A": results["A"]})
    assert (seen, capsys.readouterr().out) == ([], "")
    reports.add({"B": results["B"]})
    assert seen == [({"a": results["A"]}, {"b": results["B"]})]
    out = capsys.readouterr().out
    assert re.search(r"\A\n1 of 2 experiments after \d:\d\d: 1.1 first\n\n1.1 first: It is so\n", out)
    (section,), _ = sections.read(tmp_path)
    assert (section["headline"], section["made_in"]) == ("It is so", "2.00 s of training on m")
    with pytest.raises(RunsFailed, match=r"1\.2 lacks c"):
        reports.close()
    assert [one["failed"] for one in sections.read(tmp_path)[0]] == [[], ["c"]]
    assert "\nGallery: " in capsys.readouterr().out


def test_redrawing_leaves_out_what_lacks_runs_and_needs_some_to_draw(tmp_path):
    make(tmp_path, asked("1.1"), asked("1.2"))
    (tmp_path / "one.csv").unlink()
    before = shutil.copytree(tmp_path, tmp_path / "before")
    make(tmp_path, asked("1.1"), asked("1.2"), lost=("run of 1.2",), redraw=True)
    assert sections.read(tmp_path) == sections.read(before)
    with pytest.raises(InputError, match=r"no experiment has all its finished runs, .*runs/one, give the options"):
        make(tmp_path, asked("1.1"), asked("1.2"), lost=("run of 1.1", "run of 1.2"), redraw=True)


def test_results_name_their_time_and_all_machines():
    made = [
        Result(None, {}, seconds, tuple(machines)) for seconds, machines in ((2.0, "db"), (7000.0, "ca"), (0.0, ""))
    ]
    assert made_in(made) == "7,002 s of training on a; b; c; d"
    assert made_in(made[:1]) == "2.00 s of training on b; d"
    assert made_in(made[2:]) == ""


WORDS = st.lists(st.text("abcdefgh-*", min_size=1, max_size=12), min_size=1, max_size=40).map(" ".join)
COLUMNS = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.sampled_from(["accuracy", "loss", "seconds", "gradient_layer_95"])),
    min_size=1,
    unique=True,
)
NUMBERS = st.lists(st.sampled_from([0.5, 1.0, 12345.678, 1e-7, np.nan]), min_size=1, max_size=3).map(np.array)


@given(
    WORDS,
    st.lists(st.tuples(WORDS, st.booleans()), max_size=3),
    st.dictionaries(WORDS.map(lambda name: name[:30]), st.lists(NUMBERS, min_size=12, max_size=12), min_size=1),
    COLUMNS,
    st.sampled_from([80, 120]),
)
def test_the_terminals_text_fits_it_and_holds_every_word_and_row(headline, whys, rows, columns, width):
    report = Report(asked("1.1"), Runs(), arguments(None))
    report.headline = headline
    report.rows = {name: dict(zip(columns, values, strict=False)) for name, values in rows.items()}
    for text, holds in whys:
        report.why(text, Condition(holds, "measured so"))
        report.say(f"also {text}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = brief(describe(report.experiment, report, report.arguments), report)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert f"1.1 part-1: {' '.join(headline.split())}" in words
    for why, holds in whys:
        why = " ".join(why.split())
        assert f"- {why}" in words if holds else f"- Not so here: {why} (Measured: measured so.)" in words
        assert f"- also {why}" in words
    names = [re.escape(" ".join(name.split())) for name in rows]
    assert all(re.search(rf"^{name}(  |$)", text, re.MULTILINE) for name in names)


def test_names_of_others_do_not_command_the_terminal():
    report = Report(asked("1.1"), Runs(), arguments(None))
    report.rows, report.headline = {"a\x1b[2J": {("test", "loss"): np.ones(1)}}, "b\x1b[2J"
    report.why("c\x1b[2J", Condition(False, "d\x1b[2J"))
    text = brief(describe(report.experiment, report, report.arguments), report)
    assert "\x1b" not in text
    assert text.count(r"\x1b[2J") == 4
