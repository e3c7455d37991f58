"""The one interface of all detectors, and what those that feed a letterboxed image to a network share."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.preprocess import InputSize, Letterbox, Normalization, Workspace, check_input_size, make_blob
from facedet_mm.detectors.views import View, check_tiles, merge_views, plan_views
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import load_image
from facedet_mm.structures import Faces

Image: TypeAlias = str | os.PathLike[str] | NDArray[np.uint8]
"""A path, or a uint8 array: gray (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""

InputSizes: TypeAlias = InputSize | list[InputSize]
"""One :data:`InputSize`, or a list of them: all are run and their faces merged."""

_BATCH = 8
CPU_BATCH_PIXELS = 640 * 640
"""As ``NetworkInput.batch_pixels``: what more hold between layers outgrows the caches."""


class Detector(Protocol):
    """Finds faces in images; keeps nothing between calls and may be called from several threads.

    Attributes:
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.

    Example:
        >>> from facedet_mm import Faces, build_detector
        >>> from facedet_mm.zoo import asset_path
        >>> def count(detector: Detector, path: Image) -> int:
        ...     return len(detector.detect(path))
        >>> count(build_detector(score_thr=0.6), asset_path("solvay_1927.jpg"))
        29
    """

    score_thr: float
    iou_thr: float

    @property
    def input_size(self) -> InputSizes:
        """What the network sees: an int (square), (width, height), ``'auto'``, ``'original'`` or a list of these."""
        ...

    @input_size.setter
    def input_size(self, size: InputSizes) -> None: ...

    def detect(self, image: Image) -> Faces:
        """Faces of one image in its pixels, by descending score.

        Raises:
            ImageError: the image can't be read or is no uint8 image.
        """
        ...

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image, in the order of ``images``; raises as :meth:`detect` does."""
        ...


@dataclass(frozen=True)
class NetworkInput:
    """What a network takes.

    Attributes:
        name: of the model, for errors.
        normalization: of the pixels.
        divisor: both sides are multiples of it.
        fixed_size: (width, height) where it takes no other.
        batch: how many views it takes at a time, ``None`` is any number.
        batch_pixels: more pixels than so many at a time take longer than one view after the other.
    """

    name: str
    normalization: Normalization
    divisor: int = 32
    fixed_size: tuple[int, int] | None = None
    batch: int | None = None
    batch_pixels: float = math.inf

    def batch_of(self, canvas: tuple[int, int]) -> int:
        """How many views of (width, height) it gets at a time."""
        return self.batch or max(1, int(min(_BATCH, self.batch_pixels // (canvas[0] * canvas[1]))))


class LetterboxDetector(ABC):
    """Images to views, views of one size to batches, their faces back to the images.

    Args:
        network: what the network takes.
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.
        input_size: see :class:`Detector`.
        max_faces: only so many come out, those with the best scores; ``None`` is all.
        tiles: also look at tiles of so many pixels of the image, a side or (width, height), overlapping by a
            fifth: for tiny faces in huge images.

    Raises:
        FaceDetError: a value is out of range, or the network does not take ``input_size``.
    """

    def __init__(
        self,
        network: NetworkInput,
        score_thr: float,
        iou_thr: float,
        input_size: InputSizes,
        max_faces: int | None,
        tiles: int | tuple[int, int] | None,
    ) -> None:
        check_thresholds(score_thr, iou_thr)
        if max_faces is not None and not (isinstance(max_faces, (int, np.integer)) and max_faces >= 1):
            raise FaceDetError(f"max_faces must be a whole number of at least 1 or None, not {max_faces}")
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self.max_faces = max_faces
        self.tiles = check_tiles(tiles)
        self._network = network
        self._workspace = Workspace()
        self.input_size = input_size

    @property
    def input_size(self) -> InputSizes:
        """What the network sees; see :class:`Detector`."""
        return self._sizes[0] if len(self._sizes) == 1 else list(self._sizes)

    @input_size.setter
    def input_size(self, size: InputSizes) -> None:
        wanted = size if isinstance(size, list) else [size]
        if not wanted:
            raise FaceDetError("input_size is an empty list; give at least one size")
        sizes = [check_input_size(one, self._network.divisor) for one in wanted]
        if fixed := self._network.fixed_size:
            if not set(sizes) <= {fixed, fixed[0] if fixed[0] == fixed[1] else fixed, "auto"}:
                width, height = fixed
                raise ModelError(f"{self._network.name} takes only {width} x {height} images; pass input_size={fixed}")
            sizes = [fixed]
        self._sizes: Sequence[InputSize] = tuple(dict.fromkeys(sizes))

    def detect(self, image: Image) -> Faces:
        """Faces of one image; see :class:`Detector`."""
        return self._detect([image])[0]

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image; views of one input size run together where the network allows it."""
        parts = (self._detect(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH))
        return [faces for part in parts for faces in part]

    def _make_input(self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Letterbox]) -> NDArray[Any]:
        """The network's input for images that share one canvas; it lies there until this thread makes the next."""
        return make_blob(images, boxes, self._network.normalization, self._workspace)

    @abstractmethod
    def _find(self, blob: NDArray[Any], boxes: Sequence[Letterbox]) -> Iterable[Faces]:
        """Faces of each view of a batch, in pixels of its region.

        Args:
            blob: what :meth:`_make_input` gives for them, (N, 3, H, W) float32 unless that is overridden.
            boxes: where each of the N views lies in it.
        """

    def _detect(self, images: Sequence[Image]) -> list[Faces]:
        arrays = [load_image(image) for image in images]
        plans = [plan_views(p.shape[1], p.shape[0], self._sizes, self.tiles, self._network.divisor) for p in arrays]
        found = iter(self._find_all([(p, view) for p, plan in zip(arrays, plans, strict=True) for view in plan]))
        return [self._best(plan, [next(found) for _ in plan]) for plan in plans]

    def _find_all(self, views: Sequence[tuple[NDArray[np.uint8], View]]) -> list[Faces]:
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, (_, view) in enumerate(views):
            groups[view.letterbox.canvas].append(i)
        found: dict[int, Faces] = {}
        for canvas, group in groups.items():
            step = self._network.batch_of(canvas)
            for batch in (group[i : i + step] for i in range(0, len(group), step)):
                fitted = [views[i][1].letterbox for i in batch]
                crops = [views[i][1].crop(views[i][0]) for i in batch]
                found.update(zip(batch, self._find(self._make_input(crops, fitted), fitted), strict=True))
        return [found[i] for i in range(len(views))]

    def _best(self, plan: Sequence[View], found: Sequence[Faces]) -> Faces:
        faces = found[0] if len(plan) == 1 else merge_views(plan, found, self.iou_thr)
        return faces if self.max_faces is None else faces[: self.max_faces]


def check_thresholds(score_thr: float, iou_thr: float) -> None:
    """Raises :class:`FaceDetError` unless both are in [0, 1]."""
    for name, value in (("score_thr", score_thr), ("iou_thr", iou_thr)):
        if not 0 <= value <= 1:
            raise FaceDetError(f"{name} must be between 0 and 1, not {value}")
