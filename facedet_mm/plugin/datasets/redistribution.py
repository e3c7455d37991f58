"""Statistics of the faces after a training pipeline, and of the anchors that are assigned to them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS, TASK_UTILS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from facedet_mm.errors import ImageError, TrainingError

SIZE_EDGES = (0, 4, 8, 16, 32, 64, 128, 256, 512, np.inf)
"""Bin edges of face sizes, √(w·h) in pixels of the network input."""

STEPS_WITHOUT_GEOMETRY = {
    "LoadFaceImage", "LoadImageFromFile", "FacePhotoMetricDistortion", "PhotoMetricDistortion", "RandomGaussianBlur",
    "RandomJPEG", "RandomGammaDark", "RandomFaceErasing", "PackFaceInputs", "PackDetInputs",
}  # fmt: skip
"""Pipeline steps that do not move faces; they are skipped, because the statistics need no pixels."""


def sample_statistics(config: Config, draws: int = 1, seed: int = 0) -> dict[str, Any]:
    """Returns face sizes after the training pipeline of a config, and how many anchors its assigner makes positive.

    Only the geometric steps of the pipeline run, without pixels. Two configs with the same seed use the same random
    numbers for each image.

    Args:
        config: Config with ``train_dataloader.dataset``, ``model.bbox_head.anchor_generator`` and ``model.train_cfg``.
        draws: Number of random samples per image.
        seed: Random seed.

    Returns:
        A dict with

        * ``samples`` and ``faces``: the number of samples (images × draws) and of faces in them;
        * ``size_edges`` and ``size_counts``: histogram of √(w·h) in pixels of the input;
        * ``below``: for some sizes, the share of smaller faces;
        * ``strides``: for each stride the number of ``positives``, their ``share``, ``per_face`` and ``per_sample``,
          and ``faces``, the share of faces with a positive at this stride;
        * ``positives_per_face``: over all strides;
        * ``without``: the share of faces without any positive.

    Raises:
        TrainingError: No face is left.
        AnnotationError, ImageError: Annotations or images are missing or malformed.
    """
    init_default_scope(config.get("default_scope", "mmdet"))
    assignment = _Assignment(config)
    sizes, positives = [], []
    for boxes, shape in tqdm(_samples(config, draws, seed), total=None, disable=None, leave=False, unit=" samples"):
        sizes.append(np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)))
        positives.append(assignment(boxes, shape))
    size, per_face = np.concatenate([*sizes, []]), np.concatenate([*positives, np.zeros((0, len(assignment.strides)))])
    if not len(size):
        raise TrainingError("no face is left after the training pipeline; check the annotations and the crop")
    return dict(
        samples=len(sizes), faces=len(size), **_sizes(size), **_positives(per_face, assignment.strides, len(sizes))
    )


def _sizes(size: NDArray[Any]) -> dict[str, Any]:
    counts, _ = np.histogram(size, SIZE_EDGES)
    below = {side: float((size < side).mean()) for side in (8, 16, 32)}
    return dict(size_edges=[*SIZE_EDGES[:-1]], size_counts=counts.tolist(), below=below)


def _positives(per_face: NDArray[Any], strides: list[int], samples: int) -> dict[str, Any]:
    total = per_face.sum()
    rows = {
        stride: dict(
            positives=int(column.sum()),
            share=float(column.sum() / max(total, 1)),
            per_face=float(column.mean()),
            per_sample=float(column.sum() / samples),
            faces=float((column > 0).mean()),
        )
        for stride, column in zip(strides, per_face.T, strict=True)
    }
    none = float((per_face.sum(1) == 0).mean())
    return dict(strides=rows, positives_per_face=float(total / len(per_face)), without=none)


class _Assignment:
    """Counts positives with the anchors and the assigner of a config."""

    def __init__(self, config: Config) -> None:
        self._anchors = TASK_UTILS.build(config.model.bbox_head.anchor_generator)
        self._assigner = TASK_UTILS.build(config.model.train_cfg.assigner)
        self._divisor = config.model.data_preprocessor.get("pad_size_divisor", 1)
        self._priors: dict[tuple[int, int], tuple[torch.Tensor, list[int]]] = {}
        self.strides = [int(stride[0]) for stride in self._anchors.strides]

    def __call__(self, boxes: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.int64]:
        """Returns numbers of positives (G, strides) for boxes (G, 4) in an image of height and width ``shape``."""
        if shape not in self._priors:
            padded = [-(-side // self._divisor) * self._divisor for side in shape]
            levels = self._anchors.grid_priors([[-(-side // s) for side in padded] for s in self.strides], device="cpu")
            self._priors[shape] = torch.cat(levels), [len(level) for level in levels]
        priors, counts = self._priors[shape]
        faces = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.zeros(len(boxes), dtype=torch.long))
        assigned = self._assigner.assign(InstanceData(priors=priors), counts, faces).gt_inds.numpy()
        levels = np.split(assigned, np.cumsum(counts)[:-1])
        return np.stack([np.bincount(level, minlength=len(boxes) + 1)[1:] for level in levels], axis=1)


def _samples(config: Config, draws: int, seed: int) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
    """Yields boxes (G, 4) of the faces that count, x1 y1 x2 y2 in pixels of the input, and its height and width."""
    options = dict(config.train_dataloader.dataset)
    steps = [step for step in options.pop("pipeline") if step["type"] not in STEPS_WITHOUT_GEOMETRY]
    dataset = DATASETS.build(dict(options, pipeline=[]))
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    for index in range(len(dataset)):
        image = dataset.get_data_info(index)
        image |= _blank(image)
        for draw in range(draws):
            words = np.random.SeedSequence((seed, draw, index)).generate_state(4)
            np.random.seed(words)  # noqa: NPY002 - MMDetection's transforms use the global generator
            random.seed(words.tobytes())
            result = pipeline(dict(image, instances=[dict(face) for face in image["instances"]]))
            if result is None:  # a filter dropped the image
                continue
            boxes = result["gt_bboxes"].numpy()[~result["gt_ignore_flags"]]
            yield np.ascontiguousarray(boxes, np.float32), tuple(result["img_shape"][:2])


def _blank(image: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an array of zeros with the size that the header of the image file states."""
    try:
        with Image.open(image["img_path"]) as file:
            width, height = file.size
            if file.getexif().get(0x0112, 1) > 4:  # EXIF: rotated by 90°
                width, height = height, width
    except OSError as error:
        raise ImageError(f"{image['img_path']} cannot be read as an image: {error}") from error
    return dict(img=np.zeros((height, width, 3), np.uint8), img_shape=(height, width), ori_shape=(height, width))
