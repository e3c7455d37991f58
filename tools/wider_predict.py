"""Predicts a folder of WIDER FACE pictures and writes the submission format, ready for ``facedet eval``.

Example:
    python tools/wider_predict.py --model yunet_n --images data/wider_face/WIDER_val/images --out outputs/wider
    facedet eval outputs/wider data/wider_face/ground_truth
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facedet_mm.cli import guard
from facedet_mm.cli.arguments import add_detector_arguments, detector_from
from facedet_mm.errors import ImageError
from facedet_mm.evaluation.submission import write_prediction_file
from facedet_mm.images import read_image

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_AHEAD = 4
"""Pictures decoded before their turn."""


def main() -> int:
    """Runs the tool; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="holds <event>/<picture>.jpg")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets <event>/<picture>.txt")
    add_detector_arguments(parser, score_thr=0.02, iou_thr=0.45)
    args = parser.parse_args()
    return guard(lambda: predict(args), parser.prog)


def predict(args: argparse.Namespace) -> int:
    """Writes one file a picture; a picture that can't be read is reported and left out, the status is then 1."""
    pictures = find_pictures(args.images)
    detector = detector_from(args)
    failed = 0
    for path, decoded in tqdm(decode_ahead(pictures), total=len(pictures), unit="img", disable=not sys.stderr.isatty()):
        try:
            faces = detector.detect(decoded.result())
        except ImageError as error:
            failed += 1
            tqdm.write(f"wider_predict: error: {error}", file=sys.stderr)
            continue
        target = args.out / path.parent.name / f"{path.stem}.txt"
        write_prediction_file(target, path.name, faces.boxes, faces.scores)
    print(f"{len(pictures) - failed} pictures -> {args.out}")
    if failed:
        print(f"wider_predict: {failed} of {len(pictures)} pictures failed", file=sys.stderr)
    return 1 if failed else 0


def find_pictures(folder: Path) -> list[Path]:
    """All ``<event>/<picture>`` in ``folder``, sorted.

    Raises:
        ImageError: no such folder, or no picture one level below it.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    pictures = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in _SUFFIXES)
    if not pictures:
        raise ImageError(f"{folder}: no pictures; expected one folder an event, with pictures in it")
    return pictures


def decode_ahead(pictures: list[Path]) -> Iterator[tuple[Path, Future[NDArray[np.uint8]]]]:
    """The pictures in order, each being decoded while the ones before it are worked on."""
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        queue: deque[tuple[Path, Future[NDArray[np.uint8]]]] = deque()
        try:
            for path in pictures:
                queue.append((path, pool.submit(read_image, path)))
                if len(queue) > _AHEAD:
                    yield queue.popleft()
            while queue:
                yield queue.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
