"""Hooks, storage and safe loading, registered with MMEngine; ``apis`` of the plugin may import it."""

from mmengine.registry import WEIGHT_INITIALIZERS

from facedet_mm.plugin.engine import file_handlers, loading
from facedet_mm.plugin.engine.amp import CpuAmpOptimWrapper
from facedet_mm.plugin.engine.checks import CheckpointFitHook, LandmarkArrivalHook, ValidationImagesHook
from facedet_mm.plugin.engine.fit import CheckedPretrainedInit
from facedet_mm.plugin.engine.hooks import InvalidLossHook
from facedet_mm.plugin.engine.landmarks import KeepLandmarksHook
from facedet_mm.plugin.engine.quiet import QuietRunner
from facedet_mm.plugin.engine.seeding import SampleSeedHook
from facedet_mm.plugin.engine.storage import AtomicLocalBackend

loading.install()
file_handlers.install()
WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True, module=CheckedPretrainedInit)

__all__ = [
    "AtomicLocalBackend",
    "CheckedPretrainedInit",
    "CheckpointFitHook",
    "CpuAmpOptimWrapper",
    "InvalidLossHook",
    "KeepLandmarksHook",
    "LandmarkArrivalHook",
    "QuietRunner",
    "SampleSeedHook",
    "ValidationImagesHook",
]
