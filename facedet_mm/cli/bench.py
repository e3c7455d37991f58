"""``facedet bench``: times a model on this machine."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facedet_mm.benchmark.timing import detection_times
from facedet_mm.cli.arguments import add_settings, input_size, non_negative, positive, settings_from
from facedet_mm.cli.console import summary_stream, write_result
from facedet_mm.detectors import DetectorOptions, InputSize, open_detector
from facedet_mm.io.images import read_image
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line
from facedet_mm.zoo import asset_path

_EPILOG = """\
examples:
  facedet bench
  facedet bench --model scrfd_2.5g.onnx --device openvino --sizes 320 640 auto --batches 1 8 --threads 1 2
  facedet bench --image crowd.jpg --json times.json

Times cover everything from the decoded image to its faces, in milliseconds per image: the median and the 95th
percentile of repeated calls. "one look" is the median without the second look for close-ups (--no-close-ups)."""
_WARM_UP = 2
_MIN_CALLS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--image", type=Path, default=asset_path("solvay_1927.jpg"), help="image (default: 29 people)")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=input_size,
        default=[320, 480, 640, 960],
        metavar="S",
        help="input sizes (default: 320 480 640 960)",
    )
    parser.add_argument(
        "--batches", nargs="+", type=positive, default=[1], metavar="N", help="batch sizes (default: 1)"
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        type=positive,
        default=[None],
        metavar="N",
        help="numbers of threads (default: one per core)",
    )
    parser.add_argument(
        "--seconds",
        type=non_negative,
        default=1.0,
        metavar="T",
        help="time spent on each row of the table (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON; - prints it")
    add_settings(parser.add_argument_group("detector"), DetectorOptions, without=("input_size", "preset", "threads"))


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status."""
    targets = Targets([args.image, args.model, args.weights])
    targets.add("--json", args.json, may_print=True)
    out = summary_stream(args.json)
    image = read_image(args.image)
    options = settings_from(args, DetectorOptions, input_size=args.sizes[0], preset=None, threads=None)
    cells = len(args.threads) * len(args.sizes) * len(args.batches)
    print(f"{one_line(args.model)}, {image.shape[1]} x {image.shape[0]} image, milliseconds per image", file=out)
    print(
        f"{'size':>10}{'batch':>7}{'threads':>9}{'median':>9}{'one look':>10}{'p95':>9}{'images/s':>12}{'faces':>7}",
        file=out,
    )
    rows = []
    found = _rows(options, image, args.threads, args.sizes, args.batches, args.seconds)
    for row in tqdm(found, total=cells, disable=not sys.stderr.isatty(), leave=False):
        rows.append(row)
        threads = "auto" if row["threads"] is None else row["threads"]
        tqdm.write(
            f"{row['size']:>10}{row['batch']:>7}{threads:>9}{row['median_ms']:>9.2f}{row['one_look_ms']:>10.2f}{row['p95_ms']:>9.2f}"
            f"{1e3 / row['median_ms']:>12.1f}{row['faces']:>7}",
            file=out,
        )
    if args.json:
        write_result(args.json, json.dumps(rows, indent=2) + "\n")
    return 0


def _rows(
    options: DetectorOptions,
    image: NDArray[np.uint8],
    all_threads: Sequence[int | None],
    sizes: Sequence[InputSize],
    batches: Sequence[int],
    seconds: float,
) -> Iterator[dict[str, Any]]:
    for threads in all_threads:
        opened = open_detector(replace(options, threads=threads))
        for size, batch in itertools.product(sizes, batches):
            detector = opened.replace(input_size=size)
            faces = len(detector.detect(image))
            once = detector.replace(close_ups=False)
            times, alone = (
                np.array(list(detection_times(d, [image], batch, seconds / 2, _WARM_UP, _MIN_CALLS))) / batch
                for d in (detector, once)
            )
            median, high = np.percentile(times, [50, 95]).tolist()
            name = "x".join(map(str, size)) if isinstance(size, tuple) else str(size)
            yield dict(
                size=name,
                batch=batch,
                threads=threads,
                median_ms=median,
                p95_ms=high,
                faces=faces,
                one_look_ms=np.median(alone).item(),
            )
