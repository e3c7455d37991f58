"""``VideoFaceDetector``: from a video, camera or stream to tracked faces, files and a summary."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facedet_mm.detectors import Detector, InputSizes, build_detector
from facedet_mm.detectors.base import check_thresholds
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.anonymization import Method, anonymize
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.structures import Faces
from facedet_mm.system.concurrency import prefetch, uninterrupted
from facedet_mm.tracking import TrackerSettings
from facedet_mm.tracking.gaps import GapFiller
from facedet_mm.video.face_stream import FaceStream, StreamOptions
from facedet_mm.video.frame import Frame
from facedet_mm.video.reader import Source
from facedet_mm.video.sink import Sink
from facedet_mm.video.sources import open_source
from facedet_mm.video.window_sink import WindowSink
from facedet_mm.video.writers import open_sink

Output: TypeAlias = str | os.PathLike[str]
Shown: TypeAlias = tuple[Frame, Faces, NDArray[np.uint8]]

_AHEAD = 4
"""Frames that wait between two stages."""


class VideoFaceDetector:
    """Finds, follows and draws the faces of videos, cameras and streams.

    Args:
        model_path: an ``.onnx`` or ``.pth`` file; ``None`` takes the weights of ``model_name``.
        model_name: a name of the zoo or a config; needed for a ``.pth`` file. Without both, the model that comes with
            the package.
        device: see :func:`~facedet_mm.detectors.build_detector`.
        use_tracking: give faces ids that stay with them.
        use_smoothing: smooth boxes and landmarks of tracked faces.
        score_thr: a face that is not tracked comes out above this score; one that is, always.
        iou_thr: see :func:`~facedet_mm.detectors.build_detector`.
        input_size: likewise; ``'auto'`` is a third faster on wide frames than 640, with the same result.
        threads: likewise.
        tracker: a preset (``faces``, ``bytetrack``, ``conservative``, ``aggressive``) or settings.
        keyframes: run the detector on each so many frames only, or ``'adaptive'``.
        optical_flow: between keyframes follow the pixels, too.
        low_light: ``'auto'``, ``'on'`` or ``'off'``: brighten dark frames for the detector.
        gamma: of the brightening.
        fill_gaps: put a tracked face into up to so many frames that missed it between two sightings; frames then
            come out that much later.
        anonymize: instead of drawing, make faces unrecognizable: ``'blur'``, ``'pixelate'`` or ``'fill'``.

    Raises:
        ModelError, MissingDependencyError, FaceDetError: as ``build_detector`` does; options that don't go together.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> video = VideoFaceDetector(keyframes=5)
        >>> summary = video.process_video(asset_path("four_people.mp4"), progress=False)
        >>> summary["total_frames"], summary["unique_faces"]
        (150, 4)
    """

    def __init__(
        self,
        model_path: Output | None = None,
        model_name: str | None = None,
        device: str | None = None,
        use_tracking: bool = True,
        use_smoothing: bool = True,
        *,
        score_thr: float = 0.5,
        iou_thr: float = 0.4,
        input_size: InputSizes = "auto",
        threads: int | None = None,
        tracker: TrackerSettings | str = "faces",
        keyframes: int | Any = 1,
        optical_flow: bool = False,
        low_light: Any = "off",
        gamma: float | None = None,
        fill_gaps: int = 0,
        anonymize: Method | None = None,
    ) -> None:
        self.options = StreamOptions(
            tracker if use_tracking else None, use_smoothing, score_thr, keyframes, optical_flow, low_light, gamma
        )
        check_thresholds(score_thr, iou_thr)
        if not isinstance(fill_gaps, (int, np.integer)) or fill_gaps < 0:
            raise FaceDetError(f"fill_gaps must be a whole number of frames from 0 on, not {fill_gaps!r}")
        if anonymize is not None and anonymize not in get_args(Method):
            raise FaceDetError(f"anonymize must be one of {', '.join(get_args(Method))} or None, not {anonymize!r}")
        if fill_gaps and not use_tracking:
            raise FaceDetError("fill_gaps needs tracking: a gap is where a track was missed")
        self.fill_gaps = fill_gaps
        self.anonymize = anonymize
        self.detector = _detector(
            model_path,
            model_name,
            device=device,
            score_thr=self.options.detector_score_thr,
            iou_thr=iou_thr,
            input_size=input_size,
            threads=threads,
        )

    def stream(self, source: Output | int | Source) -> Iterator[tuple[Frame, Faces]]:
        """The frames of a video with their faces, as they come.

        Args:
            source: a file, folder, pattern, camera number, address, ``'-'``, or what ``open_source`` gives.

        Raises:
            VideoError: it can't be opened, or breaks off: after the last frame that could be read.
            FaceDetError: the detector can't run.
        """
        with (
            _opened(source) as opened,
            closing(self._faces(opened, self._face_stream(opened))) as all_,
        ):
            yield from all_

    def process_video(
        self,
        source: Output | int | Source,
        output_path: Output | Sequence[Output] | None = None,
        show: bool = False,
        *,
        progress: bool | None = None,
    ) -> dict[str, Any]:
        """Runs through a video; decoding, detection, drawing and writing overlap.

        Whatever ends it, Ctrl-C, a file that breaks off, a full disk, what was done by then is finished into whole
        files, and ``stopped`` says what it was.

        Args:
            source: see :meth:`stream`.
            output_path: a file to write or several: a video (``.mp4``, ``.mkv``, ``.mov``, ``.avi``, ``.webm``), a
                folder for images, ``.jsonl``, ``.csv`` or MOT ``.txt``.
            show: in a window; q or Esc ends.
            progress: a progress bar on standard error; ``None`` shows it on a terminal.

        Returns:
            ``total_frames``, ``detected_frames`` (those on which the detector ran), ``total_faces``,
            ``avg_faces_per_frame``, ``unique_faces`` (ids given; ``None`` without tracking), ``avg_fps`` (of the
            processing), ``video_seconds``, ``seconds``, ``dropped_frames`` (of a live source), ``outputs``, ``notes``
            (what the outputs lack), ``stopped`` (``None`` when it ran to its end).

        Raises:
            VideoError: the source or an output can't be opened.
        """
        outputs = [output_path] if isinstance(output_path, (str, os.PathLike)) else list(output_path or [])
        with _opened(source) as opened:
            sinks: list[Sink] = []
            try:
                sinks += [open_sink(path, opened.info) for path in outputs]
                sinks += [WindowSink(opened.info.name)] if show else []
            except BaseException:
                for sink in sinks:
                    sink.abort()
                raise
            tally = self._run(opened, sinks, progress)
            return tally.summary(opened.dropped, [os.fspath(path) for path in outputs if tally.frames], _notes(sinks))

    def _run(self, source: Source, sinks: list[Sink], progress: bool | None) -> _Tally:
        stream = self._face_stream(source)
        tally = _Tally(tracked=self.options.tracker is not None)
        found = prefetch(self._faces(source, stream), _AHEAD)
        shown = prefetch(self._drawn(found), _AHEAD, on_stop=source.close)
        hidden = not (sys.stderr.isatty() if progress is None else progress)
        try:
            with tqdm(total=source.info.total_frames, unit="frame", disable=hidden, dynamic_ncols=True) as bar:
                for frame, faces, image in shown:
                    with uninterrupted():  # or the files would differ by a frame
                        for sink in sinks:
                            sink.write(frame, faces, image)
                        tally.add(frame, faces)
                    bar.set_postfix_str(f"{len(faces)} faces", refresh=False)
                    bar.update()
                    if any(isinstance(sink, WindowSink) and sink.closed for sink in sinks):
                        break
        except KeyboardInterrupt:
            tally.stopped = "interrupted"
        except FaceDetError as error:
            tally.stopped = str(error)
        finally:
            source.close()
            shown.close()
            if not tally.frames:
                tally.stopped = tally.stopped or f"{source.info.name}: not one frame came"
            for sink in sinks:
                try:
                    sink.close() if tally.frames else sink.abort()
                except FaceDetError as error:
                    tally.stopped = tally.stopped or str(error)
        tally.detections = stream.detections
        return tally

    def _face_stream(self, source: Source) -> FaceStream:
        return FaceStream(self.detector, self.options, source.info.fps, remember=self.fill_gaps + 1)

    def _faces(self, source: Source, stream: FaceStream) -> Generator[tuple[Frame, Faces], None, None]:
        with closing(iter(source) if source.info.live else prefetch(iter(source), _AHEAD)) as frames:
            found = ((frame, stream.update(frame)) for frame in frames)
            yield from _filled(found, self.fill_gaps) if self.fill_gaps else found

    def _drawn(self, found: Generator[tuple[Frame, Faces], None, None]) -> Generator[Shown, None, None]:
        with closing(found):  # or its thread would go on for as long as an error holds on to it
            for frame, faces in found:
                if self.anonymize:
                    yield frame, faces, anonymize(frame.image, faces, self.anonymize)
                else:
                    yield frame, faces, draw_faces(frame.image, faces)


@dataclass
class _Tally:
    """What is counted on the way."""

    tracked: bool
    started: float = field(default_factory=time.perf_counter)
    frames: int = 0
    detections: int = 0
    faces: int = 0
    ids: int = 0
    video_seconds: float = 0.0
    stopped: str | None = None

    def add(self, frame: Frame, faces: Faces) -> None:
        self.frames += 1
        self.faces += len(faces)
        self.video_seconds = frame.time
        if faces.track_ids is not None:
            self.ids = max(self.ids, int(faces.track_ids.max(initial=0)))

    def summary(self, dropped: int, outputs: list[str], notes: list[str]) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        return {
            "total_frames": self.frames,
            "detected_frames": self.detections,
            "total_faces": self.faces,
            "avg_faces_per_frame": self.faces / max(1, self.frames),
            "unique_faces": self.ids if self.tracked else None,
            "avg_fps": self.frames / max(1e-9, seconds),
            "seconds": seconds,
            "video_seconds": self.video_seconds,
            "dropped_frames": dropped,
            "outputs": outputs,
            "notes": notes,
            "stopped": self.stopped,
        }


def _filled(found: Iterable[tuple[Frame, Faces]], max_gap: int) -> Iterator[tuple[Frame, Faces]]:
    """The frames, ``max_gap`` late, with the gaps of tracks filled; all of them, too, when the video breaks off."""
    filler, waiting = GapFiller(max_gap), deque[Frame]()
    broken: FaceDetError | None = None
    try:
        for frame, faces in found:
            waiting.append(frame)
            yield from ((waiting.popleft(), ready) for ready in filler.push(faces))
    except FaceDetError as error:
        broken = error
    yield from ((waiting.popleft(), ready) for ready in filler.flush())
    if broken:
        raise broken


def _notes(sinks: Iterable[Sink]) -> list[str]:
    return [note for sink in sinks if (note := getattr(sink, "note", ""))]


def _opened(source: Output | int | Source) -> Source:
    return open_source(source) if isinstance(source, (str, int, os.PathLike)) else source


def _detector(path: Output | None, name: str | None, **options: Any) -> Detector:
    if path is None:
        return build_detector(name or "yunet_n", **options)
    if name is None:
        return build_detector(path, **options)
    return build_detector(name, path, **options)
