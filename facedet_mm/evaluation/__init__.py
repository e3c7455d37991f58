"""WIDER FACE evaluation in NumPy: submission files, ground truth, average precision."""

from facedet_mm.evaluation.ground_truth import GroundTruth, read_ground_truth
from facedet_mm.evaluation.submission import Predictions, read_predictions, write_prediction_file
from facedet_mm.evaluation.wider_face import SettingResult, WiderFaceResult, evaluate

__all__ = [
    "GroundTruth",
    "Predictions",
    "SettingResult",
    "WiderFaceResult",
    "evaluate",
    "read_ground_truth",
    "read_predictions",
    "write_prediction_file",
]
