"""Compiles an ONNX file for TensorRT on this machine's GPU, ahead of the first detection, and checks the engine.

The engine is saved in the cache folder ($FACEDET_HOME), where device 'tensorrt' finds it. Without --min, --opt and
--max it is the engine that build_detector(MODEL, device='tensorrt', input_size=SIZE) uses.

Example:
    python tools/build_engine.py scrfd_2.5g.onnx
    python tools/build_engine.py scrfd_2.5g.onnx --precision fp32 --min 1x320x320 --opt 1x640x640 --max 8x1280x1280
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.system.dependencies import missing_dependency


def main() -> int:
    """Builds one engine."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an SCRFD or YuNet .onnx file")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), help="precision (default: fp16, or int8 for a quantized file)"
    )
    parser.add_argument("--size", type=int, default=640, help="side of the square input (default: %(default)s)")
    for name, text in (("min", "smallest input"), ("opt", "input to tune for"), ("max", "largest input")):
        parser.add_argument(f"--{name}", type=_shape, metavar="BATCHxHEIGHTxWIDTH", help=text)
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU (default: %(default)s)")
    parser.add_argument("--image", type=Path, help="image to check the engine on (default: the sample image)")
    args = parser.parse_args()
    given = (args.min, args.opt, args.max)
    if any(given) and not all(given):
        parser.error("--min, --opt and --max go together")
    return guard(
        lambda: _build(args.model, args.precision, given if all(given) else None, args.gpu, args.image, args.size),
        parser.prog,
    )


def _build(
    model: Path,
    precision: str | None,
    shapes: tuple[tuple[int, ...], ...] | None,
    gpu: int,
    image: Path | None,
    size: int,
) -> int:
    try:
        from facedet_mm.deploy.tensorrt import build_engine
        from facedet_mm.detectors.tensorrt import ShapeRange
    except ImportError as error:
        raise missing_dependency("engines are built by TensorRT", "tensorrt", error) from error
    report = build_engine(model, precision, ShapeRange(*shapes) if shapes else None, gpu, image, size)
    print(f"{report.path} ({report.precision}; {report.shapes}; {report.seconds:.1f} s)")
    print(f"{report.faces} faces in the image, the same as in ONNX Runtime; largest differences:")
    print(f"  scores {report.differences['scores']:.1e}, boxes {report.differences['boxes']:.2f} pixels")
    return 0


def _shape(text: str) -> tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().split("x"))
    if len(sides) != 3:
        raise argparse.ArgumentTypeError(f"expected BATCHxHEIGHTxWIDTH, such as 8x640x640, not {text}")
    return sides


if __name__ == "__main__":
    sys.exit(main())
