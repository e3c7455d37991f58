"""Runs the ``facedet`` command as ``python -m facedet_mm``, for when its script is not on the path."""

import sys

from facedet_mm.cli import main

if __name__ == "__main__":
    sys.exit(main())
