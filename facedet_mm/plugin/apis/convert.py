"""Official SCRFD weights, as the authors' ``.pth`` or as ONNX, → checkpoints for the configs of this project."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from mmcv.cnn import Scale
from numpy.typing import NDArray
from torch import Tensor, nn

from facedet_mm import __version__
from facedet_mm.detectors.preprocess import Normalization, fit, make_blob
from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.checkpoint import load_checkpoint, load_weights, save_checkpoint
from facedet_mm.plugin.apis.onnx_layers import ConvLayer, conv_layers, load_graph
from facedet_mm.zoo import config_path

SIZES = ("34g", "10g", "2.5g", "1g", "0.5g", "10g_kps", "2.5g_kps", "0.5g_kps")
MODELS = tuple(f"scrfd_{size}" for size in SIZES)
TOLERANCE = 1e-4
"""Largest difference allowed between the source and the converted model: scores, and units of the stride."""

_DW = {"0": "depthwise_conv.conv", "1": "depthwise_conv.bn", "3": "pointwise_conv.conv", "4": "pointwise_conv.bn"}
_LEVELS = {"(8, 8)": "0", "(16, 16)": "1", "(32, 32)": "2"}
_BRANCHES = {
    "cls_stride_convs": "towers",
    "stride_cls": "cls_convs",
    "stride_reg": "reg_convs",
    "stride_kps": "landmark_convs",
}


@dataclass(frozen=True)
class Conversion:
    """What a conversion found.

    Attributes:
        model: name of the model, the config's name.
        differences: largest absolute difference to the source per output (``scores``, ``boxes`` and ``landmarks``
            in units of the stride) on the test image; empty when the source could not be run.
        faces: faces found in the test image at score 0.5.
    """

    model: str
    differences: dict[str, float]
    faces: int


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    image: NDArray[np.uint8],
    reference: str | os.PathLike[str] | None = None,
) -> Conversion:
    """Converts official weights and checks the result on an image.

    Args:
        src: the authors' ``.pth`` (MMDetection 2.7 layout) or a published SCRFD ``.onnx``.
        dst: checkpoint to write; the config of the same model loads it strictly. Nothing is left there on failure.
        image: (H, W, 3) uint8 BGR image on which source and result are compared.
        reference: an ONNX file of the same model to compare with; by default ``src`` itself when it is ONNX.

    Raises:
        ModelError: ``src`` is none of the eight SCRFD models, or the result does not reproduce the source.
    """
    src = Path(src)
    is_onnx = src.suffix.lower() == ".onnx"
    name, state = _from_onnx(src) if is_onnx else _from_pth(src)
    meta = dict(
        model=name,
        source=src.name,
        source_sha256=hashlib.sha256(src.read_bytes()).hexdigest(),
        facedet_mm_version=__version__,
        dataset_meta=dict(classes=("face",)),
    )
    model = build_model(config_path(name))
    model.load_state_dict(state, strict=True)
    model.eval()
    if reference is None and is_onnx:
        reference = src
    differences = {} if reference is None else compare(model, reference, image)
    worst = float(np.max(list(differences.values()), initial=0.0))
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{src}: looks like {name}, but the converted model differs from {reference} by {worst:.3g} "
            f"(allowed {TOLERANCE:g}), so nothing was written"
        )
    faces = count_faces(model, image)
    save_checkpoint(dict(meta=meta, state_dict=model.state_dict()), dst)
    load_weights(model, dst)
    return Conversion(name, differences, faces)


def compare(model: nn.Module, reference: str | os.PathLike[str], image: NDArray[np.uint8]) -> dict[str, float]:
    """Largest absolute differences between a model's raw outputs and those of an ONNX file, over all anchors.

    Args:
        model: an SCRFD in eval mode.
        reference: ONNX file of the same model, of any export flavor: with or without a batch axis, fixed or
            dynamic size, boxes and landmarks in units of the stride or in pixels.
        image: (H, W, 3) uint8 BGR.

    Returns:
        ``scores`` (after the sigmoid), ``boxes`` and, where there are some, ``landmarks`` in units of the stride.

    Raises:
        ModelError: the file can't be run, or its outputs are not those of such a model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(reference), options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        height, width = (d if isinstance(d, int) and d > 0 else 640 for d in inputs[0].shape[2:])
        blob = _blob(image, (width, height))
        outputs = [o.reshape(-1, o.shape[-1]) for o in session.run(None, {inputs[0].name: blob.numpy()})]
    except Exception as error:
        raise ModelError(f"{reference}: ONNX Runtime cannot run it ({str(error).splitlines()[0]})") from error
    with torch.inference_mode():
        cls, boxes, landmarks = model(blob, mode="tensor")
    ours: dict[str, list[Tensor]] = {"scores": [c.sigmoid() for c in cls], "boxes": boxes}
    if landmarks[0] is not None:
        ours["landmarks"] = landmarks
    differences = {}
    for (kind, levels), dim in zip(ours.items(), (1, 4, 10), strict=False):
        theirs = sorted((o for o in outputs if o.shape[1] == dim), key=len, reverse=True)
        mine = [level[0].permute(1, 2, 0).reshape(-1, dim).numpy() for level in levels]
        if [len(t) for t in theirs] != [len(m) for m in mine]:
            raise ModelError(
                f"{reference}: its outputs with {dim} columns have {[len(t) for t in theirs]} rows, "
                f"{[len(m) for m in mine]} were expected for {kind}"
            )
        units = [(1, 1, 1)] if kind == "scores" else [(1, 1, 1), (8, 16, 32)]
        # NumPy's extremes, unlike Python's, let a NaN through
        differences[kind] = float(
            np.min(
                [
                    np.max([np.abs(m - t / unit).max() for m, t, unit in zip(mine, theirs, scale, strict=True)])
                    for scale in units
                ]
            )
        )
    return differences


def _blob(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    fitted = fit(image.shape[1], image.shape[0], size)
    return torch.from_numpy(make_blob([image], [fitted], Normalization((127.5,) * 3, (128.0,) * 3, to_rgb=True)))


def count_faces(model: nn.Module, image: NDArray[np.uint8]) -> int:
    """Faces that a model finds in an image at 640, score above 0.5."""
    with torch.inference_mode():
        outputs = model(_blob(image, (640, 640)), mode="tensor")
    cfg = model.bbox_head.test_cfg.copy()
    cfg.score_thr = 0.5
    return len(model.bbox_head.predict_by_feat(*outputs, batch_img_metas=[dict(img_shape=(640, 640))], cfg=cfg)[0])


@cache
def _shapes(name: str) -> tuple[dict[str, tuple[int, ...]], Counter[tuple[int, ...]]]:
    """Shapes of a model's tensors by name, and of its convolutions as executed."""
    model = build_model(config_path(name)).eval()
    tensors = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return tensors, Counter(tuple(e.conv.weight.shape) for e in _trace(model))


def _from_pth(src: Path) -> tuple[str, dict[str, Tensor]]:
    """Name of the model and weights under our names."""
    weights = load_checkpoint(src)["state_dict"]
    state = {rename(key): value for key, value in weights.items() if not key.startswith("bbox_head.integral.")}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    fits: list[tuple[int, str, str]] = []
    for name in MODELS:
        own = _shapes(name)[0]
        if own == shapes:
            return name, state
        wrong = sorted(key for key in own.keys() | shapes.keys() if own.get(key) != shapes.get(key))
        has, wants = shapes.get(wrong[0], "missing"), own.get(wrong[0], "absent")
        fits.append((len(wrong), name, f"{len(wrong)} tensors do not fit, {wrong[0]} is {has}, expected {wants}"))
    raise _unknown(src, fits)


def _unknown(src: Path, fits: list[tuple[int, str, str]]) -> ModelError:
    """The error for weights of another model; ``fits`` holds mismatches, name and detail of each model."""
    _, name, detail = min(fits)
    return ModelError(f"{src}: not one of the eight SCRFD models ({', '.join(MODELS)}); closest is {name}: {detail}")


def rename(key: str) -> str:
    """Name of a tensor of the authors' checkpoint in this project's models."""
    key = re.sub(r"^backbone\.layer([1-4])\.", lambda m: f"backbone.stages.{int(m[1]) - 1}.", key)
    if match := re.match(r"backbone\.(stem\.1|stages\.\d+\.\d+)\.([0134])\.(.+)", key):  # MobileNetV1's blocks
        return f"backbone.{match[1]}.{_DW[match[2]]}.{match[3]}"
    if match := re.match(r"backbone\.stem\.0\.([01])\.(.+)", key):  # MobileNetV1's first convolution
        return f"backbone.stem.0.{('conv', 'bn')[int(match[1])]}.{match[2]}"
    if match := re.match(
        r"backbone\.stem\.([013467])\.([^.]+)$", key
    ):  # ResNetV1e: convolution, norm, ReLU, three times
        index = int(match[1])
        return f"backbone.stem.{index // 3}.{('conv', 'bn')[index % 3]}.{match[2]}"
    if match := re.match(r"bbox_head\.(\w+)\.(\(\d+, \d+\)|\d+)\.(.+)", key):
        branch = _BRANCHES.get(match[1], match[1])
        return f"bbox_head.{branch}.{_LEVELS.get(match[2], match[2])}.{match[3]}"
    return key


def _from_onnx(src: Path) -> tuple[str, dict[str, Tensor]]:
    """Name of the model and weights; norms that were folded become identities with the bias."""
    graph = load_graph(src)
    try:
        layers = conv_layers(graph)
    except ModelError as error:
        raise ModelError(f"{src}: {error}") from error
    shapes = Counter(layer.weight.shape for layer in layers)
    by_place = {layer.place: layer for layer in layers}
    fits: list[tuple[int, str, str]] = []
    for name in MODELS:
        expected = _shapes(name)[1]
        wrong = (shapes - expected) + (expected - shapes)
        if not wrong:
            model = build_model(config_path(name)).eval()
            places = [layer.place for layer in conv_layers(_export(model))]
            if set(places) == by_place.keys():
                _load(_trace(model), [by_place[place] for place in places])
                return name, model.state_dict()
        shape = next(iter(wrong), None)
        detail = (
            f"{shapes[shape]} convolutions of shape {shape}, expected {expected[shape]}" if shape else "wired otherwise"
        )
        fits.append((wrong.total(), name, detail))
    raise _unknown(src, fits)


def _export(model: nn.Module) -> onnx.GraphProto:
    """The model as an ONNX graph, its convolutions in the order of :func:`_trace`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing shapes: only the wiring is of interest
        torch.onnx.export(_Tensors(model).eval(), (torch.zeros(1, 3, 64, 64),), buffer, dynamo=False, opset_version=17)
    return onnx.load_from_string(buffer.getvalue()).graph


class _Tensors(nn.Module):
    """A detector whose forward gives raw tensors only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        return [t for branch in self.model(x, mode="tensor") for t in branch if t is not None]


def _load(executed: list[_Executed], layers: list[ConvLayer]) -> None:
    """Fills a model's convolutions and norms from an ONNX file's."""
    first: dict[nn.Module, ConvLayer] = {}
    for target, layer in zip(executed, layers, strict=True):
        shared = first.setdefault(target.conv, layer)
        if target.scale is not None and shared is not layer:
            # a simplifier may have multiplied the levels' scales into copies of the shared convolution
            layer.scale *= float((layer.weight * shared.weight).sum() / max((shared.weight**2).sum(), 1e-12))
            layer.weight, layer.bias = shared.weight, shared.bias
        target.load(layer)


@dataclass
class _Executed:
    """A convolution of a model as executed, with the norm and scale that follow it."""

    conv: nn.Conv2d
    norm: nn.Module | None = None
    scale: Scale | None = None

    @torch.no_grad()
    def load(self, layer: ConvLayer) -> None:
        def put(target: Any, value: NDArray[np.float32] | float) -> None:
            target.copy_(torch.as_tensor(np.array(value, np.float32)).reshape(target.shape))

        put(self.conv.weight, layer.weight)
        if self.conv.bias is not None:
            put(self.conv.bias, layer.bias)
        if self.scale is not None:
            put(self.scale.scale, layer.scale)
        norm: Any = self.norm
        if isinstance(norm, nn.GroupNorm):
            if layer.affine.keys() != {"Mul", "Add"}:
                raise ModelError("a group norm was expected after a convolution of the head, there is none")
            put(norm.weight, layer.affine["Mul"])
            put(norm.bias, layer.affine["Add"])
        elif norm is not None and layer.batch_norm is not None:
            (gamma, beta, mean, variance), epsilon = layer.batch_norm
            put(norm.weight, gamma)
            put(norm.bias, beta)
            put(norm.running_mean, mean)
            put(norm.running_var, variance + np.float32(epsilon - norm.eps))
        elif norm is not None:
            put(norm.weight, np.ones(len(layer.bias)))
            put(norm.bias, layer.bias)
            put(norm.running_mean, np.zeros(len(layer.bias)))
            put(norm.running_var, np.full(len(layer.bias), 1 - norm.eps))


def _trace(model: nn.Module) -> list[_Executed]:
    """Convolutions in the order in which a forward pass executes them."""
    executed: list[_Executed] = []

    def hook(module: nn.Module, _inputs: Any, _output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            executed.append(_Executed(module))
        elif isinstance(module, Scale):
            executed[-1].scale = module
        else:
            executed[-1].norm = module

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, Scale)
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64), mode="tensor")
    for handle in handles:
        handle.remove()
    return executed
