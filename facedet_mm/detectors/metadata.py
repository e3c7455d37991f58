"""The metadata of model files, checked like any input: they come from strangers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

_MAX_LENGTH = 1 << 16
_MAX_STRIDE = 1024
_MAX_LEVELS = 8
_MAX_MEAN = 1e4
_MIN_STD, _MAX_STD = 1e-4, 1e4


def read_metadata(text: str) -> dict[str, Any]:
    """Reads and checks the JSON that a model file has under the key ``facedet_mm``.

    Raises:
        ValueError: It is not a JSON object, or an entry that the detectors use is of another kind or out of range.

    Example:
        >>> read_metadata('{"strides": [8, 16, 32], "name": "mine"}')["strides"]
        [8, 16, 32]
        >>> read_metadata('{"strides": [-8]}')
        Traceback (most recent call last):
        ValueError: 'strides' is [-8], not 1 to 8 ascending whole numbers from 1 to 1024
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"it has {len(text)} characters, more than {_MAX_LENGTH}")
    try:
        metadata = json.loads(text or "{}")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"it is a {type(metadata).__name__}, not a JSON object")
    for key, (expected, fits) in _ENTRIES.items():
        if key in metadata and not fits(metadata[key]):
            raise ValueError(f"{key!r} is {_short(metadata[key])}, not {expected}")
    given = [key for key in ("mean", "std", "to_rgb") if key in metadata]
    if 0 < len(given) < 3:
        raise ValueError(f"it has {' and '.join(given)}, but mean, std and to_rgb belong together")
    return metadata


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _three(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == 3 and all(_number(v, low, high) for v in value)


def _are_strides(value: Any) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_LEVELS:
        return False
    whole = all(isinstance(stride, int) and _number(stride, 1, _MAX_STRIDE) for stride in value)
    return whole and value == sorted(set(value))


def _short(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 99:  # its digits may be more than Python prints
        return f"a number of about {value.bit_length() * math.log10(2):.0f} digits"
    try:
        text = json.dumps(value)
    except ValueError:
        return "a huge number"
    return text if len(text) <= 60 else f"{text[:60]}…"


_FRACTION = ("a number from 0 to 1", lambda value: _number(value, 0, 1))
_ENTRIES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layout": ("'scrfd' or 'yunet'", lambda value: value in ("scrfd", "yunet")),
    "strides": (f"1 to {_MAX_LEVELS} ascending whole numbers from 1 to {_MAX_STRIDE}", _are_strides),
    "mean": (f"three numbers from {-_MAX_MEAN:g} to {_MAX_MEAN:g}", _three(-_MAX_MEAN, _MAX_MEAN)),
    "std": (f"three numbers from {_MIN_STD:g} to {_MAX_STD:g}", _three(_MIN_STD, _MAX_STD)),
    "to_rgb": ("true or false", lambda value: isinstance(value, bool)),
    "score_thr": _FRACTION,
    "iou_thr": _FRACTION,
}
