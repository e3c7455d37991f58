"""The MMDetection plugin, the only room that imports torch and OpenMMLab packages; importing it registers every part.

In a config: ``custom_imports = dict(imports=['facedet_mm.plugin'])``. It may import any room of the runtime; the
runtime reaches it in one place, by name, when a PyTorch model is asked for.
"""

from facedet_mm.plugin import datasets, engine, evaluation, models

__all__ = ["datasets", "engine", "evaluation", "models"]
