"""The gallery for a browser, OUT/index.html: the sections that README.md holds, and what is alive in them.

Both are views of one structure, {section: its Markdown}: here markdown-it reads it and page.html, the one template,
shows it. What a figure needs that answers its reader is kept in the page itself, as JSON, and read back from there.
"""

import html
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from lab.errors import InputError

PAGE = "index.html"  # in OUT, beside README.md
MARK = '<meta name="generator" content="MLPs against CNNs">'  # of a page of ours
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")  # marks of others stay text
DATA = re.compile(r'<script type="application/json" id="data-(.+?)">(.*?)</script>', re.DOTALL)
ROWS = re.compile(r"\b([Rr]ow (?=\d)|[Rr]ows (?=\d))(\d+(?:(?:, | and | to )\d+)*)")
OTHERS = re.compile(r"Rows are those of (.+)'s own table")

# ---------------------------------------------------------------------------- what is alive


def read_data(path: Path) -> dict[str, str]:
    """{name: JSON} that a saved page holds for its live figures. Raises InputError for a page of others."""
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (ValueError, OSError):
        text = ""
    if MARK not in text[:2000]:
        raise InputError("is not a page of ours", str(path), "move it away or choose another folder with --out")
    return dict(DATA.findall(text))


def dump(data: Any) -> str:
    """JSON that can stand in a <script>: whatever it holds, no tag ends or begins there."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&]", lambda mark: f"\\u{ord(mark[0]):04x}", text)


def add_data(kept: dict[str, str], section: str, live: dict[str, Any] | None) -> None:
    """Put a report's live figure in the place of the one that its section had; `shared` is kept once for all."""
    kept.pop(section, None)
    if live:
        kept |= {name: dump(each) for name, each in live["shared"].items()}
        kept[section] = dump(
            {name: each for name, each in live.items() if name != "shared"} | {"uses": [*live["shared"]]}
        )


def _used(data: dict[str, str], sections: dict[str, str]) -> dict[str, str]:
    """Those of the sections, and what these share."""
    own = {name: text for name, text in data.items() if name in sections}
    shared = {name for text in own.values() for name in json.loads(text)["uses"]}
    return {name: data[name] for name in sorted({*own, *shared} & data.keys())}


# ---------------------------------------------------------------------------- the page


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html")


def page(title: str, intro: str, sections: dict[str, str], data: dict[str, str], folder: Path) -> str:
    """The page of a gallery; sections: {section: Markdown} in their order; folder: where the figures are."""
    found = [Section(section, text, folder) for section, text in sections.items()]
    for one in found:
        one.link_rows(found)
    count = Counter(rule for one in found for rule in one.rules)
    shared = [rule for rule, times in count.items() if times > 1]
    alive = _used(data, sections)
    kinds = {section: json.loads(text)["kind"] for section, text in alive.items() if section in sections}
    return _template().render(
        mark=Markup(MARK),
        title=title,
        intro=Markup(MARKDOWN.render(intro)),
        sections=found,
        shared=shared,
        data={name: Markup(text) for name, text in alive.items()},
        kinds=kinds,
    )


def _inline(tokens: list[Token]) -> Markup:
    return Markup(MARKDOWN.renderer.renderInline(tokens, MARKDOWN.options, {}))


class Section:
    """One section: its `blocks` in order, each a dict with its `kind`, as page.html shows them.

    figures: `files`, see `_figure`; headline, paragraph and text (any other Markdown):
    `html`; table: `header` and `rows` of cells; list: `items`; rule: `parts`, definitions by name.
    """

    def __init__(self, number: str, text: str, folder: Path):
        self.number, self.folder = number, folder
        (_, heading, _), *blocks = _split(MARKDOWN.parse(f"## {text}"))
        self.name = heading.content.removeprefix(number).strip()
        self.blocks: list[dict] = []
        for tokens in blocks:
            block = self._block(tokens)
            if self.blocks and block["kind"] == self.blocks[-1]["kind"] == "figures":
                self.blocks[-1]["files"] += block["files"]
            else:
                self.blocks.append(block)

    def _block(self, tokens: list[Token]) -> dict:
        if tokens[0].type == "table_open":
            cells = [_inline(token.children) for token in tokens if token.type == "inline"]
            width = sum(token.type == "th_open" for token in tokens)
            lines = [cells[start : start + width] for start in range(0, len(cells), width)]
            return {"kind": "table", "header": lines[0], "rows": lines[1:]}
        if tokens[0].type == "bullet_list_open":
            return {"kind": "list", "items": [token.children for token in tokens if token.type == "inline"]}
        if tokens[0].type != "paragraph_open":
            return {"kind": "text", "html": Markup(MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}))}
        inner = [token for token in tokens[1].children if token.type != "text" or token.content]
        if all(token.type in ("image", "softbreak") for token in inner):
            return {"kind": "figures", "files": [self._figure(token) for token in inner if token.type == "image"]}
        if inner[0].type == "text" and inner[0].content.startswith("Rule: "):
            inner[0].content = inner[0].content.removeprefix("Rule: ")
            return {"kind": "rule", "parts": [_rule(part) for part in _definitions(inner)]}
        if (inner[0].type, inner[-1].type) == ("strong_open", "strong_close"):
            return {"kind": "headline", "html": _inline(inner[1:-1])}
        return {"kind": "paragraph", "html": _inline(inner)}

    def _figure(self, image: Token) -> dict:
        """Its size, so that the page doesn't jump when it comes; of an animation, a still picture of the same name."""
        name = image.attrs["src"]
        path, still = self.folder / name, Path(name).with_suffix(".png").name
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except OSError:
            width, height = 0, 0
        moves = path.suffix == ".webp" and (self.folder / still).exists()
        shown = {"name": name, "shown": _plain(image.children), "still": still if moves else ""}
        return shown | {"width": width, "height": height}

    @property
    def headline(self) -> Markup:
        return next((block["html"] for block in self.blocks if block["kind"] == "headline"), Markup(""))

    @property
    def rules(self) -> list[tuple[str, Markup]]:
        return [part for block in self.blocks if block["kind"] == "rule" for part in block["parts"]]

    @property
    def count(self) -> int:
        """How many rows its table has."""
        return max((len(block["rows"]) for block in self.blocks if block["kind"] == "table"), default=0)

    def link_rows(self, sections: list["Section"]) -> None:
        """Let the row numbers in its verdicts lead to the rows, which may be those of another section's table."""
        for block in self.blocks:
            for tokens in block.get("items", ()):
                others = OTHERS.search(_plain(tokens))
                target = next((one for one in sections if others and one.name == others[1]), None if others else self)
                for token in tokens:
                    if token.type == "text":
                        token.type, token.content = "html_inline", _linked(token.content, target)
            if "items" in block:
                block["items"] = [_inline(tokens) for tokens in block["items"]]


def _split(tokens: list[Token]) -> Iterator[list[Token]]:
    """The tokens of each block at the outermost level."""
    block, depth = [], 0
    for token in tokens:
        block.append(token)
        depth += token.nesting
        if depth == 0:
            yield block
            block = []


def _definitions(tokens: list[Token]) -> Iterator[list[Token]]:
    """A rule's definitions: each ends with a semicolon and its line."""
    part: list[Token] = []
    for token in tokens:
        if token.type == "softbreak" and part and part[-1].content.endswith(";"):
            part[-1].content = part[-1].content.removesuffix(";")
            yield part
            part = []
        else:
            part.append(token)
    yield part


def _rule(tokens: list[Token]) -> tuple[str, Markup]:
    """What a definition defines, by its first words, and all of it."""
    name, colon, _ = _plain(tokens).partition(": ")
    return name if colon else textwrap.shorten(name, 60, placeholder=" ..."), _inline(tokens)


def _plain(tokens: list[Token]) -> str:
    return "".join(token.content if token.type != "softbreak" else " " for token in tokens)


def _linked(text: str, target: Section | None) -> str:
    """HTML of a text whose row numbers are links, as far as the table has such rows."""

    def link(number: re.Match) -> str:
        there = target and 0 < int(number[0]) <= target.count
        return f'<a href="#{target.number}-row-{number[0]}">{number[0]}</a>' if there else number[0]

    return ROWS.sub(lambda found: found[1] + re.sub(r"\d+", link, found[2]), html.escape(text))
