"""Proof that a rewritten file computes what the original computes: both run once, on noise.

A file whose input was freed also runs at another size and on two images, where there is no original to compare with:
its outputs must grow with the input, and those of an image may not depend on the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from facedet_mm.detectors.heads import Place

_SIZES = ((64, 96), (128, 256))
"""(height, width) of the noise where a file leaves them free; the second is for strides of 64 and 128."""
_TOLERANCE = 0.005
"""Largest difference of an output, as a part of its largest value: rounding costs 0.00002 in float32 and 0.001 in
float16, and outputs at the wrong place differ by about 1."""
_TINY = 1e-6
"""Difference that is always allowed: float16 has steps of 6e-8 near 0, and sigmoids are that small."""
_OTHER = 128
"""Height of the other size of a file whose size was freed; it is wider by as much."""
_NOISE = {1: 1.0, 2: 255.0}
"""Factors of a score, which tell SCRFD (normalized values) from YuNet (pixels) → range of the noise."""
_ERRORS_ONLY = 4


class Rewritten(NamedTuple):
    """A rewritten ONNX file, which computes the same in less time.

    Attributes:
        content: Bytes of the file.
        places: Where each output of the original lies in the maps that are the outputs now; empty if the outputs are
            the same.
        interleaved: Whether the input is (N, 1, H, 3 W), the BGR values pixel after pixel, instead of (N, 3, H, W).
        to_rgb: Whether the original takes RGB; only told of an interleaved one.
        freed: Axes of the input that the original fixes and the rewritten file does not.
    """

    content: bytes
    places: tuple[Place, ...]
    interleaved: bool
    to_rgb: bool = False
    freed: tuple[str, ...] = ()


def disproof(path: Path, rewritten: Rewritten) -> str | None:
    """Returns why a rewritten file may not be used, or ``None`` if it computes on noise what the original computes.

    Both run in ONNX Runtime without its optimizations, so that opening them takes little time.

    Args:
        path: The original file.
        rewritten: The rewritten one.
    """
    try:
        plain = _open(str(path))
        fast = _open(rewritten.content)
        for blob, pixels in _inputs(plain, rewritten):
            expected = _run(plain, blob)
            if not isinstance(expected, Exception):
                found = fast.run(None, {fast.get_inputs()[0].name: pixels})
                reason = _difference(expected, found, rewritten.places)
                return reason or (_bond(fast, rewritten, blob, found) if rewritten.freed else None)
    except Exception as error:  # ONNX Runtime's errors have no common base
        return f"it does not run: {error}"
    return "the file takes no input to compare them on"


def try_out(path: Path) -> str | None:
    """Returns why an ONNX file does not run in ONNX Runtime, or ``None`` if it runs on noise.

    ONNX Runtime checks types and shapes. Runtimes that believe them write beyond their memory for some damaged files.
    """
    try:
        session = _open(str(path))
        results = [_run(session, blob) for blob, _ in _inputs(session, Rewritten(b"", (), False))]
    except Exception as error:  # ONNX Runtime's errors have no common base
        return str(error)
    failures = [result for result in results if isinstance(result, Exception)]
    return str(failures[0]) if failures and len(failures) == len(results) else None


def _run(session: ort.InferenceSession, blob: NDArray[Any]) -> list[NDArray[np.float32]] | Exception:
    try:
        outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: blob})
    except Exception as error:  # ONNX Runtime's errors have no common base
        return error
    return outputs


def _open(content: str | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=False)


def _inputs(plain: ort.InferenceSession, rewritten: Rewritten) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Returns noise of one or two sizes, as the original takes it and as the rewritten file takes it."""
    first = plain.get_inputs()[0]
    pixels = first.type == "tensor(uint8)"
    if len(first.shape) != 4:
        return []
    batch, height, width = (
        side if isinstance(side, int) and side > 0 else None
        for side in (first.shape[i] for i in ((0, 1, 2) if pixels else (0, 2, 3)))
    )
    return [_noise((batch or 1, height or size[0], width or size[1]), rewritten, pixels=pixels) for size in _SIZES]


def _noise(shape: tuple[int, int, int], rewritten: Rewritten, *, pixels: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns noise of a shape (batch, height, width) as the original and the rewritten file take it."""
    noise = np.random.default_rng(0).random((*shape, 3), np.float32)
    if pixels:
        taken: NDArray[Any] = (noise * 255).astype(np.uint8)
        return taken, taken
    noise *= _NOISE.get([place.map for place in rewritten.places if place.values == 1].count(0), 1.0)
    planes = np.ascontiguousarray((noise[..., ::-1] if rewritten.to_rgb else noise).transpose(0, 3, 1, 2))
    return planes, noise.reshape(*shape[:2], -1)[:, None] if rewritten.interleaved else planes


def _bond(
    fast: ort.InferenceSession, rewritten: Rewritten, blob: NDArray[Any], found: list[NDArray[np.float32]]
) -> str | None:
    """Returns why a freed file is still bound to the size or number of images that it was made for, or ``None``.

    Args:
        fast: The freed file.
        rewritten: What was done to the original.
        blob: Input of the original.
        found: Outputs of the freed file for that input.
    """
    pixels = blob.dtype == np.uint8
    batch, height, width = (blob.shape[i] for i in ((0, 1, 2) if pixels else (0, 2, 3)))
    shape = (
        2 if "batch" in rewritten.freed else batch,
        (_OTHER if height != _OTHER else 2 * _OTHER) if "height" in rewritten.freed else height,
        width + _OTHER if "width" in rewritten.freed else width,
    )
    name = fast.get_inputs()[0].name
    other = _noise(shape, rewritten, pixels=pixels)[1]
    outputs: list[NDArray[np.float32]] = fast.run(None, {name: other})
    for index, (new, old) in enumerate(zip(outputs, found, strict=True)):
        if new.size * batch * height * width != old.size * shape[0] * shape[1] * shape[2]:
            return f"its output {index} does not grow with the input"
        if not np.isfinite(new).all():
            return f"its output {index} is not finite at another size"
    if "batch" not in rewritten.freed:
        return None
    singles = [fast.run(None, {name: other[i : i + 1]}) for i in range(2)]
    return _difference([np.concatenate(parts) for parts in zip(*singles, strict=True)], outputs, (), shaped=True)


def _difference(
    expected: list[NDArray[np.float32]],
    found: list[NDArray[np.float32]],
    places: tuple[Place, ...],
    shaped: bool = False,
) -> str | None:
    outputs = [_rows(place, found) for place in places] if places else found
    if len(outputs) != len(expected):
        return f"it has {len(outputs)} outputs instead of {len(expected)}"
    for index, (new, old) in enumerate(zip(outputs, expected, strict=True)):
        if new.size != old.size:
            return f"its output {index} has {new.size} values instead of {old.size}"
        if shaped and (new.shape != old.shape or len(new) != 2):
            return f"its output {index} has no batch axis"
        limit = _TINY + _TOLERANCE * float(np.abs(old).max(initial=0))
        with np.errstate(invalid="ignore"):  # two infinite values have no difference, which is no proof
            difference = np.abs(new.reshape(old.shape) - old).max(initial=0)
        if not difference <= limit:
            return f"its output {index} differs by {difference:.3g} on noise"
    return None


def _rows(place: Place, maps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns the rows of the original's output that lie at ``place``."""
    channels = maps[place.map][:, place.first : place.first + place.anchors * place.values]
    rows: NDArray[np.float32] = np.ascontiguousarray(channels.transpose(0, 2, 3, 1))
    return 1 / (1 + np.exp(np.minimum(-rows, 80))) if place.values == 1 else rows
