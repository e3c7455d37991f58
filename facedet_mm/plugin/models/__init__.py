"""The parts of models, registered with MMDetection; ``apis``, ``deploy`` and ``search`` of the plugin may import it."""

from facedet_mm.plugin.models.assigner import SparseATSSAssigner
from facedet_mm.plugin.models.damofd_backbone import DamoFDBackbone
from facedet_mm.plugin.models.data_preprocessor import FaceDataPreprocessor
from facedet_mm.plugin.models.mobilenet_v1 import MobileNetV1
from facedet_mm.plugin.models.resnet_v1e import ResNetV1e
from facedet_mm.plugin.models.retinaface_head import RetinaFaceHead
from facedet_mm.plugin.models.retinaface_neck import RetinaFaceNeck
from facedet_mm.plugin.models.scrfd_head import SCRFDHead
from facedet_mm.plugin.models.test_time_views import FaceTTAModel
from facedet_mm.plugin.models.tiny_fpn import TinyFPN
from facedet_mm.plugin.models.yunet_backbone import YuNetBackbone
from facedet_mm.plugin.models.yunet_head import YuNetHead

__all__ = [
    "DamoFDBackbone",
    "FaceDataPreprocessor",
    "FaceTTAModel",
    "MobileNetV1",
    "ResNetV1e",
    "RetinaFaceHead",
    "RetinaFaceNeck",
    "SCRFDHead",
    "SparseATSSAssigner",
    "TinyFPN",
    "YuNetBackbone",
    "YuNetHead",
]
