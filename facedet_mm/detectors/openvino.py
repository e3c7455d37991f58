"""``OpenVinoDetector``: SCRFD and YuNet files in OpenVINO, the fastest runtime on most CPUs."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from facedet_mm.detectors.base import InputSizes
from facedet_mm.detectors.rewriting import open_fastest
from facedet_mm.detectors.session import EXPECTED, OPTIONS, SessionDetector, check_file, input_size_of, is_input
from facedet_mm.errors import ModelError

Precision = Literal["fp32", "fp16", "bf16"]
_CAPABILITIES: dict[Precision, str] = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}


class OpenVinoDetector(SessionDetector):
    """Finds faces with an SCRFD or YuNet file, ``.onnx`` or OpenVINO's own ``.xml``, in OpenVINO.

    Thread-safe: each thread has its own inference request.

    Args:
        path: the file. Strides, anchors and normalization come from its metadata or are told from its outputs.
        device: ``'cpu'``, ``'gpu'``, ``'gpu:1'``, ``'npu'`` or ``'auto'``, OpenVINO's names in any case.
        precision: the arithmetic inside; ``None`` is OpenVINO's choice: bfloat16 on CPUs that have it (twice as
            fast as float32, with scores that differ in the third digit), else float32.
        score_thr, iou_thr, input_size, threads, max_faces, tiles: as for
            :class:`~facedet_mm.detectors.onnx.OnnxDetector`.

    Raises:
        ModelError: the file is missing, damaged, no face detector, or does not take ``input_size``; the device is
            not there or does not take ``precision``.
        FaceDetError: a threshold, size or number is out of range.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> detector = OpenVinoDetector(asset_path("yunet_n_dynamic.onnx"), score_thr=0.6, precision="fp32")
        >>> len(detector.detect(asset_path("solvay_1927.jpg")))
        29
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "cpu",
        precision: Precision | None = None,
        score_thr: float = 0.5,
        iou_thr: float = 0.4,
        input_size: InputSizes = 640,
        threads: int | None = None,
        max_faces: int | None = None,
        tiles: int | tuple[int, int] | None = None,
    ) -> None:
        session = OpenVinoSession(Path(path), device, precision, threads)
        super().__init__(session, score_thr, iou_thr, input_size, max_faces, tiles)


class OpenVinoSession:
    """A model file in OpenVINO; see :class:`~facedet_mm.detectors.session.Session`."""

    def __init__(self, path: Path, device: str, precision: Precision | None, threads: int | None) -> None:
        check_file(path)
        self.path = path
        self.on_cpu = device.partition(":")[0].lower() == "cpu"
        core = _core()
        if device.partition(":")[0].upper() not in {
            name.partition(".")[0] for name in [*core.available_devices, "AUTO"]
        }:
            raise ModelError(f"OpenVINO finds no device {device!r} here; there are {', '.join(core.available_devices)}")
        model, rewritten = open_fastest(
            path,
            lambda model: _read(core, path, model),
            may_interleave=False,  # which costs time in OpenVINO
        )
        self.places = rewritten.places if rewritten else ()
        self.interleaved = False
        self.input_shape = _sides(model.inputs[0]) if len(model.inputs) == 1 else ()
        kind = model.inputs[0].element_type
        if kind not in (ov.Type.f32, ov.Type.u8) or not is_input(self.input_shape, kind == ov.Type.u8):
            described = ", ".join(str(i) for i in model.inputs)
            raise ModelError(f"{path} is no face detector: its input is {described}; {EXPECTED}")
        self.output_shapes = [_sides(output) for output in model.outputs]
        self.metadata = _metadata(model)
        self.options = _free_options(model)
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision:
            options["INFERENCE_PRECISION_HINT"] = _checked(precision, core, device).replace("fp", "f")
        if self.on_cpu and precision in (None, "bf16") and "BF16" in _capabilities(core, device):
            _keep_edges(model)
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = core.compile_model(model, device.upper().replace(":", "."), options)
        except RuntimeError as error:
            raise ModelError(f"{path} does not run on OpenVINO's {device!r}: {error}") from error
        self._of_thread = threading.local()

    def run(self, blob: NDArray[Any]) -> list[NDArray[np.float32]]:
        """See :meth:`Session.run <facedet_mm.detectors.session.Session.run>`."""
        return self.run_with(blob, {})

    def run_with(self, blob: NDArray[Any], values: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """See :class:`~facedet_mm.detectors.session.AdjustableSession`."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        try:
            # The outputs are views of the request's memory: used up before this thread's next run.
            inputs: dict[Any, NDArray[Any]] = {0: blob, **values}
            result = self._of_thread.request.infer(inputs, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise ModelError(f"{self.path} fails on a {input_size_of(blob)} input: {error}; {EXPECTED}") from error
        return [result[i] for i in range(len(self.output_shapes))]


def _read(core: ov.Core, path: Path, model: str | bytes) -> ov.Model:
    try:
        return core.read_model(model)
    except RuntimeError as error:
        raise ModelError(f"{path} is no ONNX or OpenVINO file, or a damaged one: {error}; {EXPECTED}") from error


@functools.cache
def _core() -> ov.Core:
    """The one core of the process.

    Each one makes a stack for signals, and puts the one before back when it goes. If the older of two goes first, that
    one is no longer there, and the next signal (Ctrl-C, a child that ends) kills the process. Seen in OpenVINO 2026.4.
    """
    return ov.Core()


def _checked(precision: Precision, core: ov.Core, device: str) -> Precision:
    """``precision``, if the device calculates in it: OpenVINO itself would take another without a word."""
    if precision not in _CAPABILITIES:
        raise ModelError(f"precision must be one of {', '.join(_CAPABILITIES)} or None in OpenVINO, not {precision!r}")
    if device.partition(":")[0] == "auto":  # of which nobody knows yet what it will be
        return precision
    there = _capabilities(core, device)
    if _CAPABILITIES[precision] not in there:
        known = ", ".join(name for name, capability in _CAPABILITIES.items() if capability in there)
        raise ModelError(f"OpenVINO's {device!r} here has no {precision}; it has {known}")
    return precision


def _capabilities(core: ov.Core, device: str) -> list[str]:
    names: list[str] = core.get_property(device.upper().replace(":", "."), "OPTIMIZATION_CAPABILITIES")
    return names


def _keep_edges(model: ov.Model) -> None:
    """Gives the first depthwise convolution weights of 16 bits in bfloat16, which has 8: as a sum of two convolutions.

    Its filters look for edges: large weights that add up to nearly nothing, on values that hardly differ. Rounded, they
    add up to something else. At 640 on a CPU with AMX this takes the Hard AP of scrfd_0.5g_kps from 66.86 to 67.01 and
    that of YuNet from 66.55 to 66.75 (float32: 67.01 and 66.78), in 6 % more time.
    """
    node = next((op for op in model.get_ordered_ops() if op.get_type_name() == "GroupConvolution"), None)
    source = node.input_value(1).get_node() if node else None
    if source and source.get_type_name() == "Reshape":
        source = source.input_value(0).get_node()
    if not node or not source or source.get_type_name() != "Constant" or source.get_element_type() != ov.Type.f32:
        return
    weights = source.data.reshape(node.get_input_shape(1))
    first = (weights.view(np.uint32) & 0xFFFF0000).view(np.float32)  # exact in bfloat16
    users = node.output(0).get_target_inputs()
    places = [node.get_attributes()[name] for name in ("strides", "pads_begin", "pads_end", "dilations")]
    parts = [ov.opset13.group_convolution(node.input_value(0), part, *places) for part in (first, weights - first)]
    whole = ov.opset13.add(*parts).output(0)
    for user in users:
        user.replace_source_output(whole)


def _sides(port: Any) -> tuple[int | None, ...]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if side.is_dynamic else side.get_length() for side in shape)


def _metadata(model: Any) -> str:
    """The metadata of an ONNX file, which OpenVINO keeps among its runtime information."""
    for place in (["framework", "facedet_mm"], ["facedet_mm"]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).value)
    return ""


def _free_options(model: Any) -> frozenset[str]:
    """Turns what the NMS in a graph depends on, which OpenVINO takes for constants, into inputs."""
    operations = {op.get_friendly_name(): op for op in model.get_ops()}
    nodes = [op for op in operations.values() if op.get_type_name() == "NonMaxSuppression"]
    content = operations.get("content_size")
    if len(nodes) != 1 or nodes[0].get_input_size() < 5 or content is None:
        return frozenset()
    users = {"iou_thr": [nodes[0].input(3)], "score_thr": [nodes[0].input(4)]}
    users["content_size"] = list(content.output(0).get_target_inputs())
    for name, inputs in users.items():
        parameter = ov.opset13.parameter([-1, 2] if name == "content_size" else [1], np.float32, name)
        parameter.output(0).set_names({name})
        for user in inputs:
            user.replace_source_output(parameter.output(0))
        model.add_parameters([parameter])
    return OPTIONS
