"""Scores tracker settings with TrackEval, at the frame rate of the videos and at lower ones; prints one table.

Needs pip install 'facedet-mm[track-eval]'. A lower frame rate uses every second, third, … frame of detections and
ground truth.

Example:
    python tools/analysis/tracker_ablation.py data/mot/det data/mot/gt --every 1 2 3 6
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.errors import AnnotationError
from facedet_mm.structures import Faces
from facedet_mm.tracking import PRESETS, ByteTracker
from facedet_mm.tracking.evaluation import score_tracks
from facedet_mm.tracking.mot import find_files, read_detections, write_tracks

_FACES = PRESETS["faces"]
STUDIES = {
    **PRESETS,
    "faces, plain IoU": replace(_FACES, height_power=0.0),
    "faces, one noise": replace(_FACES, trust_scores=False),
    "faces, one frame rate": replace(_FACES, scale_motion=False),
    "faces, new_match_thr 0.7": replace(_FACES, new_match_thr=0.7),
}
"""The presets, and ``faces`` without each of its differences from ``bytetrack``."""


def main() -> int:
    """Runs the tool and returns its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("det", type=Path, metavar="DET_DIR", help="folder of detection files, one per video")
    parser.add_argument("gt", type=Path, metavar="GT_DIR", help="folder of ground-truth files with the same names")
    parser.add_argument("--every", type=int, nargs="+", default=[1], metavar="N", help="use every N-th frame")
    parser.add_argument(
        "--fps", type=float, default=30.0, help="frames per second of the videos (default: %(default)g)"
    )
    parser.add_argument("--per-video", action="store_true", help="also print one line per video")
    args = parser.parse_args()
    if min(args.every) < 1:
        parser.error("--every needs numbers of at least 1")
    return guard(lambda: compare(args), parser.prog)


def compare(args: argparse.Namespace) -> int:
    """Prints HOTA, MOTA, IDF1, ID switches and the number of tracks of each study."""
    videos = {path.stem: read_detections(path) for path in find_files(args.det, "detection")}
    print(f"{'settings':<26}{'fps':>6}  {'video':<12}{'HOTA':>8}{'MOTA':>8}{'IDF1':>8}{'switches':>10}{'tracks':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for every in args.every:
            ground_truth = Path(folder, f"gt{every}")
            lengths = {name: thin_ground_truth(args.gt / f"{name}.txt", ground_truth, every) for name in videos}
            for name, settings in STUDIES.items():
                tracker = ByteTracker(settings, args.fps / every)
                results = Path(folder, "results")
                for video, detections in videos.items():
                    thinned = {1 + (f - 1) // every: d for f, d in detections.items() if (f - 1) % every == 0}
                    write_tracks(results / f"{video}.txt", track(tracker, thinned, lengths[video], name == "bytetrack"))
                for video, row in score_tracks(results, ground_truth).items():
                    if args.per_video or video == "all":
                        cells = "".join(f"{100 * score:8.2f}" for score in (row.hota, row.mota, row.idf1))
                        print(
                            f"{name:<26}{args.fps / every:>6g}  {video:<12}{cells}{row.switches:>10}{row.tracks:>8}",
                            flush=True,
                        )
    return 0


def thin_ground_truth(path: Path, folder: Path, every: int) -> int:
    """Copies every N-th frame of a ground-truth file, renumbered; returns the number of frames."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [(int(frame), rest) for frame, rest in (line.split(",", 1) for line in lines if line.strip())]
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: expected lines frame,id,x,y,w,h,…: {error}") from None
    kept = [(1 + (frame - 1) // every, rest) for frame, rest in rows if (frame - 1) % every == 0]
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_text("".join(f"{frame},{rest}\n" for frame, rest in kept), encoding="utf-8")
    return max((frame for frame, _ in kept), default=0)


def track(tracker: ByteTracker, detections: dict[int, Faces], length: int, kalman: bool) -> list[tuple[int, Faces]]:
    """Returns the tracked faces of the frames from 1 to ``length``; ``kalman`` selects the motion model's boxes."""
    tracker.reset()
    frames = []
    for frame in range(1, length + 1):
        faces = tracker.update(detections.get(frame, Faces.empty()))
        boxes = tracker.kalman_boxes() if kalman else faces.boxes
        frames.append((frame, Faces(boxes, faces.scores, None, faces.track_ids)))
    return frames


if __name__ == "__main__":
    sys.exit(main())
