"""SCRFD in the MMDetection registries: importing this package registers every part."""

from facedet_mm.models.assigner import SparseATSSAssigner
from facedet_mm.models.data_preprocessor import FaceDataPreprocessor
from facedet_mm.models.mobilenet_v1 import MobileNetV1
from facedet_mm.models.resnet_v1e import ResNetV1e
from facedet_mm.models.scrfd_head import SCRFDHead

__all__ = ["FaceDataPreprocessor", "MobileNetV1", "ResNetV1e", "SCRFDHead", "SparseATSSAssigner"]
