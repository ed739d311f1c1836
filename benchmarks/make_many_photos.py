"""Make N photos of 64 x 64 pixels from the demo faces, each turned, moved and lit in another way, to try sizes with.

python benchmarks/make_many_photos.py 100000 /tmp/photos && python cnn.py --data /tmp/photos --size 32
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab.data.photos import demo_faces

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def make(count: int, folder: Path, seed: int = 0) -> None:
    """Half of the photos are real and half fake; nobody is in two splits."""
    draws = np.random.default_rng(seed)
    for split, share in SHARES.items():
        for label in ("real", "fake"):
            faces = [Image.open(path).convert("RGB") for path in sorted((demo_faces() / split / label).iterdir())]
            (folder / split / label).mkdir(parents=True)
            for number in range(round(count * share / 2)):
                face = faces[number % len(faces)]
                angle, zoom, light = draws.normal(0, 8), draws.uniform(0.8, 1.1), draws.uniform(0.7, 1.3, 3)
                turn = zoom * np.exp(1j * np.radians(angle))
                centre = np.array(face.size) / 2 + draws.normal(0, 2, 2)
                step = 112 / 64  # pixels of the face for one of the photo
                matrix = step * np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
                corner = centre - matrix @ (32, 32)
                data = (*matrix[0], corner[0], *matrix[1], corner[1])
                seen = face.transform((64, 64), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
                pixels = np.asarray(seen) * light + draws.normal(0, 2, (64, 64, 3))
                photo = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                photo.save(folder / split / label / f"{number:06}.jpg", quality=92)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    make(given.count, given.folder)
