"""The WIDER FACE protocol in NumPy. Imports datasets; benchmark, report, cli and the plugin may import it."""

from facedet_mm.evaluation.wider_face import SettingResult, WiderFaceResult, evaluate

__all__ = ["SettingResult", "WiderFaceResult", "evaluate"]
