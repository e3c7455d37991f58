"""The wall: nothing outside ``facedet_mm/plugin`` imports torch or MMDetection, and importing the package is cheap."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

BEHIND_THE_WALL = ("facedet_mm.plugin", "torch", "mmengine", "mmcv", "mmdet", "mmdeploy")


@pytest.fixture(scope="module")
def runtime_files(root: Path) -> dict[str, Path]:
    """The file of every module of the runtime by its dotted name."""
    files = {}
    for path in sorted((root / "facedet_mm").rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if not behind_the_wall([name]) and not name.startswith("facedet_mm.configs."):
            files[name] = path
    return files


def behind_the_wall(names: Iterable[str]) -> set[str]:
    """Returns those of ``names`` that the runtime must not import."""
    return {name for name in names if any(f"{name}.".startswith(f"{package}.") for package in BEHIND_THE_WALL)}


def modules_after(code: str) -> set[str]:
    """Returns the names in ``sys.modules`` after ``code`` has run in a fresh interpreter."""
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
    assert behind_the_wall(loaded) == set()


def test_detecting_loads_nothing_of_the_training_stack() -> None:
    loaded = modules_after(
        "from facedet_mm import build_detector\nfrom facedet_mm.zoo import asset_path\n"
        "build_detector().detect(asset_path('solvay_1927.jpg'))"
    )
    assert "onnxruntime" in loaded
    assert behind_the_wall(loaded) == set()


def test_no_runtime_module_imports_the_plugin_or_the_training_stack(runtime_files: dict[str, Path]) -> None:
    offenses = []
    for name, path in runtime_files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} has a relative import"
                targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            offenses += [(name, target) for target in behind_the_wall(targets)]
    assert offenses == []


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert not modules_after("import facedet_mm") & {"cv2", "onnxruntime", "scipy", "numpy", "tqdm"}
    assert not modules_after("from facedet_mm import FaceDetError, Faces") & {"cv2", "onnxruntime", "scipy", "tqdm"}


def test_asking_the_command_line_for_help_loads_no_heavy_library() -> None:
    loaded = modules_after("import facedet_mm.cli\ntry: facedet_mm.cli.main(['--help'])\nexcept SystemExit: pass")
    assert not loaded & {"cv2", "onnxruntime", "scipy"}
