"""Detects faces in the WIDER FACE images and writes a submission folder for ``facedet eval``.

It calls ``facedet detect IMAGES --recursive --quiet --wider OUT --score-thr 0.02 --iou-thr 0.45`` and passes all other
options on.

Example:
    python tools/wider_predict.py --model yunet_n --images data/wider_face/WIDER_val/images --out outputs/wider
    facedet eval outputs/wider data/wider_face/ground_truth
"""

from __future__ import annotations

import argparse
import sys

from facedet_mm.cli import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, metavar="DIR", help="folder with <event>/<image>.jpg")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for <event>/<image>.txt")
    args, options = parser.parse_known_args()
    fixed = ["detect", args.images, "--recursive", "--quiet", "--wider", args.out]
    sys.exit(main([*fixed, "--score-thr", "0.02", "--iou-thr", "0.45", *options]))
