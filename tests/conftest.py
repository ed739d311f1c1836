"""What several test files share: Python in a process of its own, a copy of the code, photos, quick runs, edits."""

import importlib
import inspect
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from lab.run.command_line import run_script

ROOT = Path(__file__).parents[1]
SCRIPTS = ("NN_tutorial", "cnn", "xg")
torch.set_num_threads(1)  # as in the workers; the matrices are too small for two
settings.register_profile("study", derandomize=True, deadline=None, max_examples=25)  # the same examples each time
settings.load_profile("study")


@pytest.fixture(scope="session")
def silent():
    """A progress function that does nothing."""
    return lambda fraction: None


@pytest.fixture(scope="session")
def python():
    """Python in a process of its own, without a display or a GPU: python(*arguments, **options of subprocess.run)."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": ""}
    environment.pop("DISPLAY", None)

    def call(*arguments, **options) -> subprocess.CompletedProcess:
        options = {"capture_output": True, "text": True, "env": environment, "timeout": 280} | options
        return subprocess.run([sys.executable, *map(str, arguments)], **options)

    return call


@pytest.fixture(scope="session")
def copied(tmp_path_factory):
    """copied({BEFORE: AFTER}): a folder with a copy of the code in which NN_tutorial.py is edited."""

    def copy(edits: dict[str, str]) -> Path:
        folder = tmp_path_factory.mktemp("copy")
        shutil.copytree(ROOT / "lab", folder / "lab", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (*ROOT.glob("*.py"), ROOT / "study.mplstyle"):
            shutil.copy(path, folder)
        script = folder / "NN_tutorial.py"
        for before, after in edits.items():
            assert script.read_text().count(before) == 1
            script.write_text(script.read_text().replace(before, after))
        return folder

    return copy


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(NAME, MAKE): what make(folder) returns, made once for all processes that test."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def of(name: str, make: Callable[[Path], Any]) -> Any:
        kept = shared / f"{name}.pickle"
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                (shared / name).mkdir()
                kept.write_bytes(pickle.dumps(make(shared / name)))
        return pickle.loads(kept.read_bytes())

    return of


@pytest.fixture(scope="session")
def photo_folder(once) -> Path:
    """40 photos of each class to train, 10 to validate and 10 to test; fakes have a bright square in the middle."""
    return once("photos", make_photos)


def make_photos(root: Path) -> Path:
    draws = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            (root / split / label).mkdir(parents=True)
            for number in range(40 if split == "train" else 10):
                pixels = draws.integers(0, 120, (64, 64), dtype=np.uint8)
                if label == "fake":
                    pixels[24:40, 24:40] += 60
                Image.fromarray(pixels).save(root / split / label / f"{number:02} $_$ 脸.png")
    return root


@dataclass
class Quick:
    """The --quick run of a script."""

    name: str
    out: Path
    process: subprocess.CompletedProcess
    given: list[str]  # its options

    def again(self, out: Path, *options: str) -> int:
        """Its command with more options, in this process; returns the exit code."""
        script = importlib.import_module(self.name)
        return run_script(lambda: script.main([*self.given, "--out", str(out), *options]))

    def table(self, out: Path | None = None) -> pd.DataFrame:
        return pd.read_csv((out or self.out) / f"{self.name}.csv", dtype={"section": str, "run": str})

    def copy_runs(self, out: Path) -> None:
        shutil.copytree(self.out / "runs", out / "runs")


@pytest.fixture(scope="session")
def run_quick(python, photo_folder, once):
    """run_quick(NAME): a script's run of everything on a tiny budget, from another folder. Tests only read there."""

    def make(out: Path) -> Quick:
        name = out.name
        given = ["--quick", *([] if name == "NN_tutorial" else ["--data", str(photo_folder)])]
        given += ["--backbone", "efficientnet-lite0"] if name == "cnn" else []
        if name == "xg":  # after cnn.py, which has done its runs
            shutil.copytree(run("cnn").out / "runs", out / "runs")
        return Quick(name, out, python(ROOT / f"{name}.py", *given, "--jobs", 2, "--out", out, cwd=out), given)

    def run(name: str) -> Quick:
        return once(name, make)

    return run


@pytest.fixture(autouse=True)
def closed():
    """No test leaves a figure open, or a processor that takes what is too small for a float for 0."""
    yield
    plt.close("all")
    torch.set_flush_denormal(False)


@pytest.fixture
def edit(monkeypatch):
    """edit(name, before, after): a function or class of NN_tutorial.py, as if one of its lines were rewritten."""

    def rewrite(name: str, before: str, after: str) -> None:
        script = importlib.import_module("NN_tutorial")
        source = inspect.getsource(getattr(script, name))
        assert before in source
        monkeypatch.setattr(script, name, None)  # to be put back
        exec(source.replace(before, after), vars(script))

    return rewrite
