"""What an exported graph computes: raw heads, decoded faces, or faces after NMS, from floats or from pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.models.scrfd_head import NUM_LANDMARKS, SCRFDHead

Kind = Literal["raw", "decoded", "end2end"]

KINDS: tuple[Kind, ...] = get_args(Kind)
AXES = ("batch", "height", "width")
INPUT = "input"
_ANY_SIZE = 1e6
"""Larger than any input."""
_DEFAULT_DYNAMIC = {"raw": AXES[1:], "decoded": AXES, "end2end": AXES}


@dataclass(frozen=True)
class GraphSpec:
    """Which graph is wanted.

    Attributes:
        kind: ``'raw'``: per stride scores, boxes and landmarks as rows, as InsightFace's files; ``'decoded'``: all
            anchors in pixels of the input; ``'end2end'``: those that NMS leaves.
        dynamic: which of :data:`AXES` stay free; ``None`` is none if a size is given, else height and width for raw
            heads and all three otherwise.
        size: side of a square or (width, height) where they are not free; ``None`` is 640.
        baked: whether it takes pixels, (N, H, W, 3) uint8 BGR, instead of (N, 3, H, W) normalized float32.
        score_thr, iou_thr, max_faces: of the NMS.

    Raises:
        FaceDetError: an unknown kind or axis, a value out of range, or a size where height and width are free.
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
        free = _DEFAULT_DYNAMIC[self.kind] if self.size is None else ()
        dynamic = free if self.dynamic is None else self.dynamic
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
        """Width and height in pixels where they are not free."""
        size = self.size or 640
        return (size, size) if isinstance(size, int) else size

    @property
    def sides(self) -> tuple[int | str, int | str, int | str]:
        """Batch, height and width: a number, or its name where it is free."""
        fixed = zip(AXES, (1, *reversed(self.input_size)), strict=True)
        batch, height, width = (axis if axis in self.dynamic else side for axis, side in fixed)
        return batch, height, width

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """The input's dimensions."""
        batch, height, width = self.sides
        return (batch, height, width, 3) if self.baked else (batch, 3, height, width)

    @property
    def options(self) -> dict[str, NDArray[np.float32]]:
        """Inputs that a caller may leave out, with their defaults: what the NMS depends on.

        ``content_size`` (N, 2): width and height of the images in the input, where boxes are clipped.
        """
        if self.kind != "end2end":
            return {}
        return {
            "score_thr": np.array([self.score_thr], np.float32),
            "iou_thr": np.array([self.iou_thr], np.float32),
            "content_size": np.full((1, 2), _ANY_SIZE, np.float32),
        }

    def output_shapes(self, head: SCRFDHead) -> dict[str, tuple[int | str, ...]]:
        """Name → dimensions of all outputs, in the graph's order."""
        batch, height, width = self.sides
        strides = strides_of(head)
        rows: dict[int, int | str] = {stride: f"rows_{stride}" for stride in strides}
        count: int | str = "anchors"
        if isinstance(height, int) and isinstance(width, int):
            rows = {s: (height // s) * (width // s) * head.num_base_priors for s in strides}
            count = sum(rows.values())
        if self.kind == "raw":
            axis = (batch,) if self.has_batch_axis else ()
            values = {"score": 1, "bbox": 4, "kps": 2 * NUM_LANDMARKS}
            names = list(values) if head.with_landmarks else list(values)[:2]
            return {f"{name}_{s}": (*axis, rows[s], values[name]) for name in names for s in rows}
        count = self.max_faces if self.kind == "end2end" else count
        shapes: dict[str, tuple[int | str, ...]] = {"boxes": (batch, count, 4), "scores": (batch, count)}
        if head.with_landmarks:
            shapes["landmarks"] = (batch, count, NUM_LANDMARKS, 2)
        if self.kind == "end2end":
            shapes["num_faces"] = (batch,)
        return shapes

    @property
    def has_batch_axis(self) -> bool:
        """Whether the outputs have one: InsightFace's own files, which always take one image, have none."""
        return self.kind != "raw" or "batch" in self.dynamic


def check_model(model: nn.Module, name: str) -> SCRFDHead:
    """The head of ``model``, one that the graphs can decode.

    Raises:
        ModelError: it is no SCRFD, or its anchors don't lie at the cells' corners.
    """
    head = getattr(model, "bbox_head", None)
    if not isinstance(head, SCRFDHead):
        raise ModelError(f"{name}: only models with an SCRFDHead are exported, this one has {type(head).__name__}")
    if head.prior_generator.center_offset:
        raise ModelError(f"{name}: anchors must lie at the cells' corners, center_offset=0")
    return head


def strides_of(head: SCRFDHead) -> list[int]:
    """Pixels between two cells, of each level."""
    return [int(stride[0]) for stride in head.prior_generator.strides]


def build_graph(model: nn.Module, spec: GraphSpec) -> nn.Module:
    """The module to trace for ``spec``; it gives the outputs of :meth:`GraphSpec.output_shapes`, in that order."""
    if spec.kind == "raw":
        graph: nn.Module = RawHeads(model, spec.has_batch_axis)
    else:
        graph = DecodedFaces(model, spec) if spec.kind == "decoded" else FinalFaces(model, spec)
    return FromPixels(graph, model.data_preprocessor) if spec.baked else graph


def example_inputs(spec: GraphSpec) -> tuple[Tensor, ...]:
    """Inputs to trace with; free sides differ from each other, so that none is taken for another."""
    free = {"batch": 2, "height": 64, "width": 96}
    shape = [free.get(side, side) for side in spec.input_shape]
    image = torch.zeros(*shape, dtype=torch.uint8 if spec.baked else torch.float32)
    options = {name: torch.from_numpy(value) for name, value in spec.options.items()}
    if options:
        options["content_size"] = options["content_size"].repeat(shape[0], 1)
    return (image, *options.values())


class RawHeads(nn.Module):
    """Scores, box distances and landmark offsets of each stride as rows (y, x, anchor), in units of the stride."""

    def __init__(self, model: nn.Module, batch_axis: bool) -> None:
        super().__init__()
        self.model, self.batch_axis = model, batch_axis

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) → all scores, all boxes, all landmarks; (N, rows, D), or (rows, D) without a batch axis."""
        scores, boxes, landmarks = self.model(x, mode="tensor")
        maps = [(s.sigmoid(), 1) for s in scores] + [(b, 4) for b in boxes]
        maps += [(k, 2 * NUM_LANDMARKS) for k in landmarks if k is not None]
        shape = x.shape[:1] if self.batch_axis else ()
        return [m.permute(0, 2, 3, 1).reshape(*shape, -1, values) for m, values in maps]


class DecodedFaces(nn.Module):
    """Boxes, scores and landmarks of all anchors, in pixels of the input."""

    def __init__(self, model: nn.Module, spec: GraphSpec) -> None:
        super().__init__()
        self.model = model
        self.strides = strides_of(model.bbox_head)
        self.num_anchors = model.bbox_head.num_base_priors
        fixed = {"height", "width"}.isdisjoint(spec.dynamic)
        width, height = spec.input_size
        maps = [torch.zeros(1, 1, height // s, width // s) for s in self.strides]
        self.register_buffer("points", self._points(maps) if fixed else None)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) → boxes (N, A, 4) unclipped, scores (N, A) and, if there are some, landmarks (N, A, 5, 2)."""
        scores, boxes, landmarks = self.model(x, mode="tensor")
        points = self._points(scores) if self.points is None else self.points
        found = [self._rows(boxes, (-1, -1, 1, 1)) + points.repeat(1, 2), self._rows(scores, None).squeeze(2).sigmoid()]
        if self.model.bbox_head.with_landmarks:
            offsets = self._rows(landmarks, (1,) * (2 * NUM_LANDMARKS)) + points.repeat(1, NUM_LANDMARKS)
            found.append(offsets.unflatten(2, (NUM_LANDMARKS, 2)))
        return found

    def _rows(self, maps: Sequence[Tensor], signs: tuple[int, ...] | None) -> Tensor:
        """Maps of all levels → (N, A, values), each value times its sign and the stride."""
        rows = []
        for level, stride in zip(maps, self.strides, strict=True):
            if signs is not None:  # on the map, where a runtime can make it part of the convolution
                level = level * level.new_tensor(signs * self.num_anchors).mul(stride)[:, None, None]
            rows.append(level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, len(signs or (1,))))
        return torch.cat(rows, 1)

    def _points(self, maps: Sequence[Tensor]) -> Tensor:
        """Anchor centers of all levels (A, 2), x y."""
        points = []
        for level, stride in zip(maps, self.strides, strict=True):
            y, x = (torch.arange(side, dtype=level.dtype) * stride for side in level.shape[-2:])
            grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
            points.append(grid[:, :, None].repeat(1, 1, self.num_anchors, 1).reshape(-1, 2))
        return torch.cat(points)


class FinalFaces(nn.Module):
    """The faces that NMS leaves, best first, padded with zeros to ``max_faces``, and their number."""

    def __init__(self, model: nn.Module, spec: GraphSpec) -> None:
        super().__init__()
        self.decoded = DecodedFaces(model, spec)
        self.max_faces = spec.max_faces

    def forward(self, x: Tensor, score_thr: Tensor, iou_thr: Tensor, content_size: Tensor) -> list[Tensor]:
        """(N, 3, H, W) → boxes (N, K, 4) clipped, scores (N, K), landmarks (N, K, 5, 2) if any, faces (N,) int64."""
        boxes, scores, *landmarks = self.decoded(x)
        canvas = torch._shape_as_tensor(x)[[3, 2]].to(boxes)
        limits = torch.minimum(content_size, canvas).repeat(1, 2)[:, None]
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        scores = scores * (boxes[..., :2] < boxes[..., 2:]).all(2)
        limit = torch.tensor([self.max_faces])
        image, _, row = _Nms.apply(boxes, scores[:, None], limit, iou_thr, score_thr).unbind(1)
        kept = torch.zeros_like(scores).index_put((image, row), scores[image, row])
        blank = kept.new_zeros(1, self.max_faces).expand(kept.shape[0], -1)  # small inputs have fewer anchors
        best, order = torch.cat([kept, blank], 1).topk(self.max_faces)
        order = torch.minimum(order, torch._shape_as_tensor(scores)[1] - 1)
        real = best > 0
        found = [_pick(boxes, order, real), best]
        found += [_pick(points.flatten(2), order, real).unflatten(2, (NUM_LANDMARKS, 2)) for points in landmarks]
        return [*found, real.sum(1)]


def _pick(values: Tensor, order: Tensor, real: Tensor) -> Tensor:
    """(N, A, D) → its rows ``order`` (N, K), zeros where they aren't ``real``."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2])) * real[..., None]


class _Nms(torch.autograd.Function):
    """ONNX's NonMaxSuppression; only traced, never run."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, *limits: Tensor) -> Tensor:
        """Something of the right shape: (M, 3) int64, image, class and row."""
        del ctx, boxes, scores, limits
        return torch.zeros(1, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, *limits: Any) -> Any:
        """The node."""
        return g.op("NonMaxSuppression", boxes, scores, *limits)


class FromPixels(nn.Module):
    """A graph behind the normalization of its preprocessor."""

    def __init__(self, graph: nn.Module, preprocessor: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self.to_rgb = bool(preprocessor._channel_conversion)
        self.register_buffer("mean", preprocessor.mean.clone())
        self.register_buffer("scale", 1 / preprocessor.std)

    def forward(self, pixels: Tensor, *options: Tensor) -> list[Tensor]:
        """(N, H, W, 3) uint8 BGR → what the graph gives."""
        planes = pixels.permute(0, 3, 1, 2)
        if self.to_rgb:
            planes = planes[:, [2, 1, 0]]
        return self.graph((planes.float() - self.mean) * self.scale, *options)
