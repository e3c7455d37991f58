"""Images: whole ones in many formats and modes must equal what Pillow decodes, damaged ones may be refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image, ImageOps

from facedet_mm.io.images import read_image
from fuzzing.mutations import mutate_bytes

_FORMATS = (
    ("jpg", "JPEG", ("RGB", "L", "CMYK")), ("png", "PNG", ("RGB", "L", "RGBA", "P", "1", "LA")),
    ("webp", "WEBP", ("RGB", "RGBA")), ("bmp", "BMP", ("RGB", "L", "P")), ("gif", "GIF", ("P", "L")),
    ("tif", "TIFF", ("RGB", "L", "RGBA", "1")), ("ppm", "PPM", ("RGB", "L", "1")),
)  # fmt: skip
_ORIENTED = ("JPEG", "WEBP", "PNG", "TIFF")
_TOLERANCE = 8.0
"""Largest mean difference from Pillow, in gray levels: decoders round colors differently."""


def read_image_file(folder: Path, rng: Generator) -> str:
    """Makes an image, damages every second one, and compares what is read with Pillow's result."""
    suffix, name, modes = _FORMATS[int(rng.integers(len(_FORMATS)))]
    path = folder / f"image.{suffix}"
    path.write_bytes(_encode(name, str(rng.choice(modes)), rng))
    if rng.random() < 0.5:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _difference(read_image(path), path)


def _encode(name: str, mode: str, rng: Generator) -> bytes:
    height, width = (int(side) for side in rng.integers(1, 120, 2))
    smooth = cv2.resize(rng.integers(0, 256, (4, 4, 3), "uint8"), (width, height), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(smooth).convert("RGBA" if mode == "LA" else mode).convert(mode)
    options: dict[str, object] = {}
    if name in _ORIENTED and rng.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        options["exif"] = exif
    if name == "JPEG":
        options |= {"quality": int(rng.integers(60, 100)), "progressive": bool(rng.random() < 0.3)}
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def _difference(found: np.ndarray, path: Path) -> str:
    try:
        # from memory, as Pillow forgets to rotate TIFF files that it maps into memory
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            # Pillow's TIFF reader rotates while it loads
            upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
            expected = np.asarray(upright.convert("RGBA").convert("RGB"))[:, :, ::-1]
    except Exception:  # Pillow refuses what we read: no reference
        return ""
    if found.shape != expected.shape:
        return f"{found.shape[1]} x {found.shape[0]} pixels, Pillow reads {expected.shape[1]} x {expected.shape[0]}"
    mean = float(np.abs(found.astype(int) - expected).mean()) if found.size else 0.0
    return f"differs from Pillow by {mean:.1f} gray levels on average" if mean > _TOLERANCE else ""
