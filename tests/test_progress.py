"""lab/run/progress.py: what the display shows at any width, with and without colours, and what runs tell it."""

import io
import math

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from lab.run import progress
from lab.run.progress import Display, Line, Reached
from lab.run.runs import Run

NAMES = "closing-gap-waves_(3_128)_30_epochs-0-4", "best-model-(6_64)-0-4", "a-run-that-is-done", "one-that-waits"
HEADLINE = "Test accuracy 0.902 without batch norm, 0.951 ± 0.012 with it: higher, if the terminal is wide enough"
COLOURS = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


def display(width: int, height: int = 24, encoding: str = "utf-8", count: int = 3, **environment: str) -> Display:
    """Of a study whose first experiment is done, the second under way, and the others wait."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    look = {"force_terminal": True, "width": width, "height": height, "_environ": COLOURS | environment}
    lines = [Line(f"6.1.{n}", f"experiment-{n}", {f"config {n}", f"other {n}"}) for n in range(1, count + 1)]
    lines[0].headline = HEADLINE
    shown = Display(lines, Console(file=file, highlight=False, **look))
    shown.done |= {"config 1", "other 1", "config 2"}
    runs = [Run(name, None, None) for name in NAMES]
    config_of = dict(zip(NAMES, ("other 2", "other 2", "config 2", "config 3"), strict=True))
    board = np.zeros((len(runs), progress.TOLD))
    for number, told in enumerate((Reached(0.5, 12, 0.4567, 0.891), 1e-9, 1.0)):
        progress.write(board, number, told)
    shown.costs, shown.board, shown.began = np.array([run.cost for run in runs]), board, shown.started
    shown.names, shown.configs = list(NAMES), [config_of[name] for name in NAMES]
    return shown


def drawn(shown: Display) -> str:
    with shown.console.capture() as captured:
        shown.console.print(shown.render())
    return captured.get()


def plain(shown: Display) -> list[str]:
    return Text.from_ansi(drawn(shown)).plain.splitlines()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_display_fits_the_terminal_and_says_what_is_going_on(width, encoding):
    lines = plain(display(width, encoding=encoding))
    "".join(lines).encode(encoding)
    assert max(map(len, lines)) <= width
    first, second, third, *running, whole = lines
    assert first.split()[:3] == ["6.1.1", "experiment-1", "done"]
    assert second.split() == ["6.1.2", "experiment-2", "1", "of", "2", "runs"]
    assert third.split() == ["6.1.3", "experiment-3", "waiting"]
    assert (HEADLINE[:20] in first) == (width >= 80)
    assert len(running) == (4 if width == 40 else 2)
    accuracy = "acc." if width == 40 else "accuracy"
    assert f"50%, epoch 12, loss 0.457, {accuracy} 0.891" in " ".join(running)
    assert all(any(name[:20] in line for line in running) for name in NAMES[:2])
    assert "38%, 0:00 gone, 0:00 left" in whole


def test_colours_are_left_out_where_the_user_says_so():
    assert "\x1b[32m" in drawn(display(80))
    assert "\x1b[3" not in drawn(display(80, NO_COLOR="1"))


def test_many_experiments_are_summed_up_where_the_terminal_is_low():
    lines = plain(display(80, 10, count=20))
    assert len(lines) < 10
    assert [line.split()[1] for line in lines[:3]] == ["experiment-1", "experiment-2", "experiment-3"]
    assert lines[4].split() == ["16", "more", "waiting"]


def test_only_a_terminal_that_can_be_redrawn_is(monkeypatch):
    assert display(80).live
    assert not display(80, TERM="dumb").live
    monkeypatch.setenv("FORCE_COLOR", "1")  # a log file is none, whatever this says
    assert not Display([]).live


def test_a_run_tells_a_fraction_and_more_if_it_can(tmp_path):
    board = progress.make_board(tmp_path / "board", 2)
    progress.write(board, 1, Reached(0.25, 3, 1.5, 0.75))
    progress.write(progress.read_board(tmp_path / "board"), 0, 0.5)
    assert board[1].tolist() == [0.25, 3, 1.5, 0.75]
    assert board[0, 0] == 0.5
    assert np.isnan(board[0, 1:]).all()
    assert math.isclose(Reached(0.25, 3, 1.5, 0.75), 0.25)


def test_times_are_minutes_and_seconds():
    assert [progress.clock(seconds) for seconds in (0.4, 65, 3600 + 65)] == ["0:00", "1:05", "1:01:05"]
