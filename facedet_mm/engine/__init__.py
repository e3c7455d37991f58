"""Metrics, hooks and storage in the MMDetection registries: importing this package registers them."""

from facedet_mm.engine.hooks import InvalidLossHook, SampleSeedHook
from facedet_mm.engine.storage import AtomicLocalBackend
from facedet_mm.engine.wider_face_metric import WiderFaceMetric

__all__ = ["AtomicLocalBackend", "InvalidLossHook", "SampleSeedHook", "WiderFaceMetric"]
