"""The wall: the runtime half works without torch and MMDetection, and importing the package is cheap."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = "facedet_mm.plugin"
TRAINING_PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "mmdeploy")


@pytest.fixture(scope="module")
def runtime_files(root: Path) -> dict[str, Path]:
    """Module name → file of every module of the runtime half."""
    package = root / "facedet_mm"
    files = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] not in ("plugin", "configs"):
            files[".".join(("facedet_mm", *parts)).removesuffix(".__init__")] = path
    return files


def modules_after(code: str) -> set[str]:
    """Names in ``sys.modules`` after ``code`` ran in a fresh interpreter."""
    code = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_no_runtime_module_loads_the_training_stack(runtime_files: dict[str, Path]) -> None:
    assert {"facedet_mm.detectors.onnx", "facedet_mm.evaluation.wider_face", "facedet_mm.cli.detect"} <= set(
        runtime_files
    )
    names = {name for name in runtime_files if importlib.util.find_spec("tensorrt") or ".tensorrt" not in name}
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert names <= loaded
    assert not {name for name in loaded if name.partition(".")[0] in TRAINING_PACKAGES}
    assert not {name for name in loaded if name.startswith(PLUGIN)}


def test_detecting_loads_nothing_of_the_training_stack() -> None:
    loaded = modules_after(
        "from facedet_mm import build_detector\nfrom facedet_mm.zoo import asset_path\n"
        "build_detector().detect(asset_path('solvay_1927.jpg'))"
    )
    assert "onnxruntime" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in TRAINING_PACKAGES}


def test_no_runtime_module_names_the_training_half_in_an_import(runtime_files: dict[str, Path]) -> None:
    forbidden = (*TRAINING_PACKAGES, PLUGIN)
    offenses = []
    for name, path in runtime_files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} has a relative import"
                targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            offenses += [(name, t) for t in targets if any(t == f or t.startswith(f"{f}.") for f in forbidden)]
    assert offenses == []


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert not modules_after("import facedet_mm") & {"cv2", "onnxruntime", "scipy", "numpy", "tqdm"}
    assert not modules_after("from facedet_mm import FaceDetError, Faces") & {"cv2", "onnxruntime", "scipy", "tqdm"}


def test_asking_the_command_line_for_help_loads_no_heavy_library() -> None:
    loaded = modules_after("import facedet_mm.cli\ntry: facedet_mm.cli.main(['--help'])\nexcept SystemExit: pass")
    assert not loaded & {"cv2", "onnxruntime", "scipy"}
