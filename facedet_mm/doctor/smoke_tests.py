"""Smoke tests of packages and devices, in a separate process because a broken library may crash it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from facedet_mm.system.dependencies import without_telemetry

_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from facedet_mm.doctor.smoke_tests import main; main(sys.argv[1:])"
)
_MARK = "facedet-smoke-test "
_LIMIT_S = 300


def run_smoke_tests(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Imports modules and finds faces on devices, one after the other in one fresh process.

    Args:
        names: Modules, or ``device:…`` with a device of ``build_detector``.

    Returns:
        Name → ``{"detail": …}`` if it works, else ``{"error": …}``. A name that crashed the process has an error,
        and the names after it have no entry.

    Example:
        >>> run_smoke_tests(["json", "no_such_module"])["no_such_module"]
        {'error': "ModuleNotFoundError: No module named 'no_such_module'"}
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
    """Runs in the separate process and prints one line per name."""
    for name in names:
        try:
            result = {"detail": check(name)}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module may even call sys.exit
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(f"\n{_MARK}{json.dumps({name: result})}", flush=True)


def check(name: str) -> str:
    """Imports a module or finds faces on a device, and returns details; any exception means that it does not work."""
    if name.startswith("device:"):
        return _find_faces(name.removeprefix("device:"))
    with without_telemetry():
        module = importlib.import_module(name)
    detail = _DETAILS.get(name)
    return detail(module) if detail else ""


def _find_faces(device: str) -> str:
    from facedet_mm.detectors import build_detector
    from facedet_mm.zoo import asset_path

    detector = build_detector(device=device, score_thr=0.6)
    image = asset_path("solvay_1927.jpg")
    faces = len(detector.detect(image))
    if abs(faces - 29) > 1:  # rounding on a device may move a score across the threshold
        raise RuntimeError(f"found {faces} instead of 29 faces in the test image")
    start = time.perf_counter()
    detector.detect(image)
    chosen = f"{detector.options.device}, " if device == "auto" else ""
    return f"{chosen}{faces} of 29 faces, {1000 * (time.perf_counter() - start):.0f} ms"


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
