"""Detectors: an image in, :class:`~facedet_mm.structures.Faces` out, on any backend."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, cast

from facedet_mm.detectors.base import Detector, Image, InputSizes
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.preprocess import InputSize
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.zoo import config_path, find_model, weights_path

__all__ = ["Detector", "Image", "InputSize", "InputSizes", "OnnxDetector", "build_detector"]

_CHECKPOINTS = (".pth", ".pt")


def build_detector(
    model: str | os.PathLike[str] = "yunet_n",
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    score_thr: float = 0.5,
    iou_thr: float = 0.4,
    input_size: InputSizes = 640,
    max_faces: int | None = None,
    tiles: int | tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str | None = None,
) -> Detector:
    """Builds the detector that a model needs; without arguments the one that comes with the package.

    Args:
        model: a name of the zoo (``facedet_mm.zoo.MODELS``), an ``.onnx`` file, or a ``.py`` config of MMDetection.
        weights: an ``.onnx`` or ``.pth`` file, for a zoo name without a bundled file or a config.
        device: for ONNX ``'cpu'``, ``'openvino'`` (the fastest on a CPU), ``'cuda'``, ``'cuda:1'``, ``'tensorrt'``
            (in ONNX Runtime), ``'trt'`` and ``'trt:1'`` (TensorRT itself), ``'coreml'``, ``'directml'``; for PyTorch
            its own names. ``None`` is the CPU for ONNX and the best there is for PyTorch.
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.
        input_size: what the network sees: an int (square), (width, height), ``'auto'``, ``'original'`` or a list of
            these, whose faces are merged.
        max_faces: only so many come out, those with the best scores; ``None`` is all.
        tiles: also look at tiles of so many pixels of the image, a side or (width, height).
        threads: threads of the network, for ``.onnx`` files; ``None`` is a core each.
        precision: of the arithmetic, for the devices that leave a choice: ``'fp32'``, ``'fp16'`` or ``'bf16'`` with
            ``'openvino'``, ``'fp32'``, ``'fp16'`` or ``'int8'`` with ``'trt'``; ``None`` is what they hold for best.

    Raises:
        ModelError: an unknown name, a missing or unfit file, or weights that are needed and not given.
        MissingDependencyError: a package that the backend or device needs is not installed.
        FaceDetError: a threshold or size is out of range.

    Example:
        >>> build_detector(score_thr=0.6).score_thr
        0.6
    """
    options = dict[str, Any](
        device=device, score_thr=score_thr, iou_thr=iou_thr, input_size=input_size, max_faces=max_faces, tiles=tiles
    )
    if precision is not None:
        if (device or "").partition(":")[0] not in ("openvino", "trt"):
            raise FaceDetError(f"device {device or 'cpu'!r} leaves no choice of precision; 'openvino' and 'trt' do")
        options["precision"] = precision
    if _suffix(model) in _CHECKPOINTS:
        raise ModelError(f"{model} is a checkpoint: pass it as weights, and a zoo name or config as model")
    if _suffix(model) == ".onnx":
        if weights is not None:
            raise ModelError(f"{model} holds its own weights; leave weights={os.fspath(weights)!r} out")
        return _file_detector(model, threads, options)
    entry = None if _suffix(model) == ".py" else find_model(os.fspath(model))
    if weights is None:
        path = None if entry is None else weights_path(entry.name)
        if path is None:
            raise ModelError(_missing_weights(model))
        return _file_detector(path, threads, options)
    if _suffix(weights) == ".onnx":
        return _file_detector(weights, threads, options)
    if _suffix(weights) not in _CHECKPOINTS:
        raise ModelError(f"weights must be an .onnx or .pth file, not {weights}")
    if threads is not None:
        raise FaceDetError("threads is for .onnx files; the threads of PyTorch are set by OMP_NUM_THREADS")
    return _torch_detector(model if entry is None else config_path(entry.name), weights, options)


def _file_detector(path: str | os.PathLike[str], threads: int | None, options: dict[str, Any]) -> Detector:
    kind, _, device = (options["device"] or "cpu").partition(":")
    if kind == "trt":
        return _tensorrt_detector(path, device, threads, options)
    if kind != "openvino":
        return OnnxDetector(path, threads=threads, **options)
    try:
        module = importlib.import_module("facedet_mm.detectors.openvino")
    except ImportError as error:
        raise missing_dependency("device 'openvino'", "openvino", error) from error
    return cast(Detector, module.OpenVinoDetector(path, threads=threads, **{**options, "device": device or "cpu"}))


def _tensorrt_detector(
    path: str | os.PathLike[str], gpu: str, threads: int | None, options: dict[str, Any]
) -> Detector:
    if threads is not None:
        raise FaceDetError("threads is for networks that run on the CPU; device 'trt' has none there")
    if not (gpu or "0").isdigit():
        raise FaceDetError(f"device 'trt' takes the number of a GPU, as 'trt:1', not 'trt:{gpu}'")
    try:
        module = importlib.import_module("facedet_mm.detectors.tensorrt")
    except ImportError as error:
        what = "device 'trt' is TensorRT itself (device 'tensorrt' is ONNX Runtime's way to it)"
        raise missing_dependency(what, "tensorrt", error) from error
    others = {name: value for name, value in options.items() if name != "device"}
    return cast(Detector, module.TensorRTDetector(path, gpu=int(gpu or 0), **others))


def _torch_detector(
    config: str | os.PathLike[str], weights: str | os.PathLike[str], options: dict[str, Any]
) -> Detector:
    """The one way from the runtime into the training half: by name, and only when asked for."""
    try:
        module = importlib.import_module("facedet_mm.plugin.apis.torch_detector")
    except ImportError as error:
        raise missing_dependency("a .pth checkpoint runs in PyTorch and MMDetection", "train", error) from error
    return cast(Detector, module.TorchDetector(config, weights, **options))


def _missing_weights(model: str | os.PathLike[str]) -> str:
    if _suffix(model) == ".py":
        return f"{model} is a config and needs its checkpoint: pass weights='….pth'"
    return (
        f"{model} needs weights: the official ones are for non-commercial research, so they are not bundled. "
        f"facedet models fetch {model} gets them; or pass weights='….onnx' or weights='….pth'; a .pth in the authors' "
        "MMDetection 2.7 layout must first go through tools/convert_insightface.py"
    )


def _suffix(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lower()
