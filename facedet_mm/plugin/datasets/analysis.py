"""Makes MMDetection's analysis tools accept the loading transforms of this project."""

from __future__ import annotations

import mmdet.datasets.utils
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations

from facedet_mm.plugin.datasets.transforms import LoadFaceAnnotations, LoadFaceImage


class _EitherOf:
    """Equals each of several classes."""

    def __init__(self, *classes: type) -> None:
        self._classes = classes

    def __eq__(self, other: object) -> bool:
        return other in self._classes

    def __hash__(self) -> int:
        return hash(self._classes)


def install() -> None:
    """Lets ``get_loading_pipeline``, which ``analyze_results.py`` calls, know our transforms.

    It keeps the steps of a pipeline whose class is one of three names in its module, and fails if there are not two.
    """
    mmdet.datasets.utils.LoadImageFromFile = _EitherOf(LoadImageFromFile, LoadFaceImage)
    mmdet.datasets.utils.LoadAnnotations = _EitherOf(LoadAnnotations, LoadFaceAnnotations)
