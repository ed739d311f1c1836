"""What is told: the gallery, the text on the terminal, the formats of figures, the help."""

import argparse
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cnn
import gallery
import helpers
import NN_tutorial
import xg
from helpers import Experiment, Report


def report(results, study) -> Report:
    """Does it work?

    Varied: nothing.
    Look for: a number.
    """
    cells = {(split, metric): np.array([0.5, 0.6, 0.7]) for metric in ("accuracy", "loss") for split in helpers.SPLITS}
    rows = {"plain": cells | {("train", "seconds"): np.array([1234.5] * 3)}, "none": cells}
    return Report(rows, "It *works* [0.5, 0.7]", ["It is 0.6 (row 1).", "long-winded " * 20], "p < 0.05; a <b> c")


def save(out, script: str, *sections: str, found=report, lacking=None) -> str:
    chosen = [Experiment(section, f"part-{section[-1]}", "asks", {}, found) for section in sections]
    reports = {experiment.section: found({}, None) for experiment in chosen if not lacking}
    for one in reports.values():
        one.made_in = gallery.made_in([{"run_seconds": np.array(80.0), "made_on": np.array("a machine")}])
    arguments = argparse.Namespace(out=out, experiments=chosen, quick=False)
    gallery.save_reports(arguments, script, reports, lacking or {})
    return (out / "README.md").read_text()


def test_the_gallery_grows_and_the_same_numbers_give_the_same_bytes(tmp_path):
    for name in ("1.2_a.png", "1.2_b.png", "1.20_c.png"):
        (tmp_path / name).touch()
    save(tmp_path, "one", "1.2", "1.10")
    page = save(tmp_path, "two", "1.1")
    assert page == save(tmp_path, "two", "1.1") == save(tmp_path, "one", "1.2")
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == ["1.1 part-1", "1.2 part-2", "1.10 part-0"]
    links = re.findall(r"^\| \[(.+)\]\(#(.+)\) +\| (\S+) ", page, re.MULTILINE)
    assert links == [("1.1", "11-part-1", "part-1"), ("1.2", "12-part-2", "part-2"), ("1.10", "110-part-0", "part-0")]
    assert page.startswith(gallery.TITLE)
    assert re.findall(r"\]\((.*png)\)", page) == ["1.2_a.png", "1.2_b.png"]
    section = page.split("\n## ")[1].split("\n\n")
    assert section[1:5] == [
        "Does it work?",
        "*Varied:* nothing.",
        "*Look for:* a number.",
        r"**It \*works\* [0.5, 0.7]**",
    ]
    assert "| 1   | plain | 3 | 0.6000 ±\N{NO-BREAK SPACE}0.2484 |" in section[5]
    assert "| 1,234 ±\N{NO-BREAK SPACE}0     |" in section[5]
    assert section[6].startswith("- It is 0.6 (row 1).\n- long-winded")
    assert section[7] == r"Rule: p < 0.05; a \<b> c"
    assert section[8].strip() == (
        "Made with `python two.py part-1` in 80.0 s of training on a machine; all numbers: [two.csv](two.csv)."
    )


def test_a_failed_section_says_so_and_gets_well(tmp_path):
    with pytest.raises(helpers.RunsFailed):
        save(tmp_path, "one", "1.1", lacking={"1.1": ["a", "b"]})
    assert "| Failed: a, b |" in (tmp_path / "README.md").read_text()
    assert "Failed" not in save(tmp_path, "one", "1.1")


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
    found = Report({name: {("test", "loss"): np.array([1.0])} for name in names}, "h", names, "r")
    page = save(tmp_path, "one", "1.1", found=lambda results, study: found)
    assert re.findall(r"^#+ (.+)", page, re.MULTILINE) == ["Gallery: MLPs against CNNs", "1.1 part-1"]
    assert all(re.sub(r"\\.", "", line).count("|") == 5 for line in page.splitlines() if re.match(r"\| \d", line))
    assert not re.search(r"\]\(http|(?<!\\)<", page)


def test_runs_name_their_time_and_all_machines():
    def run(seconds, machine):
        return {"run_seconds": np.array(seconds), "made_on": np.array(machine)}

    assert gallery.made_in([run(2.0, "b"), run(3.5, "a"), run(1.0, "b")]) == "6.50 s of training on a; b"
    assert gallery.made_in([run(7200.0, "a")]) == "7,200 s of training on a"
    assert gallery.made_in([{"loss": np.zeros(2)}]) == ""


def test_a_table_has_the_columns_that_fit_the_terminal(monkeypatch):
    def columns(width: int, name: str = "plain") -> int:
        monkeypatch.setenv("COLUMNS", str(width))
        found = report({}, None)
        found.rows = {name: found.rows["plain"]}
        text = gallery.brief(Experiment("1.1", "part", "", {}, report), found)
        assert max(map(len, text.splitlines())) <= width
        return text.count("±")

    found = report({}, None)
    assert gallery._table(found, 1, 3)[0] == ["row", "run", "n", "test accuracy"]
    assert gallery._table(found, 3, 3)[0][3:] == ["validation accuracy", "test accuracy", "train seconds"]
    bounds = {("test", f"loss_{end}"): np.array([number]) for end, number in (("low", 0.1), ("high", 1.2))}
    found.rows["plain"] |= bounds
    assert gallery._table(found, 9, 3)[0] == gallery._table(report({}, None), 9, 3)[0]
    assert "0.600 [0.100, 1.20]" in gallery._table(found, 9, 3)[1]
    assert [columns(width) for width in (40, 50, 80, 150)] == [1, 2, 4, 7]
    assert columns(80, "a long name " * 3) == 2


def test_rows_of_other_columns_get_a_table_of_their_own_and_what_is_left_out_is_counted(monkeypatch):
    scores, pair = report({}, None).rows["plain"], {("test", "difference"): np.zeros(3)}
    names = [f"{which} Big-Network lr 0.1" for which in ("first", "second")]
    rows = {
        names[0]: scores,
        "first minus second": pair,
        names[1]: scores,
        "none": {("test", "p"): np.ones(3)},
        "empty": {},
    }
    found = Report(rows, "It works", [], "", backbone="Big-Network")

    def told(width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        return gallery.brief(Experiment("1.1", "part", "", {}, report), found).splitlines()

    lines = [re.split(" {2,}", line) for line in told(80) if re.match(r"\d  ", line)]
    assert [line[:2] for line in lines] == [
        ["1", "first lr 0.1"],
        ["3", "second lr 0.1"],
        ["2", "first minus second"],
        ["4", "none"],
    ]
    assert [len(line) for line in lines] == [7, 7, 4, 4]
    assert "(Names: without Big-Network. 3 columns more in the gallery and its CSV.)" in told(80)
    assert "(Names: without Big-Network.)" in told(200)
    found.backbone = ""
    assert not any("(" in line for line in told(200))


def test_two_seeds_have_the_interval_of_the_examples_judged():
    low, high = helpers.wilson(0.75, 160)
    assert helpers.show(np.array([0.7, 0.8]), 160) == f"0.7500 ± {(high - low) / 2:.4f}"
    assert helpers.show(np.array([0.7, 0.8])) == "0.7500"
    assert helpers.show(np.array([0.7, 0.8, 0.75]), 160) == "0.7500 ± 0.1242"


def test_quick_figures_have_half_the_resolution_and_only_they(tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", matplotlib.rcParams["savefig.dpi"])  # is put back
    for options, size in ((["--quick"], (900, 500)), ([], (1800, 1000))):
        helpers.parse_arguments("", xg.EXPERIMENTS, options)
        helpers.save_figure(helpers.figure("Title")[0], tmp_path / "6.1.1_a.png", "A note.")
        with Image.open(tmp_path / "6.1.1_a.png") as image:
            assert image.size == size


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0000"), (0.98765, "0.9877"), (0.0, "0.0000"), (2.93531, "2.935"), (17.9796, "17.98"), (76812, "76,812"),
     (1.2e-4, "1.2e-04"), (np.nan, "nan"), (np.inf, "inf")],
)  # fmt: skip
def test_four_digits(value, text):
    assert helpers.show(np.array([value])) == text


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_figure_comes_as_png_and_in_the_format_asked_for_with_the_same_bytes(kind, tmp_path, monkeypatch):
    def draw(folder: str) -> dict[str, bytes]:
        (tmp_path / folder).mkdir()
        fig, axes = helpers.figure("A finding that takes more room than there is " * 4)
        helpers.band(axes[0, 0], np.arange(3), np.array([[1, 2, 3], [2, 3, 5.0]]), label="a")
        helpers.save_figure(fig, tmp_path / folder / "6.1.1_a.b.png", "A note.")
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    monkeypatch.setitem(matplotlib.rcParams, "savefig.format", "png")  # is put back after the test
    arguments = helpers.parse_arguments("", xg.EXPERIMENTS, ["--format", kind])
    assert arguments.format == kind
    first = draw("first")
    assert first.keys() == {"6.1.1_a.b.png", f"6.1.1_a.b.{kind}"}
    assert first == draw("second")


@pytest.mark.parametrize("module", [NN_tutorial, cnn, xg])
def test_help_fits_a_screen_and_has_examples(module, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(f"    python {module.__name__}.py") for line in lines) >= 3


def test_a_reader_that_goes_away_stops_nothing(monkeypatch, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)

    def main():
        for _ in range(3):
            print("x" * 100_000, flush=True)
        (tmp_path / "saved").touch()

    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert helpers.run_script(main) == 0
    assert (tmp_path / "saved").exists()
