"""Checks that the installed TensorRT and cuda-python have everything that the package uses; needs no GPU.

If only TensorRT's bindings are installed (a package of a megabyte, ``pip install tensorrt-cu13-bindings``), they are
loaded over stub libraries, which are compiled with cc: names, enums and signatures are in the bindings.

Example:
    python tools/analysis/check_tensorrt_api.py
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TENSORRT = {
    "ILogger": {"__init__": (), "log": ("severity", "msg")},
    "Builder": {
        "__init__": ("logger",),
        "create_network": ("flags",),
        "create_builder_config": (),
        "create_optimization_profile": (),
        "build_serialized_network": ("network", "config"),
    },
    "OnnxParser": {"__init__": ("network", "logger"), "parse": ("model",), "num_errors": None, "get_error": ("index",)},
    "ParserError": {"desc": (), "node": (), "node_name": ()},
    "IBuilderConfig": {
        "clear_flag": ("flag",),
        "add_optimization_profile": ("profile",),
        "create_timing_cache": ("serialized_timing_cache",),
        "set_timing_cache": ("cache", "ignore_mismatch"),
    },
    "ITimingCache": {"serialize": ()},
    "IOptimizationProfile": {"set_shape": ("input", "min", "opt", "max")},
    "Runtime": {"__init__": ("logger",), "deserialize_cuda_engine": ("serialized_engine",)},
    "ICudaEngine": {
        "num_io_tensors": None,
        "get_tensor_name": ("index",),
        "get_tensor_mode": ("name",),
        "get_tensor_shape": ("name",),
        "get_tensor_dtype": ("name",),
        "create_execution_context": (),
    },
    "IExecutionContext": {
        "set_input_shape": ("name", "shape"),
        "get_tensor_shape": ("name",),
        "set_tensor_address": ("name", "memory"),
        "execute_async_v3": ("stream_handle",),
    },
}
"""What facedet_mm.detectors.tensorrt uses: class → method → its first parameters, or ``None`` for an attribute."""

ENUMS = {
    "BuilderFlag": ("TF32",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "TensorIOMode": ("OUTPUT",),
    "ILogger.Severity": ("ERROR", "INTERNAL_ERROR"),
}
FUNCTIONS = {"nptype": ("trt_type",)}

CUDA = {
    "cudaGetDeviceCount": (),
    "cudaGetDeviceProperties": ("device",),
    "cudaSetDevice": ("device",),
    "cudaGetErrorString": ("error",),
    "cudaMalloc": ("size",),
    "cudaFree": ("devPtr",),
    "cudaMemcpyAsync": ("dst", "src", "count", "kind", "stream"),
    "cudaStreamCreate": (),
    "cudaStreamSynchronize": ("stream",),
    "cudaStreamDestroy": ("stream",),
}
CUDA_ENUMS = {
    "cudaError_t": ("cudaSuccess", "cudaErrorMemoryAllocation"),
    "cudaMemcpyKind": ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"),
}
CUDA_ATTRIBUTES = {"cudaDeviceProp": ("name", "major", "minor")}

_STUBS = """
void* createInferBuilder_INTERNAL(void* l, int v) { return 0; }
void* createInferRefitter_INTERNAL(void* e, void* l, int v) { return 0; }
void* createInferRuntime_INTERNAL(void* l, int v) { return 0; }
void* createNvOnnxParserRefitter_INTERNAL(void* r, void* l, int v) { return 0; }
void* createNvOnnxParser_INTERNAL(void* n, void* l, int v) { return 0; }
void* getBuilderPluginRegistry(int c) { return 0; }
void* getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void* l, const char* n) { return 1; }
"""


def main() -> int:
    """Prints what is missing or different, and returns 1 if anything is."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    try:
        trt, cudart = load_tensorrt(), importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        print(f"pip install tensorrt cuda-python, or tensorrt-cu13-bindings cuda-python ({error})", file=sys.stderr)
        return 1
    problems = [*tensorrt_problems(trt), *cuda_problems(cudart)]
    print("\n".join(problems) or "nothing is missing")
    print(f"TensorRT {trt.__version__}, cuda-python {importlib.import_module('cuda.bindings').__version__}")
    return bool(problems)


def load_tensorrt() -> ModuleType:
    """Returns TensorRT, or its bindings over stub libraries.

    Raises:
        ImportError: Neither is installed, or there is no C compiler.
    """
    if importlib.util.find_spec("tensorrt"):
        return importlib.import_module("tensorrt")
    spec = importlib.util.find_spec("tensorrt_bindings")
    if spec is None or spec.origin is None:
        raise ImportError("neither tensorrt nor its bindings are installed")
    with tempfile.TemporaryDirectory() as folder:
        for name in _needed(Path(spec.origin).with_name("tensorrt.so")):
            ctypes.CDLL(str(_compile_stubs(Path(folder), name)), ctypes.RTLD_GLOBAL)
        return importlib.import_module("tensorrt_bindings")


def tensorrt_problems(trt: Any) -> Iterator[str]:
    """Yields the entries of the tables that a TensorRT module lacks or defines differently."""
    for cls, members in TENSORRT.items():
        for member, parameters in members.items():
            yield from _problems(trt, f"{cls}.{member}", parameters)
    for function, parameters in FUNCTIONS.items():
        yield from _problems(trt, function, parameters)
    yield from _missing(trt, ENUMS)


def cuda_problems(cudart: Any) -> Iterator[str]:
    """Yields the entries of the tables that a ``cuda.bindings.runtime`` lacks or defines differently."""
    for function, parameters in CUDA.items():
        yield from _problems(cudart, function, parameters)
    yield from _missing(cudart, {**CUDA_ENUMS, **CUDA_ATTRIBUTES})


def _problems(module: Any, name: str, parameters: tuple[str, ...] | None) -> Iterator[str]:
    member = _member(module, name)
    if member is None:
        yield f"{name} is missing"
    elif parameters is not None and not any(taken[: len(parameters)] == parameters for taken in _signatures(member)):
        yield f"{name} takes {' or '.join(map(str, _signatures(member)))}, not {parameters}"


def _missing(module: Any, table: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for owner, names in table.items():
        yield from (f"{owner}.{name} is missing" for name in names if _member(module, f"{owner}.{name}") is None)


def _member(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _signatures(function: Any) -> list[tuple[str, ...]]:
    """Returns the parameters of each overload without ``self``, from the code or the docstring's first lines."""
    if hasattr(function, "__code__"):
        names = [function.__code__.co_varnames[: function.__code__.co_argcount]]
    else:
        lines = re.findall(rf"(?:^|\d\. ){function.__name__}\((.*?)\)(?: ->|$)", function.__doc__ or "", re.MULTILINE)
        names = [tuple(_parameter(part) for part in line.split(", ") if part) for line in lines]
    return [tuple(name for name in parameters if name != "self") for parameters in names]


def _parameter(text: str) -> str:
    """Returns the name in ``'flags: int = 0'`` or ``'size_t count'``."""
    return text.partition(":")[0].partition("=")[0].split()[-1]


def _needed(library: Path) -> list[str]:
    return sorted(
        {
            name.decode()
            for name in re.findall(rb"libnv(?:infer|infer_plugin|onnxparser)\.so\.\d+", library.read_bytes())
        }
    )


def _compile_stubs(folder: Path, name: str) -> Path:
    source = folder / "stubs.c"
    source.write_text(_STUBS, encoding="utf-8")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", source, "-o", folder / name], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImportError(f"a C compiler is needed for the stub libraries: {error}") from error
    return folder / name


if __name__ == "__main__":
    sys.exit(main())
