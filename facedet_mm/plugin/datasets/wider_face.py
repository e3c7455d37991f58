"""``WiderFaceDataset``: images and face annotations for MMDetection."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS

from facedet_mm.datasets.annotations import ImageAnnotation, read_annotations
from facedet_mm.errors import AnnotationError


@DATASETS.register_module()
class WiderFaceDataset(BaseDetDataset):
    """Images with faces from WIDER FACE, RetinaFace or SCRFD annotation files.

    Each image has ``img_id`` (its name in the annotation file, ``event/image.jpg``), ``img_path`` and
    ``instances`` with ``bbox`` (x1 y1 x2 y2 in pixels), ``bbox_label`` 0, ``ignore_flag`` and, if the file
    has landmarks, ``keypoints`` (5 × x y in pixels) and ``keypoints_visible`` (5 weights, 0 or 1).

    Args:
        check_images: Whether to check once, while loading, that every image exists.
        **kwargs: Arguments of :class:`mmdet.datasets.BaseDetDataset`. ``ann_file`` is read by
            :func:`~facedet_mm.datasets.annotations.read_annotations`; ``data_prefix`` is ``dict(img=folder)``;
            ``filter_cfg=dict(filter_empty_gt=True)`` drops images without a face that counts, as the published
            training does.

    Raises:
        AnnotationError: The annotation file or images are missing, a line is malformed, or no image is left.
    """

    METAINFO = {"classes": ("face",), "palette": [(0, 200, 80)]}

    def __init__(self, *args: Any, check_images: bool = True, **kwargs: Any) -> None:
        self.check_images = check_images
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the images in the order of the annotation file, with their faces as arrays."""
        annotations = read_annotations(self.ann_file)
        folder = self.data_prefix.get("img", "")
        if self.check_images:
            self._require_images(folder, [annotation.name for annotation in annotations])
        return [_image(annotation, folder) for annotation in annotations]

    def filter_data(self) -> list[dict[str, Any]]:
        """Applies ``filter_cfg``, except in test mode, because the metric needs every image."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        images = [image for image in self.data_list if not image["faces"]["ignore_flag"].all()]
        if not images:
            raise AnnotationError(
                f"none of the {len(self.data_list)} images of {self.ann_file} has a face that counts, so there is "
                "nothing to train on: every face is marked invalid or has no area, or this is the wrong file"
            )
        return images

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns one image with its ``instances``; making them on demand saves loading half a million lists."""
        image = super().get_data_info(idx)
        faces = {name: column.tolist() for name, column in image.pop("faces").items()}
        rows = zip(*faces.values(), strict=True)
        image["instances"] = [{"bbox_label": 0, **dict(zip(faces, row, strict=True))} for row in rows]
        return image

    def _require_images(self, folder: str, names: list[str]) -> None:
        by_parent = defaultdict(list)
        for name in names:
            parent, _, base = name.rpartition("/")
            by_parent[parent].append((name, base))
        missing = []
        for parent, entries in by_parent.items():
            try:
                present = set(os.listdir(os.path.join(folder, parent)))
            except OSError:
                present = set()
            missing += [name for name, base in entries if base not in present]
        if missing:
            first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise AnnotationError(
                f"{len(missing)} of the {len(names)} images in {self.ann_file} are missing from "
                f"{folder or 'the current folder'}: {first} "
                "(put them there, or set data_root and data_prefix.img to where they are)"
            )


def _image(annotation: ImageAnnotation, folder: str) -> dict[str, Any]:
    faces = {
        "bbox": annotation.boxes,
        "ignore_flag": annotation.ignore.astype(np.int64),
        "keypoints": annotation.landmarks,
        "keypoints_visible": annotation.landmark_weights,
    }
    image: dict[str, Any] = {
        "img_id": annotation.name,
        "img_path": os.path.join(folder, annotation.name),
        "faces": {name: column for name, column in faces.items() if column is not None},
    }
    if annotation.size is not None:
        image["width"], image["height"] = annotation.size
    return image
