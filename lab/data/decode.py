"""A photo file's bytes to upright RGB, whatever its kind, and to the size that a network takes."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from lab.files import other_kind

MOST_PIXELS = 100_000_000
FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 31, 32))  # of whole numbers
TURNS = {  # by the orientation in the EXIF data
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Texts beside a picture may be long; Pillow's own limits would throw the picture away with them.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 2**26, 2**28


@dataclass(frozen=True)
class View:
    """How a photo is brought to size: resized to side x side, and of that the crop x crop in the centre."""

    side: int
    crop: int


def read_photo(data: bytes) -> Image.Image:
    """Decode a file's bytes to an upright RGB image. Raises whatever Pillow raises on a damaged one."""
    if not data:
        raise ValueError("empty file")
    if other := other_kind(data):
        raise ValueError(f"{other[0]}: {other[1]}")
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.load()  # first, as a TIFF is turned by this
        turn = TURNS.get(_orientation(image))
        upright = image.transpose(turn) if turn is not None else image.copy()
    if upright.mode[0] in "IF":  # which Pillow's conversion would clip
        upright = Image.fromarray(_eight_bits(np.asarray(upright)))
    if upright.has_transparency_data:  # what lies under it is not to be seen
        opaque = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return upright.convert("RGB")


def _orientation(image: Image.Image) -> int | None:
    """As a camera wrote it; None where it can't be read, which is no reason to do without the photo."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # Pillow raises nearly anything on damaged metadata
        return None


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of other ranges as uint8: of 10, 12, 14 or 16 bits by the fewest bits that hold them, of 0 to 1.

    Others, which may be negative, from their smallest to their largest.
    """
    if values.dtype == np.int32 and values.min() < 0:  # 32 bits without a sign, which Pillow gives one
        values = values.view(np.uint32)
    values = np.nan_to_num(values.astype(float), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    whole = (values == np.rint(values)).all() and high > 1
    scales = FULL_SCALES if whole else (1.0, 255.0)
    top = next((scale for scale in scales if high <= scale), None)
    if low < 0 or top is None:
        return np.rint(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)
    return np.rint(values * 255 / top).astype(np.uint8)


def resize(image: Image.Image, view: View) -> np.ndarray:
    """(crop, crop, 3) uint8 of an RGB image, as torchvision's Resize((side, side)) and CenterCrop(crop)."""
    resized = image.resize((view.side, view.side), Image.Resampling.BILINEAR)
    corner = round((view.side - view.crop) / 2)
    return np.asarray(resized)[corner : corner + view.crop, corner : corner + view.crop]
