"""Faces in a video or camera, followed and drawn: ``facedet video`` under the name that MMDetection users look for.

Example:
    python tools/video_demo.py --input 0 --show
    python tools/video_demo.py --input clip.mp4 --out annotated.mp4
"""

from __future__ import annotations

import argparse
import sys

from facedet_mm.cli import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", default="0", metavar="INPUT", help="file, folder, camera number or address (0)")
    args, options = parser.parse_known_args()
    sys.exit(main(["video", args.input, *options]))
