"""The WIDER FACE metric, registered with MMEngine."""

from facedet_mm.plugin.evaluation.wider_face_metric import WiderFaceMetric

__all__ = ["WiderFaceMetric"]
