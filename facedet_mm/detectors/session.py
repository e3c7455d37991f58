"""``SessionDetector``: what the detectors of all runtimes that execute a model file share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.base import InputSizes, LetterboxDetector, NetworkInput
from facedet_mm.detectors.decode import Head, recognise, to_faces
from facedet_mm.detectors.letterbox import Letterbox
from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces

EXPECTED = "expected an SCRFD or YuNet file: a float (N, 3, H, W) input and, for each stride, score and box outputs"
_PROBE_SIDE = 128


class Session(Protocol):
    """A model file, opened by some runtime.

    Attributes:
        path: the file.
        input_shape: (N, 3, H, W); ``None`` where a side is free.
        output_shapes: likewise.
        metadata: what the file says of itself under the key ``facedet_mm``, JSON.
    """

    path: Path
    input_shape: tuple[int | None, ...]
    output_shapes: list[tuple[int | None, ...]]
    metadata: str

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """All outputs for an input (N, 3, H, W); may be called from several threads.

        Raises:
            ModelError: the runtime can't.
        """
        ...


class SessionDetector(LetterboxDetector):
    """Finds faces with a model file; the runtimes differ in how they open and run it."""

    def __init__(
        self,
        session: Session,
        score_thr: float,
        iou_thr: float,
        input_size: InputSizes,
        max_faces: int | None,
        tiles: int | tuple[int, int] | None,
    ) -> None:
        self._session = session
        batch, _, height, width = session.input_shape
        fixed_size = (width, height) if width is not None and height is not None else None
        self._head = _recognise(session, fixed_size)
        network = NetworkInput(
            str(session.path),
            self._head.normalization,
            self._head.divisor,
            fixed_size,
            batches=batch is None and all(len(shape) == 3 for shape in session.output_shapes),
        )
        super().__init__(network, score_thr, iou_thr, input_size, max_faces, tiles)

    def _find(self, blob: NDArray[np.float32], boxes: Sequence[Letterbox]) -> Iterable[Faces]:
        outputs = self._session.run(blob)
        for i, box in enumerate(boxes):
            of_view = [output[i] if output.ndim == 3 else output for output in outputs]
            yield to_faces(self._head, of_view, box, self.score_thr, self.iou_thr)


def check_file(path: Path) -> None:
    """Raises :class:`ModelError` unless ``path`` is a file with something in it."""
    if not path.is_file():
        raise ModelError(f"{path}: {'a folder, not a model file' if path.is_dir() else 'no such model file'}")
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: empty model file (0 bytes)")


def _recognise(session: Session, fixed_size: tuple[int, int] | None) -> Head:
    width, height = fixed_size or (_PROBE_SIDE, _PROBE_SIDE)
    shapes = [tuple(d for d in shape if d is not None) for shape in session.output_shapes]
    # A file with a free input may still declare the output sizes of the input it was exported with.
    if not (fixed_size and all(len(s) == len(t) for s, t in zip(shapes, session.output_shapes, strict=True))):
        shapes = [output.shape for output in session.run(np.zeros((1, 3, height, width), np.float32))]
    try:
        return recognise(shapes, width, height, json.loads(session.metadata or "{}"))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{session.path} is no face detector that is known: {error}; {EXPECTED}") from error
