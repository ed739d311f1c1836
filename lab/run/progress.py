"""What is going on while a study runs: on a terminal a display that is redrawn in place, elsewhere a line at a time.

The processes that do runs write to a board, a small file that all of them map; the display reads it.
"""

import math
import sys
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.errors import escaped

TOLD = 4  # numbers of a run on the board: fraction done, epoch, loss, accuracy
NARROW = 70  # columns below which there is no room for headlines, and a running run takes two lines


class Reached(float):
    """How far a training has got: the fraction that is done, and with it epoch, loss (nats) and accuracy, if known."""

    def __new__(cls, fraction: float, epoch: int, loss: float = math.nan, accuracy: float = math.nan):
        reached = super().__new__(cls, fraction)
        reached.told = float(epoch), float(loss), float(accuracy)
        return reached


def make_board(path: Path, runs: int) -> np.ndarray:
    """The board of so many runs, (runs, 4), in a new file."""
    path.write_bytes(np.zeros((runs, TOLD)).tobytes())
    return read_board(path)


def read_board(path: Path) -> np.ndarray:
    return np.memmap(path, dtype=float, mode="r+").reshape(-1, TOLD)


def write(board: np.ndarray, number: int, fraction: float) -> None:
    """Write what a run tells, a plain fraction or a Reached, to its row of the board."""
    board[number] = fraction, *getattr(fraction, "told", (math.nan,) * 3)


@dataclass
class Line:
    """An experiment as the display shows it."""

    section: str
    name: str
    needs: set[Hashable]  # its configurations
    headline: str = ""  # once it is done

    def state(self, done: set, running: set) -> tuple[str, str]:
        """Words and a style."""
        if self.headline:
            return "done", "green"
        ready = len(self.needs & done)
        if ready == len(self.needs):
            return "drawing", "bold"
        if ready == 0 and not self.needs & running:
            return "waiting", "dim"
        return f"{ready} of {len(self.needs)} runs", ""


def clock(seconds: float) -> str:
    """1:05 or 1:00:05."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


class Display:
    """The experiments with their state, the runs under way with what they tell, and the time left."""

    def __init__(self, lines: Sequence[Line], console: Console | None = None):
        self.lines, self.console, self.started = lines, console or _console(), time.monotonic()
        self.done: set[Hashable] = set()  # configurations
        self.names: list[str] = []  # of the runs that are being done, and of each its configuration and cost
        self.configs: list[Hashable] = []
        self.costs, self.board = np.zeros(0), np.zeros((0, TOLD))

    @property
    def live(self) -> bool:
        return self.console.is_terminal and not self.console.is_dumb_terminal

    @contextmanager
    def watching(self, config_of: dict[str, Hashable], runs: Sequence, board: np.ndarray) -> Iterator[None]:
        """Show the runs while they are done inside; config_of: their configurations by name; board: a row for each."""
        self.names, self.configs = [run.name for run in runs], [config_of[run.name] for run in runs]
        self.costs, self.board, self.began = np.array([run.cost for run in runs]), board, time.monotonic()
        if not self.live:
            yield
            return
        look = {"refresh_per_second": 2, "transient": True, "redirect_stderr": sys.stderr.isatty()}
        with Live(get_renderable=self.render, console=self.console, **look):
            yield

    def render(self) -> Group:
        """The display at the size and with the characters of its console."""
        board, console = self.board.copy(), self.console
        under_way = [n for n in range(len(board)) if 0 < board[n, 0] < 1]
        running = {self.configs[n] for n in under_way}
        wide, plain = console.width >= NARROW, console.options.ascii_only
        room = console.height - 2 - (1 if wide else 2) * len(under_way)
        cut = "crop" if plain else "ellipsis"  # the sign of an ellipsis is none of ASCII's
        return Group(
            self._experiments(running, wide, max(room, 3), cut),
            *self._running(under_way, board, wide, cut),
            self._whole(board, console.width),
        )

    def _experiments(self, running: set, wide: bool, room: int, cut: str) -> Table:
        encoding = self.console.encoding
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for _ in range(2):
            table.add_column(no_wrap=True, overflow=cut)
        table.add_column(no_wrap=True, overflow=cut, ratio=None if wide else 1)
        if wide:
            table.add_column(no_wrap=True, overflow=cut, ratio=1)
        states = [line.state(self.done, running) for line in self.lines]
        shown, more = self._shown([state for state, _ in states], room)
        for line, (state, style) in ((self.lines[n], states[n]) for n in shown):
            cells = [line.section, line.name, state, *([line.headline] if wide else [])]
            table.add_row(*(Text(escaped(cell).encode(encoding, "replace").decode(encoding), style) for cell in cells))
        for text in more:
            table.add_row("", Text(text, "dim"))
        return table

    @staticmethod
    def _shown(states: list[str], room: int) -> tuple[list[int], list[str]]:
        """The experiments that there is room for: those under way, then the last done, then the next; and the rest."""
        if len(states) <= room:
            return list(range(len(states))), []
        ends = {"done": [n for n, s in enumerate(states) if s == "done"][::-1]}
        ends["waiting"] = [n for n, s in enumerate(states) if s == "waiting"]
        middle = [n for n, state in enumerate(states) if state not in ends]
        ranked = [*middle, *ends["done"][:1], *ends["waiting"], *ends["done"][1:]]
        shown = sorted(ranked[: max(room - 2, 1)])
        left = {state: len(set(numbers) - set(shown)) for state, numbers in ends.items()}
        return shown, [f"{count} more {state}" for state, count in left.items() if count]

    def _running(self, under_way: list[int], board: np.ndarray, wide: bool, cut: str) -> Iterator[Text]:
        """A line, or two, for each run under way: its name and what it tells."""
        width = self.console.width
        for n in under_way:
            fraction, epoch, loss, accuracy = board[n]
            last = "accuracy" if wide else "acc."
            texts = f"epoch {epoch:.0f}", f"loss {loss:.3f}", f"{last} {accuracy:.3f}"
            known = [text for text in texts if text != "epoch 0" and not text.endswith("nan")]
            told = ", ".join([f"{fraction:.0%}", *known])
            name = Text(self.names[n], "bold", no_wrap=True, overflow=cut)
            if wide:
                name.truncate(width - len(told) - 2, overflow=cut, pad=False)
                name.append(" " * (width - cell_len(name.plain) - len(told)) + told, "not bold")
                yield name
            else:
                yield name
                yield Text(f"  {told}", no_wrap=True, overflow=cut)

    def _whole(self, board: np.ndarray, width: int) -> Table:
        """A bar over all runs, weighted by their cost, and the time gone and left."""
        share = float(self.costs @ board[:, 0] / self.costs.sum()) if len(board) else 0.0
        text = f"{share:.0%}, {clock(time.monotonic() - self.started)} gone"
        if share > 0.01:  # no wild guess
            text += f", {clock((time.monotonic() - self.began) * (1 - share) / share)} left"
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_row(ProgressBar(total=1.0, completed=share, width=max(width - len(text) - 2, 4)), Text(text))
        return table


def _console() -> Console:
    """Standard output; a terminal only where it is one, whatever FORCE_COLOR says."""
    return Console(force_terminal=sys.stdout.isatty(), highlight=False)
