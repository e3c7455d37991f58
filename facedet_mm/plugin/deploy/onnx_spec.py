"""Which ONNX graph to export: its outputs, its dynamic axes and the NMS settings inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.models.dense_face_head import DenseFaceHead
from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS
from facedet_mm.plugin.models.scrfd_head import SCRFDHead
from facedet_mm.plugin.models.yunet_head import YuNetHead

Head = SCRFDHead | DenseFaceHead
Kind = Literal["raw", "decoded", "end2end"]

KINDS: tuple[Kind, ...] = get_args(Kind)
AXES = ("batch", "height", "width")
INPUT = "input"
_ANY_SIZE = 1e6
"""Larger than any input."""
_DEFAULT_DYNAMIC = {"raw": AXES[1:], "decoded": AXES, "end2end": AXES}


@dataclass(frozen=True)
class GraphSpec:
    """Which graph to export.

    Attributes:
        kind: ``'raw'``: scores, boxes and landmarks of each stride as rows, as in the authors' files of SCRFD and
            YuNet; ``'decoded'``: all anchors in pixels of the input; ``'end2end'``: the faces that remain after NMS.
        dynamic: Dynamic axes, some of :data:`AXES`. ``None`` means no axis if a size is given, else height and width
            for raw heads and all three axes otherwise; see :meth:`fitted`.
        size: Input size for axes that are not dynamic: side of a square or (width, height); ``None`` means 640.
        baked: Whether the graph takes pixels, (N, H, W, 3) uint8 BGR, instead of (N, 3, H, W) normalized float32.
        score_thr: Score threshold of the NMS.
        iou_thr: IoU threshold of the NMS.
        max_faces: Number of rows after the NMS.

    Raises:
        FaceDetError: The kind or an axis is unknown, a value is out of range, or a size is given although height and
            width are dynamic.
    """

    kind: Kind = "raw"
    dynamic: Sequence[str] | None = None
    size: int | tuple[int, int] | None = None
    baked: bool = False
    score_thr: float = 0.5
    iou_thr: float = 0.4
    max_faces: int = 2000

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaceDetError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        default = _DEFAULT_DYNAMIC[self.kind] if self.size is None else ()
        dynamic = default if self.dynamic is None else self.dynamic
        if unknown := sorted(set(dynamic) - set(AXES)):
            raise FaceDetError(f"dynamic axes are {', '.join(AXES)}, not {unknown[0]!r}")
        if self.size is not None and {"height", "width"} <= set(dynamic):
            raise FaceDetError(f"size {self.size} contradicts a dynamic height and width")
        if isinstance(self.size, str):
            raise FaceDetError(f"the size of a file is a side or (width, height), not {self.size!r}")
        size = 640 if self.size is None else self.size
        object.__setattr__(self, "size", (size, size) if isinstance(size, int) else tuple(size))
        object.__setattr__(self, "dynamic", tuple(axis for axis in AXES if axis in dynamic))
        for name in ("score_thr", "iou_thr"):
            if not 0 <= getattr(self, name) <= 1:
                raise FaceDetError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.max_faces < 1:
            raise FaceDetError(f"max_faces must be at least 1, not {self.max_faces}")

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height in pixels, for the axes that are not dynamic."""
        size = self.size or 640
        return (size, size) if isinstance(size, int) else size

    @property
    def sides(self) -> tuple[int | str, int | str, int | str]:
        """Batch, height and width: a number, or the name of a dynamic axis."""
        fixed = zip(AXES, (1, *reversed(self.input_size)), strict=True)
        batch, height, width = (axis if axis in self.dynamic else side for axis, side in fixed)
        return batch, height, width

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """Dimensions of the input."""
        batch, height, width = self.sides
        return (batch, height, width, 3) if self.baked else (batch, 3, height, width)

    @property
    def options(self) -> dict[str, NDArray[np.float32]]:
        """Optional inputs of the NMS with their default values.

        ``content_size`` (N, 2) holds width and height of the images in the input, to which boxes are clipped.
        """
        if self.kind != "end2end":
            return {}
        return {
            "score_thr": np.array([self.score_thr], np.float32),
            "iou_thr": np.array([self.iou_thr], np.float32),
            "content_size": np.full((1, 2), _ANY_SIZE, np.float32),
        }

    def fitted(self, head: Head) -> GraphSpec:
        """Returns the spec for a head: a YuNet with dynamic height and width takes any batch, as its authors' files.

        Raises:
            ModelError: The head has no raw outputs that a runtime could read.
        """
        if self.kind == "raw" and not isinstance(head, (SCRFDHead, YuNetHead)):
            raise ModelError(f"no runtime reads raw outputs of {type(head).__name__}: use --kind decoded or --end2end")
        free = self.kind == "raw" and isinstance(head, YuNetHead) and self.dynamic == AXES[1:]
        return replace(self, dynamic=AXES, size=None) if free else self

    def output_shapes(self, head: Head) -> dict[str, tuple[int | str, ...]]:
        """Returns the dimensions of each output by name, in the graph's order."""
        batch, height, width = self.sides
        strides = strides_of(head)
        rows: dict[int, int | str] = {stride: f"rows_{stride}" for stride in strides}
        count: int | str = "anchors"
        if isinstance(height, int) and isinstance(width, int):
            rows = {s: (height // s) * (width // s) * head.num_base_priors for s in strides}
            count = sum(rows.values())
        if self.kind == "raw":
            axis = (batch,) if self.has_batch_axis(head) else ()
            outputs = raw_outputs(head)
            return {f"{name}_{s}": (*axis, rows[s], values) for name, values in outputs.items() for s in rows}
        count = self.max_faces if self.kind == "end2end" else count
        shapes: dict[str, tuple[int | str, ...]] = {"boxes": (batch, count, 4), "scores": (batch, count)}
        if head.with_landmarks:
            shapes["landmarks"] = (batch, count, NUM_LANDMARKS, 2)
        if self.kind == "end2end":
            shapes["num_faces"] = (batch,)
        return shapes

    def has_batch_axis(self, head: Head) -> bool:
        """Returns whether outputs have a batch axis; InsightFace's files of SCRFD, which take one image, have none."""
        return self.kind != "raw" or "batch" in self.dynamic or isinstance(head, YuNetHead)


def raw_outputs(head: Head) -> dict[str, int]:
    """Returns the outputs of a raw graph by name, with their values per row; scores have one, after the sigmoid.

    Names and order are those of the authors' files, the order is that of the head's forward pass.
    """
    scores = {"cls": 1, "obj": 1} if isinstance(head, YuNetHead) else {"score": 1}
    landmarks = {"kps": 2 * NUM_LANDMARKS} if head.with_landmarks else {}
    return {**scores, "bbox": 4, **landmarks}


def strides_of(head: Head) -> list[int]:
    """Returns the stride of each level in pixels."""
    return [int(stride[0]) for stride in head.prior_generator.strides]
