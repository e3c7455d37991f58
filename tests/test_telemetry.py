"""Nothing is reported to anyone: no connection and no file in the home folder, from any package that we import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")

_WATCH = """
import sys
sys.addaudithook(lambda event, args: print(event, args) if event in ("socket.connect", "socket.getaddrinfo") else None)
"""
_USE = """
import importlib, time
from facedet_mm import build_detector
from facedet_mm.zoo import asset_path
detector = build_detector(device={device!r}, threads=1)
assert len(detector.detect(asset_path("solvay_1927.jpg")))
time.sleep({seconds})
"""


def use(code: str, home: Path, **variables: str) -> tuple[str, set[str], list[str]]:
    """Runs code in a process outside of CI, with a home folder of its own.

    Returns:
        What it printed, the sockets that it opened and the files that it left in the home folder.
    """
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    (home / "tmp").mkdir(parents=True)
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home / "tmp"), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-c", _WATCH + code]
    root = Path(__file__).resolve().parents[1]
    sockets = set[str]()
    with (home / "tmp" / "said").open("w+") as said:
        process = subprocess.Popen(command, env=environment, cwd=root, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            sockets |= set(open_sockets(process.pid))
            time.sleep(0.002)
        said.seek(0)
        text = said.read()
    assert process.returncode == 0, text
    (home / "tmp" / "said").unlink()
    return text, sockets, sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def open_sockets(process: int) -> list[str]:
    try:
        handles = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{process}/fd")]
    except OSError:  # it ended, or closed one meanwhile
        return []
    return [handle for handle in handles if handle.startswith("socket:")]


@pytest.mark.slow
def test_onnx_runtime_reports_nothing_in_twenty_seconds(tmp_path: Path) -> None:
    assert use(_USE.format(device=None, seconds=20), tmp_path) == ("", set(), [])


@pytest.mark.parametrize("device", [None, "openvino"])
def test_backends_leave_no_trace_when_they_are_used(device: str | None, tmp_path: Path) -> None:
    if device:
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert use(_USE.format(device=device, seconds=1), tmp_path) == ("", set(), [])


def test_the_doctor_leaves_no_trace(tmp_path: Path) -> None:
    code = "import importlib.util\nfrom facedet_mm.doctor.smoke_tests import check\ncheck('onnxruntime')\n"
    code += "if importlib.util.find_spec('openvino'): check('openvino')\nimport time; time.sleep(1)"
    assert use(code, tmp_path) == ("", set(), [])


@pytest.mark.slow
def test_the_plugin_leaves_no_trace(tmp_path: Path) -> None:
    pytest.importorskip("mmdet", reason="MMDetection is not installed")
    text, sockets, files = use("import facedet_mm.plugin, time; time.sleep(1)", tmp_path)
    assert "socket." not in text
    assert not sockets
    # matplotlib's list of fonts stays on the machine
    assert [name for name in files if not name.startswith((".cache/matplotlib/", ".config/matplotlib/"))] == []


def test_the_choice_of_the_user_is_kept() -> None:
    code = "import os, facedet_mm; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for variables, expected in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | variables
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
