"""Annotations, ground truth and submissions, without torch. Imports io and structures; rooms above may import it."""

from facedet_mm.datasets.ground_truth import GroundTruth, read_ground_truth
from facedet_mm.datasets.predictions import Predictions
from facedet_mm.datasets.submission import read_predictions, write_prediction_file

__all__ = ["GroundTruth", "Predictions", "read_ground_truth", "read_predictions", "write_prediction_file"]
