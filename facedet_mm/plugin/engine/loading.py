"""The one place where files reach ``torch.load``: no code runs, and what comes out are sound weights.

Importing it makes MMEngine read its checkpoints here too, whichever setting names them: ``load_from``, ``resume``,
the ``last_checkpoint`` file, ``init_cfg`` of a model or backbone, hooks, teachers, addresses and model zoos.
"""

from __future__ import annotations

import importlib
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlsplit

import mmengine.runner.checkpoint
import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

from facedet_mm.errors import ModelError
from facedet_mm.plugin.engine.official_layout import has_official_layout, rename_state

MAX_EXPANSION = 20
"""Largest allowed ratio of a file's content to its size; PyTorch does not compress, so only bombs reach it."""
FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGER_TYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_MAGIC = (b"PK", b"\x80\x02")
"""First bytes of PyTorch files: a zip archive, or a pickle in the old format."""


def _log_getattr(value: Any, name: str) -> Any:
    """Replaces ``getattr`` in checkpoints: mmengine's log history uses it to refer to its own methods."""
    if value is not HistoryBuffer and not isinstance(value, HistoryBuffer):
        raise UnpicklingError(f"Unsupported getattr({type(value).__name__}, {name!r})")
    return getattr(value, name)


_multiarray = importlib.import_module("numpy.core.multiarray" if np.__version__ < "2" else "numpy._core.multiarray")
# mmengine's Runner stores the log history, with NumPy values in it, in addition to tensors
RUNNER_TYPES: list[Any] = [
    HistoryBuffer,
    (_log_getattr, "builtins.getattr"),
    slice,
    np.ndarray,
    np.dtype,
    _multiarray._reconstruct,
    _multiarray.scalar,
    *(type(np.dtype(name)) for name in ("int64", "int32", "uint8", "uint32", "float32", "float64", "bool")),
]


def read_file(file: Any, map_location: Any = "cpu") -> Any:
    """Returns the content of a PyTorch file; with ``weights_only=True``, so files that contain code are refused.

    Args:
        file: Path, or an open binary file.
        map_location: Where the tensors go, as for :func:`torch.load`.

    Raises:
        ModelError: The file is missing, not a PyTorch file, truncated, much larger unpacked, or contains objects other
            than tensors and numbers.
    """
    is_path = isinstance(file, (str, os.PathLike))
    name = os.fspath(file) if is_path else str(getattr(file, "name", "checkpoint"))
    if is_path:
        _check_head(Path(file))
    try:
        with torch.serialization.safe_globals(RUNNER_TYPES):
            return torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it uses {wanted[1]}" if wanted else "it contains other objects"
        raise ModelError(f"{name}: refused: {reason}; a checkpoint with nothing but weights was expected") from error
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]
        raise ModelError(f"{name}: cannot be read as a PyTorch checkpoint; is it complete? ({reason})") from error


def _check_head(path: Path) -> None:
    """Checks, before anything is unpacked, that a file looks like one of PyTorch's and how large its content is."""
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint")
    if path.suffix == ".safetensors":  # holds nothing but tensors
        return
    with path.open("rb") as file:
        head = file.read(2)
    if head not in _MAGIC:
        what = "the file is empty" if not head else "not a PyTorch file"
        raise ModelError(f"{path}: {what}; a checkpoint with a 'state_dict' was expected")
    if head == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ModelError(f"{path}: cannot be read as a PyTorch checkpoint; is it complete? ({error})") from error
        if unpacked > MAX_EXPANSION * path.stat().st_size:
            raise ModelError(
                f"{path}: refused: its {path.stat().st_size:,} bytes unpack to {unpacked:,}; "
                "save it again with torch.save, which does not compress"
            )


def check_tensors(state: Mapping[Any, Any], name: str) -> None:
    """Checks that weights are plain tensors of finite numbers under names.

    Args:
        state: Weights by name.
        name: File name used in error messages.

    Raises:
        ModelError: A name is not a string, or a tensor has no values, is sparse, quantized or of an unusual type,
            claims more values than the file holds, or has a value that is NaN, infinite or an impossible variance.
    """
    for key, value in state.items():
        if not isinstance(key, str):
            raise ModelError(f"{name}: contains no weights: a tensor is named {key!r}, names must be strings")
        if problem := _problem(key, value):
            raise ModelError(f"{name}: {key} {problem}; was the file damaged, or saved from a failed training?")


def _problem(key: str, value: Any) -> str | None:
    if not isinstance(value, torch.Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    if value.device.type == "meta":
        return "has a shape but no values (a 'meta' tensor)"
    if value.is_quantized:
        return f"is quantized ({value.dtype}); weights in floating point were expected"
    if value.layout != torch.strided or value.is_nested:
        return f"is not a dense tensor ({value.layout})"
    if value.dtype not in FLOAT_TYPES + _INTEGER_TYPES:
        return f"has the type {value.dtype}; float32 was expected"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"claims {value.numel():,} values, more than the file holds"
    if value.dtype in FLOAT_TYPES:
        if not torch.isfinite(value.float()).all():
            return "has values that are NaN, infinite or too large for float32"
        if key.endswith("running_var") and (value < 0).any():
            return "has negative values, which no variance has"
    return None


def read_for_runner(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Reads a checkpoint for MMEngine: safely, checked, and with the SCRFD authors' weights under this project's names.

    Args:
        file: Path, or an open binary file.
        map_location: Where the tensors go, as for :func:`torch.load`.
        weights_only: Not used: code never runs.

    Raises:
        ModelError: The file can't be read, is unsafe, or its weights are not sound.
    """
    del weights_only
    checkpoint = read_file(file, map_location)
    name = str(file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "checkpoint"))
    if not isinstance(checkpoint, dict):
        raise ModelError(f"{name}: a checkpoint with a 'state_dict' was expected, not {type(checkpoint).__name__}")
    wrapped = isinstance(checkpoint.get("state_dict"), dict)
    state = checkpoint["state_dict"] if wrapped else checkpoint
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    average = checkpoint.get("ema_state_dict")
    for weights in (tensors, average if isinstance(average, dict) else {}):
        check_tensors(weights, name)
    if has_official_layout(tensors):
        print_log(f"{name} has the layout of the SCRFD authors' code; its tensors are renamed", logger="current")
        state = rename_state(state)
        checkpoint = {**checkpoint, "state_dict": state} if wrapped else state
    return checkpoint


def _read_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> Any:
    """Replaces ``load_url``, which by default runs the code in what it downloads."""
    folder = Path(model_dir or Path(torch.hub.get_dir()) / "checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / Path(urlsplit(url).path).name
    if not file.exists():
        torch.hub.download_url_to_file(url, str(file), progress=progress)
    return read_for_runner(file, map_location)


def install() -> None:
    """Makes all of MMEngine's checkpoint loaders read files with :func:`read_for_runner`."""
    for name, reader in (("_safe_torch_load", read_for_runner), ("load_url", _read_url)):
        if not hasattr(mmengine.runner.checkpoint, name):
            raise ModelError(
                f"this version of MMEngine ({mmengine.__version__}) loads checkpoints in another way ({name} is gone), "
                "so they could run code: install onedl-mmengine 0.10.9 or a newer one that this project supports"
            )
        setattr(mmengine.runner.checkpoint, name, reader)
