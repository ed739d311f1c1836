"""Shortcuts: what a file is, not what it shows, may tell the classes apart; then an accuracy says little of faces."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from lab.errors import warn
from lab.study import SPLITS, Cells
from lab.tell.statistics import wilson

ENOUGH = 0.65  # balanced accuracy on validation and test from which on it is a shortcut
STANDARD = 57.625  # mean of the luminance table of JPEG at quality 50 (ITU-T T.81, annex K)


@dataclass(frozen=True)
class FileTraits:
    """What a photo's file is, whatever it shows."""

    format: str  # as Pillow calls it
    width: int
    height: int
    grey: bool
    quality: float  # of a JPEG, as libjpeg counts, 1 to 100; of other formats 101

    def numbers(self, formats: list[str]) -> dict[str, float]:
        """{name: value} of all traits, formats as 0 or 1 each."""
        values = {f"file format {name}": float(self.format == name) for name in formats}
        values |= {"width": self.width, "height": self.height, "width by height": self.width / self.height}
        return values | {"grey or colour": float(self.grey), "JPEG quality": self.quality}


@dataclass(frozen=True)
class Shortcut:
    """The best single question about the files: of which trait, and the accuracy of its answers in each split."""

    trait: str
    accuracy: dict[str, float]
    balanced: float  # accuracy on validation and test, the mean of both classes

    def cells(self) -> Cells:
        return {(split, "accuracy"): np.array([accuracy]) for split, accuracy in self.accuracy.items()}

    def sentence(self) -> str:
        asked = f"A tree of one question about the files, {self.trait},"
        return f"{asked} is right on {self.accuracy['test']:.3f} of the test photos without a look at a face"


def traits_of(data: bytes, image: Image.Image) -> FileTraits:
    """data: the file's bytes; image: what they show, in RGB."""
    few = np.asarray(image.resize((64, 64), Image.Resampling.NEAREST))
    with Image.open(io.BytesIO(data)) as file:
        tables = getattr(file, "quantization", None)
        quality = _quality(np.mean(tables[0])) if tables else 101.0
        return FileTraits(file.format, file.width, file.height, bool((few == few[..., :1]).all()), quality)


def _quality(mean: float) -> float:
    """libjpeg's quality, from the mean of the luminance table, that of quality 50 times its scale."""
    scale = mean / STANDARD
    return float(np.clip(np.rint(100 - 50 * scale if scale <= 1 else 50 / scale), 1, 100))


def find_shortcut(traits: dict[str, list[FileTraits]], y: dict[str, np.ndarray]) -> Shortcut | None:
    """The decision tree of one level that is fitted on train, if it is right often enough on validation and test.

    That is a balanced accuracy of ENOUGH, and more than chance by Wilson's 95% interval.
    """
    formats = sorted({file.format for file in traits["train"]})
    names = list(traits["train"][0].numbers(formats))
    table = {split: np.array([list(file.numbers(formats).values()) for file in traits[split]]) for split in SPLITS}
    stump = DecisionTreeClassifier(max_depth=1, class_weight="balanced", random_state=0).fit(table["train"], y["train"])
    if stump.get_depth() == 0:
        return None
    answers = {split: stump.predict(table[split]) for split in SPLITS}
    held_out = [np.concatenate([values[split] for split in SPLITS[1:]]) for values in (y, answers)]
    balanced = balanced_accuracy_score(*held_out)
    if balanced < ENOUGH or wilson(balanced, len(held_out[0]))[0] <= 0.5:
        return None
    accuracy = {split: float((answers[split] == y[split]).mean()) for split in SPLITS}
    return Shortcut(names[stump.tree_.feature[0]], accuracy, float(balanced))


def warn_of_shortcut(shortcut: Shortcut | None, folder: Path) -> None:
    if shortcut:
        what = f"{shortcut.trait} alone tells real from fake with a balanced accuracy of {shortcut.balanced:.3f}"
        warn(f"{what} on validation and test, {folder}, give both classes the same or distrust the accuracies")
