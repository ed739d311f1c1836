"""What is told: the gallery, its tables, and the text on the terminal."""

import re
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import charts, gallery
from lab.errors import InputError, RunsFailed
from lab.results import SPLITS, Experiment, Report, Result
from lab.statistics import wilson


def report(results, study) -> Report:
    """Does it work?

    Varied: nothing.
    Look for: a number.
    """
    cells = {(split, metric): np.array([0.5, 0.6, 0.7]) for metric in ("accuracy", "loss") for split in SPLITS}
    rows = {"plain": cells | {("train", "seconds"): np.array([12.345] * 3)}, "none": cells}
    return Report(rows, "It *works* [0.5, 0.7]", ["It is 0.6 (row 1).", "long-winded " * 20], ["p < 0.05", "a <b> c"])


def of(section: str, found=report) -> Experiment:
    return Experiment(section, f"part-{section[-1]}", "asks", {}, found)


def save(out, script: str, *sections: str, found: Report | None = None, lacking=None, quick=False) -> str:
    """The page after a script has reported on these sections."""
    chosen = [of(section) for section in sections]
    reports = {} if lacking else {one.section: found or report({}, None) for one in chosen}
    made_in = gallery.made_in([Result(None, {}, 80.0, ("a machine",))])
    texts = {s: gallery.describe(of(s), each, script, made_in, quick) for s, each in reports.items()}
    gallery.save_reports(out, script, chosen, reports, lacking or {}, texts)
    return (out / gallery.PAGE).read_text()


# ---------------------------------------------------------------------------- the page


def test_the_gallery_grows_and_the_same_numbers_give_the_same_bytes(tmp_path):
    save(tmp_path, "one", "1.2", "1.10")
    page = save(tmp_path, "two", "1.1")
    assert page == save(tmp_path, "two", "1.1") == save(tmp_path, "one", "1.2")
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == ["1.1 part-1", "1.2 part-2", "1.10 part-0"]
    links = re.findall(r"^\| \[(.+)\]\(#(.+)\) +\| (\S+) ", page, re.MULTILINE)
    assert links == [("1.1", "11-part-1", "part-1"), ("1.2", "12-part-2", "part-2"), ("1.10", "110-part-0", "part-0")]
    assert page.startswith(gallery.TITLE)
    question, varied, look_for, headline, table, verdicts, rule, made = page.split("\n## ")[1].split("\n\n")[1:]
    assert [question, varied, look_for] == ["Does it work?", "*Varied:* nothing.", "*Look for:* a number."]
    assert headline == r"**It \*works\* [0.5, 0.7]**"
    assert "| 1   | plain | 3 | 0.6000 ±\N{NO-BREAK SPACE}0.2484 |" in table
    assert "| 12.3 ±\N{NO-BREAK SPACE}0.0    |" in table
    assert verdicts.startswith("- It is 0.6 (row 1).\n- long-winded")
    assert rule == r"Rule: p < 0.05; a \<b> c"
    assert made.strip() == (
        "Made with `python two.py part-1` in 80.0 s of training on a machine; all numbers: [two.csv](two.csv)."
    )


def test_figures_are_those_of_the_report_in_its_order_under_their_titles(tmp_path):
    (tmp_path / "1.1_old.png").touch()
    titles = {"1.1_b": "It *works*", "1.1_a": "A title that\nis long"}
    found = report({}, None)
    found.figures = {name: charts.figure(title)[0] for name, title in titles.items()}
    plt.close("all")
    page = save(tmp_path, "one", "1.1", found=found)
    figures = re.findall(r"^!\[(.+)\]\((.+)\)$", page, re.MULTILINE)
    assert figures == [(r"It \*works\*", "1.1_b.png"), ("A title that is long", "1.1_a.png")]
    assert "1.1_old" not in page


def test_without_a_question_the_summary_stands_for_it_and_a_quick_run_says_so(tmp_path):
    asked = gallery.describe(of("1.1", lambda results, study: None), report({}, None), "one")
    assert asked.startswith("Asks.\n\n**It ")
    assert "Made with `python one.py part-1`; all numbers" in asked
    page = save(tmp_path, "one", "1.1", quick=True)
    assert page.count(r"QUICK RUN, NOT A RESULT: It \*works\*") == 2  # the section and the table of findings


def test_a_failed_section_says_so_and_gets_well(tmp_path):
    save(tmp_path, "one", "1.1", "1.2")
    with pytest.raises(RunsFailed, match=r"1\.1 lacks a, b"):
        save(tmp_path, "one", "1.1", lacking={"1.1": ["a", "b"]})
    assert "| Failed: a, b " in (tmp_path / "README.md").read_text()
    table = pd.read_csv(tmp_path / "one.csv", dtype=str, keep_default_na=False)
    failed = table[table.section == "1.1"]
    assert failed[["run", "split", "metric", "value"]].to_numpy().tolist() == [
        [run, "", "failed", "1.0"] for run in "ab"
    ]
    assert set(table.section) == {"1.1", "1.2"}
    assert "Failed" not in save(tmp_path, "one", "1.1")
    assert "failed" not in (tmp_path / "one.csv").read_text()


def test_nothing_to_draw_again_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no experiment has all its finished runs"):
        gallery.save_reports(tmp_path, "one", [of("1.1")], {}, {}, {})


def test_scripts_that_write_at_the_same_time_lose_no_section(tmp_path):
    def write(number: int) -> None:
        with gallery.writing(tmp_path):
            save(tmp_path, "script", f"1.{number}")

    (tmp_path / "runs").mkdir()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert len(set(pd.read_csv(tmp_path / "script.csv", dtype=str).section)) == 24
    page = (tmp_path / "README.md").read_text()
    assert re.findall(r"^## (\S+)", page, re.MULTILINE) == [f"1.{number}" for number in range(24)]


def test_names_of_others_stay_text(tmp_path):
    names = ["a|b", "c\n## 9 d", "![e](http://example.org/e.png)", "<img src=f>"]
    found = Report({name: {("test", "loss"): np.array([1.0])} for name in names}, "h", names, ["r"])
    page = save(tmp_path, "one", "1.1", found=found)
    assert re.findall(r"^#+ (.+)", page, re.MULTILINE) == ["Gallery: MLPs against CNNs", "1.1 part-1"]
    assert all(re.sub(r"\\.", "", line).count("|") == 5 for line in page.splitlines() if re.match(r"\| \d", line))
    assert not re.search(r"\]\(http|(?<!\\)<", page)


# ---------------------------------------------------------------------------- the tables


def test_every_number_is_in_one_table_and_times_in_their_own(tmp_path):
    save(tmp_path, "one", "1.10", "1.2")
    numbers, times = (pd.read_csv(tmp_path / f"one{name}.csv", dtype={"section": str}) for name in ("", ".seconds"))
    assert list(numbers.columns) == list(times.columns) == gallery.COLUMNS
    assert list(dict.fromkeys(numbers.section)) == ["1.2", "1.10"]
    assert len(numbers) == 2 * 2 * 6 * 3  # sections, rows, columns, seeds
    assert set(numbers.metric) == {"accuracy", "loss"}
    one = (numbers.section == "1.2") & (numbers.run == "none") & (numbers.split == "test") & (numbers.metric == "loss")
    assert numbers[one][["seed", "value"]].to_numpy().tolist() == [[0, 0.5], [1, 0.6], [2, 0.7]]
    assert times[["run", "metric", "value"]].drop_duplicates().to_numpy().tolist() == [["plain", "seconds", 12.345]]


def test_times_are_told_by_their_names():
    names = ("seconds", "seconds_per_epoch", "secondshand", "updates_to_target", "run_seconds")
    assert [gallery.is_time(name) for name in names] == [True, True, False, False, False]


def test_results_name_their_time_and_all_machines():
    def result(seconds, *machines):
        return Result(None, {}, seconds, machines)

    assert (
        gallery.made_in([result(2.0, "d", "b"), result(3.5, "c", "a"), result(1.0, "b")])
        == "6.50 s of training on a; b; c; d"
    )
    assert gallery.made_in(result(seconds, "a") for seconds in (7000.0, 200.0)) == "7,200 s of training on a"
    assert gallery.made_in([result(0.0)]) == ""


def table(found: Report) -> list[list[str]]:
    """Header and rows of the table on the page."""
    lines = [line for line in gallery.describe(of("1.1"), found, "one").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_table_holds_the_seven_columns_that_say_most():
    found = report({}, None)
    found.rows["none"] = found.rows["none"] | {("test", "p"): np.array([0.25])}
    header, _, last = table(found)
    assert header == [
        *("row", "run", "n", "train accuracy", "validation accuracy", "test accuracy", "validation loss", "test loss"),
        *("train seconds", "test p"),
    ]
    assert last[-2:] == ["", "0.2500"]


def test_an_interval_stands_in_its_metrics_cell_and_few_seeds_have_that_of_the_examples():
    cells = {("test", "loss"): 0.6, ("test", "loss_low"): 0.1, ("test", "loss_high"): 1.2, ("test", "accuracy"): 0.75}
    found = Report({"a": {key: np.array([x]) for key, x in cells.items()}}, "h", [], [], examples={"test": 160})
    low, high = wilson(0.75, 160)
    assert table(found) == [
        ["row", "run", "n", "test loss", "test accuracy"],
        ["1", "a", "1", "0.6000 [0.1000, 1.200]", f"0.7500 ±\N{NO-BREAK SPACE}{(high - low) / 2:.4f}"],
    ]


# ---------------------------------------------------------------------------- the terminal

WORDS = st.lists(st.text("abcdefgh-*", min_size=1, max_size=12), min_size=1, max_size=40).map(" ".join)
COLUMNS = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.sampled_from(["accuracy", "loss", "seconds", "gradient_layer_95"])),
    min_size=1,
    unique=True,
)
NUMBERS = st.lists(st.sampled_from([0.5, 1.0, 12345.678, 1e-7, np.nan]), min_size=1, max_size=3).map(np.array)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    WORDS,
    st.lists(WORDS, max_size=3),
    st.dictionaries(WORDS.map(lambda name: name[:30]), st.lists(NUMBERS, min_size=12, max_size=12), min_size=1),
    COLUMNS,
    st.sampled_from([80, 120]),
)
def test_the_terminals_text_fits_it_and_holds_every_word_and_row(headline, verdicts, rows, columns, width):
    rows = {name: dict(zip(columns, values, strict=False)) for name, values in rows.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = gallery.brief(of("1.1"), Report(rows, headline, verdicts, []))
    assert max(map(len, text.splitlines())) <= width
    assert f"1.1 part-1: {' '.join(headline.split())}" in " ".join(text.split())
    for verdict in verdicts:
        assert f"- {' '.join(verdict.split())}" in " ".join(text.split())
    for number, name in enumerate(rows, 1):
        assert re.search(rf"^{number}  {re.escape(' '.join(name.split()))}", text, re.MULTILINE)


def test_a_wide_table_goes_on_below_and_each_part_has_all_rows(monkeypatch):
    def parts(width: int) -> int:
        monkeypatch.setenv("COLUMNS", str(width))
        text = gallery.brief(of("1.1"), report({}, None))
        assert text.count("±") == 13  # six columns of both rows, and the seconds of one
        assert len(re.findall("^1  plain", text, re.MULTILINE)) == len(re.findall("^2  none", text, re.MULTILINE))
        return len(re.findall("^1  plain", text, re.MULTILINE))

    assert [parts(width) for width in (40, 80, 200)] == [6, 2, 1]


def test_a_word_longer_than_the_terminal_stays_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    address = "http://example.org/" + "a" * 100
    found = Report({"run": {("test", "p"): np.ones(1)}}, f"see {address}", [f"{address} (row 1)"], [])
    assert gallery.brief(of("1.1"), found).count(address) == 2


def test_a_report_without_rows_has_no_table():
    assert gallery.brief(of("1.1"), Report({}, "h", ["v"], [])) == "\n1.1 part-1: h\n\n- v"


def test_a_row_without_values_is_a_row():
    text = gallery.brief(of("1.1"), Report({"run": {("test", "p"): np.ones(1)}, "lost": {}}, "h", ["v"], []))
    assert re.search("^2  lost$", text, re.MULTILINE)
