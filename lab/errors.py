"""What a script says in one line instead of a traceback, whatever others' names and libraries' warnings hold."""

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LONGEST = 480  # characters of a part of an error, of which there are three
READING = "make it readable or give --data another folder"


def printable(text: str, most: int = 3 * LONGEST) -> str:
    r"""The text in one line of at most `most` characters, what a terminal would obey as escapes such as \x1b."""
    line, half = escaped(" ".join(text.splitlines())), most // 2
    return line if len(line) <= most else f"{line[:half]}...{line[3 - half :]}"


def escaped(text: str) -> str:
    """Lines in which what a terminal would obey is shown as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def quoted(name: str) -> str:
    """A name of somebody else's, cut where it is long."""
    return f"'{printable(name, 60)}'"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def some(texts: Sequence[str], between: str, most: int = 10) -> str:
    """Texts in a row, of many only the first ones and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{between.join(texts[:most])}{more}"


def encodable(text: str, stream: Any) -> str:
    """The text with escapes for what a stream has no code for."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class InputError(Exception):
    """Bad usage or bad input: shown as the line `error: WHAT, WHERE, WHAT TO DO`, exit code 2."""

    def __init__(self, what: str, where: str, remedy: str):
        super().__init__(what, where, remedy)  # all three, or a worker could not send it

    def __str__(self) -> str:
        return ", ".join(printable(part, LONGEST) for part in self.args)


class RunsFailed(Exception):
    """Some runs could not be done: {section: the runs it lacks}. All else is saved."""

    def __init__(self, lacking: dict[str, list[str]], table):
        lacks = "; ".join(f"{section} lacks {', '.join(runs)}" for section, runs in lacking.items())
        super().__init__(f"not all runs could be done ({lacks}), {table}, the same command tries them again")


def say(text: str) -> None:
    """One line on stderr; where nobody can read it, the script goes on."""
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, none
        sys.stderr.write(f"{encodable(printable(text), sys.stderr)}\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    """One line on stderr: what is odd, where, and what follows."""
    say(f"warning: {text}")


warn_once = functools.cache(warn)  # for what would be told each time that it is met


@contextmanager
def about(where: Path | str, remedy: str) -> Iterator[None]:
    """Whatever the operating system refuses inside is an InputError about its file or, where it names none, `where`."""
    try:
        yield
    except OSError as error:
        raise InputError(error.strerror or str(error), str(error.filename or where), remedy) from error


@contextmanager
def library_warnings(tell: Callable[[str], None] = warn) -> Iterator[None]:
    """What libraries warn of inside is one line of ours, told once however often they say it."""
    told = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_) -> None:
        if (category, str(message)) not in told:
            told.add((category, str(message)))
            tell(f"{message} ({category.__name__}), {filename} line {lineno}")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker (stopped|was restarted) while")  # loky's, which replaces it itself
        warnings.filterwarnings("ignore", "The number of unique classes")  # scikit-learn's guess at a mistake
        warnings.showwarning = show
        yield
