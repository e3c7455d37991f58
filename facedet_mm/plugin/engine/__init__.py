"""Hooks and storage, registered with MMEngine; ``apis`` of the plugin may import it."""

from facedet_mm.plugin.engine.hooks import InvalidLossHook, SampleSeedHook
from facedet_mm.plugin.engine.storage import AtomicLocalBackend

__all__ = ["AtomicLocalBackend", "InvalidLossHook", "SampleSeedHook"]
