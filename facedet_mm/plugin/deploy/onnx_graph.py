"""The modules that are traced: raw heads, decoded faces, or faces after NMS, from normalized floats or from pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.deploy.onnx_spec import GraphSpec, Head, raw_outputs, strides_of
from facedet_mm.plugin.models.coders import decode_points, flatten_levels
from facedet_mm.plugin.models.dense_face_head import DenseFaceHead
from facedet_mm.plugin.models.head_steps import NUM_LANDMARKS
from facedet_mm.plugin.models.scrfd_head import SCRFDHead


def check_model(model: nn.Module, name: str) -> Head:
    """Returns the head of a model, which must be one that the graphs can decode.

    Args:
        model: Model to export.
        name: Model name used in error messages.

    Raises:
        ModelError: The head is none of this project's, or an SCRFD's anchors do not lie at the cells' corners.
    """
    head = getattr(model, "bbox_head", None)
    if isinstance(head, DenseFaceHead):
        return head
    if not isinstance(head, SCRFDHead):
        raise ModelError(
            f"{name}: only models with SCRFDHead, YuNetHead or RetinaFaceHead are exported, not {type(head).__name__}"
        )
    if head.prior_generator.center_offset:
        raise ModelError(f"{name}: anchors must lie at the cells' corners, center_offset=0")
    return head


def build_graph(model: nn.Module, spec: GraphSpec) -> nn.Module:
    """Returns the module to trace, whose outputs are those of :meth:`GraphSpec.output_shapes` in the same order."""
    if spec.kind == "raw":
        graph: nn.Module = RawHeads(model, spec.has_batch_axis(model.bbox_head))
    else:
        decoded = DecodingModel(model) if isinstance(model.bbox_head, DenseFaceHead) else DecodedFaces(model, spec)
        graph = decoded if spec.kind == "decoded" else FinalFaces(decoded, spec)
    return FromPixels(graph, model.data_preprocessor) if spec.baked else graph


def example_inputs(spec: GraphSpec) -> tuple[Tensor, ...]:
    """Returns inputs to trace with; the dynamic sides differ, so that none is mistaken for another."""
    dynamic = {"batch": 2, "height": 64, "width": 96}
    shape = [dynamic.get(side, side) for side in spec.input_shape]
    image = torch.zeros(*shape, dtype=torch.uint8 if spec.baked else torch.float32)
    options = {name: torch.from_numpy(value) for name, value in spec.options.items()}
    if options:
        options["content_size"] = options["content_size"].repeat(shape[0], 1)
    return (image, *options.values())


class RawHeads(nn.Module):
    """Scores, boxes and landmarks of each stride as rows (y, x, anchor), in units of the stride."""

    def __init__(self, model: nn.Module, batch_axis: bool) -> None:
        super().__init__()
        self.model, self.batch_axis = model, batch_axis

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns all outputs of (N, 3, H, W), kind by kind: (N, rows, D), or (rows, D) without a batch axis."""
        kinds = zip(raw_outputs(self.model.bbox_head).values(), self.model(x, mode="tensor"), strict=False)
        maps = [(m.sigmoid() if values == 1 else m, values) for values, levels in kinds for m in levels]
        shape = x.shape[:1] if self.batch_axis else ()
        return [m.permute(0, 2, 3, 1).reshape(*shape, -1, values) for m, values in maps]


class DecodingModel(nn.Module):
    """Boxes, scores and landmarks of all anchors, in pixels of the input, of a model whose head decodes itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns boxes (N, A, 4) unclipped, scores (N, A) and, if any, landmarks (N, A, 5, 2) of (N, 3, H, W)."""
        found = self.model.bbox_head.decode(*self.model(x, mode="tensor"))
        return [values for values in found if values is not None]


class DecodedFaces(nn.Module):
    """The same of an SCRFD, decoded with fewer nodes than its head takes."""

    def __init__(self, model: nn.Module, spec: GraphSpec) -> None:
        super().__init__()
        self.model = model
        self.strides = strides_of(model.bbox_head)
        self.num_anchors = model.bbox_head.num_base_priors
        fixed = {"height", "width"}.isdisjoint(spec.dynamic)
        width, height = spec.input_size
        maps = [torch.zeros(1, 1, height // stride, width // stride) for stride in self.strides]
        self.register_buffer("points", self._points(maps) if fixed else None)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns boxes (N, A, 4) unclipped, scores (N, A) and, if any, landmarks (N, A, 5, 2) of (N, 3, H, W)."""
        scores, distances, offsets = self.model(x, mode="tensor")
        points = self._points(scores) if self.points is None else self.points
        boxes = decode_points(points, self._in_pixels(distances, (-1, -1, 1, 1)))
        found = [boxes, flatten_levels(scores, 1).squeeze(2).sigmoid()]
        if self.model.bbox_head.with_landmarks:
            landmarks = decode_points(points, self._in_pixels(offsets, (1,) * (2 * NUM_LANDMARKS)))
            found.append(landmarks.unflatten(2, (NUM_LANDMARKS, 2)))
        return found

    def _in_pixels(self, maps: Sequence[Tensor], signs: tuple[int, ...]) -> Tensor:
        """Returns maps of all levels as (N, A, values), each value times its sign and the stride."""
        # multiplied on the map, so that a runtime can fold it into the convolution
        scaled = [
            level * level.new_tensor(signs * self.num_anchors).mul(stride)[:, None, None]
            for level, stride in zip(maps, self.strides, strict=True)
        ]
        return flatten_levels(scaled, len(signs))

    def _points(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns the anchor centers of all levels, (A, 2) x y in pixels."""
        # traced into dynamic graphs, where the head's anchor generator would take more nodes and 2 % more time
        points = []
        for level, stride in zip(maps, self.strides, strict=True):
            y, x = (torch.arange(side, dtype=level.dtype) * stride for side in level.shape[-2:])
            grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
            points.append(grid[:, :, None].repeat(1, 1, self.num_anchors, 1).reshape(-1, 2))
        return torch.cat(points)


class FinalFaces(nn.Module):
    """The faces that remain after NMS, best first, padded with zeros to ``max_faces``, and their number."""

    def __init__(self, decoded: nn.Module, spec: GraphSpec) -> None:
        super().__init__()
        self.decoded = decoded
        self.max_faces = spec.max_faces

    def forward(self, x: Tensor, score_thr: Tensor, iou_thr: Tensor, content_size: Tensor) -> list[Tensor]:
        """Returns boxes (N, K, 4) clipped, scores (N, K), landmarks (N, K, 5, 2) if any, and counts (N,) int64."""
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
    """Returns the rows ``order`` (N, K) of values (N, A, D), and zeros where ``real`` is false."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2])) * real[..., None]


class _Nms(torch.autograd.Function):
    """ONNX's NonMaxSuppression, which is only traced and never run."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, *limits: Tensor) -> Tensor:
        """Returns zeros of the right shape: (M, 3) int64, image, class and row."""
        del ctx, boxes, scores, limits
        return torch.zeros(1, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, *limits: Any) -> Any:
        """Returns the node."""
        return g.op("NonMaxSuppression", boxes, scores, *limits)


class FromPixels(nn.Module):
    """A graph that normalizes pixels first, as the model's data preprocessor does."""

    def __init__(self, graph: nn.Module, preprocessor: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self.to_rgb = bool(preprocessor._channel_conversion)
        self.register_buffer("mean", preprocessor.mean.clone())
        self.register_buffer("scale", 1 / preprocessor.std)

    def forward(self, pixels: Tensor, *options: Tensor) -> list[Tensor]:
        """Returns the outputs of the graph for (N, H, W, 3) uint8 BGR."""
        planes = pixels.permute(0, 3, 1, 2)
        if self.to_rgb:
            planes = planes[:, [2, 1, 0]]
        return self.graph((planes.float() - self.mean) * self.scale, *options)
