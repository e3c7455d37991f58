"""Exports a config and its checkpoint to an ONNX file that was compared with PyTorch."""

from __future__ import annotations

import importlib
import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from facedet_mm.detectors.preprocess import check_input_size
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.plugin.apis.build import build_model, load_config
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.plugin.deploy.onnx_graph import build_graph, check_model, example_inputs
from facedet_mm.plugin.deploy.onnx_spec import INPUT, GraphSpec, strides_of
from facedet_mm.plugin.deploy.onnx_verification import Verification, normalization_of, verify_export
from facedet_mm.plugin.models.scrfd_head import SCRFDHead
from facedet_mm.plugin.models.yunet_head import YuNetHead
from facedet_mm.system.files import atomic_path
from facedet_mm.version import __version__
from facedet_mm.zoo import MODELS, asset_path, config_path

OPSET = 17


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        spec: Spec of the graph.
        metadata: Metadata of the file.
        verification: Comparison of the file with PyTorch.
        simplified: Whether the graph was simplified, for which onnxsim must be installed.
    """

    spec: GraphSpec
    metadata: dict[str, Any]
    verification: Verification
    simplified: bool


def export_onnx(
    config: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    path: str | os.PathLike[str],
    spec: GraphSpec | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    license: str | None = None,
) -> Export:
    """Exports a model and compares the file with PyTorch; on any error no file is left.

    Args:
        config: A model name of the zoo or the path of a config.
        checkpoint: Checkpoint of that config; its weights must match the model completely.
        path: The ``.onnx`` file to write.
        spec: Which graph to export; ``None`` means raw heads with dynamic height and width.
        images: Images for the comparison; by default the sample image of the package.
        license: License of the weights, for the metadata; for converted official weights it is known.

    Raises:
        ModelError: The config or the checkpoint is missing or does not fit, the head is none of this project's, or the
            file computes something else than PyTorch.
        ImageError: An image can't be read.
        FaceDetError: The size is not a multiple of the largest stride, or the file can't be written.
    """
    spec, path = spec or GraphSpec(), Path(path)
    if path.suffix.lower() != ".onnx":
        raise FaceDetError(f"{path}: the name of an ONNX file must end in .onnx")
    arrays = [read_image(image) for image in images or [asset_path("solvay_1927.jpg")]]
    with atomic_path(path) as temporary:
        name, model, meta = _load(config, checkpoint)
        head = check_model(model, name)
        spec = spec.fitted(head)
        check_input_size(spec.size, max(strides_of(head)))
        graph, simplified = _simplify(_trace(model, spec))
        metadata = _metadata(model, spec, name, license or _license_of(meta))
        _finish(graph, spec, spec.output_shapes(head), metadata)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, temporary)
        verification = verify_export(temporary, model, spec, arrays)
    return Export(spec, metadata, verification, simplified)


def _load(config: str | os.PathLike[str], checkpoint: str | os.PathLike[str]) -> tuple[str, nn.Module, dict[str, Any]]:
    """Returns the model's name, the model and the checkpoint's ``meta``."""
    path = Path(config)
    if path.suffix != ".py":
        path = config_path(os.fspath(config))
    model = build_model(load_config(path)).eval()
    meta = load_weights(model, checkpoint)
    return path.stem, model, meta


def _license_of(meta: dict[str, Any]) -> str:
    """Returns the license of converted official weights, whose checkpoint has the source's checksum, or 'unknown'."""
    if "source_sha256" in meta and meta.get("model") in MODELS:
        return MODELS[meta["model"]].license
    return "unknown"


def _trace(model: nn.Module, spec: GraphSpec) -> onnx.ModelProto:
    outputs = spec.output_shapes(model.bbox_head)
    axes = {
        name: {i: side for i, side in enumerate(shape) if isinstance(side, str)}
        for name, shape in {INPUT: spec.input_shape, **outputs}.items()
    }
    if "batch" in spec.dynamic and "content_size" in spec.options:
        axes["content_size"] = {0: "batch"}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about traced shapes, which the comparison covers
        torch.onnx.export(
            build_graph(model, spec).eval(),
            example_inputs(spec),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT, *spec.options],
            output_names=list(outputs),
            dynamic_axes={name: dynamic for name, dynamic in axes.items() if dynamic},
        )
    return onnx.load_from_string(file.getvalue())


def _simplify(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    try:
        onnxsim = importlib.import_module("onnxsim")
    except ImportError:
        return graph, False
    try:
        simplified, same = onnxsim.simplify(graph)
    except Exception as error:  # onnxsim's errors have no common base
        raise ModelError(f"onnxsim cannot simplify the graph ({error}); nothing was written") from error
    if not same:
        raise ModelError("onnxsim changed what the graph computes; nothing was written")
    return simplified, True


def _finish(
    graph: onnx.ModelProto, spec: GraphSpec, outputs: dict[str, tuple[int | str, ...]], metadata: dict[str, Any]
) -> None:
    """Declares the shapes and the defaults of optional inputs, and writes the metadata."""
    del graph.graph.value_info[:]  # runtimes infer them; the exporter's may have the traced size
    shapes = {INPUT: spec.input_shape, **outputs}
    for value in (*graph.graph.input, *graph.graph.output):
        if shape := shapes.get(value.name):
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
    graph.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in spec.options.items())
    onnx.helper.set_model_props(graph, {"facedet_mm": json.dumps(metadata)})  # replaces the exporter's entries
    graph.producer_name, graph.producer_version = "facedet-mm", __version__


def _layout(head: nn.Module) -> dict[str, str]:
    """Returns how raw outputs are decoded; nothing for a head that has none."""
    if isinstance(head, YuNetHead):
        return {"layout": "yunet"}
    return {"layout": "scrfd"} if isinstance(head, SCRFDHead) else {}


def _metadata(model: nn.Module, spec: GraphSpec, name: str, license: str) -> dict[str, Any]:
    normalization = normalization_of(model)
    thresholds = dict(score_thr=spec.score_thr, iou_thr=spec.iou_thr, max_faces=spec.max_faces)
    return dict(
        name=name,
        version=__version__,
        license=license,
        kind=spec.kind,
        **_layout(model.bbox_head),
        strides=strides_of(model.bbox_head),
        num_anchors=int(model.bbox_head.num_base_priors),
        landmarks=bool(model.bbox_head.with_landmarks),
        mean=list(normalization.mean),
        std=list(normalization.std),
        to_rgb=normalization.to_rgb,
        baked=spec.baked,
        **(thresholds if spec.kind == "end2end" else {}),
    )
