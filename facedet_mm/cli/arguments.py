"""Options that every command with a detector has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Literal, cast

from facedet_mm.detectors import Detector, InputSize, InputSizes, build_detector
from facedet_mm.detectors.preprocess import check_input_size
from facedet_mm.errors import FaceDetError


def add_detector_arguments(parser: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """Declares what :func:`detector_from` reads, but for the options ``without``, which the command has itself."""
    group = parser.add_argument_group("detector")
    for flag, options in _OPTIONS.items():
        if flag not in without:
            group.add_argument(flag, **options)


def detector_from(args: argparse.Namespace) -> Detector:
    """The detector that the command line asks for; raises as ``build_detector`` does."""
    return build_detector(
        args.model,
        args.weights,
        args.device,
        args.score_thr,
        args.iou_thr,
        args.size,
        args.max_faces,
        args.tiles,
        args.threads,
        args.precision,
    )


def input_sizes(text: str) -> InputSizes:
    """One :func:`input_size`, or several with commas between, for argparse."""
    sizes = [input_size(part.strip()) for part in text.split(",")]
    return sizes[0] if len(sizes) == 1 else sizes


def input_size(text: str) -> InputSize:
    """``640``, ``640x480``, ``auto`` or ``original``, for argparse."""
    if text in ("auto", "original"):
        return cast(Literal["auto", "original"], text)
    try:
        sides = [int(side) for side in text.lower().split("x")]
        return check_input_size(sides[0] if len(sides) == 1 else tuple(sides))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a side like 640, WxH like 640x480, auto or original, not {text!r}"
        ) from None
    except FaceDetError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    return _number(text, 1.0, "from 0 to 1")


def non_negative(text: str) -> float:
    """A finite number from 0 on, for argparse."""
    return _number(text, sys.float_info.max, "from 0 on")


def _number(text: str, largest: float, span: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= largest:
        raise argparse.ArgumentTypeError(f"must be a number {span}, not {text!r}")
    return value


_OPTIONS: dict[str, dict[str, Any]] = {
    "--model": dict(
        default="yunet_n",
        metavar="M",
        help="a name of the zoo, an .onnx file or a .py config of MMDetection (default: %(default)s)",
    ),
    "--weights": dict(metavar="W", help="an .onnx or .pth file for a zoo name or config"),
    "--device": dict(
        metavar="D",
        help="cpu, openvino, cuda, cuda:1, trt (NVIDIA's TensorRT itself), tensorrt (through ONNX Runtime), coreml or "
        "directml (default: the CPU for .onnx files)",
    ),
    "--precision": dict(
        choices=("fp32", "fp16", "bf16", "int8"),
        help="of the arithmetic, for devices openvino and trt (default: what they hold for best)",
    ),
    "--threads": dict(type=positive, metavar="N", help="threads of the network (default: a core each)"),
    "--size": dict(
        type=input_sizes,
        default=640,
        metavar="S",
        help="what the network sees: a square's side, WxH, auto (as 640, with less padding: faster), original, or "
        "several with commas, as 320,640, whose faces are merged (default: %(default)s)",
    ),
    "--tiles": dict(
        type=positive,
        metavar="PIXELS",
        help="also look at overlapping tiles of this side: for tiny faces in huge images (default: none)",
    ),
    "--score-thr": dict(type=fraction, default=0.5, metavar="T", help="least score (default: %(default)s)"),
    "--iou-thr": dict(
        type=fraction,
        default=0.4,
        metavar="T",
        help="IoU above which two boxes are one face (default: %(default)s)",
    ),
    "--max-faces": dict(type=positive, metavar="N", help="give only the N faces with the best scores (default: all)"),
}
