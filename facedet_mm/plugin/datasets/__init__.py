"""The dataset and the training transforms, registered with MMDetection; the tools may import it."""

from facedet_mm.plugin.datasets import analysis, storage, transforms
from facedet_mm.plugin.datasets.face_dataset import FaceDataset, WiderFaceDataset

analysis.install()

__all__ = ["FaceDataset", "WiderFaceDataset", "storage", "transforms"]
