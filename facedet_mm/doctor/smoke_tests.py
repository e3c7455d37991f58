"""Tries packages and devices out; runs in a process of its own, as a broken library may take its process down."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from facedet_mm.doctor.smoke_tests import main; main(sys.argv[1:])"
)
_MARK = "facedet-probe "
_LIMIT_S = 300


def probe(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Imports modules after one another in one fresh process, and finds faces on devices.

    Args:
        names: modules, or ``device:…`` as ``build_detector`` takes it.

    Returns:
        Name → ``{"detail": …}`` where it works, ``{"error": …}`` where not; a name that ended the process has an
        error, and those after it have no entry.

    Example:
        >>> probe(["json", "no_such_module"])
        {'json': {'detail': ''}, 'no_such_module': {'error': "ModuleNotFoundError: No module named 'no_such_module'"}}
    """
    command = [sys.executable, "-c", _START, *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        output, end = done.stdout, f"ended with status {done.returncode}: {_last_line(done.stderr)}"
    except subprocess.TimeoutExpired as error:
        output, end = (error.stdout or b"").decode(errors="replace"), f"did not end in {_LIMIT_S} s"
    results: dict[str, dict[str, str]] = {}
    for line in output.splitlines():
        if line.startswith(_MARK):
            results |= json.loads(line.removeprefix(_MARK))
    silent = [name for name in names if name not in results]
    if silent:
        results[silent[0]] = {"error": f"its process {end}"}
    return results


def main(names: Sequence[str]) -> None:
    """The process's side: prints one line a name."""
    for name in names:
        try:
            result = {"detail": _check(name)}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module may even call sys.exit
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(f"\n{_MARK}{json.dumps({name: result})}", flush=True)


def _check(name: str) -> str:
    """What is to say of ``name``; any exception means that it does not work."""
    if name.startswith("device:"):
        return _find_faces(name.removeprefix("device:"))
    module = importlib.import_module(name)
    detail = _DETAILS.get(name)
    return detail(module) if detail else ""


def _find_faces(device: str) -> str:
    from facedet_mm import build_detector
    from facedet_mm.zoo import asset_path

    detector = build_detector(device=device, score_thr=0.6)
    image = asset_path("solvay_1927.jpg")
    faces = len(detector.detect(image))
    if abs(faces - 29) > 1:  # a device's rounding may move a score over the threshold
        raise RuntimeError(f"found {faces} instead of 29 faces in the test image")
    start = time.perf_counter()
    detector.detect(image)
    return f"{faces} of 29 faces, {1000 * (time.perf_counter() - start):.0f} ms"


def _torch(torch: Any) -> str:
    if not torch.cuda.is_available():
        return "no GPU" if torch.version.cuda else "CPU build"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


_DETAILS = {
    "onnxruntime": lambda ort: ", ".join(ort.get_available_providers()),
    "openvino": lambda openvino: ", ".join(openvino.Core().available_devices),
    "torch": _torch,
}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
