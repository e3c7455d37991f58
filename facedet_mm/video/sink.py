"""The interface of everything that frames and faces are written to."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, VideoError
from facedet_mm.structures import Faces
from facedet_mm.system.files import atomic_path
from facedet_mm.video.frame import Frame


class Sink(Protocol):
    """Takes the frames of a video, in order, in one thread."""

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:
        """Writes the next frame.

        Args:
            frame: The frame as it was read.
            faces: Faces of the frame.
            drawn: (H, W, 3) uint8 BGR, the image to show for the frame.

        Raises:
            VideoError: It cannot be written; everything written before is kept.
        """
        ...

    def close(self) -> None:
        """Completes the output and gives it its final name; may be called twice."""
        ...

    def abort(self) -> None:
        """Discards the output."""
        ...


class FileSink:
    """A file that has a temporary name until it is closed.

    Args:
        path: File to write.

    Attributes:
        path: File to write.
        temporary: Name of the file until it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self.temporary = self._stack.enter_context(atomic_path(path))

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        try:
            self._finish()
        finally:  # frames written before an error are kept
            self._stack.close()

    def abort(self) -> None:
        """See :meth:`Sink.abort`."""
        with suppress(FaceDetError):  # the output is discarded anyway
            self._finish()
        error = VideoError("aborted")
        self._stack.__exit__(VideoError, error, None)

    def _finish(self) -> None:
        """Completes and closes the temporary file."""
