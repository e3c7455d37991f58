"""Verifies an exported file against its PyTorch model, on real images at several sizes and batch sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from facedet_mm.detectors.preprocess import Normalization, fit, make_blob, make_pixels, padding_of
from facedet_mm.errors import ModelError
from facedet_mm.plugin.deploy.onnx_differences import Arrays, output_differences, tolerance
from facedet_mm.plugin.deploy.onnx_spec import INPUT, GraphSpec

SIZES = ((320, 320), (640, 480), (1280, 1280))
BATCHES = (1, 2, 8)


class Verification(NamedTuple):
    """Result of :func:`verify_export`.

    Attributes:
        cases: Inputs that were compared, (batch, (width, height)).
        differences: Largest absolute difference over all cases, for each output.
        allowed: Largest difference allowed, for each output.
        faces: Number of faces after the NMS in the graph, over all cases.
    """

    cases: tuple[tuple[int, tuple[int, int]], ...]
    differences: dict[str, float]
    allowed: dict[str, float]
    faces: int


def verify_export(path: Path, model: nn.Module, spec: GraphSpec, images: Sequence[NDArray[np.uint8]]) -> Verification:
    """Runs the file in ONNX Runtime and the model in PyTorch, and compares all outputs.

    Args:
        path: The exported file.
        model: PyTorch model in eval mode.
        spec: Spec of the exported graph.
        images: Images, each (H, W, 3) uint8 BGR. A batch takes them in turn, cropped so that no two are the same.

    Raises:
        ModelError: The file can't be run, an output does not have the declared shape, or a difference is too large.
    """
    session = _open(path)
    shapes = spec.output_shapes(model.bbox_head)
    allowed = {name: tolerance(name, spec) for name in shapes}
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
        found = output_differences(model, spec, maps, outputs, size)
        faces += int(np.sum(outputs.get("num_faces", 0)))
        differences = {name: float(np.maximum(differences[name], found[name])) for name in shapes}
        for name, value in found.items():
            if not value <= allowed[name]:
                raise ModelError(
                    f"the exported graph differs from PyTorch on {_name(batch, size)}: {name} by {value:.3g}, allowed "
                    f"{allowed[name]:g}; nothing was written"
                )
    return Verification(cases, differences, allowed, faces)


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot open the exported graph: {str(error).splitlines()[0]}") from error


def _cases(spec: GraphSpec) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yields every size with one image, then the larger batches at the smallest size."""
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
    """Returns the same images as pixels, which baked graphs take, and as the model's input."""
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
    """Returns a gray image in sepia, because swapped channels would not show in gray; others are unchanged."""
    if (image != image[..., :1]).any():
        return image
    return (image * np.array([0.7, 0.85, 1])).astype(np.uint8)


def normalization_of(model: nn.Module) -> Normalization:
    """Returns the normalization that the model's data preprocessor applies."""
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
                f"the exported graph declares {name} as {dims} and returns {shape} on {_name(batch, size)}; nothing "
                "was written"
            )
