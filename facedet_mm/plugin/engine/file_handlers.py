"""MMEngine's readers of pickle and YAML files, such as annotations and stored predictions: no code in them runs."""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from typing import IO, Any

import numpy as np
import torch
import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler

from facedet_mm.errors import AnnotationError
from facedet_mm.plugin.engine.loading import RUNNER_TYPES, read_file


def _encode(text: str, encoding: str) -> bytes:
    """Replaces ``_codecs.encode``, by which pickles of protocol 2 hold bytes."""
    return text.encode(encoding)


def _full_name(module: str, name: str) -> str:
    new = {"__builtin__": "builtins"}.get(module, module)  # of protocols 0 to 2
    return f"{new.replace('numpy._core', 'numpy.core')}.{name}"  # of NumPy 2 and 1


_PARTS: dict[str, Any] = {
    **{_full_name(kind.__module__, kind.__qualname__): kind for kind in RUNNER_TYPES if not isinstance(kind, tuple)},
    **{kind[1]: kind[0] for kind in RUNNER_TYPES if isinstance(kind, tuple)},
    **{f"builtins.{kind.__name__}": kind for kind in (bytearray, bytes, complex, frozenset, set)},
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    "numpy.core.numeric._frombuffer": np.ndarray(0).__reduce_ex__(5)[0],
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch.storage._load_from_bytes": lambda data: read_file(io.BytesIO(data)),
}
"""What pickles may use, by name: the same as checkpoints, and tensors as MMDetection stores predictions."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = _full_name(module, name)
        if full not in _PARTS:
            raise pickle.UnpicklingError(f"it uses {module}.{name}")
        return _PARTS[full]


class DataPickleHandler(PickleHandler):
    """Reads pickles of numbers, texts, arrays, tensors and their containers."""

    def load_from_fileobj(self, file: IO[bytes], **options: Any) -> Any:
        """Returns what an open file contains.

        Raises:
            AnnotationError: It is damaged or contains other objects, which could run code.
        """
        try:
            return _Unpickler(file, **options).load()
        except Exception as error:  # damaged pickles fail in any way
            raise _refusal(error) from error


class _Loader(yaml.SafeLoader):
    """Plain values, and tuples as MMEngine writes them."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)


class DataYamlHandler(YamlHandler):
    """Reads YAML of plain values."""

    def load_from_fileobj(self, file: IO[str], **options: Any) -> Any:
        """Returns what an open file contains.

        Raises:
            AnnotationError: It is malformed or contains other objects, which could run code.
        """
        try:
            return yaml.load(file, **{"Loader": _Loader, **options})
        except yaml.YAMLError as error:
            raise _refusal(error) from error


def _refusal(error: Exception) -> AnnotationError:
    # MMEngine's load(file), which called the handler, hands over what it has read without the name
    file = sys._getframe(2).f_locals.get("file")
    name = file if isinstance(file, str) else getattr(file, "name", "a file of objects")
    return AnnotationError(f"{name}: refused: {' '.join(str(error).split())}; a whole file of plain data was expected")


def install() -> None:
    """Makes MMEngine read pickle and YAML files with these handlers."""
    register_handler(["pickle", "pkl"])(DataPickleHandler)
    register_handler(["yaml", "yml"])(DataYamlHandler)
