"""``OpenVinoDetector``: SCRFD and YuNet files in OpenVINO, the fastest runtime on most CPUs."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.options import DetectorOptions
from facedet_mm.detectors.rewriting import open_fastest
from facedet_mm.detectors.rewriting.proof import try_out
from facedet_mm.detectors.session import (
    EXPECTED,
    NMS_INPUTS,
    SessionDetector,
    check_file,
    describe_size,
    readable_names,
    takes_images,
)
from facedet_mm.errors import ModelError
from facedet_mm.system.dependencies import without_telemetry

with without_telemetry():
    import openvino as ov

_ERRORS = (RuntimeError, UnicodeDecodeError)
"""What OpenVINO raises; the second one if its message quotes text of the file that is not UTF-8."""
_CACHED_LAYERS = 100
"""Number of compiled layers that OpenVINO keeps for input sizes seen before."""
_CAPABILITIES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}


class OpenVinoDetector(SessionDetector):
    """Finds faces with an SCRFD or YuNet file, ``.onnx`` or OpenVINO's own ``.xml``, in OpenVINO.

    Thread-safe: each thread has its own inference request.

    Args:
        path: Model file. Strides, anchors and normalization come from its metadata or from its outputs.
        **options: Settings of :class:`~facedet_mm.detectors.options.DetectorOptions`. ``device`` is ``'cpu'``,
            ``'gpu'``, ``'gpu:1'``, ``'npu'`` or ``'auto'``, OpenVINO's names in any case, with or without
            ``'openvino:'`` in front. Without ``precision`` OpenVINO uses bfloat16 on CPUs that support it (twice as
            fast as float32, with scores that differ in the third digit), else float32.

    Raises:
        ModelError: The file is missing, damaged, not a face detector, or does not take ``input_size``; the device does
            not exist or does not support ``precision``.
        FaceDetError: A value is out of range.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> detector = OpenVinoDetector(asset_path("yunet_n_dynamic.onnx"), score_thr=0.6, precision="fp32")
        >>> len(detector.detect(asset_path("solvay_1927.jpg")))
        29
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        settings = DetectorOptions(**{"model": path, **options})
        device = (settings.device or "").removeprefix("openvino").removeprefix(":") or "cpu"
        super().__init__(OpenVinoSession(Path(path), device, settings.precision, settings.threads), settings)


class OpenVinoSession:
    """A model file in OpenVINO; see :class:`~facedet_mm.detectors.session.Session`."""

    def __init__(self, path: Path, device: str, precision: str | None, threads: int | None) -> None:
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
        _refuse_loops(path, model)
        self.places = rewritten.places if rewritten else ()
        self.interleaved = False
        with readable_names(path):
            self._describe(model)
        # a file that was rewritten ran in ONNX Runtime when both forms were compared
        if rewritten is None and path.suffix.lower() == ".onnx" and (reason := try_out(path)):
            raise ModelError(f"{path} is damaged: {reason}; {EXPECTED}")
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision:
            options["INFERENCE_PRECISION_HINT"] = _checked(precision, core, device).replace("fp", "f")
        if self.on_cpu and precision in (None, "bf16") and "BF16" in _capabilities(core, device):
            _keep_edges(model)
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = _compile(core, path, model, device, options, self.on_cpu)
        self._of_thread = threading.local()

    def _describe(self, model: ov.Model) -> None:
        """Reads and checks what the file says of its inputs and outputs."""
        self.input_shape = _sides(model.inputs[0]) if len(model.inputs) == 1 else ()
        kind = model.inputs[0].element_type if model.inputs else None
        if kind not in (ov.Type.f32, ov.Type.u8) or not takes_images(self.input_shape, kind == ov.Type.u8):
            described = ", ".join(str(i) for i in model.inputs)
            raise ModelError(f"{self.path} is not a face detector: its input is {described or 'missing'}; {EXPECTED}")
        self.output_shapes = [_sides(output) for output in model.outputs]
        self.metadata = _metadata(model)
        self.options = _free_options(model)

    def run(self, blob: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Runs the network; see :meth:`Session.run <facedet_mm.detectors.session.Session.run>`."""
        return self.run_with(blob, {})

    def run_with(self, blob: NDArray[Any], values: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Runs the network; see :class:`~facedet_mm.detectors.session.AdjustableSession`."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        try:
            # The outputs are views of the request's memory: used up before this thread's next run.
            inputs: dict[Any, NDArray[Any]] = {0: blob, **values}
            result = self._of_thread.request.infer(inputs, share_inputs=True, share_outputs=True)
        except _ERRORS as error:
            raise ModelError(f"{self.path} fails on a {describe_size(blob)} input: {error}; {EXPECTED}") from error
        return [result[i] for i in range(len(self.output_shapes))]


def _read(core: ov.Core, path: Path, model: str | bytes) -> ov.Model:
    try:
        return core.read_model(model)
    except _ERRORS as error:
        raise ModelError(f"{path} is not an ONNX or OpenVINO file, or it is damaged: {error}; {EXPECTED}") from error


def _compile(
    core: ov.Core, path: Path, model: ov.Model, device: str, options: dict[str, Any], on_cpu: bool
) -> ov.CompiledModel:
    """Compiles the model for a device.

    On a CPU, OpenVINO keeps 5000 compiled layers by default, so that memory grows by 1.6 MB with each new input size.
    The property that bounds them is not listed among those that the CPU supports, and other versions may refuse it.
    """
    name = device.upper().replace(":", ".")
    try:
        if on_cpu:
            try:
                return core.compile_model(model, name, {**options, "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_LAYERS})
            except _ERRORS:
                pass
        return core.compile_model(model, name, options)
    except _ERRORS as error:
        raise ModelError(f"{path} does not run on OpenVINO's {device!r}: {error}") from error


def _refuse_loops(path: Path, model: ov.Model) -> None:
    """Refuses loops, also of ``.xml`` files: no signal interrupts a runtime, and a loop may never end."""
    loops = [op for op in model.get_ops() if op.get_type_name() in ("Loop", "TensorIterator")]
    if loops:
        raise ModelError(f"{path} has a loop ({loops[0].get_friendly_name()}), which may never end; export it without")


@functools.cache
def _core() -> ov.Core:
    """Returns the only core of the process.

    Each core installs a stack for signals and restores the previous one when it is deleted. If the older of two is
    deleted first, the restored stack no longer exists, and the next signal (Ctrl-C, the end of a child process) kills
    the process. Seen in OpenVINO 2026.4.
    """
    return ov.Core()


def _checked(precision: str, core: ov.Core, device: str) -> str:
    """Returns ``precision`` if the device supports it; OpenVINO itself would silently use another one."""
    if precision not in _CAPABILITIES:
        raise ModelError(f"precision must be one of {', '.join(_CAPABILITIES)} or None in OpenVINO, not {precision!r}")
    if device.partition(":")[0] == "auto":  # OpenVINO chooses the device later
        return precision
    there = _capabilities(core, device)
    if _CAPABILITIES[precision] not in there:
        known = ", ".join(name for name, capability in _CAPABILITIES.items() if capability in there)
        raise ModelError(f"OpenVINO's {device!r} here has no {precision}; it has {known}")
    return precision


def cpu_capabilities() -> list[str]:
    """Returns the names of what OpenVINO can calculate with on this CPU, such as ``'BF16'``."""
    return _capabilities(_core(), "cpu")


def _capabilities(core: ov.Core, device: str) -> list[str]:
    names: list[str] = core.get_property(device.upper().replace(":", "."), "OPTIMIZATION_CAPABILITIES")
    return names


def _keep_edges(model: ov.Model) -> None:
    """Splits the first depthwise convolution into two, so that its weights keep 16 bits in bfloat16, which has 8.

    Its filters detect edges: large weights with a sum near zero, on values that hardly differ. Rounding changes the
    sum. At 640 on a CPU with AMX this takes the Hard AP of scrfd_0.5g_kps from 66.86 to 67.01 and
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
    """Returns the metadata of an ONNX file, which OpenVINO keeps in its runtime information."""
    for place in (["framework", "facedet_mm"], ["facedet_mm"]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).value)
    return ""


def _free_options(model: Any) -> frozenset[str]:
    """Turns the values that the NMS in a graph depends on, which OpenVINO reads as constants, into inputs."""
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
    return NMS_INPUTS
