"""The WIDER FACE protocol as a metric of the mmengine Runner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from facedet_mm.datasets import GroundTruth, Predictions, read_ground_truth, write_prediction_file
from facedet_mm.datasets.annotations import read_annotations
from facedet_mm.datasets.predictions import image_key
from facedet_mm.errors import AnnotationError
from facedet_mm.evaluation import evaluate


@METRICS.register_module()
class WiderFaceMetric(BaseMetric):
    """Average precision on the easy, medium and hard faces of WIDER FACE, as fractions.

    The protocol and its details are those of :mod:`facedet_mm.evaluation.wider_face`. Images are told apart by the
    last folder and the file name of ``img_path``.

    Args:
        ground_truth: folder with the four official MAT files; the keys are then ``wider_face/easy``,
            ``wider_face/medium`` and ``wider_face/hard``.
        ann_file: instead of ``ground_truth``, an annotation file that
            :func:`~facedet_mm.datasets.annotations.read_annotations` takes. Faces count by their height (at least
            50, 30 and 10 pixels), so the figures are not the official ones: the keys start with ``wider_face_ann``.
        iou_thr: least IoU of a match.
        allow_missing: images that were not predicted count as images without detections instead of raising an
            error; for a trial run on part of the data.
        out_dir: folder into which the predictions are written in submission format; none by default.
        collect_device: ``cpu`` or ``gpu``, where the results of all processes are collected.
        prefix: first part of the keys.
        collect_dir: shared folder for collecting by ``cpu``.

    Raises:
        AnnotationError: not exactly one of ``ground_truth`` and ``ann_file`` is given, or it can't be read. After
            the run: an image was not predicted, or a prediction is not finite.

    Example:
        In a config:

        >>> val_evaluator = dict(type="WiderFaceMetric", ground_truth="data/wider_face/ground_truth")

        On arrays, without a Runner:

        >>> predictions = Predictions.from_images([("party/1.jpg", [[10, 10, 50, 60]], [0.9])])
        >>> faces = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> WiderFaceMetric.calculate(predictions, faces)
        {'easy': 1.0, 'medium': 1.0, 'hard': 1.0}

        On a submission folder:

        >>> WiderFaceMetric.calculate(  # doctest: +SKIP
        ...     read_predictions("outputs/wider"), read_ground_truth("data/wider_face/ground_truth")
        ... )
    """

    default_prefix = "wider_face"

    def __init__(
        self,
        ground_truth: str | os.PathLike[str] | None = None,
        ann_file: str | os.PathLike[str] | None = None,
        iou_thr: float = 0.5,
        allow_missing: bool = False,
        out_dir: str | os.PathLike[str] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        if prefix is None and ann_file is not None:
            prefix = "wider_face_ann"
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.ground_truth = _read(ground_truth, ann_file)
        self.iou_thr = iou_thr
        self.allow_missing = allow_missing
        self.out_dir = None if out_dir is None else Path(out_dir)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:  # noqa: ARG002
        """Keeps name, boxes and scores of each image.

        Args:
            data_batch: not used.
            data_samples: of each image ``img_path`` and ``pred_instances`` with ``bboxes`` (N, 4) x1 y1 x2 y2 in
                pixels of the original image and ``scores`` (N,).
        """
        for sample in data_samples:
            instances = sample["pred_instances"]
            boxes, scores = (instances[name].detach().cpu().float().numpy() for name in ("bboxes", "scores"))
            self.results.append((str(sample["img_path"]), boxes, scores))

    def compute_metrics(self, results: list[tuple[str, Any, Any]]) -> dict[str, float]:
        """Writes the submission folder if one is wanted, and gives ``{"easy": …, "medium": …, "hard": …}``."""
        if self.out_dir is not None:
            for path, boxes, scores in results:
                key = image_key(path)
                write_prediction_file(self.out_dir / f"{key}.txt", key.rpartition("/")[2], boxes, scores)
            MMLogger.get_current_instance().info(f"wrote the predictions of {len(results)} images to {self.out_dir}")
        known = set(self.ground_truth.names)
        named = ((_known_name(path, known), boxes, scores) for path, boxes, scores in results)
        return self.calculate(Predictions.from_images(named), self.ground_truth, self.iou_thr, self.allow_missing)

    @staticmethod
    def calculate(
        predictions: Predictions, ground_truth: GroundTruth, iou_thr: float = 0.5, allow_missing: bool = False
    ) -> dict[str, float]:
        """Setting → average precision as a fraction, without a Runner.

        See :func:`facedet_mm.evaluation.evaluate` for the arguments and errors, and for more than the AP.
        """
        return evaluate(predictions, ground_truth, iou_thr, allow_missing).ap


def _read(ground_truth: str | os.PathLike[str] | None, ann_file: str | os.PathLike[str] | None) -> GroundTruth:
    if (ground_truth is None) == (ann_file is None):
        raise AnnotationError("WiderFaceMetric needs either ground_truth (MAT files) or ann_file (annotations)")
    if ground_truth is not None:
        return read_ground_truth(ground_truth)
    return GroundTruth.from_images((image.name, image.boxes, image.ignore) for image in read_annotations(ann_file))


def _known_name(path: str, known: set[str]) -> str:
    """The name under which the ground truth knows an image: annotation files may list bare file names."""
    key = image_key(path)
    bare = key.rpartition("/")[2]
    return bare if key not in known and bare in known else key
