"""Tracking: gives the faces of consecutive frames IDs that stay with a face; any room above imaging may import it."""

from facedet_mm.tracking.byte_tracker import ByteTracker
from facedet_mm.tracking.settings import PRESETS, TrackerSettings

__all__ = ["PRESETS", "ByteTracker", "TrackerSettings"]
