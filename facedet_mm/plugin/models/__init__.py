"""The parts of SCRFD, registered with MMDetection; ``apis``, ``deploy`` and ``search`` of the plugin may import it."""

from facedet_mm.plugin.models.assigner import SparseATSSAssigner
from facedet_mm.plugin.models.data_preprocessor import FaceDataPreprocessor
from facedet_mm.plugin.models.mobilenet_v1 import MobileNetV1
from facedet_mm.plugin.models.resnet_v1e import ResNetV1e
from facedet_mm.plugin.models.scrfd_head import SCRFDHead
from facedet_mm.plugin.models.test_time_views import FaceTTAModel

__all__ = ["FaceDataPreprocessor", "FaceTTAModel", "MobileNetV1", "ResNetV1e", "SCRFDHead", "SparseATSSAssigner"]
