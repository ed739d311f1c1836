"""The gallery for a browser, OUT/index.html: page.html, the one template, shows the sections and what is alive."""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from lab.gallery.markdown import finding, measured, short_of, together
from lab.gallery.sections import INTRO, MARK, TITLE, Figure, Section


def page(sections: Sequence[Section], shared: dict[str, dict], folder: Path) -> str:
    """The page of sections that are in order; shared: what their live figures share; folder: where the figures are."""
    count = Counter(rule for one in sections for rule in one["rules"])
    data = {name: dump(held) for name, held in shared.items()}
    data |= {
        one["section"]: dump(one["live"]["data"] | {"uses": one["live"]["uses"]}) for one in sections if one["live"]
    }
    return _template().render(
        mark=Markup(MARK),
        title=TITLE,
        intro=INTRO,
        sections=sections,
        shorts=[(one, short) for one in sections for short in short_of(one)],
        shared=[rule for rule, times in count.items() if times > 1],
        data=data,
        folder=folder,
    )


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    texts = {"finding": finding, "measured": measured, "together": together}
    environment.filters |= texts | {"code": _code, "defined": _defined, "size": _size}
    return environment.get_template("page.html")


def dump(data: Any) -> Markup:
    """JSON that can stand in a <script>: whatever it holds, no tag ends or begins there."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(re.sub("[<>&]", lambda mark: f"\\u{ord(mark[0]):04x}", text))


def _code(text: str) -> Markup:
    """A text of ours in which names of programs and files stand between backticks."""
    return Markup(re.sub("`(.+?)`", r"<code>\1</code>", str(escape(text))))


def _defined(rule: str) -> str:
    """What a rule defines, by its first words."""
    name, colon, _ = rule.partition(": ")
    return name if colon else textwrap.shorten(name, 60, placeholder=" ...")


def _size(figure: Figure, folder: Path) -> Markup:
    """Attributes of an <img>, so that the page doesn't jump when it comes."""
    try:
        with Image.open(folder / figure["file"]) as picture:
            return Markup(' width="{}" height="{}"').format(*picture.size)
    except OSError:
        return Markup("")
