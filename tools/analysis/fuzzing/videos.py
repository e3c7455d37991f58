"""Videos: whole ones must have the frames that plain PyAV decodes, damaged ones may be refused."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import av
import numpy as np
from numpy.random import Generator

from facedet_mm.video.sources import open_source
from fuzzing.mutations import mutate_bytes

_KINDS = (
    ("mp4", "libx264"),
    ("mkv", "libx264"),
    ("avi", "mpeg4"),
    ("ts", "libx264"),
    ("mov", "mpeg4"),
    ("flv", "flv1"),
)
_MOST_FRAMES = 500


def read_video(folder: Path, rng: Generator) -> str:
    """Makes a short video, damages two of three, and reads all frames."""
    suffix, codec = _KINDS[int(rng.integers(len(_KINDS)))]
    path = folder / f"clip.{suffix}"
    data = _video(suffix, codec, int(rng.integers(3)))
    damaged = bool(rng.random() < 0.67)
    path.write_bytes(mutate_bytes(data, rng) if damaged else data)
    source = open_source(path)
    try:
        found = 0
        for _ in source:
            found += 1
            if found > _MOST_FRAMES:
                return f"more than {_MOST_FRAMES} frames"
    finally:
        source.close()
    if damaged:
        return ""
    with av.open(str(path)) as container:
        expected = sum(1 for _ in container.decode(video=0))
    return f"{found} frames, PyAV decodes {expected}" if found != expected else ""


@functools.cache
def _video(suffix: str, codec: str, variant: int) -> bytes:
    stream = io.BytesIO()
    rng = np.random.default_rng(variant)
    formats = {"ts": "mpegts", "mkv": "matroska"}
    with av.open(stream, "w", format=formats.get(suffix, suffix)) as out:
        video = out.add_stream(codec, rate=(25, 10, 30)[variant])
        video.width, video.height, video.pix_fmt = (64, 96, 48)[variant], 48, "yuv420p"
        image = rng.integers(0, 256, (48, video.width, 3), "uint8")
        for _ in range(12):
            image = np.roll(image, 2, axis=1)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode())
    return stream.getvalue()
