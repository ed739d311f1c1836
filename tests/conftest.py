"""What several test files share: silence, Python in a process of its own, photos, one --quick run of each script."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

import NN_tutorial

ROOT = Path(__file__).parents[1]
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
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, **{"capture_output": True, "text": True, "env": environment, "timeout": 280, **options}
        )

    return call


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """40 photos of each class to train, 10 to validate and 10 to test; fakes have a bright square in the middle."""
    root, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            (root / split / label).mkdir(parents=True)
            for number in range(40 if split == "train" else 10):
                pixels = draws.integers(0, 120, (64, 64), dtype=np.uint8)
                if label == "fake":
                    pixels[24:40, 24:40] += 60
                Image.fromarray(pixels).save(root / split / label / f"{number:02} $_$ 脸.png")
    return root


# One run of everything on a tiny budget by each script, from another folder: (OUT, its process). Tests only read there.


@pytest.fixture(scope="session")
def quick_NN_tutorial(python, tmp_path_factory):
    out = tmp_path_factory.mktemp("places")
    return out, python(ROOT / "NN_tutorial.py", "--quick", "--jobs", 2, "--out", out, cwd=out)


@pytest.fixture(scope="session")
def quick_cnn(python, photo_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("networks")
    given = "--data", photo_folder, "--out", out, "--backbone", "efficientnet-lite0"
    return out, python(ROOT / "cnn.py", "--quick", "--jobs", 2, *given, cwd=out)


@pytest.fixture(scope="session")
def quick_xg(python, photo_folder, quick_cnn, tmp_path_factory):
    """After cnn.py, which has done its runs."""
    out = tmp_path_factory.mktemp("trees")
    shutil.copytree(quick_cnn[0] / "runs", out / "runs")
    return out, python(ROOT / "xg.py", "--quick", "--jobs", 2, "--data", photo_folder, "--out", out, cwd=out)


@pytest.fixture
def edit(monkeypatch):
    """edit(name, before, after): a function or class of NN_tutorial.py, as if one of its lines were rewritten."""

    def rewrite(name: str, before: str, after: str) -> None:
        source = inspect.getsource(getattr(NN_tutorial, name))
        assert before in source
        monkeypatch.setattr(NN_tutorial, name, None)  # to be put back
        exec(source.replace(before, after), vars(NN_tutorial))

    return rewrite
