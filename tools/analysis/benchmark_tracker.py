"""Compares the speed of the tracker with those of supervision and Roboflow's trackers on MOTChallenge detection files.

The trackers take turns, each in its own process, on the same detections with the same settings (ByteTrack's for
evaluation). Reading files and preparing the input of each library is not timed. Create the environment of the other
libraries with: python -m venv peers && peers/bin/pip install "supervision<0.31" trackers (0.31 has no ByteTrack).

Example:
    OMP_NUM_THREADS=1 python tools/analysis/benchmark_tracker.py data/mot/det --peers-python peers/bin/python
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_MS = 3.3
"""Published time per frame of the authors' Python tracker on the four half sequences of MOT17."""

Frame = tuple[np.ndarray, np.ndarray]


def main() -> int:
    """Runs the benchmark and returns its exit status."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("det", type=Path, metavar="DIR", help="folder of MOTChallenge detection files")
    parser.add_argument("--peers-python", metavar="PATH", help="Python interpreter with supervision and trackers")
    parser.add_argument(
        "--repeat", type=int, default=5, help="runs of each tracker; the best counts (default: %(default)s)"
    )
    parser.add_argument(
        "--crowd", type=int, default=500, help="number of faces in the synthetic crowd (default: %(default)s)"
    )
    parser.add_argument("--only", choices=TRACKERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return _time_one(TRACKERS[args.only], args)
    from facedet_mm.cli import guard

    return guard(lambda: _compare(args), parser.prog)


def _compare(args: argparse.Namespace) -> int:
    from facedet_mm.errors import AnnotationError, FaceDetError

    if not any(args.det.glob("*.txt")):
        raise AnnotationError(f"{args.det}: no .txt files; expected one detection file per video")
    names = [name for name in TRACKERS if args.peers_python or name.startswith("facedet-mm")]
    best = dict.fromkeys(names, (np.inf, np.inf))
    for _ in range(args.repeat):
        for name in names:
            python = sys.executable if name.startswith("facedet-mm") else args.peers_python
            command = [python, __file__, str(args.det), "--only", name, "--crowd", str(args.crowd)]
            try:
                done = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                raise FaceDetError(f"--peers-python {python}: {error.strerror}") from error
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise FaceDetError(f"{name} failed with {python}: {reason}")
            times = (float(word) for word in done.stdout.split()[-2:])
            best[name] = tuple(map(min, best[name], times))
    ours = best["facedet-mm (bytetrack)"][0]
    print(f"{'ms per frame':<26}{'MOT files':>12}{'vs. ours':>10}{f'{args.crowd} faces':>14}")
    for name, (files, crowd) in best.items():
        print(f"{name:<26}{files:>12.3f}{files / ours:>9.1f}x{crowd:>14.2f}")
    print(f"{'the authors, published':<26}{REFERENCE_MS:>12.3f}{REFERENCE_MS / ours:>9.1f}x")
    return 0


def _time_one(make: Callable[[], Callable[[list[Frame]], Callable[[], None]]], args: argparse.Namespace) -> int:
    warnings.simplefilter("ignore")
    videos = [_read(path) for path in sorted(args.det.glob("*.txt"))]
    prepare = make()
    frames = seconds = 0.0
    for video in videos:
        seconds += _timed(prepare(video))
        frames += len(video)
    crowd = _crowd(args.crowd)
    print(1e3 * seconds / frames, 1e3 * _timed(prepare(crowd)) / len(crowd))
    return 0


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _read(path: Path) -> list[Frame]:
    """Reads boxes (N, 4) x1 y1 x2 y2 and scores (N,) of all frames from 1 on."""
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    rows[:, 4:6] += rows[:, 2:4]
    frames = (rows[rows[:, 0] == frame] for frame in range(1, int(rows[:, 0].max()) + 1))
    return [(frame[:, 2:6].astype(np.float32), frame[:, 6].astype(np.float32)) for frame in frames]


def _crowd(count: int) -> list[Frame]:
    """Returns 30 frames of randomly moving faces."""
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 1500, (count, 2)), rng.uniform(30, 80, (count, 1)) * np.array([1, 1.3])
    velocity, score = rng.normal(0, 3, (count, 2)), rng.uniform(0.3, 1, count)
    frames = []
    for step in range(30):
        at = corner + step * velocity + rng.normal(0, 1, (count, 2))
        scores = np.clip(score + rng.normal(0, 0.1, count), 0, 1)
        frames.append((np.hstack([at, at + size]).astype(np.float32), scores.astype(np.float32)))
    return frames


def _ours(preset: str) -> Callable[[list[Frame]], Callable[[], None]]:
    from facedet_mm import Faces
    from facedet_mm.tracking import ByteTracker

    def prepare(video: list[Frame]) -> Callable[[], None]:
        tracker, inputs = ByteTracker(preset), [Faces(boxes, scores) for boxes, scores in video]
        return lambda: _feed(tracker.update, inputs)

    return prepare


def _peer(make: Callable[[], object], update: str) -> Callable[[list[Frame]], Callable[[], None]]:
    import supervision

    def prepare(video: list[Frame]) -> Callable[[], None]:
        inputs = [
            supervision.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(scores), int))
            for boxes, scores in video
        ]
        step = getattr(make(), update)
        return lambda: _feed(step, inputs)

    return prepare


def _feed(update: Callable[..., object], inputs: list) -> None:
    for detections in inputs:
        update(detections)


def _supervision() -> Callable[[list[Frame]], Callable[[], None]]:
    from supervision import ByteTrack

    return _peer(
        lambda: ByteTrack(track_activation_threshold=0.6, lost_track_buffer=30, minimum_matching_threshold=0.9),
        "update_with_detections",
    )


def _trackers() -> Callable[[list[Frame]], Callable[[], None]]:
    from trackers import ByteTrackTracker

    return _peer(
        lambda: ByteTrackTracker(
            lost_track_buffer=30,
            track_activation_threshold=0.7,
            minimum_iou_threshold=0.1,
            high_conf_det_threshold=0.6,
        ),
        "update",
    )


TRACKERS: dict[str, Callable[[], Callable[[list[Frame]], Callable[[], None]]]] = {
    "facedet-mm (bytetrack)": lambda: _ours("bytetrack"),
    "facedet-mm (faces)": lambda: _ours("faces"),
    "supervision": _supervision,
    "roboflow trackers": _trackers,
}

if __name__ == "__main__":
    sys.exit(main())
