"""``SessionDetector``: what the detectors of all runtimes that execute a model file share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.base import CPU_BATCH_PIXELS, InputSizes, LetterboxDetector, NetworkInput
from facedet_mm.detectors.end2end import DecodedHead, check_fixed_thresholds, recognize_decoded, select_faces
from facedet_mm.detectors.heads import Head, Place, recognize
from facedet_mm.detectors.postprocess import postprocess
from facedet_mm.detectors.preprocess import Letterbox, make_blob, make_pixels, padding_of
from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces

EXPECTED = "expected an SCRFD or YuNet file: a float (N, 3, H, W) input and, for each stride, score and box outputs"
OPTIONS = frozenset({"score_thr", "iou_thr", "content_size"})
"""Inputs of a file with NMS inside that may be left out: its thresholds, (1,) float32, and the sizes (width, height)
of the images in the input, (N, 2) float32."""
_PROBE = (128, 128)


class Session(Protocol):
    """A model file, opened by some runtime.

    Attributes:
        path: the file.
        input_shape: (N, 3, H, W) of float32, or (N, H, W, 3) of uint8 BGR; ``None`` where a side is free.
        output_shapes: likewise.
        metadata: what the file says of itself under the key ``facedet_mm``, JSON.
        on_cpu: whether the processor itself runs it.
        places: where in the maps that it puts out each output of the file lies; empty if it puts out the same.
        interleaved: whether it takes (N, H, W, 3) BGR instead, float32 and normalized.
    """

    path: Path
    input_shape: tuple[int | None, ...]
    output_shapes: list[tuple[int | None, ...]]
    metadata: str
    on_cpu: bool
    places: tuple[Place, ...]
    interleaved: bool

    def run(self, blob: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """All outputs, or maps, for an input; may be called from several threads.

        Raises:
            ModelError: the runtime can't.
        """
        ...


@runtime_checkable
class AdjustableSession(Session, Protocol):
    """A session in which the NMS inside a file takes other values than its own.

    Attributes:
        options: those of :data:`OPTIONS` that the file takes.
    """

    options: frozenset[str]

    def run_with(self, blob: NDArray[Any], values: Mapping[str, NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """As :meth:`run`, with values for some of ``options``."""
        ...


class SessionDetector(LetterboxDetector):
    """Finds faces with a model file; the runtimes differ in how they open and run it.

    Args:
        session: the opened file.
        score_thr, iou_thr, input_size, max_faces, tiles: as for
            :class:`~facedet_mm.detectors.base.LetterboxDetector`.
        probe: (width, height) of an input that the session takes, where it takes several.
    """

    def __init__(
        self,
        session: Session,
        score_thr: float,
        iou_thr: float,
        input_size: InputSizes,
        max_faces: int | None,
        tiles: int | tuple[int, int] | None,
        probe: tuple[int, int] = _PROBE,
    ) -> None:
        self._session = session
        self._pixels = _takes_pixels(session)
        batch, height, width = (session.input_shape[i] for i in ((0, 1, 2) if self._pixels else (0, 2, 3)))
        fixed_size = (width, height) if width is not None and height is not None else None
        self._metadata = _metadata(session)
        self._head = _recognize(session, fixed_size, self._metadata, probe)
        self._padding = padding_of(self._head.normalization)
        by_image = (
            isinstance(self._head, DecodedHead)
            or bool(session.places)
            or all(len(shape) == 3 for shape in session.output_shapes)
        )
        if not by_image and batch not in (None, 1):
            raise ModelError(f"{session.path} takes {batch} images at a time, but its outputs have no batch axis")
        network = NetworkInput(
            str(session.path),
            self._head.normalization,
            self._head.divisor,
            fixed_size,
            batch=batch if by_image else 1,
            batch_pixels=CPU_BATCH_PIXELS if session.on_cpu else math.inf,
        )
        super().__init__(network, score_thr, iou_thr, input_size, max_faces, tiles)

    def _make_input(self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Letterbox]) -> NDArray[Any]:
        if self._pixels:
            return make_pixels(images, boxes, self._padding)
        interleaved = self._session.interleaved
        return make_blob(images, boxes, self._network.normalization, self._workspace, interleaved=interleaved)

    def _find(self, blob: NDArray[Any], boxes: Sequence[Letterbox]) -> Iterable[Faces]:
        if missing := (self._network.batch or len(boxes)) - len(boxes):
            blob = np.concatenate([blob, np.zeros((missing, *blob.shape[1:]), blob.dtype)])
        if isinstance(self._head, DecodedHead):
            outputs = self._run_nms(blob, [*boxes, *[boxes[-1]] * missing])
            for i, box in enumerate(boxes):
                of_view = [output[i] for output in outputs]
                yield select_faces(self._head, of_view, box, self.score_thr, self.iou_thr)
            return
        outputs = self._session.run(blob)
        for i, box in enumerate(boxes):
            of_view = [output if output.ndim == 2 else output[i] for output in outputs]
            yield postprocess(self._head, of_view, box, self.score_thr, self.iou_thr)

    def _run_nms(self, blob: NDArray[Any], boxes: Sequence[Letterbox]) -> Sequence[NDArray[np.float32]]:
        """Runs a file that may have NMS inside, with this detector's thresholds."""
        session = self._session
        if not isinstance(session, AdjustableSession) or not session.options:
            check_fixed_thresholds(str(session.path), self._metadata, self.score_thr, self.iou_thr)
            return session.run(blob)
        values = {
            "score_thr": np.array([self.score_thr], np.float32),
            "iou_thr": np.array([self.iou_thr], np.float32),
            "content_size": np.array([box.resized for box in boxes], np.float32),
        }
        return session.run_with(blob, {name: values[name] for name in session.options})


def check_file(path: Path) -> None:
    """Raises :class:`ModelError` unless ``path`` is a file with something in it."""
    if not os.path.isfile(path):  # unlike pathlib's test false, too, for what can't be looked at
        raise ModelError(f"{path}: {'a folder, not a model file' if os.path.isdir(path) else 'no such model file'}")
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: empty model file (0 bytes)")


def is_input(shape: tuple[int | None, ...], pixels: bool) -> bool:
    """Whether an input of this shape takes images: (N, H, W, 3) pixels or (N, 3, H, W) floats."""
    return len(shape) == 4 and shape[3 if pixels else 1] == 3


def _takes_pixels(session: Session) -> bool:
    return session.input_shape[1] != 3


def input_size_of(blob: NDArray[Any]) -> str:
    """Width and height of an input, for errors."""
    height, width = blob.shape[1:3] if blob.shape[1] != 3 else blob.shape[2:]
    return f"{width} x {height}"


def _metadata(session: Session) -> dict[str, Any]:
    try:
        return dict(json.loads(session.metadata or "{}"))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{session.path}: its metadata are damaged ({error}); export it again") from error


def _recognize(
    session: Session, fixed_size: tuple[int, int] | None, metadata: Mapping[str, Any], probe: tuple[int, int]
) -> Head | DecodedHead:
    width, height = fixed_size or probe
    batch = session.input_shape[0] or 1
    shapes = [tuple(d for d in shape if d is not None) for shape in session.output_shapes]
    try:
        if session.places:
            maps = session.run(_blank(session, batch, width, height))
            shapes = [place.shape(maps) for place in session.places]
            return recognize(shapes, width, height, metadata, session.places)
        if decoded := recognize_decoded(session.output_shapes, metadata):
            return decoded
        # A file with a free input may still declare the output sizes of the input it was exported with.
        if not (fixed_size and all(len(s) == len(t) for s, t in zip(shapes, session.output_shapes, strict=True))):
            shapes = [output.shape for output in session.run(_blank(session, batch, width, height))]
        return recognize(shapes, width, height, metadata)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{session.path} is no face detector that is known: {error}; {EXPECTED}") from error


def _blank(session: Session, batch: int, width: int, height: int) -> NDArray[Any]:
    if _takes_pixels(session):
        return np.zeros((batch, height, width, 3), np.uint8)
    return np.zeros((batch, height, width, 3) if session.interleaved else (batch, 3, height, width), np.float32)
