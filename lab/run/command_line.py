"""The command line that the scripts share, and how each one ends: exit codes and errors in one line."""

import argparse
import difflib
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

import joblib
import torch

from lab.errors import InputError, RunsFailed, encodable, library_warnings, say, warn
from lab.files import ROOT
from lab.run import interrupt
from lab.study import Experiment


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message, "on the command line", f"see python {self.prog} --help")


class _List(argparse.Action):
    def __init__(self, experiments: Sequence[Experiment], **options):
        super().__init__(nargs=0, **options)
        self.experiments = experiments

    def __call__(self, parser, *_):
        width = max(len(experiment.name) for experiment in self.experiments)
        for experiment in self.experiments:
            print(f"{experiment.section:8} {experiment.name:{width}}  {experiment.summary}")
        parser.exit()


def parse_arguments(
    doc: str | None,
    experiments: Sequence[Experiment],
    argv: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """The command line that all scripts share; `.experiments` holds the chosen ones. Raises InputError.

    The help shows the first two paragraphs of `doc`: title and examples. `options(parser)` adds a script's own options
    and sets other defaults.
    """
    parser = _parser(doc, experiments)
    if options:
        options(parser)
    arguments = parser.parse_args(argv)
    arguments.again = _again(parser, arguments)
    arguments.experiments = _chosen(experiments, arguments.names)
    arguments.out = arguments.out or Path("quick" if arguments.quick else "plots")
    arguments.device = device = choose_device(arguments.device)
    if arguments.redraw and arguments.fresh:
        raise InputError("--redraw needs the runs that --fresh forgets", "on the command line", "give one of them")
    arguments.by_memory = not arguments.jobs
    arguments.jobs = arguments.jobs or {"cpu": cores(), "cuda": torch.cuda.device_count(), "mps": 1}[device]
    return arguments


def _parser(doc: str | None, experiments: Sequence[Experiment]) -> argparse.ArgumentParser:
    parser = _Parser(
        usage="python %(prog)s [NAME ...] [OPTION ...]",
        description="\n\n".join((doc or "").split("\n\n")[:2]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.color = False  # Python 3.14 has it, and we show no escapes
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="experiments to run (default: all)")
    add("--list", action=_List, experiments=experiments, help="name the experiments and stop")
    add("--data", type=Path, default=ROOT / "data", metavar="DIR", help="folder of your own data")
    add("--out", type=Path, metavar="DIR", help="folder of the results (default: plots, or quick with --quick)")
    add("--seeds", type=whole(1, 1000), default=5, metavar="N", help="repetitions of every run (default: %(default)s)")
    add("--jobs", type=whole(1, 1000), metavar="N", help="worker processes (default: as cores and memory allow)")
    devices = ["auto", "cpu", "cuda", "mps"]
    add("--device", choices=devices, default="auto", metavar="NAME", help="cpu, cuda, mps or auto (default)")
    beside = "svg or pdf: figures in it too, beside the PNG"
    add("--format", choices=["png", "svg", "pdf"], default="png", metavar="NAME", help=beside)
    add("--quick", action="store_true", help="walk every code path on a tiny budget; no results")
    add("--fresh", action="store_true", help="forget the finished runs of these experiments")
    add("--redraw", action="store_true", help="draw what has been run again; train nothing")
    add("--cluster", metavar="ADDRESS", help="train on the workers of this Dask scheduler")
    return parser


def _chosen(experiments: Sequence[Experiment], names: Sequence[str]) -> list[Experiment]:
    """Those named or, without names, those that are done by default, in the order of the script."""
    by_name = {experiment.name: experiment for experiment in experiments}
    for name in names:
        if name not in by_name:
            near = "".join(f"did you mean {n}? " for n in difflib.get_close_matches(name, by_name, 1))
            remedy = f"{near}choose from {' '.join(by_name)}"
            raise InputError(f"unknown experiment '{name}'", "on the command line", remedy)
    return [one for one in experiments if (one.name in names if names else one.by_default)]


def cores() -> int:
    """How many cores this process may use, as joblib says it."""
    try:
        return joblib.cpu_count()
    except ValueError:
        value = os.environ.pop("LOKY_MAX_CPU_COUNT", "")
        warn(f"LOKY_MAX_CPU_COUNT='{value}' is no whole number, the environment, it is ignored")
        return joblib.cpu_count()


ANYHOW = ("names", "out", "jobs", "memory", "fresh", "redraw", "cluster", "format")  # options that change no number


def _again(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The options that make the same numbers again, such as ` --seeds 3 --quick`; empty where all are the defaults."""
    given = {name: value for name, value in vars(arguments).items() if value != parser.get_default(name)}
    words = [[f"--{name}", *([] if value is True else [str(value)])] for name, value in given.items()]
    return "".join(f" {shlex.join(pair)}" for pair in words if pair[0].removeprefix("--") not in ANYHOW)


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, not {text}")
        return number

    parse.__name__ = "whole number"  # argparse puts it into its message
    return parse


def gibibytes(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return number


gibibytes.__name__ = "number"  # argparse puts it into its message


def choose_device(name: str) -> str:
    """`auto` takes CUDA, then the CPU; MPS only when asked. Raises InputError for a device that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[name]:
        raise InputError(f"no {name} device is available", f"--device {name}", "use --device auto or --device cpu")
    return name


# What to do about what the operating system refuses; reading says this of the data itself, see errors.about.
SAVING = "see that it can be written or choose another folder with --out"
REMEDIES = {number: "make room or choose another folder with --out" for number in (errno.ENOSPC, errno.EDQUOT)} | {
    number: "allow more open files (ulimit -n) or give a smaller --jobs" for number in (errno.EMFILE, errno.ENFILE)
}


def run_script(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code: 0 done, 1 runs failed, 2 bad usage or input, 130 stopped with Ctrl-C."""
    try:
        with redirect_stdout(_Output(sys.stdout)), library_warnings(), interrupt.listening():
            main()
            interrupt.check()
    except RunsFailed as error:
        say(f"error: {error}")
        return 1
    except InputError as error:
        say(f"error: {error}")
        return 2
    except OSError as error:
        where, remedy = error.filename or "while saving", REMEDIES.get(error.errno, SAVING)
        say(f"error: {InputError(error.strerror or str(error), str(where), remedy)}")
        return 2
    except KeyboardInterrupt:
        say(interrupt.LINE)
        return 130
    return 0


class _Output(io.TextIOBase):
    """Standard output, be it a terminal, a notebook, or one that nobody reads any more, as after `| head`."""

    def __init__(self, stream: TextIO | None):
        self.stream = stream

    @property
    def encoding(self) -> str | None:
        return getattr(self.stream, "encoding", None)

    def write(self, text: str) -> int:
        self._try("write", encodable(text, self.stream))
        return len(text)

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def flush(self) -> None:
        self._try("flush")

    def _try(self, method: str, *arguments: str) -> None:
        try:
            if self.stream is not None:
                getattr(self.stream, method)(*arguments)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                warn(f"{error.strerror}, standard output, nothing more is printed; the results are saved all the same")
            with suppress(OSError):  # not a file; or Python would try again at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            self.stream = None
