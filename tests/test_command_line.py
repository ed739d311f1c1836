"""lab/run/command_line.py: its help and its list, what it chooses, and the exit codes."""

import errno
import io
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import cnn
import NN_tutorial
import xg
from lab.errors import InputError, RunsFailed, warn
from lab.run import command_line, interrupt
from lab.run.command_line import parse_arguments, run_script
from lab.study import Experiment, experiments_in

EXPERIMENTS = [Experiment(f"1.{number}", name, "asks", {}, None) for number, name in enumerate(("depth", "width"), 1)]


@pytest.mark.parametrize("module", [NN_tutorial, cnn, xg])
def test_help_fits_a_screen_and_has_examples_and_list_names_all_experiments_in_order(module, monkeypatch, capsys):
    def printed(option: str) -> list[str]:
        with pytest.raises(SystemExit, match="0"):
            module.main([option])
        return capsys.readouterr().out.splitlines()

    monkeypatch.setenv("COLUMNS", "80")
    lines = printed("--help")
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(f"    python {module.__name__}.py") for line in lines) >= 3
    experiments = [[one.section, one.name, one.summary] for one in experiments_in(vars(module))]
    assert [line.split(maxsplit=2) for line in printed("--list")] == experiments


def test_the_options_that_make_the_same_numbers_again_are_those_that_change_them_and_are_no_defaults():
    given = ["depth", "--seeds", "3", "--quick", "--jobs", "1", "--out", "x", "--fresh", "--data", "my places"]
    assert parse_arguments("", EXPERIMENTS, given).again == " --data 'my places' --seeds 3 --quick"
    assert parse_arguments("", EXPERIMENTS, ["--seeds", "5", "--device", "cpu"]).again == " --device cpu"
    assert parse_arguments("", EXPERIMENTS, []).again == ""


@pytest.mark.parametrize(("given", "chosen"), [("", "depth width"), ("width", "width"), ("width depth", "depth width")])
def test_experiments_are_those_named_in_the_order_of_the_script_and_all_by_default(given, chosen):
    assert [one.name for one in parse_arguments("", EXPERIMENTS, given.split()).experiments] == chosen.split()


def test_auto_takes_cuda_or_the_cpu_and_never_mps(monkeypatch):
    for cuda, mps, device in ((True, True, "cuda"), (False, True, "cpu"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert command_line.choose_device("auto") == device
        assert command_line.choose_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no mps device is available, --device mps"):
        command_line.choose_device("mps")


def test_there_is_a_job_for_each_core_or_device(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(command_line.joblib, "cpu_count", lambda: 7)
    for options, jobs in (("--device cpu", 7), ("--device mps", 1), ("--device cpu --jobs 3", 3)):
        assert parse_arguments("", [], options.split()).jobs == jobs


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (RunsFailed({"6.1": ["a", "b"], "6.2": ["c"]}, "x.csv"), 1,
         "error: not all runs could be done (6.1 lacks a, b; 6.2 lacks c), x.csv, the same command tries them again\n"),
        (InputError("what\nit is", "where", "remedy"), 2, "error: what it is, where, remedy\n"),
        (OSError(errno.ENOSPC, "No space left", "plots/a.png"), 2,
         "error: No space left, plots/a.png, make room or choose another folder with --out\n"),
        *((OSError(number, os.strerror(number)), 2, f"error: {os.strerror(number)}, while saving, {remedy}\n")
          for number, remedy in ((errno.ESTALE, command_line.SAVING), (errno.EPERM, command_line.SAVING),
                                 (errno.EMFILE, "allow more open files (ulimit -n) or give a smaller --jobs"))),
        (OSError("of no number"), 2, f"error: of no number, while saving, {command_line.SAVING}\n"),
        (KeyboardInterrupt(), 130, f"{interrupt.LINE}\n"),
    ],
)  # fmt: skip
def test_exit_codes(error, code, said, capsys):
    def main():
        if error:
            raise error

    assert run_script(main) == code
    assert capsys.readouterr().err == said


def test_a_quick_run_has_a_folder_of_its_own():
    for given, out in (("", "plots"), ("--quick", "quick"), ("--quick --out x", "x"), ("--out plots --quick", "plots")):
        assert parse_arguments("", [], given.split()).out == Path(out)
    assert "quick/" in (Path(__file__).parents[1] / ".gitignore").read_text().splitlines()


def test_a_number_of_cores_that_is_none_is_ignored(monkeypatch, capsys):
    for value in ("", "many", "2.5"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", value)
        assert parse_arguments("", [], []).jobs >= 1
        assert capsys.readouterr().err.startswith(f"warning: LOKY_MAX_CPU_COUNT='{value}' is no whole number, ")


ODD = ("\x1b[31mred\x07", r"\x1b[31mred\x07"), ("a\nerror: b\u2028c", "a error: b c"), ("x\u202ey", r"x\u202ey")


@pytest.mark.parametrize(("name", "shown"), [*ODD, ("x\0\udcff", r"x\x00\udcff"), ("x" * 10**6, "x" * 147 + "...")])
def test_names_of_others_are_escaped_and_cut_in_errors_and_warnings(name, shown, capsys):
    def main() -> None:
        warn(f"odd, {name}, go on")
        raise InputError(f"'{name}' is odd", name, "call it otherwise")

    assert run_script(main) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.isprintable()
    assert error.isprintable()
    assert error.startswith(f"error: '{shown}"[:150])
    assert error.endswith(", call it otherwise")
    assert shown.strip(".") in warning
    assert len(error) < 1000 < 4000 > len(warning)


def test_a_library_that_warns_is_one_line_once(capsys):
    def main() -> None:
        for _ in range(3):
            warnings.warn("divide by\nzero", RuntimeWarning, stacklevel=1)
            np.float64(1) / np.float64(0)

    assert run_script(main) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"warning: divide by zero \(RuntimeWarning\), .*test_command_line.py line \d+", first)
    assert second.startswith("warning: divide by zero encountered in ")


class Notebook:
    """Standard output as IPython's, IDLE's and Spyder's: what is written, and no more."""

    encoding = None
    isatty = bool

    def __init__(self):
        self.said = ""

    def write(self, text: str) -> None:
        self.said += text

    def flush(self) -> None:
        pass


def test_standard_output_may_be_anything(monkeypatch, tmp_path, capsys):
    def main() -> None:
        print("Ελ" + "x" * 100_000, flush=True)
        (tmp_path / "saved").touch()

    reader, writer = os.pipe()
    os.close(reader)
    said, full = Notebook(), Path("/dev/full")
    with (
        os.fdopen(writer, "w") as gone,
        open(tmp_path / "terminal", "w", encoding="ascii") as ascii_only,
        open(full if full.exists() else os.devnull, "w") as no_room,
    ):
        for stream in (gone, ascii_only, said, None, no_room):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", stream)
                assert run_script(main) == 0
                assert sys.stdout is stream
            (tmp_path / "saved").unlink()
    assert (tmp_path / "terminal").read_text().startswith("\\u0395\\u03bbx")
    assert said.said.startswith("Ελx")
    lost = (
        "warning: No space left on device, standard output, nothing more is printed; the results are saved all the same"
    )
    assert capsys.readouterr().err == (f"{lost}\n" if full.exists() else "")


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_standard_error_may_be_none_or_closed(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    if stream:
        stream.close()
    assert run_script(lambda: warn("odd")) == 0
