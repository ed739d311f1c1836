"""What is told: the gallery, its tables, and the text on the terminal."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.draw import charts
from lab.gallery import sections
from lab.study import SPLITS, Experiment, Report, Result
from lab.tell.statistics import wilson


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


def save(out, script: str, *sections: str, found: Report | None = None, quick=False) -> str:
    """The page after a script has reported on these sections."""
    chosen = [of(section) for section in sections]
    reports = {one.section: found or report({}, None) for one in chosen}
    made_in = sections.made_in([Result(None, {}, 80.0, ("a machine",))])
    texts = {s: sections.describe(of(s), each, script, made_in, quick) for s, each in reports.items()}
    sections.save_reports(out, script, chosen, reports, {}, texts)
    return (out / sections.PAGE).read_text()


def test_the_gallery_grows_and_the_same_numbers_give_the_same_bytes(tmp_path):
    save(tmp_path, "one", "1.2", "1.10")
    page = save(tmp_path, "two", "1.1")
    assert page == save(tmp_path, "two", "1.1") == save(tmp_path, "one", "1.2")
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == ["1.1 part-1", "1.2 part-2", "1.10 part-0"]
    links = re.findall(r"^\| \[(.+)\]\(#(.+)\) +\| (\S+) ", page, re.MULTILINE)
    assert links == [("1.1", "11-part-1", "part-1"), ("1.2", "12-part-2", "part-2"), ("1.10", "110-part-0", "part-0")]
    assert page.startswith(sections.TITLE)
    parts = page.split("\n## ")[1].split("\n\n")[1:]
    texts = [
        *("Does it work?", "*Varied:* nothing.", "*Look for:* a number.", r"**It \*works\* [0.5, 0.7]**"),
        *("| 1   | plain | 3 | 0.6000 ±\N{NO-BREAK SPACE}0.2484 |", "- It is 0.6 (row 1).\n- long-winded"),
        *("Rule: p < 0.05;\na \\<b> c", "Made with `python two.py part-1` in 80.0 s of training on a machine; all "),
    ]
    assert [text in part for text, part in zip(texts, parts, strict=True)] == [True] * 8
    quick = save(tmp_path, "one", "1.1", quick=True)
    assert quick.count(r"QUICK RUN, NOT A RESULT: It \*works\*") == 2  # the section and the table of findings


def test_a_section_names_its_data_and_the_options_that_make_it_again_and_other_data_on_a_page_are_told(
    tmp_path, capsys
):
    def add(section: str, script: str, read: str) -> str:
        text = sections.describe(of(section), report({}, None), script, again=" --data 'my places' --quick", read=read)
        sections.save_reports(tmp_path, script, [of(section)], {section: report({}, None)}, {}, {section: text})
        sections.warn_of_other_data(tmp_path, script, read)
        return capsys.readouterr().err

    assert [add("1.1", "one", "5 places"), add("1.2", "one", "5 places"), add("1.3", "two", "3 photos")] == [""] * 3
    told = add("1.2", "one", "6 places")
    assert told.startswith("warning: section 1.1 is of other data")
    assert len(told.splitlines()) == 1
    assert add("1.1", "one", "6 places") == ""
    page = (tmp_path / sections.PAGE).read_text()
    assert re.findall("^Data: (.+)", page, re.MULTILINE) == ["6 places.", "6 places.", "3 photos."]
    assert "Made with `python one.py part-1 --data 'my places' --quick`" in page


def test_figures_are_those_of_the_report_in_its_order_under_their_titles(tmp_path):
    (tmp_path / "1.1_old.png").touch()
    found = report({}, None)
    found.figures = {"1.1_b": charts.figure("It *works*")[0], "1.1_a": charts.figure("A title that\nis long")[0]}
    figures = re.findall(r"^!\[(.+)\]\((.+)\)$", save(tmp_path, "one", "1.1", found=found), re.MULTILINE)
    assert figures == [(r"It \*works\*", "1.1_b.png"), ("A title that is long", "1.1_a.png")]


def test_scripts_that_write_at_the_same_time_lose_no_section(tmp_path):
    def write(number: int) -> None:
        with sections.writing(tmp_path):
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


def test_every_number_is_in_one_table_and_times_in_their_own(tmp_path):
    save(tmp_path, "one", "1.10", "1.2")
    numbers, times = (pd.read_csv(tmp_path / f"one{name}.csv", dtype={"section": str}) for name in ("", ".seconds"))
    assert list(numbers.columns) == list(times.columns) == sections.COLUMNS
    assert list(dict.fromkeys(numbers.section)) == ["1.2", "1.10"]
    assert len(numbers) == 2 * 2 * 6 * 3  # sections, rows, columns, seeds
    assert set(numbers.metric) == {"accuracy", "loss"}
    one = (numbers.section == "1.2") & (numbers.run == "none") & (numbers.split == "test") & (numbers.metric == "loss")
    assert numbers[one][["seed", "value"]].to_numpy().tolist() == [[0, 0.5], [1, 0.6], [2, 0.7]]
    assert times[["run", "metric", "value"]].drop_duplicates().to_numpy().tolist() == [["plain", "seconds", 12.345]]


def test_results_name_their_time_and_all_machines():
    made = [
        Result(None, {}, seconds, tuple(machines)) for seconds, machines in ((2.0, "db"), (7000.0, "ca"), (0.0, ""))
    ]
    assert sections.made_in(made) == "7,002 s of training on a; b; c; d"
    assert sections.made_in(made[:1]) == "2.00 s of training on b; d"
    assert sections.made_in(made[2:]) == ""


def table(found: Report) -> list[list[str]]:
    """Header and rows of the table on the page."""
    lines = [line for line in sections.describe(of("1.1"), found, "one").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_table_holds_the_seven_columns_that_say_most():
    found = report({}, None)
    found.rows["none"] = found.rows["none"] | {("test", "p"): np.array([0.25])}
    header, _, last = table(found)
    seven = "train accuracy,validation accuracy,test accuracy,validation loss,test loss,train seconds,test p"
    assert header == ["row", "run", "n", *seven.split(",")]
    assert last[-2:] == ["", "0.2500"]


def test_an_interval_stands_in_its_metrics_cell_and_few_seeds_have_that_of_the_examples():
    cells = {("test", "loss"): 0.6, ("test", "loss_low"): 0.1, ("test", "loss_high"): 1.2, ("test", "accuracy"): 0.75}
    found = Report({"a": {key: np.array([x]) for key, x in cells.items()}}, "h", [], [], examples={"test": 160})
    low, high = wilson(0.75, 160)
    assert table(found) == [
        ["row", "run", "n", "test loss", "test accuracy"],
        ["1", "a", "1", "0.6000 [0.1000, 1.200]", f"0.7500 [{low:.4f}, {high:.4f}]"],
    ]


WORDS = st.lists(st.text("abcdefgh-*", min_size=1, max_size=12), min_size=1, max_size=40).map(" ".join)
COLUMNS = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.sampled_from(["accuracy", "loss", "seconds", "gradient_layer_95"])),
    min_size=1,
    unique=True,
)
NUMBERS = st.lists(st.sampled_from([0.5, 1.0, 12345.678, 1e-7, np.nan]), min_size=1, max_size=3).map(np.array)


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
        text = sections.brief(of("1.1"), Report(rows, headline, verdicts, []))
    assert max(map(len, text.splitlines())) <= width
    assert f"1.1 part-1: {' '.join(headline.split())}" in " ".join(text.split())
    for verdict in verdicts:
        assert f"- {' '.join(verdict.split())}" in " ".join(text.split())
    lines = [rf"^{number}  {re.escape(' '.join(name.split()))}" for number, name in enumerate(rows, 1)]
    parts = {len(re.findall(line, text, re.MULTILINE)) for line in lines}  # of a table that is too wide
    assert len(parts) == 1
    assert parts != {0}
