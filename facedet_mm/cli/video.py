"""``facedet video``: faces in videos, cameras and streams, followed, drawn and written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from facedet_mm.cli.arguments import add_detector_arguments, input_sizes, non_negative, positive
from facedet_mm.imaging.anonymization import Method
from facedet_mm.tracking import PRESETS
from facedet_mm.video.pipeline import VideoFaceDetector
from facedet_mm.video.sources import open_source

_EPILOG = """\
examples:
  facedet video clip.mp4 --out annotated.mp4
  facedet video clip.mp4 --out faces.jsonl tracks.txt --keyframes adaptive
  facedet video 0 --show
  facedet video rtsp://camera/stream --out street.mkv --anonymize blur
  facedet video clip.mp4 --out hidden.mp4 --anonymize fill --fill-gaps 15
  facedet video frames/ --out annotated/
  ffmpeg -i clip.mp4 -f rawvideo -pix_fmt bgr24 - | facedet video - --raw-size 1280x720 --raw-fps 25 --out a.mp4

INPUT is a file, a folder or pattern of images, a camera's number, an address, or - for raw BGR frames. What an
output is says its name: a video (.mp4 .mkv .mov .avi .webm), a folder of images, .jsonl or .csv with all faces, .txt
with tracks in MOTChallenge format. Ctrl-C, a full disk or an input that breaks off end in whole files of what was
done, and a status other than 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("input", metavar="INPUT", help="file, folder, pattern, camera number, address or -")
    parser.add_argument("--out", nargs="+", type=Path, default=[], metavar="PATH", help="what to write, see below")
    parser.add_argument("--show", action="store_true", help="show in a window; q or Esc ends")
    parser.add_argument("--anonymize", choices=get_args(Method), help="make faces unrecognizable instead of drawing")
    faces = parser.add_argument_group("faces")
    faces.add_argument("--no-tracking", action="store_true", help="give no ids")
    faces.add_argument("--no-smoothing", action="store_true", help="leave boxes and landmarks as they are detected")
    faces.add_argument("--tracker", choices=PRESETS, default="faces", help="settings of the tracker (%(default)s)")
    faces.add_argument(
        "--keyframes",
        type=keyframes,
        default=1,
        metavar="N",
        help="run the detector on each N-th frame only, or adaptive: as often as the faces' motion asks for (1)",
    )
    faces.add_argument("--optical-flow", action="store_true", help="between keyframes follow the pixels, too")
    faces.add_argument(
        "--fill-gaps", type=positive, default=0, metavar="N", help="bridge up to N frames in which a face was missed"
    )
    faces.add_argument(
        "--low-light", choices=("auto", "on", "off"), default="off", help="brighten dark frames for the detector (off)"
    )
    faces.add_argument("--gamma", type=non_negative, metavar="G", help="of the brightening")
    raw = parser.add_argument_group("raw frames on standard input")
    raw.add_argument("--raw-size", type=raw_size, metavar="WxH", help="their size")
    raw.add_argument("--raw-fps", type=non_negative, metavar="FPS", help="their rate")
    add_detector_arguments(parser, without=("--size", "--max-faces", "--tiles"))
    parser.add_argument(
        "--size",
        type=input_sizes,
        default="auto",
        metavar="S",
        help="what the network sees: a side, WxH, auto (as 640, with less padding), original (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; gives the exit status: 1 when it did not come to the end, 130 after Ctrl-C."""
    summary = _process(args)
    print(_report(args.input, summary))
    for note in summary["notes"]:
        print(f"facedet video: {note}", file=sys.stderr)
    if summary["stopped"] is None:
        return 0
    print(f"facedet video: stopped early: {summary['stopped']}", file=sys.stderr)
    return 130 if summary["stopped"] == "interrupted" else 1


def _process(args: argparse.Namespace) -> dict[str, Any]:
    video = VideoFaceDetector(
        args.weights,
        args.model,
        args.device,
        not args.no_tracking,
        not args.no_smoothing,
        score_thr=args.score_thr,
        iou_thr=args.iou_thr,
        input_size=args.size,
        threads=args.threads,
        tracker=args.tracker,
        keyframes=args.keyframes,
        optical_flow=args.optical_flow,
        low_light=args.low_light,
        gamma=args.gamma,
        fill_gaps=args.fill_gaps,
        anonymize=args.anonymize,
    )
    source = open_source(args.input, size=args.raw_size, fps=args.raw_fps)
    return video.process_video(source, args.out, args.show)


def _report(name: str, summary: dict[str, Any]) -> str:
    ids = "" if summary["unique_faces"] is None else f", {summary['unique_faces']} tracks"
    dropped = f", {summary['dropped_frames']} frames dropped" if summary["dropped_frames"] else ""
    written = "".join(f"\n  -> {path}" for path in summary["outputs"])
    return (
        f"{name}: {summary['total_frames']} frames, {summary['avg_faces_per_frame']:.1f} faces a frame{ids}{dropped}, "
        f"{summary['avg_fps']:.0f} frames a second{written}"
    )


def keyframes(text: str) -> Any:
    """A whole number from 1 on, or ``adaptive``, for argparse."""
    return text if text == "adaptive" else positive(text)


def raw_size(text: str) -> tuple[int, int]:
    """``WxH`` in pixels, for argparse."""
    sides = text.lower().split("x")
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"must be WxH like 1280x720, not {text!r}")
    return positive(sides[0]), positive(sides[1])
