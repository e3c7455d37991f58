"""Tracking: the faces of one frame after the other get ids that stay with a face."""

from facedet_mm.tracking.byte_tracker import ByteTracker
from facedet_mm.tracking.settings import PRESETS, TrackerSettings

__all__ = ["PRESETS", "ByteTracker", "TrackerSettings"]
