"""``SessionDetector``: what the detectors of all runtimes for model files share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.base import CPU_BATCH_PIXELS, LetterboxDetector, NetworkInput
from facedet_mm.detectors.end2end import DecodedHead, check_fixed_thresholds, find_decoded_head, select_faces
from facedet_mm.detectors.heads import Head, Place, find_head
from facedet_mm.detectors.layouts import before_sigmoid, ends_in_sigmoid, rows_of_maps
from facedet_mm.detectors.metadata import read_metadata
from facedet_mm.detectors.options import DetectorOptions
from facedet_mm.detectors.postprocess import postprocess, traces_close_up
from facedet_mm.detectors.preprocess import Letterbox, make_blob, make_pixels
from facedet_mm.detectors.views import CLOSE_UP_SIDE, Seen
from facedet_mm.errors import ModelError
from facedet_mm.zoo import recommended_score_thr

EXPECTED = (
    "expected an SCRFD or YuNet file: a float (N, 3, H, W) input and, for each stride, score and box outputs, as rows "
    "or maps"
)
NMS_INPUTS = frozenset({"score_thr", "iou_thr", "content_size"})
"""Optional inputs of a file with NMS inside: its thresholds, (1,) float32, and the sizes (width, height) of the images
in the input, (N, 2) float32."""
_TRIAL_SIZE = (128, 128)
_MAX_FITTING = 1024
"""Number of input sizes whose outputs are remembered as checked."""
_MAX_SQUARES = 1e20
"""Sum of the squares of an output; boxes at all places of the largest image stay below it."""


class Session(Protocol):
    """A model file, opened by a runtime.

    Attributes:
        path: Path of the file.
        input_shape: (N, 3, H, W) for float32, or (N, H, W, 3) for uint8 BGR; ``None`` where a side is free.
        output_shapes: Shape of each output; ``None`` where a side is free.
        metadata: JSON text that the file has under the key ``facedet_mm``; empty without one.
        on_cpu: Whether the network runs on the CPU.
        places: Where each output of the file lies in the maps that the session returns; empty if the session returns
            the outputs themselves.
        interleaved: Whether the session takes (N, H, W, 3) BGR, float32 and normalized, instead of (N, 3, H, W).
    """

    path: Path
    input_shape: tuple[int | None, ...]
    output_shapes: list[tuple[int | None, ...]]
    metadata: str
    on_cpu: bool
    places: tuple[Place, ...]
    interleaved: bool

    def run(self, blob: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """Returns all outputs, or maps, for an input; may be called from several threads.

        Raises:
            ModelError: The runtime fails on this input.
        """
        ...


@runtime_checkable
class AdjustableSession(Session, Protocol):
    """A session of a file with NMS inside whose thresholds can be set at each run.

    Attributes:
        options: Names of the :data:`NMS_INPUTS` that the file takes.
    """

    options: frozenset[str]

    def run_with(self, blob: NDArray[Any], values: Mapping[str, NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """Does what :meth:`run` does, with values for some of ``options``."""
        ...


class SessionDetector(LetterboxDetector):
    """Finds faces with a model file; the runtimes differ in how they open and run it.

    Args:
        session: The opened file.
        options: Settings of the detector.
        trial_size: (width, height) of an input that the session takes, where the size is free.

    Attributes:
        head: How the outputs are read.
    """

    def __init__(self, session: Session, options: DetectorOptions, trial_size: tuple[int, int] = _TRIAL_SIZE) -> None:
        self._session = session
        self._pixels = _takes_pixels(session)
        batch, height, width = (session.input_shape[i] for i in ((0, 1, 2) if self._pixels else (0, 2, 3)))
        fixed_size = (width, height) if width is not None and height is not None else None
        self.head, self._metadata = _find_any_head(session, fixed_size, trial_size)
        self._fitting = set[tuple[tuple[int, ...], ...]]()
        has_batch_axis = (
            isinstance(self.head, DecodedHead)
            or bool(session.places)
            or all(len(shape) in (3, 4) for shape in session.output_shapes)
        )
        if not has_batch_axis and batch not in (None, 1):
            raise ModelError(f"{session.path} takes {batch} images at a time, but its outputs have no batch axis")
        network = NetworkInput(
            str(session.path),
            self.head.normalization,
            self.head.divisor,
            fixed_size,
            batch=batch if has_batch_axis else 1,
            batch_pixels=CPU_BATCH_PIXELS if session.on_cpu else math.inf,
            score_factors=1 if isinstance(self.head, DecodedHead) else self.head.scores,
            least_score=0.0 if _takes_thresholds(session) else float(self._metadata.get("score_thr", 0)),
        )
        super().__init__(options, network)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the path and the settings; a worker process opens the file again."""
        return _reopen, (type(self), str(self._session.path.absolute()), self._keywords())

    def _keywords(self) -> dict[str, Any]:
        """Returns the keywords that open the same detector again."""
        return dict(vars(self._options))

    def _default_score_thr(self, options: DetectorOptions) -> float:
        """Returns the model's own threshold, or that of the NMS inside the file if it is higher."""
        inside = float(self._metadata.get("score_thr", 0))
        return max(recommended_score_thr(options.model, self._metadata.get("name")), inside)

    def _make_input(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> NDArray[Any]:
        if self._pixels:
            return make_pixels(images, letterboxes, self._padding)
        interleaved = self._session.interleaved
        return make_blob(images, letterboxes, self.network.normalization, self._workspace, interleaved=interleaved)

    def _infer(self, blob: NDArray[Any], letterboxes: Sequence[Letterbox], score_thr: float) -> Iterable[Seen]:
        iou_thr = self._options.iou_thr
        if missing := (self.network.batch or len(letterboxes)) - len(letterboxes):
            blob = np.concatenate([blob, np.zeros((missing, *blob.shape[1:]), blob.dtype)])
        if isinstance(self.head, DecodedHead):
            outputs = self._run_nms(blob, [*letterboxes, *[letterboxes[-1]] * missing], score_thr)
            self._check_decoded(blob, outputs, self.head)
            for i, letterbox in enumerate(letterboxes):
                faces = select_faces(self.head, [output[i] for output in outputs], letterbox, score_thr, iou_thr)
                # The traces of a close-up may be gone, and in a single size the second look costs as much as the first.
                yield Seen(faces, close_up=self.network.fixed_size is None or not len(faces))
            return
        outputs = self._session.run(blob)
        self._check(blob, outputs, self.head)
        for i, letterbox in enumerate(letterboxes):
            view_outputs = [output if output.ndim == 2 else output[i] for output in outputs]
            faces = postprocess(self.head, view_outputs, letterbox, score_thr, iou_thr)
            may_miss = self._options.close_ups and max(letterbox.resized) >= 2 * CLOSE_UP_SIDE
            yield Seen(faces, may_miss and traces_close_up(self.head, view_outputs, letterbox))

    def _check(self, blob: NDArray[Any], outputs: Sequence[NDArray[np.float32]], head: Head) -> None:
        """Raises :class:`ModelError` if outputs do not fit the input and each other, or hold odd numbers."""
        shapes = (blob.shape, *[output.shape for output in outputs])
        if shapes not in self._fitting:
            width, height = _size(blob)
            if not head.fits(outputs, len(blob), width, height):
                found = ", ".join(str(output.shape) for output in outputs)
                raise ModelError(
                    f"{self._session.path} gives outputs of shape {found} on a {describe_size(blob)} input, which do "
                    "not belong to its strides; export the file again"
                )
            if len(self._fitting) >= _MAX_FITTING:
                self._fitting.clear()
            self._fitting.add(shapes)
        for output in outputs:
            self._check_numbers(blob, output)

    def _check_decoded(self, blob: NDArray[Any], outputs: Sequence[NDArray[np.float32]], head: DecodedHead) -> None:
        shape = outputs[head.scores].shape
        fits = len(shape) == 2 and shape[0] == len(blob) and outputs[head.boxes].shape == (*shape, 4)
        if not fits or (head.landmarks is not None and outputs[head.landmarks].shape != (*shape, 5, 2)):
            found = ", ".join(str(output.shape) for output in outputs)
            raise ModelError(
                f"{self._session.path} gives outputs of shape {found}, which do not belong together; {EXPECTED}"
            )
        for index in (head.scores, head.boxes):
            self._check_numbers(blob, outputs[index])

    def _check_numbers(self, blob: NDArray[Any], output: NDArray[np.float32]) -> None:
        values = output.reshape(-1)
        squares = float(values.dot(values))  # NaN if and only if a value is, in a few microseconds
        if not squares <= _MAX_SQUARES:
            what = "that are not numbers (NaN)" if math.isnan(squares) else "far larger than any image"
            raise ModelError(
                f"{self._session.path} gives values {what} on a {describe_size(blob)} input: its "
                "weights are damaged or overflow in this precision; use another file or precision"
            )

    def _run_nms(
        self, blob: NDArray[Any], letterboxes: Sequence[Letterbox], score_thr: float
    ) -> Sequence[NDArray[np.float32]]:
        """Runs a file that may have NMS inside, with this detector's thresholds."""
        session, iou_thr = self._session, self._options.iou_thr
        if not _takes_thresholds(session):
            check_fixed_thresholds(str(session.path), self._metadata, score_thr, iou_thr)
            return session.run(blob)
        values = {
            "score_thr": np.array([score_thr], np.float32),
            "iou_thr": np.array([iou_thr], np.float32),
            "content_size": np.array([letterbox.resized for letterbox in letterboxes], np.float32),
        }
        return session.run_with(blob, {name: values[name] for name in session.options})


def check_file(path: Path) -> None:
    """Raises :class:`ModelError` unless ``path`` is a file that is not empty."""
    if not os.path.isfile(path):  # unlike pathlib's test, also false for a file that can't be accessed
        raise ModelError(f"{path}: {'a folder, not a model file' if os.path.isdir(path) else 'no such model file'}")
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: empty model file (0 bytes)")


@contextmanager
def readable_names(path: Path) -> Iterator[None]:
    """Turns the error of a runtime that reads a name which is not UTF-8 text into :class:`ModelError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} is damaged: a name in it is not UTF-8 text; export or download the file again"
        ) from error


def takes_images(shape: tuple[int | None, ...], pixels: bool) -> bool:
    """Returns whether an input of this shape takes images: (N, H, W, 3) pixels or (N, 3, H, W) floats."""
    return len(shape) == 4 and shape[3 if pixels else 1] == 3


def describe_size(blob: NDArray[Any]) -> str:
    """Returns the width and height of an input, for error messages."""
    return " x ".join(map(str, _size(blob)))


def _size(blob: NDArray[Any]) -> tuple[int, int]:
    height, width = blob.shape[1:3] if blob.shape[1] != 3 else blob.shape[2:]
    return width, height


def _reopen(kind: Callable[..., SessionDetector], path: str, keywords: Mapping[str, Any]) -> SessionDetector:
    return kind(path, **keywords)


def _takes_thresholds(session: Session) -> TypeGuard[AdjustableSession]:
    """Returns whether the NMS inside the file, if any, can have other thresholds."""
    return isinstance(session, AdjustableSession) and bool(session.options)


def _takes_pixels(session: Session) -> bool:
    return session.input_shape[1] != 3


def _find_any_head(
    session: Session, fixed_size: tuple[int, int] | None, trial_size: tuple[int, int]
) -> tuple[Head | DecodedHead, dict[str, Any]]:
    """Returns how the outputs are read, and the metadata."""
    width, height = fixed_size or trial_size
    batch = session.input_shape[0] or 1
    try:
        metadata = _metadata(session)
        if not session.places and (decoded := find_decoded_head(session.output_shapes, metadata)):
            return decoded, metadata
        outputs = session.run(_noise(session, batch, width, height))
        if session.places:
            shapes = [place.shape(outputs) for place in session.places]
            return replace(find_head(shapes, width, height, metadata, session.places), logits=True), metadata
        return _find_raw_head(session.path, outputs, width, height, metadata), metadata
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{session.path} is not a face detector of a known kind: {error}; {EXPECTED}") from error


def _find_raw_head(
    path: Path, outputs: Sequence[NDArray[np.float32]], width: int, height: int, metadata: Mapping[str, Any]
) -> Head:
    """Returns the head of the outputs for noise of ``width`` × ``height``, which are rows or maps."""
    shapes, places = [output.shape for output in outputs], tuple[Place, ...]()
    if any(len(shape) == 4 for shape in shapes):
        shapes, places, strides = rows_of_maps(shapes, width, height)
        metadata = {"strides": strides, **metadata}
    head = find_head(shapes, width, height, metadata, places)
    scores = sorted((i for i, shape in enumerate(shapes) if shape[-1] == 1), key=lambda i: -shapes[i][-2])
    parts = [outputs[i] for i in scores]
    return replace(head, logits=before_sigmoid(parts, head.scores, lambda: ends_in_sigmoid(path, scores)))


def _metadata(session: Session) -> dict[str, Any]:
    try:
        return read_metadata(session.metadata)
    except ValueError as error:
        raise ValueError(f"its metadata is damaged or wrong ({error}); export the file again") from error


def _noise(session: Session, batch: int, width: int, height: int) -> NDArray[Any]:
    random, pixels = np.random.default_rng(0), (batch, height, width, 3)
    if _takes_pixels(session):
        return random.integers(0, 256, pixels, np.uint8)
    return random.random(pixels if session.interleaved else (batch, 3, height, width), np.float32) * 2 - 1
