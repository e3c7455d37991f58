"""``FaceDataset``: images and face annotations of any format for MMDetection."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from typing import Any

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from facedet_mm.datasets.annotations import read_dataset
from facedet_mm.datasets.records import FaceData, ImageAnnotation
from facedet_mm.errors import AnnotationError


@DATASETS.register_module()
class FaceDataset(BaseDetDataset):
    """Images with faces in any format of :func:`~facedet_mm.datasets.annotations.read_dataset`.

    These are WIDER FACE, RetinaFace, SCRFD, COCO, YOLO, Pascal VOC and labelme. Each image has ``img_id`` (its name in
    the annotations, ``event/image.jpg``), ``img_path`` and ``instances`` with ``bbox`` (x1 y1 x2 y2 in pixels),
    ``bbox_label`` 0, ``ignore_flag`` and, if the data set has landmarks, ``keypoints`` (5 × x y in pixels) and
    ``keypoints_visible`` (5 weights, 0 or 1). What was chosen or left out goes to the log.

    Args:
        check_images: Whether to check once, while loading, that every image exists. Images that the pipeline reads
            with ``backend_args``, or by a URL, are not checked.
        category: Name of the category that means faces; by default the only one, or the one named ``face``.
        landmarks: Whether to read landmarks.
        **kwargs: Arguments of :class:`mmdet.datasets.BaseDetDataset`. ``ann_file`` is a file or folder, or a URL of a
            file that ``backend_args`` reads. ``data_prefix`` is ``dict(img=folder)``; without it, images are where the
            format has them, or below ``data_root``. ``filter_cfg=dict(filter_empty_gt=True)`` drops images without a
            face that counts, as the published training does.

    Raises:
        AnnotationError: The annotations or images are missing, something is malformed, or no image is left.
    """

    METAINFO = {"classes": ("face",), "palette": [(0, 200, 80)]}

    def __init__(
        self,
        *args: Any,
        check_images: bool = True,
        category: str | None = None,
        landmarks: bool = True,
        **kwargs: Any,
    ) -> None:
        self.check_images = check_images
        self.category = category
        self.landmarks = landmarks
        steps = kwargs.get("pipeline") or ()
        self._remote = any(step.get("backend_args") for step in steps if isinstance(step, dict))
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the images in the order of the annotations, with their faces as arrays."""
        self.ann_file: str = self.ann_file or self.data_root
        data = self._read(self.ann_file)
        for line in data.notes:
            print_log(f"{self.ann_file}: {line}", logger="current")
        for line in data.problems:
            print_log(f"{self.ann_file}: {line}", logger="current", level=logging.WARNING)
        folder = self._image_folder(data)
        if self.check_images and "://" not in folder and not self._remote:
            self._require_images(folder, [annotation.name for annotation in data.images])
        return [_image(annotation, folder) for annotation in data.images]

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

    def _read(self, place: str) -> FaceData:
        """Reads the annotations; a file that is elsewhere is copied to this machine first."""
        if "://" not in place and not self.backend_args:
            return read_dataset(place, self.category, self.landmarks)
        with get_local_path(place, backend_args=self.backend_args) as copy:
            try:
                return read_dataset(copy, self.category, self.landmarks)
            except AnnotationError as error:
                raise AnnotationError(str(error).replace(str(copy), place)) from error

    def _image_folder(self, data: FaceData) -> str:
        """Returns ``data_prefix.img``, else the folder that the format says, else ``data_root``."""
        root = str(self.data_root or "")
        folder = str(self.data_prefix.get("img") or root)
        return str(data.folder) if data.folder is not None and folder.rstrip("/") == root.rstrip("/") else folder

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


@DATASETS.register_module()
class WiderFaceDataset(FaceDataset):
    """:class:`FaceDataset` by the name that the configs of WIDER FACE use."""


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
