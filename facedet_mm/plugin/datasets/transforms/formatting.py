"""Loads images and annotations, and packs inputs for the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from facedet_mm.errors import TrainingError
from facedet_mm.imaging.augmentation import split_channels
from facedet_mm.io.images import read_image
from facedet_mm.plugin.datasets.transforms.face_boxes import FaceBoxes


@TRANSFORMS.register_module()
class LoadFaceImage(BaseTransform):
    """Reads the image at ``img_path`` as uint8 BGR.

    Unlike ``LoadImageFromFile`` it rejects truncated files and reads no remote storage.

    Raises:
        ImageError: The file is missing, damaged or truncated.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds ``img``, ``img_shape`` and ``ori_shape``."""
        image = read_image(results["img_path"])
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadFaceAnnotations(LoadAnnotations):
    """Converts ``instances`` to arrays, including landmarks.

    The keys are those of :class:`mmdet.datasets.transforms.LoadAnnotations`. With landmarks, ``gt_bboxes`` are
    :class:`FaceBoxes`, which carry them through MMDetection's transforms; faces without landmarks have zeros.

    Args:
        with_keypoints: Whether to load the landmarks.
        **kwargs: Arguments of :class:`mmdet.datasets.transforms.LoadAnnotations`.
    """

    def __init__(self, with_keypoints: bool = True, **kwargs: Any) -> None:
        super().__init__(with_keypoints=with_keypoints, **kwargs)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the arrays to ``results``."""
        results = super().transform(results)
        if self.with_keypoints:
            self._load_kps(results)
        return results

    def _load_bboxes(self, results: dict[str, Any]) -> None:
        # NumPy first, because making a tensor from nested lists takes several times as long
        instances = results.get("instances", [])
        boxes = np.array([instance["bbox"] for instance in instances], np.float32).reshape(-1, 4)
        results["gt_bboxes"] = HorizontalBoxes(torch.from_numpy(boxes), clone=False)
        results["gt_ignore_flags"] = np.array([instance["ignore_flag"] for instance in instances], bool)

    def _load_kps(self, results: dict[str, Any]) -> None:
        instances = results.get("instances", [])
        landmarks = np.zeros((len(instances), 5, 3), np.float32)
        for i, instance in enumerate(instances):
            if "keypoints" in instance:
                landmarks[i, :, :2] = instance["keypoints"]
                landmarks[i, :, 2] = instance["keypoints_visible"]
        results["gt_bboxes"] = FaceBoxes(results["gt_bboxes"].tensor, landmarks, clone=False)
        results["with_keypoints"] = True


@TRANSFORMS.register_module()
class PackFaceInputs(PackDetInputs):
    """:class:`mmdet.datasets.transforms.PackDetInputs` that also packs landmarks.

    ``data_samples.gt_instances`` has ``keypoints`` (N, 5, 2) and ``keypoints_visible`` (N, 5), float32, in addition to
    ``bboxes`` and ``labels``. Ignored faces are in ``data_samples.ignored_instances``.

    Raises:
        TrainingError: A transform lost the landmarks.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Packs the image as a uint8 tensor (3, H, W) and the annotations as a ``DetDataSample``."""
        planes = results["img"].transpose(2, 0, 1)
        if not planes.flags.c_contiguous:
            planes = split_channels(results["img"])
        sample = DetDataSample()
        for key in self.meta_keys:
            if key in results:
                sample.set_field(results[key], key, field_type="metainfo")
        columns = {name: results[key] for key, name in self.mapping_table.items() if key in results}
        faces = results.get("gt_bboxes")
        if isinstance(faces, FaceBoxes):
            columns |= dict(keypoints=faces.keypoints, keypoints_visible=faces.keypoints_visible)
        elif results.get("with_keypoints"):
            raise TrainingError(
                "a transform between LoadFaceAnnotations and PackFaceInputs made new boxes and lost the landmarks: "
                "take another one (docs/datasets.md), or set with_keypoints=False in LoadFaceAnnotations"
            )
        ignored = results.get("gt_ignore_flags", np.zeros(0, bool))
        sample.gt_instances = _instances(columns, ~ignored)
        sample.ignored_instances = _instances(columns, ignored)
        return {"inputs": torch.from_numpy(planes), "data_samples": sample}


def _instances(columns: dict[str, Any], chosen: NDArray[np.bool_]) -> InstanceData:
    instances = InstanceData()
    for name, column in columns.items():
        if isinstance(column, HorizontalBoxes):
            value = HorizontalBoxes(torch.from_numpy(column.numpy()[chosen]), clone=False)
        else:
            value = torch.from_numpy(column[chosen])
        instances.set_field(value, name)
    return instances
