"""``facedet export``: a checkpoint to an ONNX file that is known to do what PyTorch does."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from facedet_mm.cli.arguments import fraction, input_size, positive
from facedet_mm.system.dependencies import missing_dependency

_EPILOG = """\
examples:
  facedet export scrfd_0.5g_kps scrfd_0.5g_kps.pth -o model.onnx
  facedet export configs/scrfd_2.5g.py epoch_640.pth -o model.onnx --kind decoded --bake-preprocessing
  facedet export scrfd_10g_kps best.pth -o model.onnx --end2end --dynamic batch --static 640x480

kinds:
  raw      scores, box distances and landmark offsets of each stride as rows, in units of the stride: what the
           insightface and uniface packages read, and fastest. Without a batch axis as in their files, unless the
           batch is dynamic, which uniface does not read.
  decoded  boxes (N, A, 4) x1 y1 x2 y2, scores (N, A) and landmarks (N, A, 5, 2) of all anchors, in input pixels.
  end2end  the same of the K faces that NMS leaves, best first, padded with zeros, and num_faces (N,). Its inputs
           score_thr (1,), iou_thr (1,) and content_size (N, 2), width and height of the images in the input, may
           be left out.

All sizes and batches are compared with PyTorch on real images; if a difference is too large, no file is left."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", metavar="CONFIG", help="a name of the zoo or a .py config of MMDetection")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .pth file made for that config")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--kind", choices=("raw", "decoded", "end2end"), default="raw", help="what the outputs are (default: raw)"
    )
    kind.add_argument(
        "--end2end", action="store_const", const="end2end", dest="kind", help="the same as --kind end2end"
    )
    parser.add_argument(
        "--dynamic",
        type=_names,
        metavar="AXES",
        help="which of batch, height and width are free, with commas (default: height,width for raw, all otherwise; "
        "none with --static)",
    )
    parser.add_argument(
        "--static", type=input_size, metavar="S", help="the size where it is not free, 640 or WxH (default: 640)"
    )
    parser.add_argument(
        "--bake-preprocessing", action="store_true", help="take pixels, (N, H, W, 3) uint8 BGR, and normalize inside"
    )
    nms = parser.add_argument_group("end2end")
    nms.add_argument("--score-thr", type=fraction, default=0.5, metavar="T", help="least score (default: %(default)s)")
    nms.add_argument(
        "--iou-thr",
        type=fraction,
        default=0.4,
        metavar="T",
        help="IoU above which two boxes are one face (default: %(default)s)",
    )
    nms.add_argument("--max-faces", type=positive, default=2000, metavar="K", help="rows (default: %(default)s)")
    parser.add_argument("--license", metavar="TEXT", help="of the weights, for the file's metadata")
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        default=(),
        metavar="IMAGE",
        help="compare on these (default: one of 29 faces)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; gives the exit status."""
    exporter = _exporter()
    spec = exporter.GraphSpec(
        args.kind,
        args.dynamic,
        args.static,
        baked=args.bake_preprocessing,
        score_thr=args.score_thr,
        iou_thr=args.iou_thr,
        max_faces=args.max_faces,
    )
    export = exporter.export_onnx(args.config, args.checkpoint, args.out, spec, args.images, args.license)
    cases = ", ".join(f"{batch} x {width}x{height}" for batch, (width, height) in export.check.cases)
    print(f"compared with PyTorch at {cases}" + (f": {export.check.faces} faces" if args.kind == "end2end" else ""))
    for name, difference in export.check.differences.items():
        print(f"  {name:<10} largest difference {difference:.1e} (allowed {export.check.allowed[name]:g})")
    if not export.simplified:
        print("not simplified: pip install onnxsim for a smaller graph")
    print(f"written: {args.out} ({export.metadata['name']}, {args.kind}, {_sides(spec)})")
    return 0


def _exporter() -> Any:
    """The way from the runtime into the training half: by name, and only when asked for."""
    try:
        return importlib.import_module("facedet_mm.plugin.deploy.onnx_export")
    except ImportError as error:
        raise missing_dependency("a .pth checkpoint is exported by PyTorch and MMDetection", "train", error) from error


def _sides(spec: Any) -> str:
    return " x ".join(str(side) for side in spec.input_shape)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
