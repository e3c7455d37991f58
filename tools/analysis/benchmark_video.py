"""Measures the frames per second of the video pipeline and of each of its stages alone.

Decoding, detection with tracking, drawing and encoding first run alone on the same frames, then together. Choose a
number of threads for the network that leaves one core to the other stages.

Example:
    python tools/analysis/benchmark_video.py clip.mp4 --threads 1
    python tools/analysis/benchmark_video.py clip.mp4 --threads 1 --keyframes 5
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facedet_mm.cli import guard
from facedet_mm.cli.arguments import argument_type
from facedet_mm.cli.parsing import Parser
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.video.face_stream import KEYFRAMES, FaceStream
from facedet_mm.video.pipeline import VideoFaceDetector
from facedet_mm.video.sources import open_source
from facedet_mm.video.writers import open_sink


def main() -> int:
    """Runs the tool and returns its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", help="model name or .onnx file (default: yunet_n)")
    parser.add_argument("--device", help="device, as for facedet detect")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default: %(default)s)")
    parser.add_argument(
        "--keyframes",
        type=argument_type(KEYFRAMES),
        default=1,
        metavar="N",
        help="as for facedet video (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each stage; the best counts (default: %(default)s)"
    )
    args = parser.parse_args()
    return guard(lambda: measure(args), parser.prog)


def measure(args: argparse.Namespace) -> int:
    """Measures and prints the table."""
    video = VideoFaceDetector(None, args.model, args.device, threads=args.threads, keyframes=args.keyframes)
    with open_source(args.video) as source:
        frames, info = list(source), source.info
    found: list[Any] = []

    def detect() -> None:
        stream = FaceStream(video.detector, video.options, info.fps)
        found[:] = [stream.update(frame) for frame in frames]

    def decode() -> None:
        with open_source(args.video) as source:
            for _ in source:
                pass

    with tempfile.TemporaryDirectory() as folder:

        def encode() -> None:
            sink = open_sink(Path(folder, "alone.mp4"), info)
            for frame, faces, image in zip(frames, found, drawn, strict=True):
                sink.write(frame, faces, image)
            sink.close()

        stages: dict[str, Callable[[], Any]] = {"decode": decode, "detect + track": detect}
        times = {name: best(stage, args.repeats) for name, stage in stages.items()}
        times["draw"] = best(
            lambda: [draw_faces(f.image, faces) for f, faces in zip(frames, found, strict=True)], args.repeats
        )
        drawn = [draw_faces(frame.image, faces) for frame, faces in zip(frames, found, strict=True)]
        times["encode"] = best(encode, args.repeats)
        slowest = max(times.values())
        together = best(lambda: video.process_video(args.video, Path(folder, "all.mp4"), progress=False), args.repeats)
    print(f"{args.video}: {len(frames)} frames of {info.width} x {info.height}, threads {args.threads}")
    for name, seconds in {**times, "together": together}.items():
        print(f"{name:16}{1e3 * seconds / len(frames):8.2f} ms per frame{len(frames) / seconds:9.1f} frames/s")
    print(f"together: {slowest / together:.2f} of the slowest stage's rate")
    return 0


def best(work: Callable[[], Any], repeats: int) -> float:
    """Returns the shortest time in seconds that ``work`` takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
