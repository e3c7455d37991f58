"""Differences between the outputs of an exported graph and of its PyTorch model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import nn

from facedet_mm.evaluation.agreement import compare_faces
from facedet_mm.plugin.deploy.onnx_spec import GraphSpec, raw_outputs, strides_of
from facedet_mm.plugin.models.instances import faces_from_instances
from facedet_mm.structures import Faces

TOLERANCES = {"score": 1e-4, "raw": 5e-4, "pixel": 0.01}
"""Largest differences allowed: of scores, of raw boxes and landmarks in units of the stride, and in pixels."""

Arrays = dict[str, NDArray[Any]]


def tolerance(output: str, spec: GraphSpec) -> float:
    """Returns the largest difference that is allowed for an output."""
    if output.startswith(("score", "cls", "obj")):
        return TOLERANCES["score"]
    if output == "num_faces":
        return 0
    return TOLERANCES["raw" if spec.kind == "raw" else "pixel"]


def output_differences(
    model: nn.Module, spec: GraphSpec, maps: Any, outputs: Arrays, size: tuple[int, int]
) -> dict[str, float]:
    """Returns the largest absolute difference of each output.

    NaN and unequal shapes count as infinite differences.

    Args:
        model: PyTorch model in eval mode.
        spec: Spec of the exported graph.
        maps: Outputs of the model's ``forward`` in tensor mode.
        outputs: Outputs of the exported graph by name, for the same input.
        size: Width and height of the input in pixels.
    """
    if spec.kind == "raw":
        return _compare_raw(model, maps, outputs)
    compare = _compare_decoded if spec.kind == "decoded" else _compare_final
    return compare(model, spec, maps, outputs, size)


def _compare_raw(model: nn.Module, maps: Any, outputs: Arrays) -> dict[str, float]:
    found = {}
    for (kind, values), levels in zip(raw_outputs(model.bbox_head).items(), maps, strict=False):
        for stride, level in zip(strides_of(model.bbox_head), levels, strict=True):
            expected = (level.sigmoid() if values == 1 else level).numpy()
            output = outputs[f"{kind}_{stride}"]
            found[f"{kind}_{stride}"] = _largest(np.moveaxis(expected, 1, -1).reshape(output.shape), output)
    return found


def _compare_decoded(
    model: nn.Module, spec: GraphSpec, maps: Any, outputs: Arrays, size: tuple[int, int]
) -> dict[str, float]:
    del spec
    expected = _predict(model, maps, size, dict(score_thr=-1, min_bbox_size=-1), with_nms=False)
    limits = np.array(size * 2, np.float32)
    found = {
        "boxes": np.stack([e.bboxes.numpy() for e in expected]),
        "scores": np.stack([e.scores.numpy() for e in expected]),
    }
    if "landmarks" in outputs:
        found["landmarks"] = np.stack([e.keypoints.numpy() for e in expected])
    ours = {**outputs, "boxes": np.clip(outputs["boxes"], 0, limits)}
    return {name: _largest(values, ours[name]) for name, values in found.items()}


def _compare_final(
    model: nn.Module, spec: GraphSpec, maps: Any, outputs: Arrays, size: tuple[int, int]
) -> dict[str, float]:
    cfg = dict(score_thr=spec.score_thr, nms=dict(type="nms", iou_threshold=spec.iou_thr), max_per_img=spec.max_faces)
    found = dict.fromkeys(outputs, 0.0)
    found["num_faces"] = _largest((outputs["scores"] > 0).sum(1), outputs["num_faces"])
    for i, instances in enumerate(_predict(model, maps, size, cfg, with_nms=True)):
        rows = {name: outputs[name][i, : int(outputs["num_faces"][i])] for name in outputs if name != "num_faces"}
        ours = Faces(rows["boxes"], rows["scores"], rows.get("landmarks"))
        agreement = compare_faces(ours, faces_from_instances(instances), spec.score_thr + TOLERANCES["score"])
        if agreement.unmatched:
            return dict.fromkeys(outputs, np.inf)
        for name in rows:
            found[name] = max(found[name], getattr(agreement, name))
    return found


def _predict(
    model: nn.Module, maps: Any, size: tuple[int, int], cfg: dict[str, Any], with_nms: bool
) -> list[InstanceData]:
    """Returns the predictions of the model's own head for its outputs."""
    head = model.bbox_head
    settings = head.test_cfg.copy()
    settings.update(cfg)
    meta = dict(img_shape=size[::-1], scale_factor=(1.0, 1.0))
    with torch.inference_mode():
        return head.predict_by_feat(*maps, batch_img_metas=[meta] * len(maps[0][0]), cfg=settings, with_nms=with_nms)


def _largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Returns the largest absolute difference; infinite for NaN or unequal shapes."""
    if a.shape != b.shape:
        return float(np.inf)
    if not a.size:
        return 0.0
    difference = float(np.abs(a - b).max())
    return difference if np.isfinite(difference) else float(np.inf)
