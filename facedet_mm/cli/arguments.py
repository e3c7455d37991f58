"""Options that every command with a detector has."""

from __future__ import annotations

import argparse
from typing import Literal, cast

from facedet_mm.detectors import Detector, InputSize, build_detector
from facedet_mm.detectors.letterbox import check_input_size
from facedet_mm.errors import FaceDetError


def add_detector_arguments(parser: argparse.ArgumentParser, score_thr: float = 0.5, iou_thr: float = 0.4) -> None:
    """Declares what :func:`detector_from` reads; the two thresholds are the command's defaults."""
    group = parser.add_argument_group("detector")
    group.add_argument(
        "--model",
        default="yunet_n",
        metavar="M",
        help="a name of the zoo, an .onnx file or a .py config of MMDetection (default: %(default)s)",
    )
    group.add_argument("--weights", metavar="W", help="an .onnx or .pth file for a zoo name or config")
    group.add_argument("--device", metavar="D", help="cpu, cuda or cuda:1 (default: the CPU for .onnx files)")
    group.add_argument(
        "--size",
        type=input_size,
        default=640,
        metavar="S",
        help="what the network sees: a square's side, WxH, auto (as 640, with less padding: faster) or original "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--score-thr", type=fraction, default=score_thr, metavar="T", help="least score (default: %(default)s)"
    )
    group.add_argument(
        "--iou-thr",
        type=fraction,
        default=iou_thr,
        metavar="T",
        help="IoU above which two boxes are one face (default: %(default)s)",
    )


def detector_from(args: argparse.Namespace) -> Detector:
    """The detector that the command line asks for; raises as ``build_detector`` does."""
    return build_detector(args.model, args.weights, args.device, args.score_thr, args.iou_thr, args.size)


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


def fraction(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return value
