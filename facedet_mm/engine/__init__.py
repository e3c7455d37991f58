"""Metrics and hooks in the MMDetection registries: importing this package registers them."""

from facedet_mm.engine.wider_face_metric import WiderFaceMetric

__all__ = ["WiderFaceMetric"]
