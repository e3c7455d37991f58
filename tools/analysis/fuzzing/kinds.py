"""One reader per kind of file: it makes a file, reads it and returns what differs from another decoder, or ``""``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from numpy.random import Generator

from fuzzing.annotations import read_annotation_file
from fuzzing.checkpoints import read_checkpoint
from fuzzing.images import read_image_file
from fuzzing.models import read_model
from fuzzing.videos import read_video

READERS: dict[str, Callable[[Path, Generator], str]] = {
    "image": read_image_file,
    "onnx": read_model,
    "checkpoint": read_checkpoint,
    "annotation": read_annotation_file,
    "video": read_video,
}
