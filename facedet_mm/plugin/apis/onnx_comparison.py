"""Compares the raw outputs of a PyTorch model with those of an ONNX file."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedet_mm.detectors.layouts import rows_of_maps
from facedet_mm.detectors.preprocess import Normalization, fit, make_blob
from facedet_mm.errors import ModelError

_LARGEST_SIDE = 4096
"""Largest side in pixels of a fixed input; a file may claim any."""


def compare_with_onnx(
    model: nn.Module, reference: str | os.PathLike[str], image: NDArray[np.uint8]
) -> dict[str, float]:
    """Returns the largest absolute differences between the raw outputs of a model and of an ONNX file.

    Args:
        model: An SCRFD in eval mode.
        reference: ONNX file of the same model in any export format: rows with or without a batch axis or maps, scores
            after or before their sigmoid, fixed or dynamic size, boxes and landmarks in units of the stride or in
            pixels.
        image: Image (H, W, 3) uint8 BGR.

    Returns:
        Differences over all anchors of ``scores`` (after the sigmoid), ``boxes`` and, where the model has them,
        ``landmarks``; boxes and landmarks in units of the stride.

    Raises:
        ModelError: The file cannot be run, or its outputs do not fit the model.
    """
    blob, outputs = _run_reference(reference, image)
    with torch.inference_mode():
        cls, boxes, landmarks = model(blob, mode="tensor")
    ours: dict[str, list[Tensor]] = {"scores": [c.sigmoid() for c in cls], "boxes": boxes}
    if landmarks[0] is not None:
        ours["landmarks"] = landmarks
    differences = {}
    for (kind, levels), columns in zip(ours.items(), (1, 4, 10), strict=False):
        theirs = sorted((o for o in outputs if o.shape[1] == columns), key=len, reverse=True)
        mine = [level[0].permute(1, 2, 0).reshape(-1, columns).numpy() for level in levels]
        if [len(t) for t in theirs] != [len(m) for m in mine]:
            raise ModelError(
                f"{reference}: its outputs with {columns} columns have {[len(t) for t in theirs]} rows, "
                f"but {[len(m) for m in mine]} were expected for {kind}"
            )
        readings = [theirs]
        if kind == "scores":
            readings.append([1 / (1 + np.exp(-t)) for t in theirs])
        else:
            readings.append([t / stride for t, stride in zip(theirs, (8, 16, 32), strict=True)])
        differences[kind] = float(np.min([_largest_difference(mine, reading) for reading in readings]))
    return differences


def make_input(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Returns an image (H, W, 3) uint8 BGR as an input (1, 3, height, width) of SCRFD; ``size`` is (width, height)."""
    fitted = fit(image.shape[1], image.shape[0], size)
    return torch.from_numpy(make_blob([image], [fitted], Normalization((127.5,) * 3, (128.0,) * 3, to_rgb=True)))


def _run_reference(
    reference: str | os.PathLike[str], image: NDArray[np.uint8]
) -> tuple[Tensor, list[NDArray[np.float32]]]:
    """Returns the input at the size that the file takes, and its outputs as rows (N, columns)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(reference), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own exceptions
        raise _cannot_run(reference, error) from error
    if len(session.get_inputs()) != 1:
        raise ModelError(f"{reference}: has {len(session.get_inputs())} inputs; one, the image, was expected")
    tensor = session.get_inputs()[0]
    height, width = (d if isinstance(d, int) and d > 0 else 640 for d in [*tensor.shape, 0, 0, 0, 0][2:4])
    if max(height, width) > _LARGEST_SIDE:
        raise ModelError(f"{reference}: its input is {width} x {height} pixels; at most {_LARGEST_SIDE} were expected")
    blob = make_input(image, (width, height))
    try:
        outputs = session.run(None, {tensor.name: blob.numpy()})
    except Exception as error:
        raise _cannot_run(reference, error) from error
    if not all(isinstance(output, np.ndarray) and output.ndim >= 2 for output in outputs):
        raise ModelError(f"{reference}: its outputs are not tables of scores, boxes and landmarks, so it is no SCRFD")
    try:
        return blob, _rows(outputs, width, height)
    except ValueError as error:
        raise ModelError(f"{reference}: {error}") from error


def _rows(outputs: list[NDArray[np.float32]], width: int, height: int) -> list[NDArray[np.float32]]:
    """Returns rows (N, columns) of outputs that are rows or maps."""
    if any(output.ndim == 4 for output in outputs):
        shapes, places, _ = rows_of_maps([output.shape for output in outputs], width, height)
        by_cell = [output.transpose(0, 2, 3, 1) for output in outputs] if places else outputs
        outputs = [output.reshape(shape) for output, shape in zip(by_cell, shapes, strict=True)]
    return [output.reshape(-1, output.shape[-1]) for output in outputs]


def _cannot_run(reference: str | os.PathLike[str], error: Exception) -> ModelError:
    return ModelError(f"{reference}: ONNX Runtime cannot run it ({str(error).splitlines()[0]})")


def _largest_difference(mine: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> np.floating:
    # unlike Python's max, NumPy's keeps a NaN
    return np.max([np.abs(m - t).max() for m, t in zip(mine, theirs, strict=True)])
