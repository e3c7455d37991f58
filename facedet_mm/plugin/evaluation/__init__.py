"""The WIDER FACE metric, registered with MMDetection; the tools may import it."""

from facedet_mm.plugin.evaluation.wider_face_metric import WiderFaceMetric

__all__ = ["WiderFaceMetric"]
