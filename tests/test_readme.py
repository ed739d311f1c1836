"""README: its results are those of the committed tables, its length and its links."""

import io
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from lab.tell import statistics

ROOT = Path(__file__).parents[1]


def committed_text(path: str) -> str:
    """A file as it was committed: who has run a script on another machine has other numbers in plots/."""
    found = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:./{path}"], capture_output=True)
    return found.stdout.decode() if found.returncode == 0 else (ROOT / path).read_text()


README = committed_text("README.md")
ROWS = re.findall(r"^\| (\d[\d.]+) \| (.+?) \| ([\d.]+)(.*?) \|", README, re.MULTILINE)


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    names = ("NN_tutorial", "cnn", "xg")
    tables = (io.StringIO(committed_text(f"plots/{name}.csv")) for name in names)
    return pd.concat(pd.read_csv(table, dtype={"section": str}) for table in tables)


@pytest.mark.parametrize(("section", "run", "mean", "interval"), ROWS, ids=lambda text: text.strip())
def test_a_number_of_the_results_is_that_of_the_committed_runs(section, run, mean, interval, committed):
    mine = committed[committed.section == section]
    rows = mine[(mine.metric == "accuracy") & (mine.split == "test")]
    labels = [label for label in dict.fromkeys(rows.run) if label == run or label.startswith(f"{run} ")]
    if len(labels) > 1:  # a baseline at several rates: the one that validation chose
        validation = mine[mine.run.isin(labels) & (mine.split == "validation")]
        means = validation.pivot_table(index="run", columns="metric", values="value")
        labels = [means.sort_values(["accuracy", "loss"], ascending=[False, True]).index[0]]
    values = rows[rows.run == labels[0]].value.to_numpy()
    assert f"{values.mean():.3f}" == mean
    expected = ""
    if section.startswith("7"):
        expected = " [{:.3f}, {:.3f}]".format(*statistics.wilson(values.mean(), 160))
    elif len(values) > 1:
        expected = f" ± {statistics.interval(values)[1]:.3f}"
    assert interval == expected


def test_the_numbers_on_real_deepfakes_are_those_of_their_table():
    table = pd.read_csv(io.StringIO(committed_text("docs/deepfakes.csv")), dtype={"section": str})
    mean = table[table.metric != "failed"].groupby(["section", "run", "split", "metric"]).value.mean()
    shown = {
        name: re.findall(r"[^|]+", line) for name, line in re.findall(r"^\| ([a-z0-9% ]*) (\|.+)\|$", README, re.M)
    }
    sections = ["7.2.1", "7.2.2", "7.2.3", "7.2.4", "7.2.5", "7.6"]
    for section, accuracy, ends in zip(sections, shown["test accuracy"], shown["95% interval"], strict=True):
        validation = mean.unstack(["split", "metric"]).loc[section, "validation"]
        validation = validation[~validation.index.str.startswith("shuffled")]
        run = validation.sort_values(["accuracy", "loss"], ascending=[False, True]).index[0]
        found = mean[section, run, "test", "accuracy"]
        assert accuracy.strip() == f"{found:.3f}"
        assert ends.strip() == "{:.3f} to {:.3f}".format(*statistics.wilson(found, 300))


def test_every_section_of_the_default_runs_has_a_row(committed):
    measured = {section for section in committed.section if not section.startswith("7.5")}
    assert measured == {section for section, *_ in ROWS}


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160
    pages = [ROOT / "README.md", ROOT / "data" / "README.md", ROOT / "plots" / "README.md", *ROOT.glob("docs/*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
