"""An exported file against its PyTorch model, on real images at several sizes and batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import nn

from facedet_mm.detectors.preprocess import Normalization, fit, make_blob, make_pixels, padding_of
from facedet_mm.errors import ModelError
from facedet_mm.plugin.deploy.onnx_graph import INPUT, GraphSpec, strides_of

SIZES = ((320, 320), (640, 480), (1280, 1280))
BATCHES = (1, 2, 8)
TOLERANCES = {"score": 1e-4, "raw": 5e-4, "pixel": 0.01}
"""Largest differences allowed: of scores, of raw boxes and landmarks in units of the stride, and of decoded ones."""

Arrays = dict[str, NDArray[Any]]


class Check(NamedTuple):
    """What a comparison found.

    Attributes:
        cases: (batch, (width, height)) that were run.
        differences: output → largest absolute difference over all cases.
        allowed: output → the largest that passes.
        faces: those that came out of the NMS inside, in all cases together.
    """

    cases: tuple[tuple[int, tuple[int, int]], ...]
    differences: dict[str, float]
    allowed: dict[str, float]
    faces: int


def check_export(path: Path, model: nn.Module, spec: GraphSpec, images: Sequence[NDArray[np.uint8]]) -> Check:
    """Runs the file in ONNX Runtime and the model in PyTorch and compares all outputs.

    Args:
        path: the file.
        model: in eval mode.
        spec: what the file should be.
        images: (H, W, 3) uint8 BGR each; a batch takes them in turn, cut differently so that no two are the same.

    Raises:
        ModelError: the file can't be run, an output's shape isn't the declared one, or a difference is too large.
    """
    session = _open(path)
    shapes = spec.output_shapes(model.bbox_head)
    allowed = {name: _tolerance(name, spec) for name in shapes}
    differences = dict.fromkeys(shapes, 0.0)
    cases = tuple(_cases(spec))
    faces = 0
    for batch, size in cases:
        pixels, blob = _inputs(model, spec, images, batch, size)
        try:
            outputs = dict(zip(shapes, session.run(list(shapes), {INPUT: pixels if spec.baked else blob}), strict=True))
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(
                f"the exported graph fails on {_name(batch, size)}: {str(error).splitlines()[0]}"
            ) from error
        _check_shapes(outputs, shapes, batch, size)
        with torch.inference_mode():
            maps = model(torch.from_numpy(blob), mode="tensor")
        found = _COMPARE[spec.kind](model, spec, maps, outputs, size)
        faces += int(np.sum(outputs.get("num_faces", 0)))
        differences = {name: float(np.maximum(differences[name], found[name])) for name in shapes}
        for name, value in found.items():
            if not value <= allowed[name]:
                raise ModelError(
                    f"the exported graph differs from PyTorch on {_name(batch, size)}: {name} by {value:.3g}, allowed "
                    f"{allowed[name]:g}; nothing was written"
                )
    return Check(cases, differences, allowed, faces)


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot open the exported graph: {str(error).splitlines()[0]}") from error


def _cases(spec: GraphSpec) -> Iterator[tuple[int, tuple[int, int]]]:
    """Every size with one image, then every other batch at the smallest size."""
    width, height = spec.size
    sizes = [(w if "width" in spec.dynamic else width, h if "height" in spec.dynamic else height) for w, h in SIZES]
    sizes = list(dict.fromkeys(sizes))
    yield from ((1, size) for size in sizes)
    if "batch" in spec.dynamic:
        yield from ((batch, sizes[0]) for batch in BATCHES[1:])


def _name(batch: int, size: tuple[int, int]) -> str:
    return f"{batch} x {size[0]}x{size[1]}"


def _inputs(
    model: nn.Module, spec: GraphSpec, images: Sequence[NDArray[np.uint8]], batch: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The same images as pixels for a baked graph and as the model's input."""
    normalization = normalization_of(model)
    views = []
    for i in range(batch):
        image = _colored(images[i % len(images)])
        views.append(np.ascontiguousarray(image[:, image.shape[1] * i // (2 * batch) :]))
    boxes = [fit(view.shape[1], view.shape[0], size) for view in views]
    if not spec.baked:
        return np.empty(0, np.uint8), make_blob(views, boxes, normalization)
    pixels = make_pixels(views, boxes, padding_of(normalization))
    planes = pixels[..., ::-1] if normalization.to_rgb else pixels
    blob = (planes.astype(np.float32) - np.float32(normalization.mean)) / np.float32(normalization.std)
    return pixels, np.ascontiguousarray(blob.transpose(0, 3, 1, 2))


def _colored(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray image in sepia: it would not tell one channel from another."""
    if (image != image[..., :1]).any():
        return image
    return (image * np.array([0.7, 0.85, 1])).astype(np.uint8)


def normalization_of(model: nn.Module) -> Normalization:
    """What the model's data preprocessor does to pixels."""
    preprocessor = model.data_preprocessor
    mean, std = (tuple(values.flatten().tolist()) for values in (preprocessor.mean, preprocessor.std))
    return Normalization(mean, std, bool(preprocessor._channel_conversion))


def _check_shapes(
    outputs: Arrays, declared: dict[str, tuple[int | str, ...]], batch: int, size: tuple[int, int]
) -> None:
    for name, dims in declared.items():
        shape = outputs[name].shape
        known = {"batch": batch}
        if len(shape) != len(dims) or any(
            s != known.get(str(d), d if isinstance(d, int) else s) for s, d in zip(shape, dims, strict=True)
        ):
            raise ModelError(
                f"the exported graph declares {name} as {dims} and gives {shape} on {_name(batch, size)}; nothing was "
                "written"
            )


def _tolerance(name: str, spec: GraphSpec) -> float:
    if name.startswith("score"):
        return TOLERANCES["score"]
    if name == "num_faces":
        return 0
    return TOLERANCES["raw" if spec.kind == "raw" else "pixel"]


def _compare_raw(
    model: nn.Module, spec: GraphSpec, maps: Any, outputs: Arrays, size: tuple[int, int]
) -> dict[str, float]:
    del spec, size
    found = {}
    for kind, levels in zip(("score", "bbox", "kps"), maps, strict=True):
        for stride, level in zip(strides_of(model.bbox_head), levels, strict=True):
            if level is None:
                continue
            expected = (level.sigmoid() if kind == "score" else level).numpy()
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
        "boxes": np.stack([e.bboxes for e in expected]),
        "scores": np.stack([e.scores for e in expected]),
    }
    if "landmarks" in outputs:
        found["landmarks"] = np.stack([e.keypoints for e in expected])
    ours = {**outputs, "boxes": np.clip(outputs["boxes"], 0, limits)}
    return {name: _largest(values, ours[name]) for name, values in found.items()}


def _compare_final(
    model: nn.Module, spec: GraphSpec, maps: Any, outputs: Arrays, size: tuple[int, int]
) -> dict[str, float]:
    cfg = dict(score_thr=spec.score_thr, nms=dict(type="nms", iou_threshold=spec.iou_thr), max_per_img=spec.max_faces)
    found = dict.fromkeys(outputs, 0.0)
    found["num_faces"] = _largest((outputs["scores"] > 0).sum(1), outputs["num_faces"])
    for i, faces in enumerate(_predict(model, maps, size, cfg, with_nms=True)):
        count = int(outputs["num_faces"][i])
        ours = [outputs[name][i, :count] for name in outputs if name != "num_faces"]
        theirs = [faces.bboxes, faces.scores, *([faces.keypoints] if "landmarks" in outputs else [])]
        for a, b in ((ours, theirs), (theirs, ours)):
            sure = a[1] > spec.score_thr + TOLERANCES["score"]
            if sure.any() and not len(b[1]):
                return dict.fromkeys(outputs, np.inf)
            nearest = [int(np.abs(b[0] - box).max(1).argmin()) for box in a[0][sure]]
            for name, x, y in zip(outputs, a, b, strict=False):
                found[name] = float(np.maximum(found[name], _largest(x[sure], y[nearest])))
    return found


_COMPARE = {"raw": _compare_raw, "decoded": _compare_decoded, "end2end": _compare_final}


def _predict(
    model: nn.Module, maps: Any, size: tuple[int, int], cfg: dict[str, Any], with_nms: bool
) -> list[InstanceData]:
    """What the model's own head makes of its outputs, as NumPy."""
    head = model.bbox_head
    settings = head.test_cfg.copy()
    settings.update(cfg)
    meta = dict(img_shape=size[::-1], scale_factor=(1.0, 1.0))
    with torch.inference_mode():
        results = head.predict_by_feat(*maps, batch_img_metas=[meta] * len(maps[0][0]), cfg=settings, with_nms=with_nms)
    return [result.numpy() for result in results]


def _largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest absolute difference; a NaN or unequal shapes are infinitely far apart."""
    if a.shape != b.shape:
        return float(np.inf)
    if not a.size:
        return 0.0
    difference = float(np.abs(a - b).max())
    return difference if np.isfinite(difference) else float(np.inf)
