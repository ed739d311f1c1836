"""The command line: its help and its list, what it chooses, and the exit codes."""

import errno
import os
import sys

import pytest
import torch

import cnn
import NN_tutorial
import xg
from lab import commands, stopping
from lab.commands import parse_arguments, run_script
from lab.errors import InputError, RunsFailed
from lab.results import Experiment, experiments_in

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


@pytest.mark.parametrize(("given", "chosen"), [("", "depth width"), ("width", "width"), ("width depth", "depth width")])
def test_experiments_are_those_named_in_the_order_of_the_script_and_all_by_default(given, chosen):
    assert [one.name for one in parse_arguments("", EXPERIMENTS, given.split()).experiments] == chosen.split()


def test_auto_takes_cuda_or_the_cpu_and_never_mps(monkeypatch):
    for cuda, mps, device in ((True, True, "cuda"), (False, True, "cpu"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert commands.choose_device("auto") == device
        assert commands.choose_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no mps device is available, --device mps"):
        commands.choose_device("mps")


def test_there_is_a_job_for_each_core_or_device(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(commands.joblib, "cpu_count", lambda: 7)
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
        (KeyboardInterrupt(), 130, f"{stopping.LINE}\n"),
    ],
)  # fmt: skip
def test_exit_codes(error, code, said, capsys):
    def main():
        if error:
            raise error

    assert run_script(main) == code
    assert capsys.readouterr().err == said


def test_what_is_nobodys_fault_is_raised():
    def main():
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(OSError, match="Too many"):
        run_script(main)


def test_a_reader_that_goes_away_and_names_that_the_terminal_cannot_show_stop_nothing(monkeypatch, tmp_path):
    def main():
        print("Ελ" + "x" * 100_000, flush=True)
        (tmp_path / "saved").touch()

    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone, open(tmp_path / "terminal", "w", encoding="ascii") as ascii_only:
        for terminal in (gone, ascii_only):
            monkeypatch.setattr(sys, "stdout", terminal)
            assert run_script(main) == 0
            (tmp_path / "saved").unlink()
    assert (tmp_path / "terminal").read_text().startswith("\\u0395\\u03bbx")
