"""What a script says in one line instead of a traceback."""

import sys


class InputError(Exception):
    """Bad usage or bad input: shown as the line `error: WHAT, WHERE, WHAT TO DO`, exit code 2."""

    def __init__(self, what: str, where: str, remedy: str):
        super().__init__(what, where, remedy)  # all three, or a worker could not send it

    def __str__(self) -> str:
        return " ".join(", ".join(self.args).splitlines())


class RunsFailed(Exception):
    """Some runs could not be done: {section: the runs it lacks}. All else is saved."""

    def __init__(self, lacking: dict[str, list[str]], table):
        lacks = "; ".join(f"{section} lacks {', '.join(runs)}" for section, runs in lacking.items())
        super().__init__(f"not all runs could be done ({lacks}), {table}, the same command tries them again")


def warn(text: str) -> None:
    """One line on stderr: what is odd, where, and what follows."""
    print(f"warning: {text}", file=sys.stderr)
