"""``WiderFaceMetric``: the WIDER FACE protocol for the mmengine Runner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from facedet_mm.datasets import GroundTruth, Predictions, read_ground_truth, write_prediction_file
from facedet_mm.datasets.annotations import read_dataset
from facedet_mm.datasets.predictions import image_key
from facedet_mm.errors import AnnotationError
from facedet_mm.evaluation import evaluate


@METRICS.register_module()
class WiderFaceMetric(BaseMetric):
    """Average precision on the easy, medium and hard faces of WIDER FACE, as fractions.

    The protocol is that of :mod:`facedet_mm.evaluation.wider_face`. Images are identified by the last folder and the
    file name of ``img_path``.

    Args:
        ground_truth: Folder with the four official MAT files. The keys are ``wider_face/easy``, ``wider_face/medium``
            and ``wider_face/hard``.
        ann_file: Alternative to ``ground_truth``: a data set in any format of
            :func:`~facedet_mm.datasets.annotations.read_dataset`. Faces count by their height (at least 50, 30 and 10
            pixels), so the results are not the official ones, and the keys start with ``wider_face_ann``.
        category: Name of the category in ``ann_file`` that means faces; by default the only one, or ``face``.
        iou_thr: Smallest IoU of a match.
        allow_missing: Whether images without predictions count as images without faces instead of raising an error,
            for trial runs on part of the data.
        out_dir: Folder to which the predictions are written in submission format; none by default.
        collect_device: Where the results of all processes are collected, ``cpu`` or ``gpu``.
        prefix: First part of the keys.
        collect_dir: Shared folder for collecting on the CPU.

    Raises:
        AnnotationError: Not exactly one of ``ground_truth`` and ``ann_file`` is set, or it cannot be read. After the
            run: an image was not predicted, or a prediction is not finite.

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
        category: str | None = None,
    ) -> None:
        if prefix is None and ann_file is not None:
            prefix = "wider_face_ann"
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.ground_truth = _read(ground_truth, ann_file, category)
        self.iou_thr = iou_thr
        self.allow_missing = allow_missing
        self.out_dir = None if out_dir is None else Path(out_dir)

    def check_images(self, paths: Sequence[str]) -> None:
        """Checks before a run that its dataset has the images of the ground truth.

        Args:
            paths: ``img_path`` of every image in the dataset.

        Raises:
            AnnotationError: An image of the ground truth is missing and ``allow_missing`` is not set, or all are.
        """
        known = set(self.ground_truth.names)
        missing = known.difference(_known_name(path, known) for path in paths)
        if missing and (not self.allow_missing or missing == known):
            first = ", ".join(sorted(missing)[:3]) + (", …" if len(missing) > 3 else "")
            raise AnnotationError(
                f"{len(missing)} of the {len(known)} images of the ground truth are not among the {len(paths)} of the "
                f"dataset that is evaluated ({first}): ann_file of val_dataloader.dataset or test_dataloader.dataset, "
                "and ground_truth of its evaluator, must list the same images (for your own images use "
                "WiderFaceMetric with ann_file, for a part of the data set allow_missing=True)"
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:  # noqa: ARG002
        """Stores path, boxes and scores of each image.

        Args:
            data_batch: Not used.
            data_samples: For each image ``img_path`` and ``pred_instances`` with ``bboxes`` (N, 4) x1 y1 x2 y2 in
                pixels of the original image and ``scores`` (N,).
        """
        for sample in data_samples:
            instances = sample["pred_instances"]
            boxes, scores = (instances[name].detach().cpu().float().numpy() for name in ("bboxes", "scores"))
            self.results.append((str(sample["img_path"]), boxes, scores))

    def compute_metrics(self, results: list[tuple[str, Any, Any]]) -> dict[str, float]:
        """Returns ``{"easy": …, "medium": …, "hard": …}``; also writes the submission if ``out_dir`` is set."""
        if self.out_dir is not None:
            for path, boxes, scores in results:
                key = image_key(path)
                write_prediction_file(self.out_dir / f"{key}.txt", key.rpartition("/")[2], boxes, scores)
            MMLogger.get_current_instance().info(f"Wrote the predictions of {len(results)} images to {self.out_dir}")
        known = set(self.ground_truth.names)
        named = ((_known_name(path, known), boxes, scores) for path, boxes, scores in results)
        return self.calculate(Predictions.from_images(named), self.ground_truth, self.iou_thr, self.allow_missing)

    @staticmethod
    def calculate(
        predictions: Predictions, ground_truth: GroundTruth, iou_thr: float = 0.5, allow_missing: bool = False
    ) -> dict[str, float]:
        """Returns the average precision of each setting as a fraction; needs no Runner.

        :func:`facedet_mm.evaluation.evaluate` documents the arguments and errors, and returns more than the AP.
        """
        return evaluate(predictions, ground_truth, iou_thr, allow_missing).ap


def _read(
    ground_truth: str | os.PathLike[str] | None, ann_file: str | os.PathLike[str] | None, category: str | None
) -> GroundTruth:
    if (ground_truth is None) == (ann_file is None):
        raise AnnotationError("WiderFaceMetric needs either ground_truth (MAT files) or ann_file (annotations)")
    if ground_truth is not None:
        return read_ground_truth(ground_truth)
    images = read_dataset(ann_file, category, landmarks=False).images
    return GroundTruth.from_images((image.name, image.boxes, image.ignore) for image in images)


def _known_name(path: str, known: set[str]) -> str:
    """Returns the name of an image in the ground truth; annotation files may list bare file names."""
    key = image_key(path)
    bare = key.rpartition("/")[2]
    return bare if key not in known and bare in known else key
