"""Measures the benefit and cost of keyframes, smoothing and low-light brightening on clips and images.

Keyframes: recall against detection on every frame at IoU 0.5, of all faces and of those with an ID, and the speed-up
from frames in to faces out.
Smoothing: jitter of the box centers of faces at rest (the root mean square of their second difference, in percent of
the face size), before and after; and the lag in frames of the smoothed center where faces move fast.
Low light: share of the faces found in a bright image that are found in a darkened one, without and with brightening.

Example:
    python tools/analysis/benchmark_video_quality.py keyframes clips/*.mkv --threads 1
    python tools/analysis/benchmark_video_quality.py smoothing clips/*.mkv
    python tools/analysis/benchmark_video_quality.py low-light WIDER_val/images --limit 50
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict

import numpy as np

from facedet_mm.cli import guard
from facedet_mm.cli.arguments import argument_type, positive
from facedet_mm.cli.inputs import find_inputs
from facedet_mm.cli.parsing import Parser
from facedet_mm.detectors import build_detector
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.tracking.association import iou_matrix
from facedet_mm.video.face_stream import KEYFRAMES, FaceStream
from facedet_mm.video.frame import Frame
from facedet_mm.video.pipeline import VideoFaceDetector
from facedet_mm.video.sources import open_source

RATE = 30.0
SLOW, FAST = 0.1, 1.0
"""Face sizes per second: below the first a face is at rest, above the second it is fast."""
WINDOW = 9
"""Number of frames over which the speed of a face is measured, longer than its jitter lasts."""
DARKNESS = {"gamma 3, noise 3": (3.0, 1.0, 3.0), "gamma 4, noise 4": (4.0, 1.0, 4.0), "a 12th of the light": (1, 12, 2)}


def main() -> int:
    """Runs the tool and returns its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, measure, kind in (
        ("keyframes", measure_keyframes, "videos"),
        ("smoothing", measure_smoothing, "videos"),
        ("low-light", measure_low_light, "images"),
    ):
        command = commands.add_parser(name)
        command.add_argument("inputs", nargs="+", help=f"{kind}, as for facedet")
        command.add_argument("--model", help="model name or .onnx file (default: yunet_n)")
        command.add_argument(
            "--threads", type=positive, default=1, help="threads of the network (default: %(default)s)"
        )
        command.set_defaults(measure=measure)
        if name == "keyframes":
            command.add_argument(
                "--every",
                type=argument_type(KEYFRAMES),
                nargs="+",
                default=[5, "adaptive"],
                help="keyframe intervals to compare (default: 5 adaptive)",
            )
            command.add_argument("--optical-flow", action="store_true", help="as for facedet video")
        if name == "low-light":
            command.add_argument(
                "--limit", type=positive, default=50, help="number of images, evenly chosen (default: %(default)s)"
            )
    args = parser.parse_args()
    return guard(lambda: args.measure(args), parser.prog)


def video(args: argparse.Namespace, **options: object) -> VideoFaceDetector:
    """Returns the pipeline that the command line describes."""
    return VideoFaceDetector(None, args.model, threads=args.threads, **options)


def follow(pipeline: VideoFaceDetector, frames: list[Frame], fps: float) -> tuple[list[Faces], float]:
    """Returns the faces of each frame, and the time in seconds."""
    stream = FaceStream(pipeline.detector, pipeline.options, fps)
    start = time.perf_counter()
    found = [stream.update(frame) for frame in frames]
    return found, time.perf_counter() - start


def clips(names: list[str]) -> list[tuple[list[Frame], float]]:
    """Returns the frames of each video and their rate."""
    result = []
    for name in names:
        with open_source(name) as source:
            result.append((list(source), source.info.fps or RATE))
    return result


def recall(expected: list[Faces], found: list[Faces]) -> tuple[int, int]:
    """Returns the number of expected faces that are found at IoU 0.5, and the number of expected faces."""
    hits = 0
    for a, b in zip(expected, found, strict=True):
        if len(a) and len(b):
            hits += int((iou_matrix(a.boxes.T.astype(float), b.boxes.T.astype(float)).max(axis=1) >= 0.5).sum())
    return hits, sum(map(len, expected))


def measure_keyframes(args: argparse.Namespace) -> int:
    """Prints recall and speed-up of each keyframe interval."""
    every = video(args, use_smoothing=False)
    totals: dict[str, list[float]] = defaultdict(lambda: [0] * 6)
    for frames, fps in clips(args.inputs):
        expected, base = follow(every, frames, fps)
        tracked = [faces[faces.track_ids >= 0] for faces in expected]
        for policy in args.every:
            pipeline = video(args, use_smoothing=False, keyframes=policy, optical_flow=args.optical_flow)
            found, seconds = follow(pipeline, frames, fps)
            for i, value in enumerate((*recall(expected, found), *recall(tracked, found), base, seconds)):
                totals[str(policy)][i] += value
    for policy, (hits, count, tracked_hits, tracked_count, base, seconds) in totals.items():
        print(
            f"keyframes {policy:>9}: recall {hits / max(count, 1):.3f} of {count:.0f} faces, "
            f"{tracked_hits / max(tracked_count, 1):.3f} of {tracked_count:.0f} with an ID, {base / seconds:.2f} x"
        )
    return 0


def measure_smoothing(args: argparse.Namespace) -> int:
    """Prints the jitter at rest before and after smoothing, and the lag in motion."""
    raw, smooth = video(args, use_smoothing=False), video(args, use_smoothing=True)
    jitter: dict[str, list[np.ndarray]] = {"before": [], "after": []}
    lags = []
    for frames, fps in clips(args.inputs):
        before, after = (paths(follow(pipeline, frames, fps)[0]) for pipeline in (raw, smooth))
        for track_id in before.keys() & after.keys():
            size, seen = before[track_id]
            steady = after[track_id][1]
            if len(seen) < 3 * WINDOW or len(seen) != len(steady):
                continue
            velocity = moving_average(np.gradient(seen, axis=0), WINDOW)
            speed = np.linalg.norm(velocity, axis=1) * fps / size
            calm = speed < SLOW
            calm = calm[1:-1] & calm[:-2] & calm[2:]
            for name, path in (("before", seen), ("after", steady)):
                jitter[name].append((np.diff(path, 2, axis=0) / size)[calm])
            fast = speed > FAST
            behind = ((seen - steady) * velocity).sum(axis=1) / np.maximum((velocity**2).sum(axis=1), 1e-9)
            lags.append(behind[fast])
    root = {name: 100 * np.sqrt(np.mean(np.concatenate(parts) ** 2)) for name, parts in jitter.items() if parts}
    if not root:
        raise FaceDetError("no face is visible long enough to measure its jitter; use longer clips")
    ratio = root["before"] / root["after"]
    count = sum(map(len, jitter["before"]))
    print(
        f"at rest ({count} frames): jitter {root['before']:.3f} -> {root['after']:.3f} % of a face, {ratio:.1f} x less"
    )
    behind = np.concatenate(lags)
    print(f"fast, {len(behind)} frames: {behind.mean():.2f} frames behind" if len(behind) else "no face moves fast")
    return 0


def paths(found: list[Faces]) -> dict[int, tuple[float, np.ndarray]]:
    """Returns for each track without a gap the mean size of its boxes, and their centers (N, 2), by track ID."""
    boxes: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for number, faces in enumerate(found):
        for track_id, box in zip(faces.track_ids, faces.boxes, strict=True):
            if track_id >= 0:
                boxes[int(track_id)].append((number, box))
    result = {}
    for track_id, entries in boxes.items():
        numbers, rows = np.array([n for n, _ in entries]), np.array([b for _, b in entries], float)
        if (np.diff(numbers) == 1).all():
            size = float(np.sqrt(np.prod(rows[:, 2:] - rows[:, :2], axis=1)).mean())
            result[track_id] = size, (rows[:, :2] + rows[:, 2:]) / 2
    return result


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Returns the mean over a window, (N, 2) → (N, 2); the window is shorter at the ends."""
    kernel = np.ones(width)
    share = np.convolve(np.ones(len(values)), kernel, "same")
    return np.stack([np.convolve(column, kernel, "same") / share for column in values.T], axis=1)


def measure_low_light(args: argparse.Namespace) -> int:
    """Prints the recall on darkened images without and with brightening."""
    found = find_inputs(args.inputs, recursive=True)
    chosen = [found[i].path for i in np.unique(np.linspace(0, len(found) - 1, args.limit).round().astype(int))]
    detector = build_detector(args.model or "yunet_n", threads=args.threads)
    brighten = LowLight("auto")
    totals = {name: np.zeros(3, int) for name in DARKNESS}
    for number, path in enumerate(chosen):
        image = read_image(path)
        expected = [detector.detect(image)]
        for name, (gamma, divisor, noise) in DARKNESS.items():
            random = np.random.default_rng([number, len(name)])
            dark = 255 * (image / 255.0) ** gamma / divisor + random.normal(0, noise, image.shape)
            dark = np.clip(dark.round(), 0, 255).astype(np.uint8)
            plain, count = recall(expected, [detector.detect(dark)])
            totals[name] += plain, recall(expected, [detector.detect(brighten(dark))])[0], count
    for name, (plain, treated, count) in totals.items():
        print(
            f"{name:<20} recall {plain / count:.2f} -> {treated / count:.2f} of {count} faces in {len(chosen)} images"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
