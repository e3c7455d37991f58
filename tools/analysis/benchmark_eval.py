"""Measures the WIDER FACE evaluation: time with and without reading files, memory with millions of boxes.

Example:
  OMP_NUM_THREADS=1 python tools/analysis/benchmark_eval.py outputs/wider data/wider_face/ground_truth
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets import GroundTruth, Predictions, read_ground_truth, read_predictions
from facedet_mm.evaluation import evaluate


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", metavar="PRED_DIR", help="a submission folder")
    parser.add_argument("ground_truth", metavar="GT_DIR", help="the folder with the four official MAT files")
    parser.add_argument(
        "--boxes", type=int, default=150_000, help="number of boxes to fill up to (default: %(default)s)"
    )
    parser.add_argument(
        "--many", type=int, default=8_000_000, help="number of boxes of the memory test (default: %(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of each timing (default: %(default)s)")
    parser.add_argument("--only-many", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    return guard(lambda: _measure_memory(args) if args.only_many else _measure(args), parser.prog)


def _measure(args: argparse.Namespace) -> int:
    ground_truth = read_ground_truth(args.ground_truth)
    predictions = read_predictions(args.predictions)
    for name, ap in evaluate(predictions, ground_truth).ap.items():
        print(f"AP {name:<7} {100 * ap:.8f}")
    filled = _filled(predictions, args.boxes)
    boxes = len(predictions.scores)
    print(f"from arrays, {boxes} boxes: {_timed(lambda: evaluate(predictions, ground_truth), args.repeat)}")
    print(f"from arrays, {len(filled.scores)} boxes: {_timed(lambda: evaluate(filled, ground_truth), args.repeat)}")

    def with_files() -> None:
        evaluate(read_predictions(args.predictions), read_ground_truth(args.ground_truth))

    print(f"from files, {boxes} boxes: {_timed(with_files, args.repeat)}", flush=True)
    command = [sys.executable, __file__, args.predictions, args.ground_truth, "--only-many", "--many", str(args.many)]
    return subprocess.run(command, check=False).returncode


def _measure_memory(args: argparse.Namespace) -> int:
    """Measures peak memory in a separate process, so that nothing else has raised the peak."""
    ground_truth = read_ground_truth(args.ground_truth)
    predictions = _synthetic(ground_truth, args.many)
    before = _peak_mib()
    seconds = _timed(lambda: evaluate(predictions, ground_truth), 1)
    held = (predictions.boxes.nbytes + predictions.scores.nbytes) / 2**20
    print(
        f"{args.many} synthetic boxes: {seconds}; peak {_peak_mib():.0f} MiB, {_peak_mib() - before:.0f} MiB above "
        f"the peak before, the arrays themselves take {held:.0f} MiB"
    )
    return 0


def _filled(predictions: Predictions, total: int) -> Predictions:
    """Returns the predictions with random boxes of low score added evenly to all images."""
    extra = np.diff(np.linspace(0, max(0, total - len(predictions.scores)), len(predictions) + 1).astype(int))
    rng = np.random.default_rng(0)
    lowest = float(predictions.scores.min())
    return Predictions.from_images(
        (
            f"{name}.jpg",
            np.concatenate([boxes, _random_boxes(rng, n)]),
            np.concatenate([scores, rng.uniform(lowest, lowest + 0.01, n)]),
        )
        for (name, boxes, scores), n in zip(predictions, extra, strict=True)
    )


def _synthetic(ground_truth: GroundTruth, total: int) -> Predictions:
    offsets = np.linspace(0, total, len(ground_truth) + 1).astype(np.int64)
    rng = np.random.default_rng(0)
    boxes = np.empty((total, 4), np.float32)
    for start, end in itertools.pairwise(offsets):
        boxes[start:end] = _random_boxes(rng, end - start)
    return Predictions(ground_truth.names, offsets, boxes, rng.random(total, np.float32))


def _random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    corner = rng.uniform(0, 1000, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 100, (n, 2))], axis=1)


def _timed(run: Callable[[], object], repeat: int) -> str:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return f"median {np.median(seconds):.2f} s, worst {max(seconds):.2f} s of {repeat}"


def _peak_mib() -> float:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform == "darwin" else kib / 2**10


if __name__ == "__main__":
    sys.exit(main())
