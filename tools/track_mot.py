"""Tracks MOTChallenge detection files and writes MOTChallenge result files, ready for TrackEval.

Example:
    python tools/track_mot.py --det data/mot/det --out outputs/mot
    python tools/track_mot.py --det data/mot/det/MOT17-09.txt --out outputs/mot --preset bytetrack

A file has one line "frame,id,x,y,w,h,score" per detection; include low scores down to 0.1. In frames without a line,
nothing was detected.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import AnnotationError
from facedet_mm.structures import Faces
from facedet_mm.system.targets import Targets
from facedet_mm.system.text import one_line
from facedet_mm.tracking import PRESETS, ByteTracker
from facedet_mm.tracking.mot import find_files, read_detections, write_tracks


def main() -> int:
    """Runs the tool and returns its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--det", type=Path, required=True, metavar="PATH", help="detection file, or folder of such files"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for result files of the same names"
    )
    parser.add_argument(
        "--fps", type=float, default=30.0, help="frames per second of the videos (default: %(default)g)"
    )
    parser.add_argument("--preset", choices=PRESETS, default="faces", help="tracker settings (default: %(default)s)")
    parser.add_argument(
        "--boxes",
        choices=("detector", "kalman"),
        help="boxes to write (default: the detector's; kalman for the preset bytetrack, as its authors do)",
    )
    args = parser.parse_args()
    return guard(lambda: track_files(args), parser.prog)


def track_files(args: argparse.Namespace) -> int:
    """Writes one file per video; returns 1 if a file cannot be read, which is reported and skipped."""
    tracker = ByteTracker(args.preset, args.fps)
    kalman = (args.boxes or ("kalman" if args.preset == "bytetrack" else "detector")) == "kalman"
    files = find_files(args.det, "detection")
    targets = Targets(files)
    for path in files:
        targets.add("--out", args.out / path.name)
    failed = 0
    for path in files:
        try:
            detections = read_detections(path)
        except AnnotationError as error:
            failed += 1
            print(f"track_mot: error: {one_line(error)}", file=sys.stderr)
            continue
        tracker.reset()
        frames = list(track(tracker, detections, kalman))
        lines = write_tracks(args.out / path.name, frames)
        ids = max((int(faces.track_ids.max()) for _, faces in frames if len(faces)), default=0)
        print(one_line(f"{path.name}: {max(detections)} frames, {lines} boxes, {ids} tracks -> {args.out / path.name}"))
    if failed:
        print(f"track_mot: {failed} of {len(files)} files failed", file=sys.stderr)
    return 1 if failed else 0


def track(tracker: ByteTracker, detections: dict[int, Faces], kalman: bool) -> Iterator[tuple[int, Faces]]:
    """Yields frame numbers and tracked faces, from the first frame with a detection on."""
    last = min(detections) - 1
    for frame, found in detections.items():
        # after the buffer, no track is left that could be predicted
        for empty in range(last + 1, min(frame, last + tracker.buffer + 2)):
            tracker.update(Faces.empty(), empty)
        faces = tracker.update(found, frame)
        yield frame, Faces(tracker.kalman_boxes(), faces.scores, None, faces.track_ids) if kalman else faces
        last = frame


if __name__ == "__main__":
    sys.exit(main())
