"""``DetectorOptions``: every setting of a detector, with its check and help text."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from facedet_mm.detectors.preprocess import InputSize, check_input_size
from facedet_mm.detectors.presets import PRESETS, settings_of
from facedet_mm.detectors.views import check_tiles
from facedet_mm.errors import FaceDetError
from facedet_mm.system.settings import FLAG, FRACTION, NUMBER, POSITIVE, Kind, Settings, document, one_of, setting

InputSizes: TypeAlias = InputSize | list[InputSize]
"""One :data:`InputSize`, or a list of them: the image is searched at each size and the faces are merged."""

Rotations: TypeAlias = Literal["auto"] | tuple[float, ...]
"""Degrees, counterclockwise, by which an image is turned for the search, or ``'auto'``."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_MAX_THREADS = 1024
_CLI_DIVISOR = 32
"""Sides on the command line are multiples of this, the divisor of nearly all models."""


def parse_input_size(text: str) -> InputSize:
    """Reads ``640``, ``640x480``, ``auto`` or ``original``.

    Raises:
        ValueError: The text is none of these.
        FaceDetError: A side is not a positive multiple of 32.
    """
    text = text.strip()
    return check_input_size(text if text in ("auto", "original") else _parse_sides(text), _CLI_DIVISOR)


def _parse_input_sizes(text: str) -> InputSizes:
    sizes = [parse_input_size(part) for part in text.split(",")]
    return sizes[0] if len(sizes) == 1 else sizes


def _parse_sides(text: str) -> int | tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().split("x"))
    return sides[0] if len(sides) == 1 else sides


def _check_input_sizes(sizes: Any) -> InputSizes:
    if not isinstance(sizes, list):
        return check_input_size(sizes, 1)
    if not sizes:
        raise FaceDetError("input_size is an empty list; give at least one size")
    return [check_input_size(size, 1) for size in sizes]


def _check_threads(threads: Any) -> int:
    number: int = POSITIVE.check(threads)
    if number > _MAX_THREADS:
        raise ValueError
    return number


def _parse_rotations(text: str) -> Rotations:
    return "auto" if text.strip() == "auto" else tuple(float(part) for part in text.split(","))


def _check_rotations(value: Any) -> Rotations:
    if value == "auto":
        return "auto"
    angles = value if isinstance(value, (list, tuple)) else [value]
    checked = tuple(dict.fromkeys(NUMBER.check(angle) % 360.0 % 360.0 for angle in angles))
    if not checked:
        raise ValueError
    return checked


_ROTATIONS = Kind("auto, or degrees such as 0,90,180,270", _parse_rotations, _check_rotations)
INPUT_SIZE = Kind("a side like 640, WxH like 640x480, auto or original", parse_input_size, check_input_size)
_INPUT_SIZES = Kind(INPUT_SIZE.expected, _parse_input_sizes, _check_input_sizes)
_THREADS = Kind(f"a whole number from 1 to {_MAX_THREADS}", int, _check_threads)
_TILES = Kind("a side like 640 or WxH like 800x600", _parse_sides, check_tiles)


@document
@dataclass(frozen=True)
class DetectorOptions(Settings):
    """Settings of a detector: what :func:`~facedet_mm.detectors.build_detector` and ``facedet detect`` take.

    Raises:
        FaceDetError: A value is out of range or of the wrong type.

    Example:
        >>> DetectorOptions(input_size=[320, 640], tiles=800).tiles
        (800, 800)
    """

    model: str | os.PathLike[str] = field(
        default="yunet_n",
        metadata=setting("Model name, .onnx file or .py config of MMDetection", metavar="M", fixed=True),
    )
    weights: str | os.PathLike[str] | None = field(
        default=None,
        metadata=setting(
            "Weights for a config or for a model name without bundled weights: an .onnx or .pth file",
            metavar="W",
            default_help="the model's own weights",
            fixed=True,
        ),
    )
    device: str | None = field(
        default=None,
        metadata=setting(
            "Device: auto (the fastest that is installed), cpu, openvino (the fastest on most CPUs; openvino:gpu for a "
            "GPU), cuda, cuda:1, tensorrt, tensorrt:1, coreml or directml; PyTorch's own names for .pth files",
            metavar="D",
            default_help="the CPU for .onnx files and the best device for .pth files",
            fixed=True,
        ),
    )
    score_thr: float | None = field(
        default=None,
        metadata=setting(
            "Score above which a face is returned",
            FRACTION,
            metavar="T",
            default_help="the model's own, at which 95 percent of its faces are real; 0.5 for unknown files",
        ),
    )
    iou_thr: float = field(
        default=0.4,
        metadata=setting(
            "IoU above which two boxes are the same face, so that the one with the lower score is dropped",
            FRACTION,
            metavar="T",
        ),
    )
    input_size: InputSizes = field(
        default=None,  # type: ignore[arg-type]
        metadata=setting(
            "Size of the image for the network: the side of a square, WxH, auto (like 640 but with less padding, so "
            "faster), original (not resized), or several sizes, such as 320,640, whose faces are merged",
            _INPUT_SIZES,
            metavar="S",
            default_help="640, auto in videos, or the sizes of the preset",
            flag="--size",
        ),
    )
    max_faces: int | None = field(
        default=None,
        metadata=setting(
            "Largest number of faces per image; the best scores are kept",
            POSITIVE,
            metavar="N",
            default_help="all faces",
        ),
    )
    tiles: int | tuple[int, int] | None = field(
        default=None,
        metadata=setting(
            "Also search overlapping tiles of this side, or WxH, in pixels of the image; finds tiny faces in huge "
            "images",
            _TILES,
            metavar="PIXELS",
            default_help="no tiles",
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=setting(
            "Number of CPU threads of the network, for .onnx files",
            _THREADS,
            metavar="N",
            default_help="one thread per core",
            fixed=True,
        ),
    )
    precision: str | None = field(
        default=None,
        metadata=setting(
            "Precision of the arithmetic: fp32, fp16 or bf16 on openvino; fp32, fp16 or int8 on tensorrt",
            one_of(*PRECISIONS),
            choices=PRECISIONS,
            default_help="the backend's choice",
            fixed=True,
        ),
    )
    close_ups: bool = field(
        default=True,
        metadata=setting("Second look at a small view for faces that fill the image", FLAG),
    )
    rotations: Rotations = field(
        default=(0.0,),
        metadata=setting(
            "Degrees, counterclockwise, by which the image is turned for the search, such as 0,90,180,270; auto looks "
            "for turned faces at low resolution first",
            _ROTATIONS,
            metavar="DEGREES",
            default_help="0",
        ),
    )
    mirror: bool = field(
        default=False,
        metadata=setting(
            "Search of the mirrored image besides; the score of a face is the mean of its two best looks, so false "
            "alarms get lower ones",
            FLAG,
        ),
    )
    preset: str | None = field(
        default=None,
        metadata=setting(
            "Speed or accuracy without thinking: fast (one look), balanced (two sizes, 5 times the time) or accurate "
            "(four sizes and their mirror images, 30 times the time); sets the input size",
            one_of(*PRESETS),
            choices=tuple(PRESETS),
            default_help="fast, with the input size above",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        of_preset = settings_of(self.preset) if self.preset else {}
        sizes = of_preset.pop("input_size", 640)
        if self.preset and self.input_size not in (None, sizes):
            message = f"preset {self.preset!r} has its own input sizes"
            raise FaceDetError(f"{message}: leave the preset or input_size={self.input_size!r} out")
        if self.input_size is None:
            object.__setattr__(self, "input_size", sizes)
        for name, value in of_preset.items():
            object.__setattr__(self, name, value)
