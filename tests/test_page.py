"""The page for a browser: the same as README.md, what it links, and that names of others stay text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up import asked, fill, make, make_all

from lab.gallery import sections
from lab.study import Condition

COMMITTED = Path(__file__).parents[1] / "plots"


class Page(HTMLParser):
    """What a browser finds: tags with their attributes, the text of the body, links and what they may lead to."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.texts, self.data, self.inside = [], [], {}, []
        self.feed(path.read_text())
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
        if self.inside[-1:] == ["script"] and "id" in self.tags[-1][1]:
            self.data[self.tags[-1][1]["id"]] = json.loads(data)
        elif not {"script", "style"} & {*self.inside}:
            self.texts.append(data)

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(params=["made up", "committed"])
def gallery(request, tmp_path) -> Path:
    return COMMITTED if request.param == "committed" else make_all(tmp_path).parent


def test_page_and_readme_hold_what_the_sections_say(gallery):
    readme, page = (gallery / "README.md").read_text(), Page(gallery / "index.html")
    held, _ = sections.read(gallery)

    def letters(text: str) -> str:
        return re.sub(r"\W", "", text)

    for view in (letters(readme), letters(page.text)):
        for one in held:
            cells = [cell for row in [one["table"]["header"], *one["table"]["rows"]] for cell in row]
            whys = [text for why in one["whys"] for text in (why["text"], why["condition"])]
            for text in [one["question"], one["headline"], *whys, *one["said"], *one["rules"], *cells, *one["failed"]]:
                assert letters(text) in view
        shorts = [(why["short"], why["holds"]) for one in held for why in one["whys"] if why["short"]]
        assert all((letters(short) in view) == holds for short, holds in shorts)
    own = [name["id"] for name in page.named("section")]
    assert own == [*(one["section"] for one in held), "rules"]
    assert len(page.ids) == len(set(page.ids))
    figures = [(figure["file"], figure["alt"]) for one in held for figure in one["figures"]]
    assert [(image["src"], image["alt"]) for image in page.named("img") if "src" in image] == figures
    assert {link for link in page.links if link[0] == "#"} <= {f"#{name}" for name in page.ids}
    assert all((gallery / link).exists() for link in page.links if link[0] != "#")
    assert sum("open" in fold for fold in page.named("details")) == 0


def test_a_rule_that_sections_share_is_defined_once(tmp_path):
    one, two, own = "best: by accuracy", "p < 0.05, " + "over seeds " * 9, "odd: not even"

    def ruled(*rules: str):
        return lambda runs, report: report.rule(*rules)

    make(tmp_path, asked("1.1", ruled(f"{one};\n{two}", own)), asked("1.2", ruled(two, one, two)))
    page = Page(tmp_path / "index.html")
    assert [page.text.count(text) for text in (one, two.strip(), own)] == [1, 1, 1]
    assert sorted(link for link in page.links if "rule-" in link) == ["#rule-1", "#rule-1", "#rule-2", "#rule-2"]
    make(tmp_path / "alone", asked("1.1", ruled(one)))
    alone = Page(tmp_path / "alone" / "index.html")
    assert not any("rule" in name for name in alone.ids)
    assert [fold for fold in alone.named("details") if "open" in fold] == [{"open": None}]  # nothing is told in short


NAMES = [
    *("<script>alert(1)</script>", "</script><b>", "\"'><img src=x onerror=alert(1)>", "&lt;b&gt;", "a|b\n## 9 d"),
    *("![e](http://example.org/e.png)", "[a](javascript:alert(1))", "\N{RIGHT-TO-LEFT OVERRIDE}drawkcab", "x" * 70_000),
]


def test_names_of_others_stay_text(tmp_path):
    def called(names: list[str]):
        def found(runs, report):
            fill(report, names, 2, 1)
            report.headline = " ".join(names)
            report.live = {"kind": "map", "shared": {"places-1": {"countries": names}}, "networks": names}
            for number, name in enumerate(names):
                report.why(name, Condition(number % 2, name), name)
                report.say(name, name)

        return found

    pages = []
    for kind, names in (("plain", [f"n{number}" for number in range(len(NAMES))]), ("named", NAMES)):
        make(tmp_path / kind, asked("1.1", called(names)), read=" ".join(names))
        pages.append(Page(tmp_path / kind / "index.html"))
    plain, page = pages
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]  # nobody's name has made another
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any("://" in link or "script:" in link for link in page.links)
    for name in NAMES:
        assert " ".join(name.split()) in page.text
    assert page.data["data-places-1"] == {"countries": NAMES}
    assert page.data["data-1.1"] == {"networks": NAMES, "uses": ["places-1"]}
