"""Finds and tracks faces in a video: ``facedet video`` under the name that MMDetection users look for.

Example:
    python tools/video_demo.py 0 --show
    python tools/video_demo.py clip.mp4 --out annotated.mp4
"""

import sys

from facedet_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["video", *sys.argv[1:]]))
