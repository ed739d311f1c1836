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

SCRIPTS = pytest.mark.parametrize("module", [NN_tutorial, cnn, xg])
EXPERIMENTS = [Experiment(f"1.{number}", name, "asks", {}, None) for number, name in enumerate(("depth", "width"), 1)]


def printed(module, option: str, capsys) -> list[str]:
    with pytest.raises(SystemExit) as end:
        module.main([option])
    assert end.value.code == 0
    return capsys.readouterr().out.splitlines()


@SCRIPTS
def test_help_fits_a_screen_and_has_examples(module, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(module, "--help", capsys)
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(f"    python {module.__name__}.py") for line in lines) >= 3


@SCRIPTS
def test_list_names_all_experiments_in_order(module, capsys):
    experiments = experiments_in(vars(module))
    assert experiments
    assert [line.split(maxsplit=2) for line in printed(module, "--list", capsys)] == [
        [one.section, one.name, one.summary] for one in experiments
    ]


def test_experiments_are_those_named_in_the_order_of_the_script_and_all_by_default():
    chosen = {
        names: parse_arguments("", EXPERIMENTS, names.split()).experiments for names in ("", "width", "width depth")
    }
    assert chosen == {"": EXPERIMENTS, "width": EXPERIMENTS[1:], "width depth": EXPERIMENTS}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--redraw", "--fresh"],
            "--redraw needs the runs that --fresh forgets, on the command line, give one of them",
        ),
        (["--format", "gif"], "argument --format: invalid choice: 'gif'"),
        (["--quick=1"], "argument --quick: ignored explicit argument '1'"),
        (["--cluster"], "argument --cluster: expected one argument"),
    ],
)
def test_what_cannot_be_parsed_is_an_input_error(options, message):
    with pytest.raises(InputError) as error:
        parse_arguments("", EXPERIMENTS, options)
    assert str(error.value).startswith(message)


def test_a_script_adds_options_and_other_defaults():
    def options(parser):
        parser.set_defaults(seeds=2)
        parser.add_argument("--memory", type=commands.gibibytes)

    arguments = parse_arguments("", EXPERIMENTS, ["--memory", "0.5"], options)
    assert (arguments.seeds, arguments.memory) == (2, 0.5)


def test_auto_takes_cuda_or_the_cpu_and_never_mps(monkeypatch):
    for cuda, mps, device in ((True, True, "cuda"), (False, True, "cpu"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert commands.choose_device("auto") == device
        for asked, there in (("cuda", cuda), ("mps", mps), ("cpu", True)):
            if there:
                assert commands.choose_device(asked) == asked
            else:
                with pytest.raises(InputError, match=f"no {asked} device is available, --device {asked}"):
                    commands.choose_device(asked)


def test_there_is_a_job_for_each_core_or_device(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(commands.joblib, "cpu_count", lambda: 7)
    jobs = {options: parse_arguments("", [], options.split()).jobs for options in ("--device cpu", "--device mps")}
    assert jobs == {"--device cpu": 7, "--device mps": 1}
    assert parse_arguments("", [], ["--device", "cpu", "--jobs", "3"]).jobs == 3


# ---------------------------------------------------------------------------- how a script ends


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


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), ValueError("a bug")])
def test_what_is_nobodys_fault_is_raised(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        run_script(main)


def test_a_reader_that_goes_away_stops_nothing(monkeypatch, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)

    def main():
        for _ in range(3):
            print("x" * 100_000, flush=True)
        (tmp_path / "saved").touch()

    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run_script(main) == 0
    assert (tmp_path / "saved").exists()


def test_names_that_the_terminal_cannot_show_stop_nothing(monkeypatch, tmp_path):
    with open(tmp_path / "terminal", "w", encoding="ascii") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run_script(lambda: print("Ελλάς")) == 0
    assert (tmp_path / "terminal").read_text() == "\\u0395\\u03bb\\u03bb\\u03ac\\u03c2\n"
