"""Finds faces in images: ``facedet detect`` under the name that MMDetection users look for.

Example:
    python tools/image_demo.py photo.jpg --out outputs
"""

import sys

from facedet_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]]))
