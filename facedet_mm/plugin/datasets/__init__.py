"""The dataset and the training transforms, registered with MMDetection; the tools may import it."""

from facedet_mm.plugin.datasets import analysis, transforms
from facedet_mm.plugin.datasets.wider_face import WiderFaceDataset

analysis.install()

__all__ = ["WiderFaceDataset", "transforms"]
