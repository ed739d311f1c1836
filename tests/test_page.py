"""The page for a browser: the same as README.md, what it links, and that names of others stay text."""

import re
from pathlib import Path

import numpy as np
import pytest
from page.parser import HTMLParser

from lab.errors import InputError
from lab.gallery import page, sections
from lab.study import Experiment, Report

ROOT = Path(__file__).parents[1]


def report(results, study) -> Report:
    """Does it work?

    Varied: nothing.
    Look for: a number.
    """


class Page(HTMLParser):
    """What a browser finds: tags with their attributes, the text of the body, links and what they may lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.scripts, self.inside = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        self.links = [attributes["href"] for tag, attributes in self.tags if tag == "a"]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = [*self.inside, tag]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        (self.scripts if {"script", "style"} & {*self.inside} else self.texts).append(data)

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def save(out: Path, found: dict[str, Report]) -> Page:
    out.mkdir(exist_ok=True)
    chosen = [Experiment(section, f"part-{section[-1]}", "asks", {}, report) for section in found]
    texts = {one.section: sections.describe(one, found[one.section], "one") for one in chosen}
    sections.save_reports(out, "one", chosen, found, {}, texts)
    return Page((out / page.PAGE).read_text())


def found(*verdicts: str, rows: int = 3, rules=("p < 0.05",), labels=None, live=None) -> Report:
    labels = labels or [f"run {number}" for number in range(1, rows + 1)]
    cells = {label: {("test", "loss"): np.array([0.5 + number])} for number, label in enumerate(labels)}
    return Report(cells, "It works", list(verdicts), list(rules), live=live)


def test_page_and_readme_say_the_same():
    readme = (ROOT / "plots" / "README.md").read_text()
    page = Page((ROOT / "plots" / "index.html").read_text())
    letters = re.sub(r"\W", "", page.text)
    sections = re.findall(r"^## (\S+) (\S+)$", readme, re.MULTILINE)
    assert [attributes["id"] for attributes in page.named("section")] == [*(number for number, _ in sections), "rules"]
    lines = re.findall(r"^(?:- |\*\*)(.+?)(?:\*\*)?$", readme, re.MULTILINE)
    cells = [cell for line in re.findall(r"^\| (.+) \|$", readme, re.MULTILINE) for cell in line.split(" | ")]
    for text in [*lines, *(cell for cell in cells if "](" not in cell)]:
        assert re.sub(r"\W", "", text) in letters
    pictures = [(image["src"], " ".join(image["alt"].split())) for image in page.named("img") if "src" in image]
    shown = re.findall(r"^!\[(.+)\]\((.+)\)$", readme, re.MULTILINE)
    assert pictures == [(name, re.sub(r"\\(.)", r"\1", text)) for text, name in shown]
    assert {link for link in page.links if link[0] == "#"} <= {f"#{name}" for name in page.ids}
    assert all((ROOT / "plots" / link).exists() for link in page.links if link[0] != "#")


def test_row_numbers_lead_to_the_rows_of_the_table_that_has_them(tmp_path):
    first = found("a (row 3).", "b (rows 1, 2).", "Rows 1 to 3 and row 9.", "In 2 rows 5 seeds.")
    second = found(
        "lr 1 (row 3, which fits: 0.7). Rows are those of part-1's own table.", "c (row 2). No row 0.", rows=2
    )
    page = save(tmp_path, {"1.1": first, "1.2": second})
    rows = [link.partition("-row-") for link in page.links if "-row-" in link]
    assert [f"{section} {number}" for section, _, number in rows] == [
        *("#1.1 3", "#1.1 1", "#1.1 2", "#1.1 1", "#1.1 3"),  # of five rows only those that are there
        *("#1.1 3", "#1.2 2"),
    ]
    assert len(page.ids) == len(set(page.ids))


def test_a_rule_that_sections_share_is_defined_once(tmp_path):
    one, two, own = "best: by accuracy", "p < 0.05, " + "over seeds " * 9, "odd: not even"
    page = save(tmp_path, {"1.1": found(rules=[f"{one};\n{two}", own]), "1.2": found(rules=[two, one, two])})
    assert [page.text.count(text) for text in (one, two.strip(), own)] == [1, 1, 1]
    assert sorted(link for link in page.links if "rule-" in link) == ["#rule-1", "#rule-1", "#rule-2", "#rule-2"]
    assert not any("rule" in name for name in save(tmp_path / "alone", {"1.1": found(rules=[one])}).ids)


LONG = "x" * 70_000
NAMES = [
    *("<script>alert(1)</script>", "</script><b>", "\"'><img src=x onerror=alert(1)>", "&lt;b&gt;", "a|b\n## 9 d"),
    *("![e](http://example.org/e.png)", "[a](javascript:alert(1))", "\N{RIGHT-TO-LEFT OVERRIDE}drawkcab", LONG),
]


def test_names_of_others_stay_text(tmp_path):
    plain = save(tmp_path / "plain", {"1.1": found(*NAMES[:1] * 9, labels=[f"n{number}" for number in range(9)])})
    live = {"kind": "map", "shared": {"places-1": {"countries": NAMES}}, "networks": NAMES}
    page = save(tmp_path / "named", {"1.1": found(*NAMES, labels=NAMES, live=live)})
    kinds = [tag for tag, attributes in page.tags if attributes.get("type") != "application/json"]
    assert kinds == [tag for tag, _ in plain.tags]  # nobody's name has made another
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any("://" in link or "script:" in link for link in page.links)
    for name in NAMES:
        assert " ".join(name.split()) in page.text
    kept = page.read_data(tmp_path / "named" / page.PAGE)
    assert [page.json.loads(kept[name]) for name in ("places-1", "1.1")] == [
        {"countries": NAMES},
        {"kind": "map", "networks": NAMES, "uses": ["places-1"]},
    ]


def test_what_is_alive_is_kept_with_its_section_and_shared(tmp_path):
    def live(shared: str) -> dict:
        return {"kind": "map", "shared": {shared: {"here": shared}}}

    def names() -> list[str]:
        return list(page.read_data(tmp_path / page.PAGE))

    save(tmp_path, {"1.1": found(live=live("a")), "1.2": found(live=live("a"))})
    before = (tmp_path / page.PAGE).read_bytes()
    assert names() == ["1.1", "1.2", "a"]
    save(tmp_path, {"1.2": found(live=live("b"))})
    assert names() == ["1.1", "1.2", "a", "b"]
    save(tmp_path, {"1.1": found()})
    assert names() == ["1.2", "b"]
    save(tmp_path, {"1.1": found(live=live("a")), "1.2": found(live=live("a"))})
    assert (tmp_path / page.PAGE).read_bytes() == before
    (tmp_path / page.PAGE).unlink()
    page = save(tmp_path, {"1.2": found()})  # README.md has them all
    assert [attributes["id"] for attributes in page.named("section")] == ["1.1", "1.2", "rules"]


def test_a_page_of_others_is_left_alone(tmp_path):
    (tmp_path / page.PAGE).write_text("<p>mine")
    with pytest.raises(InputError, match="is not a page of ours"):
        save(tmp_path, {"1.1": found()})
    assert (tmp_path / page.PAGE).read_text() == "<p>mine"
