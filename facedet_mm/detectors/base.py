"""The interface of all detectors, and what those that feed letterboxed images to a network share."""

from __future__ import annotations

import dataclasses
import math
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.options import DetectorOptions
from facedet_mm.detectors.preprocess import InputSize, Letterbox, Normalization, Workspace, check_input_size, make_blob
from facedet_mm.detectors.views import View, check_tiles, merge_views, plan_views
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import load_image
from facedet_mm.structures import Faces
from facedet_mm.system.settings import declared_settings
from facedet_mm.zoo import recommended_score_thr

Image: TypeAlias = str | os.PathLike[str] | NDArray[np.uint8]
"""A path, or a uint8 array: gray (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""

D = TypeVar("D", bound="LetterboxDetector")

_BATCH = 8
CPU_BATCH_PIXELS = 640 * 640
"""The ``NetworkInput.batch_pixels`` of CPUs: the activations of larger batches outgrow the caches."""
_FIXED = {item.name: declared.fixed for item, declared in declared_settings(DetectorOptions)}


class Detector(Protocol):
    """Finds faces in images. Immutable, without state between calls, and safe to call from several threads.

    Example:
        >>> from facedet_mm import Faces, build_detector
        >>> from facedet_mm.zoo import asset_path
        >>> def count(detector: Detector, path: Image) -> int:
        ...     return len(detector.detect(path))
        >>> count(build_detector(score_thr=0.6), asset_path("solvay_1927.jpg"))
        29
    """

    @property
    def options(self) -> DetectorOptions:
        """Settings of the detector: ``input_size`` is what the network sees, which a model file may fix, and
        ``score_thr`` the number that is used."""
        ...

    def replace(self, **changes: Any) -> Detector:
        """Returns a detector with other settings that shares the opened model, so it costs next to nothing.

        Args:
            **changes: New values of :class:`DetectorOptions` fields, such as ``score_thr=0.02`` or ``input_size=320``.

        Raises:
            FaceDetError: A value is out of range, or the setting is fixed once the model is open (``model``,
                ``weights``, ``device``, ``threads``, ``precision``).
        """
        ...

    def detect(self, image: Image) -> Faces:
        """Returns the faces of one image in its pixels, by descending score.

        Raises:
            ImageError: The image can't be read or is not a uint8 image.
        """
        ...

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Returns the faces of each image, in the order of ``images``; raises as :meth:`detect` does."""
        ...


@dataclass(frozen=True)
class NetworkInput:
    """The input that a network takes.

    Attributes:
        name: Model name used in error messages.
        normalization: Normalization of the pixels.
        divisor: Both sides of the input are multiples of this number.
        fixed_size: (width, height) of a network that takes a single size; ``None`` if the size is free.
        batch: Number of views per run; ``None`` if it is free.
        batch_pixels: Largest number of pixels per batch; beyond it, running views one by one is faster.
    """

    name: str
    normalization: Normalization
    divisor: int = 32
    fixed_size: tuple[int, int] | None = None
    batch: int | None = None
    batch_pixels: float = math.inf

    def batch_size(self, canvas: tuple[int, int]) -> int:
        """Returns how many views of this (width, height) run at a time."""
        return self.batch or max(1, int(min(_BATCH, self.batch_pixels // (canvas[0] * canvas[1]))))

    def fitting_sizes(self, sizes: InputSize | list[InputSize]) -> list[InputSize]:
        """Returns the distinct input sizes that the network runs for the wanted ``sizes``.

        Raises:
            FaceDetError: A side is not a multiple of the divisor.
            ModelError: The network takes a single size, which is another one.
        """
        wanted = [check_input_size(size, self.divisor) for size in (sizes if isinstance(sizes, list) else [sizes])]
        if self.fixed_size is None:
            return list(dict.fromkeys(wanted))
        width, height = self.fixed_size
        if not set(wanted) <= {self.fixed_size, width if width == height else self.fixed_size, "auto"}:
            raise ModelError(f"{self.name} takes only {width} x {height} images; pass input_size={self.fixed_size}")
        return [self.fixed_size]


class LetterboxDetector(ABC):
    """Turns images into views, runs views of one size in batches, and merges the faces of each image's views.

    Attributes:
        network: Input that the network takes.

    Args:
        options: Settings of the detector.
        network: Input that the network takes.

    Raises:
        FaceDetError: The network does not take the ``input_size`` of the options.
    """

    def __init__(self, options: DetectorOptions, network: NetworkInput) -> None:
        self.network = network
        self._workspace = Workspace()
        self._configure(options)

    @property
    def options(self) -> DetectorOptions:
        """Settings of the detector; see :class:`Detector`."""
        return self._options

    def replace(self: D, **changes: Any) -> D:
        """Returns a detector with other settings that shares the opened model; see :class:`Detector`."""
        options = dataclasses.replace(self._options, **changes)
        for name in changes:
            if _FIXED[name] and getattr(options, name) != getattr(self._options, name):
                raise FaceDetError(f"{name} is fixed once the model is open; use build_detector({name}=…)")
        replaced = object.__new__(type(self))  # a copy, which copy.copy would open again
        replaced.__dict__.update(self.__dict__)
        replaced._configure(options)
        return replaced

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:  # an attribute that nothing reads would be a silent mistake
            raise AttributeError(f"detectors are immutable; use detector.replace({name}=…)")
        super().__setattr__(name, value)

    def detect(self, image: Image) -> Faces:
        """Returns the faces of one image; see :class:`Detector`."""
        return self._detect([image])[0]

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Returns the faces of each image; views of one input size run together where the network allows it."""
        parts = (self._detect(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH))
        return [faces for part in parts for faces in part]

    def _configure(self, options: DetectorOptions) -> None:
        """Takes the settings; called while a detector is made, before anyone else sees it."""
        sizes = self.network.fitting_sizes(options.input_size)
        self._sizes: Sequence[InputSize] = tuple(sizes)
        self._tiles = check_tiles(options.tiles)
        self._score_thr = self._default_score_thr(options) if options.score_thr is None else options.score_thr
        self._options = dataclasses.replace(
            options, input_size=sizes[0] if len(sizes) == 1 else sizes, score_thr=self._score_thr
        )

    def _default_score_thr(self, options: DetectorOptions) -> float:
        return recommended_score_thr(options.model)

    def _make_input(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> NDArray[Any]:
        """Returns the network's input for images that share one canvas, valid until this thread's next call."""
        return make_blob(images, letterboxes, self.network.normalization, self._workspace)

    @abstractmethod
    def _infer(self, blob: NDArray[Any], letterboxes: Sequence[Letterbox]) -> Iterable[Faces]:
        """Returns the faces of each view of a batch, in pixels of its region.

        Args:
            blob: Result of :meth:`_make_input`: (N, 3, H, W) float32 unless that is overridden.
            letterboxes: Place of each of the N views in the input.
        """

    def _detect(self, images: Sequence[Image]) -> list[Faces]:
        arrays = [load_image(image) for image in images]
        sizes, tiles, divisor = self._sizes, self._tiles, self.network.divisor
        plans = [plan_views(array.shape[1], array.shape[0], sizes, tiles, divisor) for array in arrays]
        views = [(array, view) for array, plan in zip(arrays, plans, strict=True) for view in plan]
        found = iter(self._infer_views(views))
        return [self._merge(plan, [next(found) for _ in plan]) for plan in plans]

    def _infer_views(self, views: Sequence[tuple[NDArray[np.uint8], View]]) -> list[Faces]:
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, (_, view) in enumerate(views):
            groups[view.letterbox.canvas].append(i)
        found: dict[int, Faces] = {}
        for canvas, group in groups.items():
            step = self.network.batch_size(canvas)
            for batch in (group[i : i + step] for i in range(0, len(group), step)):
                letterboxes = [views[i][1].letterbox for i in batch]
                crops = [views[i][1].crop(views[i][0]) for i in batch]
                found.update(zip(batch, self._infer(self._make_input(crops, letterboxes), letterboxes), strict=True))
        return [found[i] for i in range(len(views))]

    def _merge(self, plan: Sequence[View], found: Sequence[Faces]) -> Faces:
        options = self._options
        faces = found[0] if len(plan) == 1 else merge_views(plan, found, options.iou_thr)
        return faces if options.max_faces is None else faces[: options.max_faces]
