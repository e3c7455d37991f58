"""``facedet export``: exports a checkpoint to an ONNX file and compares the file with PyTorch."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from facedet_mm.cli.arguments import fraction, input_size, positive
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line
from facedet_mm.zoo import recommended_score_thr

_EPILOG = """\
examples:
  facedet export scrfd_0.5g_kps scrfd_0.5g_kps.pth -o model.onnx
  facedet export configs/scrfd_2.5g.py epoch_640.pth -o model.onnx --kind decoded --bake-preprocessing
  facedet export scrfd_10g_kps best.pth -o model.onnx --end2end --dynamic batch --static 640x480

kinds:
  raw      scores, box distances and landmark offsets of each stride as rows, in units of the stride. This is the
           fastest kind, and the one that the insightface and uniface packages read. As in their files, there is no
           batch axis unless the batch is dynamic, which uniface does not support. A YuNet has the outputs of its
           authors' files, with a batch axis, which OpenCV's FaceDetectorYN reads.
  decoded  boxes (N, A, 4) x1 y1 x2 y2, scores (N, A) and landmarks (N, A, 5, 2) of all anchors, in input pixels.
  end2end  boxes, scores and landmarks of the K faces that remain after NMS, best first, padded with zeros, and
           num_faces (N,). Its inputs score_thr (1,), iou_thr (1,) and content_size (N, 2), the width and height of
           the images in the input, are optional.

All sizes and batch sizes are compared with PyTorch on real images; if a difference is too large, no file is left."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", metavar="CONFIG", help="a model name or a .py config of MMDetection")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the .pth checkpoint of that config")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--kind", choices=("raw", "decoded", "end2end"), default="raw", help="kind of outputs (default: %(default)s)"
    )
    kind.add_argument(
        "--end2end", action="store_const", const="end2end", dest="kind", help="the same as --kind end2end"
    )
    parser.add_argument(
        "--dynamic",
        type=_names,
        metavar="AXES",
        help="comma-separated dynamic axes, of batch, height and width (default: height,width for raw, all for the "
        "other kinds, none with --static)",
    )
    parser.add_argument("--static", type=input_size, metavar="S", help="fixed input size, 640 or WxH (default: 640)")
    parser.add_argument(
        "--bake-preprocessing",
        action="store_true",
        help="take pixels, (N, H, W, 3) uint8 BGR, and normalize in the graph",
    )
    nms = parser.add_argument_group("end2end")
    nms.add_argument(
        "--score-thr",
        type=fraction,
        metavar="T",
        help="score threshold (default: the model's own, 0.5 for configs and unknown models)",
    )
    nms.add_argument(
        "--iou-thr",
        type=fraction,
        default=0.4,
        metavar="T",
        help="IoU above which two boxes are the same face (default: %(default)s)",
    )
    nms.add_argument(
        "--max-faces", type=positive, default=2000, metavar="K", help="number of output rows (default: %(default)s)"
    )
    parser.add_argument("--license", type=str, metavar="TEXT", help="license of the weights, for the file's metadata")
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        default=(),
        metavar="IMAGE",
        help="images for the comparison (default: the sample image, with 29 faces)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit status."""
    Targets([args.config, args.checkpoint, *args.images]).add("--out", args.out)
    exporter = _exporter()
    spec = exporter.GraphSpec(
        args.kind,
        args.dynamic,
        args.static,
        baked=args.bake_preprocessing,
        score_thr=recommended_score_thr(args.config) if args.score_thr is None else args.score_thr,
        iou_thr=args.iou_thr,
        max_faces=args.max_faces,
    )
    export = exporter.export_onnx(args.config, args.checkpoint, args.out, spec, args.images, args.license)
    verification = export.verification
    cases = ", ".join(f"{batch} x {width}x{height}" for batch, (width, height) in verification.cases)
    print(f"compared with PyTorch at {cases}" + (f": {verification.faces} faces" if args.kind == "end2end" else ""))
    for name, difference in verification.differences.items():
        print(f"  {name:<10} largest difference {difference:.1e} (allowed {verification.allowed[name]:g})")
    if not export.simplified:
        print("not simplified; for a smaller graph: pip install onnxsim")
    print(f"written: {one_line(args.out)} ({export.metadata['name']}, {args.kind}, {_sides(export.spec)})")
    return 0


def _exporter() -> Any:
    """Imports the exporter of the plugin by name, because the runtime works without the plugin's packages."""
    try:
        return importlib.import_module("facedet_mm.plugin.deploy.onnx_export")
    except ImportError as error:
        raise missing_dependency("a .pth checkpoint is exported by PyTorch and MMDetection", "train", error) from error


def _sides(spec: Any) -> str:
    return " x ".join(str(side) for side in spec.input_shape)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
