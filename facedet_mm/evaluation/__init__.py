"""The WIDER FACE protocol and comparisons of results. Imports datasets and structures; any room above may import it."""

from facedet_mm.evaluation.wider_face import SettingResult, WiderFaceResult, evaluate

__all__ = ["SettingResult", "WiderFaceResult", "evaluate"]
