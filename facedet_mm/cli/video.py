"""``facedet video``: finds and tracks faces in videos, cameras and streams."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from facedet_mm.cli.arguments import add_settings, non_negative, positive, settings_from
from facedet_mm.cli.console import summary_stream
from facedet_mm.cli.filtering import left_out_line
from facedet_mm.detectors import DetectorOptions
from facedet_mm.system.text import one_line
from facedet_mm.video.pipeline import VideoFaceDetector, VideoOptions
from facedet_mm.video.sources import open_source

_EPILOG = """\
examples:
  facedet video clip.mp4 --out annotated.mp4
  facedet video clip.mp4 --out faces.jsonl tracks.txt --keyframes adaptive
  facedet video 0 --show
  facedet video rtsp://camera/stream --out street.mkv --anonymize blur
  facedet video clip.mp4 --out hidden.mp4 --anonymize fill --fill-gaps 15
  facedet video frames/ --out annotated/
  facedet video clip.mp4 --best-shots people --min-size 60 --max-yaw 45
  ffmpeg -i clip.mp4 -f rawvideo -pix_fmt bgr24 - | facedet video - --raw-size 1280x720 --raw-fps 25 --out a.mp4

INPUT is a file, a folder or pattern of images, a camera number, an address, or - for raw BGR frames. The name of an
output determines its format: a video (.mp4 .mkv .mov .avi .webm), a folder of images, .jsonl or .csv with all faces,
.txt with tracks in MOTChallenge format. --best-shots writes the frontal, sharp, large face of each track: track_ID.jpg,
aligned_ID.jpg (112 x 112 pixels) and best_shots.csv. If the input breaks off, the disk fills up or you press Ctrl-C,
everything processed so far is kept in complete files, and the exit status is not 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("input", metavar="INPUT", help="file, folder, pattern, camera number, address or -")
    parser.add_argument("--out", nargs="+", type=Path, default=[], metavar="PATH", help="files to write, see below")
    parser.add_argument("--best-shots", type=Path, metavar="DIR", help="write the best image of each track into DIR")
    parser.add_argument("--show", action="store_true", help="show the frames in a window; q or Esc ends")
    video = parser.add_argument_group("video")
    video.add_argument("--no-tracking", action="store_true", help="no track IDs")
    add_settings(video, VideoOptions, without=("score_thr",))
    raw = parser.add_argument_group("raw frames on standard input")
    raw.add_argument("--raw-size", type=raw_size, metavar="WxH", help="size of the frames")
    raw.add_argument("--raw-fps", type=non_negative, metavar="FPS", help="frames per second")
    add_settings(parser.add_argument_group("detector"), DetectorOptions)


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status: 1 if the video did not end normally, 130 after Ctrl-C."""
    without_tracker = {"tracker": None} if args.no_tracking else {}
    options = settings_from(args, VideoOptions, **without_tracker)
    if args.input_size is None and args.preset is None:
        args.input_size = "auto"
    video = VideoFaceDetector.from_options(settings_from(args, DetectorOptions), options)
    source = open_source(args.input, size=args.raw_size, fps=args.raw_fps)
    summary = video.process_video(source, args.out, args.show, best_shots=args.best_shots)
    print(_report(source.info.name, summary), file=summary_stream(*args.out))
    if summary["left_out"]:
        print(f"facedet video: {left_out_line(summary['left_out'], bool(args.anonymize))}", file=sys.stderr)
    for note in summary["notes"]:
        print(f"facedet video: {one_line(note)}", file=sys.stderr)
    if summary["stopped"] is None:
        return 0
    print(f"facedet video: stopped early: {one_line(summary['stopped'])}", file=sys.stderr)
    return 130 if summary["stopped"] == "interrupted" else 1


def _report(name: str, summary: dict[str, Any]) -> str:
    ids = "" if summary["unique_faces"] is None else f", {summary['unique_faces']} tracks"
    dropped = f", {summary['dropped_frames']} frames dropped" if summary["dropped_frames"] else ""
    written = "".join(f"\n  -> {one_line(path)}" for path in summary["outputs"])
    faces, speed = (
        f"{summary['avg_faces_per_frame']:.1f} faces per frame",
        f"{summary['avg_fps']:.0f} frames per second",
    )
    return f"{one_line(name)}: {summary['total_frames']} frames, {faces}{ids}{dropped}, {speed}{written}"


def raw_size(text: str) -> tuple[int, int]:
    """Reads ``WxH`` in pixels, for argparse."""
    sides = text.lower().split("x")
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"must be WxH like 1280x720, not {text!r}")
    return positive(sides[0]), positive(sides[1])
