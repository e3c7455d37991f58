"""Converts official SCRFD weights into a checkpoint for this project's configs, and checks the result.

SRC is the authors' .pth (MMDetection 2.7 layout) or any published SCRFD .onnx. Its shapes tell which of the eight
models it is. The tool runs source and result on an image and prints the largest differences.

Example:
    python tools/convert_insightface.py scrfd_500m_bnkps.pth scrfd_0.5g_kps.pth --reference scrfd_500m_bnkps.onnx
    python tools/convert_insightface.py det_10g.onnx scrfd_10g_kps.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.io.images import read_image
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.zoo import asset_path


def main() -> int:
    """Converts one file of weights."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="official weights, .pth or .onnx")
    parser.add_argument("dst", type=Path, help="checkpoint to write, .pth")
    parser.add_argument(
        "--reference", type=Path, help="ONNX file of the same model to compare with (default: SRC if it is ONNX)"
    )
    parser.add_argument("--image", type=Path, default=asset_path("solvay_1927.jpg"), help="image for the comparison")
    args = parser.parse_args()
    image = read_image(args.image)
    try:
        from facedet_mm.plugin.apis.convert import TOLERANCE, convert
    except ModuleNotFoundError as error:
        raise missing_dependency("reading checkpoints needs PyTorch and MMDetection", "train", error) from error

    result = convert(args.src, args.dst, image, args.reference)
    print(f"{args.src.name}: {result.model}")
    for kind, difference in result.differences.items():
        print(f"  largest difference of {kind}: {difference:.2e} (allowed {TOLERANCE:g})")
    if not result.differences:
        print("  not compared: pass --reference with an ONNX file of the same model to compare the outputs")
    print(f"  {result.faces} faces in {args.image.name} at score 0.5")
    print(f"written: {args.dst}; loads with configs/{result.model}.py")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, "convert_insightface"))
