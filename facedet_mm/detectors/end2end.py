"""Postprocessing of networks that decode their outputs inside, with or without NMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.postprocess import faces_of_image
from facedet_mm.detectors.preprocess import Letterbox, Normalization
from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces

_NORMALIZATION = Normalization((127.5, 127.5, 127.5), (128, 128, 128), to_rgb=True)


@dataclass(frozen=True)
class DecodedHead:
    """How to read the outputs of a network that decodes inside, and how to make its input.

    Attributes:
        boxes: Index of the output (N, A, 4), x1 y1 x2 y2 in pixels of the input.
        scores: Index of the output (N, A).
        landmarks: Index of the output (N, A, 5, 2), in pixels of the input; ``None`` without landmarks.
        normalization: Normalization of the input.
        divisor: Both sides of the input are multiples of this number.
    """

    boxes: int
    scores: int
    landmarks: int | None
    normalization: Normalization
    divisor: int


def find_decoded_head(shapes: Sequence[tuple[int | None, ...]], metadata: Mapping[str, Any]) -> DecodedHead | None:
    """Returns the head that the declared shapes of all outputs belong to; ``None`` if the network does not decode.

    Outputs with one axis, the numbers of faces, are not needed: rows without a face have score 0.
    """
    indices = {"boxes": [i for i, s in enumerate(shapes) if len(s) == 3 and s[-1] == 4]}
    indices["scores"] = [i for i, s in enumerate(shapes) if len(s) == 2]
    indices["landmarks"] = [i for i, s in enumerate(shapes) if len(s) == 4 and s[-2:] == (5, 2)]
    counts = [i for i, s in enumerate(shapes) if len(s) == 1]
    found = {name: len(matches) for name, matches in indices.items()}
    known = sum(found.values()) + len(counts) == len(shapes)
    if not known or found["boxes"] != 1 or found["scores"] != 1 or found["landmarks"] > 1:
        return None
    normalization = _NORMALIZATION
    if "mean" in metadata:
        normalization = Normalization(tuple(metadata["mean"]), tuple(metadata["std"]), bool(metadata["to_rgb"]))
    landmarks = indices["landmarks"][0] if indices["landmarks"] else None
    divisor = max(metadata.get("strides") or [32])
    return DecodedHead(indices["boxes"][0], indices["scores"][0], landmarks, normalization, divisor)


def check_fixed_thresholds(name: str, metadata: Mapping[str, Any], score_thr: float, iou_thr: float) -> None:
    """Raises :class:`ModelError` if the NMS inside a network drops faces that these thresholds would keep."""
    inside = float(metadata.get("score_thr", 0)), float(metadata.get("iou_thr", 1))
    if score_thr < inside[0] or iou_thr > inside[1]:
        raise ModelError(
            f"{name}: the NMS inside keeps scores above {inside[0]:g} and IoUs up to {inside[1]:g}, which can't be "
            f"changed in this runtime: score_thr={score_thr:g} and iou_thr={iou_thr:g} need another export"
        )


def select_faces(
    head: DecodedHead, outputs: Sequence[NDArray[np.float32]], letterbox: Letterbox, score_thr: float, iou_thr: float
) -> Faces:
    """Drops low scores and duplicates and returns the faces in pixels of the image.

    As in :func:`~facedet_mm.detectors.postprocess.postprocess`, boxes are clipped to the image; those without area
    and those that are not finite are left out. An NMS inside the network knows only the edges of its input, so this
    one removes the duplicates at the edges of the image.

    Args:
        head: How to read the outputs.
        outputs: Outputs for one image.
        letterbox: Place of the image in the input.
        score_thr: Score above which a face is returned.
        iou_thr: IoU threshold of :func:`~facedet_mm.detectors.nms.nms`.
    """
    rows = (outputs[head.scores] > score_thr).nonzero()[0]
    landmarks = None if head.landmarks is None else outputs[head.landmarks][rows]
    return faces_of_image(outputs[head.boxes][rows], outputs[head.scores][rows], landmarks, letterbox, iou_thr)
