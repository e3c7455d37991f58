"""``ImagesReader``: image files as the frames of a video."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import ImageError, VideoError
from facedet_mm.io.images import read_image
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.geometry import fit
from facedet_mm.video.reader import Reader


class ImagesReader(Reader):
    """Reads image files as frames, all in the size of the first one.

    Args:
        paths: Image files, at least one; read in the order of the numbers in their names, ``2.png`` before ``10.png``.
        name: Name of the source used in messages.
        fps: Frames per second.

    Raises:
        VideoError: The first image cannot be read.
    """

    def __init__(self, paths: Iterable[Path], name: str, fps: float) -> None:
        self._paths = sorted(paths, key=_natural_order)
        first = _read(self._paths[0])
        self.info = SourceInfo(name, first.shape[1], first.shape[0], fps, len(self._paths), tuple(self._paths))

    def frames(self) -> Iterator[Frame]:
        """See :meth:`Reader.frames`."""
        for number, path in enumerate(self._paths, start=1):
            image = fit(_read(path), self.info.width, self.info.height)
            yield Frame(image, number, (number - 1) / self.info.fps)

    def close(self) -> None:
        """See :meth:`Reader.close`."""


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_image(path)
    except ImageError as error:
        raise VideoError(str(error)) from error


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that puts ``frame2`` before ``frame10``."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
