"""Chooses the score threshold of models on WIDER FACE train and tells precision and recall at it on val.

The choice is the smallest multiple of 0.01 at which the precision on the training images of every event reaches
--precision. That each of a few events must reach it makes up for the events that are not there, and for the fact that
these images trained the models; with all 61 events, --pooled asks for it over all images together.

Detections and annotated faces of all sizes are matched at an IoU of 0.5. A detection is right if it is the first of its
face; one that matches a face marked as invalid counts neither way; all others are false alarms, also those that show a
face which is not annotated or is boxed differently. Images without faces are left out, as in the official protocol.
Detectors have the defaults of build_detector.

The threshold and precision and recall on val are score_thr and at_score_thr in facedet_mm/assets/models.json.

Example:
    python tools/analysis/choose_thresholds.py yunet_n scrfd_0.5g_kps=scrfd_500m_bnkps.onnx \
        --train data/wider_face/wider_face_split/wider_face_train_bbx_gt.txt data/wider_face/WIDER_train/images \
        --val data/wider_face/wider_face_split/wider_face_val_bbx_gt.txt data/wider_face/WIDER_val/images
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from facedet_mm.benchmark.accuracy import find_images
from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets import GroundTruth, Predictions
from facedet_mm.datasets.annotations import ImageAnnotation, read_annotations
from facedet_mm.detectors import Detector, build_detector
from facedet_mm.errors import FaceDetError
from facedet_mm.evaluation.analysis import OperatingPoint, match_detections

_LEAST = 0.1
"""Smallest threshold that is tried."""
_TALL = 30
"""Smallest height in pixels of the faces that the second recall counts, that of WIDER FACE's Medium."""


def main() -> int:
    """Runs the tool and returns its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL[=WEIGHTS]", help="model name, with its file if not at hand")
    for name in ("train", "val"):
        parser.add_argument(f"--{name}", nargs=2, required=True, metavar=("ANNOTATIONS", "IMAGES"))
    parser.add_argument("--precision", type=float, default=0.95, help="wanted precision (default: %(default)s)")
    parser.add_argument("--pooled", action="store_true", help="over all images, not in every event")
    args = parser.parse_args()
    return guard(lambda: choose(args), parser.prog)


def choose(args: argparse.Namespace) -> int:
    """Prints one line per model."""
    train, val = (sorted(read_annotations(path), key=lambda image: image.name) for path, _ in (args.train, args.val))
    events = [list(event) for _, event in itertools.groupby(train, lambda image: image.name.partition("/")[0])]
    heads = ("threshold", "precision", "recall", "precision", "recall", f"≥ {_TALL} px", "false alarms")
    print(f"{'':<26}{'train':>12}{'val':>21}\n{'model':<16}", *(f"{head:>10}" for head in heads))
    for model in args.models:
        name, _, weights = model.partition("=")
        detector = build_detector(name, weights or None, score_thr=_LEAST)
        predictions = detect(detector, train, args.train[1])
        parts = [Found(part, predictions) for part in ([train] if args.pooled else events)]
        threshold = smallest_score_thr(parts, args.precision)
        on_train, on_val = Found(train, predictions), Found(val, detect(detector, val, args.val[1]))
        precision, recall, alarms = on_val.at(threshold)
        fractions = [*on_train.at(threshold)[:2], precision, recall, on_val.at(threshold, _TALL)[1]]
        figures = [f"{threshold:.2f}", *(f"{100 * fraction:.1f}" for fraction in fractions), alarms]
        print(f"{name:<16}", *(f"{figure:>10}" for figure in figures), flush=True)
    return 0


def detect(detector: Detector, images: Sequence[ImageAnnotation], folder: str) -> Predictions:
    """Returns what a detector finds in annotated images."""
    truth = _truth(images)
    files = tqdm(find_images(folder, truth), unit="img", leave=False, disable=not sys.stderr.isatty())
    found = map(detector.detect, files)
    return Predictions.from_images((name, f.boxes, f.scores) for name, f in zip(truth.names, found, strict=True))


class Found:
    """Detections matched to the faces of some images; those in other images are left out."""

    def __init__(self, images: Sequence[ImageAnnotation], predictions: Predictions) -> None:
        truth = _truth(images)
        self._predictions, self._matches = predictions, match_detections(predictions, truth)
        self._heights = truth.boxes[:, 3] - truth.boxes[:, 1]
        self._valid = ~np.concatenate([image.ignore for image in images])

    def at(self, score_thr: float, least: float = 0) -> tuple[float, float, int]:
        """Returns precision, recall and the number of false alarms at a threshold; faces below ``least`` pixels of
        height count neither way."""
        counted = self._valid & (self._heights >= least)
        point = OperatingPoint.at(score_thr, self._predictions, self._matches, counted)
        return point.precision, point.recall, point.false_alarms + point.duplicates


def smallest_score_thr(parts: Sequence[Found], precision: float) -> float:
    """Returns the smallest multiple of 0.01 from 0.1 on at which every part reaches the precision.

    Raises:
        FaceDetError: No threshold reaches it.
    """
    for percent in range(round(100 * _LEAST), 100):
        if all(part.at(percent / 100)[0] >= precision for part in parts):
            return percent / 100
    raise FaceDetError(f"no threshold reaches a precision of {precision:g}")


def _truth(images: Sequence[ImageAnnotation]) -> GroundTruth:
    return GroundTruth.from_images((image.name, image.boxes, image.ignore) for image in images)


if __name__ == "__main__":
    sys.exit(main())
