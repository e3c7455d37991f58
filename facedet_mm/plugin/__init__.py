"""The MMDetection plugin; the only room that imports torch and OpenMMLab, and imported by no other room but the tools.

Importing it registers every part; a config does so with ``custom_imports = dict(imports=['facedet_mm.plugin'])``. The
runtime loads it in one place, by name, when a PyTorch model is requested.
"""

from facedet_mm.plugin import datasets, engine, evaluation, models

__all__ = ["datasets", "engine", "evaluation", "models"]
