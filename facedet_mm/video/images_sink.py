"""``ImagesSink``: the frames of a video as image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, VideoError
from facedet_mm.io.images import write_image
from facedet_mm.structures import Faces
from facedet_mm.video.frame import Frame


class ImagesSink:
    """One JPEG file per frame, from ``000001.jpg`` on.

    Args:
        folder: Folder to write to; created if it is missing.

    Raises:
        VideoError: The folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"cannot write into {folder}: {error.strerror or error}") from error

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.sink.Sink.write>`."""
        try:
            write_image(self.folder / f"{frame.number:06d}.jpg", drawn)
        except FaceDetError as error:
            raise VideoError(str(error)) from error

    def close(self) -> None:
        """See :meth:`Sink.close <facedet_mm.video.sink.Sink.close>`."""

    def abort(self) -> None:
        """See :meth:`Sink.abort <facedet_mm.video.sink.Sink.abort>`; images that were written stay."""
