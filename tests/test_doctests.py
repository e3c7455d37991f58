"""Documentation: every example of the runtime half runs, and every public name is explained."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from facedet_mm.errors import MissingDependencyError

PACKAGE = Path(__file__).resolve().parents[1] / "facedet_mm"
OPTIONAL = ("supervision", "openvino", "matplotlib", "jinja2")
"""Optional packages that modules or examples use."""
OF_GPUS = ("tensorrt", "cuda")
"""Optional packages that only modules use: their names are also words in other examples."""

WITHOUT_EXAMPLE = {
    "facedet_mm.deploy.quantization.QuantizedModel",
    "facedet_mm.evaluation.SettingResult",
    "facedet_mm.evaluation.WiderFaceResult",
    "facedet_mm.datasets.read_ground_truth",
    "facedet_mm.tracking.TrackerSettings",
}
"""Settings, results and the reader of the official files: what makes or takes them has the example."""


def runtime_modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("plugin", "configs"):
            names.append(".".join(("facedet_mm", *parts)).removesuffix(".__init__"))
    return names


def public_members(module: ModuleType) -> dict[str, Any]:
    """Functions and classes of ``module`` that do not start with an underscore."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in (*OPTIONAL, *OF_GPUS):
            pytest.skip(f"NEEDS {error.name}")
        raise


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@pytest.mark.parametrize("name", runtime_modules())
def test_every_example_runs_and_gives_what_it_says(name: str) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder().find(load(name), name):
        if all(is_installed(package) or package not in test.docstring for package in OPTIONAL):
            runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", runtime_modules())
def test_every_public_name_is_explained(name: str) -> None:
    module = load(name)
    assert module.__doc__ or not Path(str(module.__file__)).stat().st_size, f"{name} has no docstring"
    silent = []
    for member, value in public_members(module).items():
        if not inspect.getdoc(value):
            silent.append(member)
        if inspect.isclass(value):
            methods = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            silent += [
                f"{member}.{method}"
                for method, function in methods.items()
                if (inspect.isfunction(function) or isinstance(function, (classmethod, staticmethod, property)))
                and not inspect.getdoc(getattr(value, method))
            ]
    assert silent == []


def exported() -> dict[str, Any]:
    """Functions and classes in the ``__all__`` of a runtime module, by their full names."""
    members = {}
    for name in runtime_modules():
        with contextlib.suppress(ModuleNotFoundError, MissingDependencyError):  # of OPTIONAL; others fail above
            module = importlib.import_module(name)
            for member in getattr(module, "__all__", ()):
                members[f"{name}.{member}"] = getattr(module, member)
    return {name: value for name, value in members.items() if inspect.isfunction(value) or inspect.isclass(value)}


def test_every_exported_name_has_an_example() -> None:
    names = exported()
    assert {"facedet_mm.Faces", "facedet_mm.build_detector", "facedet_mm.imaging.alignment.align_faces"} <= set(names)
    without = {name for name, value in names.items() if ">>>" not in (inspect.getdoc(value) or "")}
    assert without - WITHOUT_EXAMPLE == set()


def test_every_method_of_faces_has_an_example() -> None:
    from facedet_mm import Faces

    methods = [
        name for name, value in vars(Faces).items() if not name.startswith("_") and callable(getattr(Faces, name))
    ]
    assert "to_coco" in methods
    assert [name for name in methods if ">>>" not in (inspect.getdoc(getattr(Faces, name)) or "")] == []
