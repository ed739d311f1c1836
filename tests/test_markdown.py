"""README.md: what it says of a section, in which order, and that names of others stay text; the cells of tables."""

import re

import numpy as np
import pytest
from made_up import arguments, asked, make, make_all
from markdown_it import MarkdownIt

from lab.gallery import markdown
from lab.gallery.report import Report
from lab.study import Condition, Runs
from lab.tell.statistics import Difference, wilson


def test_a_section_says_its_point_and_its_reasons_and_then_its_numbers(tmp_path):
    make_all(tmp_path)
    readme = (tmp_path / "README.md").read_text()
    start, section, *others = readme.split("\n## ")
    short, depth, findings, *_ = start.split("\n- ")[1:] + start.split("\n\n")[2:]
    assert short == "A learning rate of 1 kills the units: what is silent has no gradient to come back by. " + (
        "([6.1.1](#611-learning-rate))"
    )
    assert "Depth helps, up to a point. ([6.2.1.1](#6211-best-model))" in depth
    assert re.search(r"^\| \[7\.5\.1\]\(#751-comparison\) +\| comparison +\| Failed: b +\|$", findings, re.MULTILINE)
    assert "This is nowhere." not in readme  # its condition fails
    texts = [
        *("6.1.1 learning-rate", "How large may the learning rate be, and what happens above and below?"),
        "](6.1.1_learning_rate.png)",
        *("**Best: lr 0.01, test accuracy 0.902; lr 1 collapsed to class 0**", "At 1 the units die. Adam moves a "),
        "**Not so here:** At 0.00001 there was no time: all updates together moved a weight by 0.018 on average. "
        "(Measured: distance moved of lr 0.00001: 0.12, not below 0.07 (distance moved of lr 0.001).)",
        *("<details open>\n<summary>Numbers</summary>", "*Varied:* Adam's learning rate, constant over `50` epochs"),
        *("| against lr 0.01 ", "- The loss of lr 1 ends at 2.94 nats", "What the reasons rest on:"),
        *("- silent units of lr 1: 0.93, above 0.5", "Rules:", "- collapsed: it does\n- chosen: by mean"),
        *("Data: 5 places of /data.", "Made with `python one.py learning-rate --seeds 5` in 60.0 s of training on a "),
        "</details>",
    ]
    parts = section.strip().split("\n\n")
    assert [text in part for text, part in zip(texts, parts, strict=True)] == [True] * len(texts)
    assert "\n\nWhich baseline is best?\n\n**Failed: b**" in others[1]
    html = MarkdownIt("commonmark").enable("table").render(readme)
    assert [html.count(tag) for tag in ("<details open>", "</details>", "<table>")] == [3, 3, 4]
    quick = tmp_path / "quick"
    make(quick, asked("1.1", lambda runs, report: report.why("w", Condition(True, "c"), "It dies.")), quick=True)
    told = (quick / "README.md").read_text()
    assert "- Quick run, not a result: It dies. (" in told
    assert told.count("QUICK RUN, NOT A RESULT: ") == 2  # in the section and the table of findings


def test_names_of_others_stay_text(tmp_path):
    names = ["a|b", "c\n## 9 d", "![e](http://example.org/e.png)", "<img src=f>", "$g$", "~~h~~", "&lt;", "*i* _j_ `k"]

    def found(runs, report):
        report.rows = {name: {("test", "loss"): np.ones(1)} for name in names}
        report.headline = " ".join(names)
        for name in names:
            report.why(name, Condition(False, name))
            report.say(name, name)

    make(tmp_path, asked("1.1", found))
    readme = (tmp_path / "README.md").read_text()
    assert re.findall(r"^#+ (.+)", readme, re.MULTILINE) == ["Gallery: MLPs against CNNs", "1.1 part-1"]
    assert all(re.sub(r"\\.", "", line).count("|") == 4 for line in readme.splitlines() if line.startswith("| "))
    tokens = MarkdownIt("commonmark").enable("table").parse(readme.split("<summary>Numbers</summary>")[1])
    inside = [child for token in tokens for child in token.children or ()]
    text = "".join(child.content for child in inside if child.type in ("text", "text_special"))
    assert all(" ".join(name.split()) in text for name in names)
    assert {child.type for child in inside} <= {*("text", "text_special", "softbreak", "code_inline")} | {
        *("link_open", "link_close")
    }
    assert [child.attrs["href"] for child in inside if child.type == "link_open"] == ["one.csv"]


def test_a_table_holds_the_eight_columns_that_say_most():
    report = Report(asked("1.1"), Runs(), arguments(None))
    splits = [(split, metric) for metric in ("accuracy", "loss") for split in ("train", "validation", "test")]
    cells = dict.fromkeys(splits, np.array([0.4, 0.5, 0.6])) | {("train", "nowhere"): np.zeros(3)}
    report.rows = {"a\nb": cells, "c": cells | {("test", "odd_p"): np.array([0.25])}}
    report.reference, report.differences = "c", {"a\nb": Difference(np.array([0.1]), np.nan, np.nan, 1.0)}
    table = markdown.table(report)
    five = ["train accuracy", "validation accuracy", "test accuracy", "test loss", "test odd p"]
    assert table["header"] == ["run", "n", *five, "against c"]
    cell = ["0.5000 ± 0.2484"] * 4
    assert table["rows"] == [["a b", "3", *cell, "", "+0.100 not shown"], ["c", "3", *cell, "0.2500", "reference"]]
    report.differences, report.rows["c"] = {}, report.rows["c"] | {("train", "nowhere"): np.ones(3)}
    assert markdown.table(report)["header"] == ["run", "n", *five[:3], "test loss", "train nowhere", "test odd p"]


def test_an_interval_stands_in_its_metrics_cell_and_few_seeds_have_that_of_the_examples():
    report = Report(asked("1.1"), Runs(), arguments(None))
    cells = {("test", "loss"): 0.6, ("test", "loss_low"): 0.1, ("test", "loss_high"): 1.2, ("test", "accuracy"): 0.75}
    report.rows, report.examples = {"a": {key: np.array([x]) for key, x in cells.items()}}, {"test": 160}
    low, high = wilson(0.75, 160)
    table = markdown.table(report)
    assert table["header"] == ["run", "n", "test loss", "test accuracy"]
    assert table["rows"] == [["a", "1", "0.6000 [0.1000, 1.200]", f"0.7500 [{low:.4f}, {high:.4f}]"]]


@pytest.mark.parametrize(
    ("gain", "low", "high", "p", "metric", "told"),
    [
        (0.0123, 0.0031, 0.0214, 0.01, "accuracy", "+0.012 [+0.003, +0.021] better"),
        (-0.0123, -0.0214, -0.0031, 0.049, "accuracy", "-0.012 [-0.021, -0.003] worse"),
        (0.0017, 0.0014, 0.0020, 0.01, "accuracy", "+0.0017 [+0.0014, +0.0020] better"),
        (0.0123, 0.0031, 0.0214, 0.05, "accuracy", "+0.012 [+0.003, +0.021] not shown"),
        (0.5, 0.2, 0.8, 0.01, "loss", "+0.500 [+0.200, +0.800] higher"),
        (-0.5, -0.8, -0.2, 0.01, "loss", "-0.500 [-0.800, -0.200] lower"),
        (np.nan, np.nan, np.nan, 1.0, "accuracy", "not shown"),
    ],
)
def test_a_difference_tells_gain_interval_and_whether_it_is_shown(gain, low, high, p, metric, told):
    assert markdown.difference(Difference(np.array([gain]), low, high, p), metric) == told
