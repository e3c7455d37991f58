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
from facedet_mm.detectors.preprocess import (
    InputSize,
    Letterbox,
    Normalization,
    Workspace,
    check_input_size,
    make_blob,
    padding_of,
)
from facedet_mm.detectors.strategy import Found, Strategy
from facedet_mm.detectors.views import Seen, View, ViewPlan, check_tiles
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
        limits: Smallest and largest (width, height) of the input, where they are known.
        batch: Number of views per run; ``None`` if it is free.
        batch_pixels: Largest number of pixels per batch; beyond it, running views one by one is faster.
        score_factors: Number of factors whose product, or its root, is a score.
        least_score: Score below which the network itself drops faces.
    """

    name: str
    normalization: Normalization
    divisor: int = 32
    fixed_size: tuple[int, int] | None = None
    limits: tuple[tuple[int, int], tuple[int, int]] | None = None
    batch: int | None = None
    batch_pixels: float = math.inf
    score_factors: int = 1
    least_score: float = 0.0

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
        self._padding = padding_of(network.normalization)
        self._workspace = Workspace()
        self._configure(options)

    @property
    def options(self) -> DetectorOptions:
        """Settings of the detector; see :class:`Detector`."""
        return self._options

    def replace(self: D, **changes: Any) -> D:
        """Returns a detector with other settings that shares the opened model; see :class:`Detector`."""
        if changes.get("preset"):  # it replaces the settings that another preset stands for
            changes = {"input_size": None, "mirror": False, **changes}
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
        return self._detect([image])[0].faces

    def detect_with_degrees(self, image: Image) -> tuple[Faces, NDArray[np.float64]]:
        """Returns the faces of one image, and by how much it is turned in the view that saw each of them best.

        Landmarks of small faces do not always follow a turn; these angles do, as closely as ``rotations`` are spaced.

        Returns:
            N faces as of :meth:`detect`, and (N,) degrees, counterclockwise, from 0 to below 360: values for
            ``rotations`` with which they are found again.
        """
        found = self._detect([image])[0]
        return found.faces, found.degrees % 360

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Returns the faces of each image; views of one input size run together where the network allows it."""
        parts = (self._detect(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH))
        return [found.faces for part in parts for found in part]

    def _configure(self, options: DetectorOptions) -> None:
        """Takes the settings; called while a detector is made, before anyone else sees it."""
        sizes, network = self.network.fitting_sizes(options.input_size), self.network
        plan = ViewPlan(
            sizes,
            check_tiles(options.tiles),
            network.divisor,
            network.limits or (network.fixed_size and (network.fixed_size, network.fixed_size)),
            (0.0,) if options.rotations == "auto" else options.rotations,
            options.mirror,
        )
        self._score_thr = self._default_score_thr(options) if options.score_thr is None else options.score_thr
        turned = options.rotations == "auto"
        self._strategy = Strategy(
            plan, self._score_thr, options.iou_thr, options.close_ups, turned, network.score_factors
        )
        self._options = dataclasses.replace(
            options, preset=None, input_size=sizes[0] if len(sizes) == 1 else sizes, score_thr=self._score_thr
        )

    def _default_score_thr(self, options: DetectorOptions) -> float:
        return recommended_score_thr(options.model)

    def _make_input(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> NDArray[Any]:
        """Returns the network's input for images that share one canvas, valid until this thread's next call."""
        return make_blob(images, letterboxes, self.network.normalization, self._workspace)

    @abstractmethod
    def _infer(self, blob: NDArray[Any], letterboxes: Sequence[Letterbox], score_thr: float) -> Iterable[Seen]:
        """Returns what is seen in each view of a batch.

        Args:
            blob: Result of :meth:`_make_input`: (N, 3, H, W) float32 unless that is overridden.
            letterboxes: Place of each of the N views in the input.
            score_thr: Score above which a face is seen.
        """

    def _detect(self, images: Sequence[Image]) -> list[Found]:
        arrays = [load_image(image) for image in images]
        searches = [self._strategy.search(array.shape[1], array.shape[0]) for array in arrays]
        wanted = {i: next(search) for i, search in enumerate(searches)}
        found: dict[int, Found] = {}
        while wanted:
            seen = iter(
                self._look([(arrays[i], view, look.score_thr) for i, look in wanted.items() for view in look.views])
            )
            answers = {i: [next(seen) for _ in look.views] for i, look in wanted.items()}
            wanted = {}
            for i, answer in answers.items():
                try:
                    wanted[i] = searches[i].send(answer)
                except StopIteration as end:
                    found[i] = end.value
        if (most := self._options.max_faces) is not None:
            found = {i: one._replace(faces=one.faces[:most]) for i, one in found.items()}
        return [found[i] for i in range(len(images))]

    def _look(self, views: Sequence[tuple[NDArray[np.uint8], View, float | None]]) -> list[Seen]:
        """Returns what is seen in each view above a score, running those of one size in batches."""
        groups: dict[tuple[tuple[int, int], float | None], list[int]] = defaultdict(list)
        for i, (_, view, score_thr) in enumerate(views):
            groups[view.letterbox.canvas, score_thr].append(i)
        seen: dict[int, Seen] = {}
        for (canvas, score_thr), group in groups.items():
            step = self.network.batch_size(canvas)
            inside = min(self.network.least_score, self._score_thr)  # a lower one of the user's is refused later
            least = max(self._strategy.least_score if score_thr is None else score_thr, inside)
            for batch in (group[i : i + step] for i in range(0, len(group), step)):
                letterboxes = [views[i][1].letterbox for i in batch]
                pixels = [views[i][1].pixels(views[i][0], self._padding) for i in batch]
                blob = self._make_input(pixels, letterboxes)
                seen.update(zip(batch, self._infer(blob, letterboxes, least), strict=True))
        return [seen[i] for i in range(len(views))]
