"""``VideoFaceDetector``: from a video, camera or stream to tracked faces, files and a summary."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facedet_mm.detectors import DetectorOptions, open_detector
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.anonymization import Method, anonymize
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.imaging.face_filter import FaceFilter
from facedet_mm.structures import Faces
from facedet_mm.system.concurrency import prefetch, uninterrupted
from facedet_mm.system.settings import COUNT, declared_settings, document, one_of, setting
from facedet_mm.tracking.gaps import GapFiller
from facedet_mm.video.best_shots import BestShots
from facedet_mm.video.face_stream import FaceStream, StreamOptions
from facedet_mm.video.frame import Frame
from facedet_mm.video.reader import Source
from facedet_mm.video.sink import Sink
from facedet_mm.video.sources import open_source
from facedet_mm.video.window_sink import WindowSink
from facedet_mm.video.writers import check_outputs, open_sink

Output: TypeAlias = str | os.PathLike[str]
Shown: TypeAlias = tuple[Frame, Faces, NDArray[np.uint8]]

_AHEAD = 4
"""Number of frames that wait between two stages."""
_AHEAD_BYTES = 2**28
"""Bytes of the frames that wait between two stages, if they are so large that four would be more."""


@document
@dataclass(frozen=True)
class VideoOptions(FaceFilter, StreamOptions):
    """Settings of the processing of a video: those of the search for faces and those of the output.

    Faces are left out after tracking, so that a track goes on while its face is left out.

    Raises:
        FaceDetError: A value is out of range, or settings do not go together.

    Example:
        >>> VideoOptions(keyframes=5, fill_gaps=10).fill_gaps
        10
    """

    fill_gaps: int = field(
        default=0,
        metadata=setting(
            "Fill in a tracked face that was missed for up to N frames; the output is delayed by as much",
            COUNT,
            metavar="N",
        ),
    )
    anonymize: Method | None = field(
        default=None,
        metadata=setting(
            "Make faces unrecognizable instead of drawing boxes",
            one_of(*get_args(Method)),
            choices=get_args(Method),
            default_help="draw boxes",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fill_gaps and self.tracker is None:
            raise FaceDetError("fill_gaps needs tracking: a gap is where a track was missed")


class VideoFaceDetector:
    """Finds, tracks and draws the faces of videos, cameras and streams.

    Args:
        model_path: An ``.onnx`` or ``.pth`` file; ``None`` uses the weights of ``model_name``.
        model_name: Model name or config, needed for a ``.pth`` file; ``None`` uses the bundled model where there is
            no ``model_path`` either.
        device: Device, see :class:`~facedet_mm.detectors.options.DetectorOptions`.
        use_tracking: Whether faces get track IDs.
        use_smoothing: Whether boxes and landmarks of tracked faces are smoothed.
        **options: Other settings of :class:`VideoOptions` and of
            :class:`~facedet_mm.detectors.options.DetectorOptions`, whose ``input_size`` is ``'auto'`` by default: a
            third faster than 640 on wide frames, with the same result.

    Attributes:
        options: Settings of the video.
        detector: Detector that runs on the frames.

    Raises:
        ModelError, MissingDependencyError: The detector can't be built, as in ``build_detector``.
        FaceDetError: A value is out of range, or settings do not go together.

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
        **options: Any,
    ) -> None:
        of_video = {item.name for item, _ in declared_settings(VideoOptions)}
        video = VideoOptions(**{name: value for name, value in options.items() if name in of_video})
        tracker = video.tracker if use_tracking else None
        rest = {name: value for name, value in options.items() if name not in of_video}
        model, weights = (model_path, None) if model_name is None else (model_name, model_path)
        named = {} if model is None else {"model": model}
        size = {} if rest.get("preset") else {"input_size": "auto"}
        self._open(
            DetectorOptions(**{**size, **named, **rest, "weights": weights, "device": device}),
            replace(video, tracker=tracker, smoothing=use_smoothing),
        )

    @classmethod
    def from_options(cls, detector: DetectorOptions, video: VideoOptions) -> VideoFaceDetector:
        """Returns an object with these settings; ``video.score_thr`` replaces that of ``detector``."""
        new = cls.__new__(cls)
        new._open(detector, video)
        return new

    def _open(self, detector: DetectorOptions, video: VideoOptions) -> None:
        opened = open_detector(replace(detector, score_thr=video.score_thr))
        self.options = replace(video, score_thr=opened.options.score_thr)
        self._models = (detector.model, detector.weights)
        self.detector = opened.replace(score_thr=self.options.detector_score_thr)

    def stream(self, source: Output | int | Source) -> Iterator[tuple[Frame, Faces]]:
        """Yields the frames of a video with their faces, in order.

        Among the ``track_ids`` of a frame, -1 stands for a face that belongs to no track: it was found for the first
        time, and is a false alarm if the next frame does not confirm it.

        Args:
            source: A file, folder, pattern, camera number, address, ``'-'``, or the result of ``open_source``.

        Raises:
            VideoError: The source can't be opened, or breaks off; then after the last frame that could be read.
            FaceDetError: The detector can't run.
        """
        with (
            _opened(source) as opened,
            closing(self._faces(opened, self._face_stream(opened), _Tally())) as all_,
        ):
            yield from all_

    def process_video(
        self,
        source: Output | int | Source,
        output_path: Output | Sequence[Output] | None = None,
        show: bool = False,
        *,
        progress: bool | None = None,
        best_shots: Output | None = None,
    ) -> dict[str, Any]:
        """Processes a video; decoding, detection, drawing and writing overlap.

        If the input breaks off, the disk fills up or you press Ctrl-C, everything processed so far is kept in complete
        files, and ``stopped`` names the reason.

        Args:
            source: Source of the frames, see :meth:`stream`.
            output_path: File to write, or several: a video (``.mp4``, ``.mkv``, ``.mov``, ``.avi``, ``.webm``), a
                folder for images, ``.jsonl``, ``.csv`` or MOT ``.txt``.
            show: Whether to show the frames in a window; q or Esc ends.
            progress: Whether to show a progress bar on standard error; ``None`` shows it on a terminal.
            best_shots: Folder for the best image of each track, see :class:`~facedet_mm.video.best_shots.BestShots`.

        Returns:
            ``total_frames``, ``detected_frames`` (those on which the detector ran), ``total_faces``,
            ``avg_faces_per_frame``, ``unique_faces`` (number of tracks that last for at least a quarter of a second,
            see :class:`~facedet_mm.tracking.counting.TrackCounter`; ``None`` without tracking), ``avg_fps`` (of the
            processing), ``video_seconds``, ``seconds``, ``dropped_frames`` (of a live source), ``left_out`` (number of
            faces by the setting that left them out; tracks are counted before), ``outputs``, ``notes`` (peculiarities
            of the input and limitations of the outputs), ``stopped`` (``None`` if the video ended normally).

        Raises:
            VideoError: The source or an output can't be opened.
            FaceDetError: An output would overwrite a file that is read, or two outputs would share one.
            FaceDetError: ``best_shots`` are wanted without tracking.
        """
        if best_shots is not None and self.options.tracker is None:
            raise FaceDetError("best shots need tracking: there is one for each track")
        outputs = [output_path] if isinstance(output_path, (str, os.PathLike)) else list(output_path or [])
        with _opened(source) as opened:
            check_outputs(outputs, opened.info, self._models, best_shots)
            sinks: list[Sink] = []
            try:
                shots = None if best_shots is None else BestShots(best_shots, self.options, opened.info.fps)
                sinks += [open_sink(path, opened.info) for path in outputs]
                sinks += [WindowSink(opened.info.name)] if show else []
            except BaseException:
                for sink in sinks:
                    sink.abort()
                raise
            tally = self._run(opened, sinks, progress, shots)
            written = [*outputs, *([] if best_shots is None else [best_shots])]
            return tally.summary(
                opened.dropped,
                [os.fspath(path) for path in written if tally.frames],
                [*opened.info.notes, *_notes(sinks)],
            )

    def _run(self, source: Source, sinks: list[Sink], progress: bool | None, shots: BestShots | None) -> _Tally:
        stream = self._face_stream(source)
        tally = _Tally(tracked=self.options.tracker is not None)
        ahead = _frames_ahead(source)
        found = prefetch(self._faces(source, stream, tally, shots), ahead)
        shown = prefetch(self._drawn(found), ahead, on_stop=source.close)
        hidden = not (sys.stderr.isatty() if progress is None else progress)
        try:
            with tqdm(total=source.info.total_frames, unit="frame", disable=hidden, dynamic_ncols=True) as bar:
                for frame, faces, image in shown:
                    with uninterrupted():  # so that all files end with the same frame
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
                tally.stopped = tally.stopped or f"{source.info.name}: no frame could be read"
            closes = [sink.close if tally.frames else sink.abort for sink in sinks]
            for close in [*closes, *([shots.close] if shots and tally.frames else [])]:
                try:
                    close()
                except FaceDetError as error:
                    tally.stopped = tally.stopped or str(error)
        tally.detections, tally.tracks = stream.detections, stream.tracks.count
        return tally

    def _face_stream(self, source: Source) -> FaceStream:
        return FaceStream(self.detector, self.options, source.info.fps, remember=self.options.fill_gaps + 1)

    def _faces(
        self, source: Source, stream: FaceStream, tally: _Tally, shots: BestShots | None = None
    ) -> Generator[tuple[Frame, Faces], None, None]:
        with closing(iter(source) if source.info.live else prefetch(iter(source), _frames_ahead(source))) as frames:
            found = _found(stream, frames, shots)
            max_gap = self.options.fill_gaps
            found = _filled(found, max_gap) if max_gap else found
            yield from _kept(found, self.options, tally.left_out) if self.options.filters else found

    def _drawn(self, found: Generator[tuple[Frame, Faces], None, None]) -> Generator[Shown, None, None]:
        with closing(found):  # so that its thread ends even while an error is kept
            for frame, faces in found:
                if method := self.options.anonymize:
                    yield frame, faces, anonymize(frame.image, faces, method)
                else:
                    yield frame, faces, draw_faces(frame.image, faces)


@dataclass
class _Tally:
    """Counts of the frames and faces processed so far."""

    tracked: bool = True
    started: float = field(default_factory=time.perf_counter)
    frames: int = 0
    detections: int = 0
    faces: int = 0
    tracks: int = 0
    video_seconds: float = 0.0
    stopped: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, frame: Frame, faces: Faces) -> None:
        self.frames += 1
        self.faces += len(faces)
        self.video_seconds = frame.time

    def summary(self, dropped: int, outputs: list[str], notes: list[str]) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        return {
            "total_frames": self.frames,
            "detected_frames": self.detections,
            "total_faces": self.faces,
            "avg_faces_per_frame": self.faces / max(1, self.frames),
            "unique_faces": self.tracks if self.tracked else None,
            "avg_fps": self.frames / max(1e-9, seconds),
            "seconds": seconds,
            "video_seconds": self.video_seconds,
            "dropped_frames": dropped,
            "left_out": dict(self.left_out),
            "outputs": outputs,
            "notes": notes,
            "stopped": self.stopped,
        }


def _found(stream: FaceStream, frames: Iterable[Frame], shots: BestShots | None) -> Iterator[tuple[Frame, Faces]]:
    """Yields the frames with their faces; those that were detected, not predicted, may be the best of their track."""
    for frame in frames:
        before = stream.detections
        faces = stream.update(frame)
        if shots is not None and stream.detections > before:
            shots.add(frame, faces)
        yield frame, faces


def _kept(
    found: Iterable[tuple[Frame, Faces]], face_filter: FaceFilter, left_out: Counter[str]
) -> Iterator[tuple[Frame, Faces]]:
    """Yields the frames with the faces that the filter keeps, and counts the others."""
    for frame, faces in found:
        reasons = face_filter.reasons(faces.attributes(frame.image))
        left_out.update(filter(None, reasons))
        yield frame, faces[np.array([not reason for reason in reasons], bool)]


def _filled(found: Iterable[tuple[Frame, Faces]], max_gap: int) -> Iterator[tuple[Frame, Faces]]:
    """Yields the frames, ``max_gap`` late, with the gaps of tracks filled; all frames, even if the video breaks off."""
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


def _frames_ahead(source: Source) -> int:
    return max(1, min(_AHEAD, _AHEAD_BYTES // (3 * source.info.width * source.info.height)))


def _notes(sinks: Iterable[Sink]) -> list[str]:
    return [note for sink in sinks if (note := getattr(sink, "note", ""))]


def _opened(source: Output | int | Source) -> Source:
    return open_source(source) if isinstance(source, (str, int, os.PathLike)) else source
