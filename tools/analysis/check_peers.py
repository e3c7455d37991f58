"""Checks that insightface and uniface find the same faces with an exported file as with a file that they know.

Run it with the Python of an environment that has these packages; facedet-mm is not needed. Both read raw heads;
uniface reads only those with landmarks and without a batch axis.

Example:
    facedet export scrfd_0.5g_kps scrfd_0.5g_kps.pth -o model.onnx
    peers/bin/python tools/analysis/check_peers.py model.onnx scrfd_500m_bnkps.onnx group.jpg
"""

from __future__ import annotations

import argparse
import sys

import cv2
import numpy as np

TOLERANCE = 0.05
"""Largest difference allowed, in pixels of the image."""


def insightface(path, image):
    """Returns boxes with scores (N, 5) and landmarks (N, 5, 2) found by the ``insightface`` package."""
    from insightface.model_zoo.scrfd import SCRFD

    detector = SCRFD(model_file=path)
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    return detector.detect(image, input_size=(640, 640))


def uniface(path, image):
    """Returns boxes with scores (N, 5) and landmarks (N, 5, 2) found by the ``uniface`` package with a local file."""
    from uniface.detection import scrfd

    scrfd.verify_model_weights = lambda _: path
    faces = scrfd.SCRFD(confidence_threshold=0.5, providers=["CPUExecutionProvider"]).detect(image)
    boxes = np.array([[*face.bbox, face.confidence] for face in faces])
    return boxes, np.array([face.landmarks for face in faces])


def main() -> int:
    """Prints the largest differences; returns 1 if a package finds other faces with the two files, else 0."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="the exported file")
    parser.add_argument("reference", help="a file of the same model that the packages are known to read")
    parser.add_argument("image", help="an image with faces")
    parser.add_argument("--packages", nargs="+", choices=("insightface", "uniface"), default=("insightface", "uniface"))
    args = parser.parse_args()
    image = cv2.imread(args.image)
    if image is None:
        parser.error(f"{args.image} cannot be read as an image")
    wrong = 0
    for name in args.packages:
        detect = globals()[name]
        ours, theirs = (detect(path, image) for path in (args.model, args.reference))
        same = len(theirs[0]) > 0 and all(np.shape(a) == np.shape(b) for a, b in zip(ours, theirs, strict=True))
        worst = [float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True) if b is not None] if same else []
        fits = same and max(worst) <= TOLERANCE
        wrong += not fits
        print(f"{name}: {len(ours[0])} faces, {len(theirs[0])} with the reference, largest difference {worst} px")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
