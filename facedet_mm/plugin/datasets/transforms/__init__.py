"""Training transforms, registered with MMDetection; all of them transform landmarks together with boxes."""

from facedet_mm.plugin.datasets.transforms.degradation import (
    RandomFaceErasing,
    RandomGammaDark,
    RandomGaussianBlur,
    RandomJPEG,
)
from facedet_mm.plugin.datasets.transforms.face_boxes import FaceBoxes
from facedet_mm.plugin.datasets.transforms.formatting import LoadFaceAnnotations, LoadFaceImage, PackFaceInputs
from facedet_mm.plugin.datasets.transforms.geometry import (
    CloseUpResize,
    KeepRatioResize,
    RandomFaceFlip,
    RandomFaceRotation,
    RandomSquareCrop,
)
from facedet_mm.plugin.datasets.transforms.photometric import FacePhotoMetricDistortion
from facedet_mm.plugin.datasets.transforms.refusals import check_transforms

__all__ = [
    "CloseUpResize",
    "FaceBoxes",
    "FacePhotoMetricDistortion",
    "KeepRatioResize",
    "LoadFaceAnnotations",
    "LoadFaceImage",
    "PackFaceInputs",
    "RandomFaceErasing",
    "RandomFaceFlip",
    "RandomFaceRotation",
    "RandomGammaDark",
    "RandomGaussianBlur",
    "RandomJPEG",
    "RandomSquareCrop",
    "check_transforms",
]
