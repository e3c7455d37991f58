"""Every option of every command changes what the command does.

Each command runs twice in front of recording stand-ins, without and with the option. What it passes on, prints and
writes must differ, or the option is declared and not used.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest

from facedet_mm.cli import COMMANDS, build_parser
from facedet_mm.detectors import DetectorOptions
from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.zoo import find_model

VALUES = {
    "--annotations": "GT", "--attributes": "attributes.txt", "--batch": "2", "--batches": "2",
    "--by": "folder",
    "--calibration": "{album}/sub", "--category": "head", "--device": "cuda:1", "--dynamic": "batch", "--gamma": "1.5",
    "--image": "{album}/a.png", "--images": "{album}/sub", "--iou-thr": "0.25", "--json": "{out}/x.json",
    "--keyframes": "5", "--license": "MIT", "--margin": "0.7", "--min-sharpness": "1", "--min-size": "45",
    "--model": "scrfd_1g", "--out": "{out}/other", "--plot": "{out}/x.png", "--predictions": "found", "--raw-fps": "12",
    "--raw-size": "64x48", "--samples": "1", "--score-thr": "0.25", "--seconds": "7", "--severities": "2",
    "--rotations": "90", "--size": "320", "--sizes": "320", "--static": "320", "--tiles": "640",
    "--val": "0.5", "data browse --out": "{out}/other.jpg",
    "--weights": "w.onnx",
}  # fmt: skip
"""Values of options, of one command or all, that take no choice and no path; every other option gets a number."""
BASES = {
    "detect": "{album} --quiet --json {out}/f.json",
    "video": "{album} --out {out}/frames {out}/f.jsonl",
    "bench": "",
    "eval": "found GT",
    "robustness": "yunet_n --annotations gt --images images --out {out}",
    "report": "run --out {out}/r.html",
    "track-eval": "found gt",
    "export": "config last.pth --out {out}/m.onnx",
    "quantize": "{album}/model.onnx --calibration {album}/a.png {album}/c.png",
    "models fetch": "scrfd_1g",
    "doctor": "",
    **{f"data {action}": "{album}/a.txt" for action in ("check", "stats", "browse")},
    "data convert": "{album}/a.txt {out}/new --to voc",
    "data split": "{album}/a.txt {out}/new",
}
CONTEXTS = {
    ("detect", "--align"): "--crops {out}/crops",
    ("detect", "--anonymize"): "--out {out}/images",
    ("detect", "--margin"): "--crops {out}/crops",
    ("detect", "--pages"): "--recursive",
    ("detect", "--quiet"): "",
    ("quantize", "--annotations"): "--annotations gt --images images",
    ("quantize", "--images"): "--annotations gt --images images",
    ("quantize", "--recursive"): "--calibration {album}",
    ("report", "--attributes"): "--annotations gt",
    ("report", "--allow-missing"): "--annotations gt",
}
"""Options that act only beside another one."""
_NUMBERS = re.compile(r" (at |id=')0?x?[0-9a-f]+")
"""Addresses in what Python prints of an object."""
FACES = Faces(
    [[10, 10, 50, 60], [60, 20, 90, 50], [100, 30, 130, 60]],
    [0.9, 0.3, 0.2],
    np.array([[9, 7], [22, 11], [11, 16], [5, 20], [15, 25]]) + np.array([[[10, 20]], [[60, 20]], [[100, 30]]]),
)


class FakeDetector:
    """Finds the same three faces, above its threshold, in every image, and keeps no secrets."""

    def __init__(self, log: MagicMock, options: DetectorOptions) -> None:
        score_thr = 0.5 if options.score_thr is None else options.score_thr
        self.log, self.options = log, replace(options, score_thr=score_thr)

    def replace(self, **changes: Any) -> FakeDetector:
        return FakeDetector(self.log, replace(self.options, **changes))

    def detect(self, image: Any) -> Faces:
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[Any]) -> list[Faces]:
        self.log.detect(self.options, list(images))
        return [FACES[FACES.scores > min(0.25, self.options.score_thr)]] * len(images)


@dataclass
class Scores:
    """One row of a table of tracking scores."""

    hota: float = 0.5
    mota: float = 0.5
    idf1: float = 0.5
    switches: int = 1
    tracks: int = 2


def normalized(value: Any) -> Any:
    """What can be compared and told apart between two runs."""
    if isinstance(value, argparse.Namespace):
        raise AssertionError("an argparse.Namespace leaves the command line")
    if isinstance(value, np.ndarray):
        return value.shape, zlib.crc32(np.ascontiguousarray(value).tobytes())
    if isinstance(value, dict):
        return {str(key): normalized(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [normalized(item) for item in value]
    if isinstance(value, FakeDetector):
        return repr(value.options)
    if isinstance(value, (MagicMock, SimpleNamespace)) or callable(value):
        return type(value).__name__
    return _NUMBERS.sub("", repr(value))


def record_neighbors(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch, **results: Any) -> None:
    """Replaces all that a command imports from other rooms; ``results`` are what some of them return."""
    for name, value in list(vars(module).items()):
        place = getattr(value, "__module__", None) or ""
        error = isinstance(value, type) and issubclass(value, BaseException)
        ours = place.startswith("facedet_mm.cli") and name != "write_result"
        if not callable(value) or error or not place.startswith("facedet_mm.") or ours:
            continue
        if name in ("DetectorOptions", "declared_settings", "one_line") or place == "facedet_mm.benchmark.timing":
            continue
        stand_in = getattr(log, name)
        if name in results:
            stand_in.side_effect = results[name]
        monkeypatch.setattr(module, name, stand_in)


def prepare_detect(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_detector", lambda options: FakeDetector(log, options))
    pool = module.thread_pool
    monkeypatch.setattr(module, "thread_pool", lambda workers: (log.thread_pool(workers), pool(workers))[1])


def prepare_video(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    from facedet_mm.video import face_stream, pipeline

    def wrap(place: Any, name: str) -> None:
        original = getattr(place, name)
        record = getattr(log, name)
        monkeypatch.setattr(
            place, name, lambda *args, **options: (record(*args, **options), original(*args, **options))[1]
        )

    monkeypatch.setattr(pipeline, "open_detector", lambda options: FakeDetector(log, options))
    for name in ("KeyframePolicy", "LowLight", "Propagator", "ByteTracker", "FaceSmoother"):
        wrap(face_stream, name)
    wrap(pipeline, "GapFiller")

    class Window:
        closed = False

        def __init__(self, title: str) -> None:
            log.window(title)

        def write(self, *_: object) -> None: ...

        def close(self) -> None: ...

        abort = close

    monkeypatch.setattr(pipeline, "WindowSink", Window)
    source = module.open_source
    monkeypatch.setattr(module, "open_source", lambda name, **raw: (log.open_source(name, **raw), source(name))[1])


def prepare_bench(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    record_neighbors(
        module, log, monkeypatch, open_detector=lambda options: FakeDetector(log, options),
        read_image=lambda path: np.full((40, 50, 3), len(Path(path).name), np.uint8),
    )  # fmt: skip
    log.detection_times.side_effect = lambda *_: [1.0] * 5
    monkeypatch.setattr(module, "detection_times", log.detection_times)


def prepare_robustness(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, results = module.plan_cells, SimpleNamespace(ap={}, path="r.json", save=lambda: None, cells=[])
    results.mean_drop = dict
    record_neighbors(
        module, log, monkeypatch, plan_cells=plan, measure=lambda *_: iter(()), find_images=lambda *_: [],
        open_detector=lambda options: FakeDetector(log, options),
    )  # fmt: skip
    monkeypatch.setattr(module, "Results", SimpleNamespace(open=lambda *args: (log.results(*args), results)[1]))


def prepare_eval(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    record_neighbors(module, log, monkeypatch)


def prepare_report(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    record_neighbors(module, log, monkeypatch)


def prepare_track_eval(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    record_neighbors(module, log, monkeypatch, score_tracks=lambda *_: {"clip": Scores()})


def prepare_export(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    record_neighbors(module, log, monkeypatch)
    monkeypatch.setattr(module.importlib, "import_module", lambda _: log.plugin)


def prepare_quantize(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: Path, out: Path, images: Any, **_: Any) -> SimpleNamespace:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(model.read_bytes())
        return SimpleNamespace(convolutions=3, images=len(images), bytes_before=2, bytes_after=1)

    record_neighbors(
        module, log, monkeypatch, quantize_onnx=write, clean_ap=lambda *_: {"hard": 50.0},
        build_detector=lambda *args, **options: FakeDetector(log, DetectorOptions(*args, **options)),
        read_image=lambda _: np.zeros((40, 50, 3), np.uint8),
        write_result=lambda path, _: log.written(path),
    )  # fmt: skip
    monkeypatch.setattr(module, "print", lambda *_, **__: None, raising=False)  # times differ from run to run
    log.write_result = MagicMock(side_effect=lambda path, _: log.written(path))


def prepare_models(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    record_neighbors(
        module, log, monkeypatch, find_model=find_model, weights_path=lambda _: None, fetch=lambda *_, **__: "x"
    )


def prepare_doctor(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    report = dict(
        facedet_mm="1", python="3", platform="x", gpus=[], devices={}, features=[], problems=[],
        cpu=dict(name="cpu", cores=1, features=None), cache=dict(path="c", files=0, bytes=0, writable=True),
    )  # fmt: skip
    record_neighbors(module, log, monkeypatch, diagnose=lambda: report)


def prepare_data(module: Any, log: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    image = MagicMock(size=(10, 10), landmark_weights=None, ignore=np.zeros(1, bool))
    data = SimpleNamespace(kind="coco", images=[image] * 2, places=[], folder=None, notes=[], problems=[])
    record_neighbors(
        module, log, monkeypatch, read_dataset=lambda *_: data, split=lambda *_: (data, data), convert=lambda *_: [],
        find_faults=lambda *_: iter([("box has no area", "x")] * 30),
        find_image_folder=lambda *_: Path("images"), Targets=lambda *_: MagicMock(),
        measure=lambda *_: SimpleNamespace(to_dict=lambda: {"percentiles": [1]}, face_sizes=[], fitted_sizes=[]),
    )  # fmt: skip


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of ``detect`` or ``models fetch``."""
    parser = build_parser(command.split()[0])
    for word in command.split():
        parser = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[word]
    return parser


def commands() -> Iterator[str]:
    """All commands, those with actions of their own action by action."""
    for command in COMMANDS:
        actions = [a for a in parser_of(command)._actions if isinstance(a, argparse._SubParsersAction)]
        yield from (f"{command} {name}" for a in actions for name in a.choices)
        if not actions:
            yield command


def flags() -> Iterator[tuple[str, str]]:
    """All commands with each of their options."""
    for command in commands():
        for action in parser_of(command)._actions:
            if action.option_strings and action.dest != "help":
                yield command, max(action.option_strings, key=len)


def value(command: str, flag: str) -> list[str]:
    """Words after the flag that differ from its default."""
    action = next(action for action in parser_of(command)._actions if flag in action.option_strings)
    if action.nargs == 0:
        return []
    if action.choices:
        defaults = action.default if isinstance(action.default, (list, tuple)) else []
        return [next(str(c) for c in reversed(list(action.choices)) if c != action.default and [c] != defaults)]
    path = "{out}/" + flag.strip("-") if action.type is Path else None
    return [VALUES.get(f"{command} {flag}") or VALUES.get(flag) or path or "7"]


@pytest.fixture
def observe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line and returns all that can be seen of it."""
    album, out = tmp_path / "album", tmp_path / "out"
    (album / "sub").mkdir(parents=True)
    for i, name in enumerate(("a", "c", "sub/b")):
        image = np.random.default_rng(i).integers(0, 256, (80, 140, 3), np.uint8)
        cv2.imwrite(str(album / f"{name}.png"), image)
    (album / "pages").mkdir()
    cv2.imwritemulti(str(album / "pages" / "two.tif"), [image, 255 - image])
    (album / "model.onnx").write_bytes(b"a model")
    monkeypatch.chdir(tmp_path)

    def run(command: str, words: str) -> Any:
        shutil.rmtree(out, ignore_errors=True)
        name = command.split()[0]
        argv = f"{command} {BASES.get(command, '')} {words}".format(album=album, out=out).split()
        args = build_parser(name).parse_args(argv)
        module = importlib.import_module(f"facedet_mm.cli.{name.replace('-', '_')}")
        log = MagicMock()
        capsys.readouterr()
        with monkeypatch.context() as patch:
            globals()[f"prepare_{name.replace('-', '_')}"](module, log, patch)
            module.run(args)
        calls = [(call[0], normalized(call[1]), normalized(call[2])) for call in log.mock_calls if "__" not in call[0]]
        files = {str(p.relative_to(out)): zlib.crc32(p.read_bytes()) for p in sorted(out.rglob("*")) if p.is_file()}
        printed = "" if name == "video" else _NUMBERS.sub("", capsys.readouterr().out)  # which tells the speed
        return sorted(map(repr, calls)), files, printed

    return run


@pytest.mark.parametrize(("command", "flag"), list(flags()))
def test_every_option_changes_what_its_command_does(command: str, flag: str, observe: Any) -> None:
    context = CONTEXTS.get((command, flag), "")
    words = f"{flag} {' '.join(value(command, flag))}"
    if flag == "--quiet":
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BASES, "detect", "{album}")
            before, after = observe(command, context), observe(command, f"{context} {words}")
    else:
        before, again, after = (
            observe(command, context),
            observe(command, context),
            observe(command, f"{context} {words}"),
        )
        assert before == again, "the command itself is not repeatable"
    assert after != before, f"facedet {command} {flag} changes nothing"


@pytest.mark.parametrize("context", ["--crops {out}/crops", "--out {out}/images --anonymize fill"])
def test_the_margin_acts_on_crops_and_on_hidden_faces(context: str, observe: Any) -> None:
    assert observe("detect", context) != observe("detect", f"{context} --margin 0.7")


@pytest.mark.parametrize("flag", ["--precision", "--max-faces", "--tiles", "--threads", "--device", "--weights"])
@pytest.mark.parametrize("command", ["detect", "video", "bench", "robustness"])
def test_the_detector_gets_what_the_command_line_says(command: str, flag: str, observe: Any) -> None:
    (word,) = value(command, flag)
    name = flag.strip("-").replace("-", "_")
    expected = {"max_faces": 7, "tiles": (640, 640), "threads": 7}.get(name, word)
    calls, _, _ = observe(command, f"{flag} {word}")
    used = [call for call in calls if "DetectorOptions(" in call]
    assert used
    assert all(f"{name}={expected!r}" in call.replace("\\", "") for call in used)


def test_every_command_is_walked() -> None:
    walked = {command.split()[0] for command, _ in flags()}
    assert walked == set(COMMANDS) - {"completion"}, "completion has a positional argument only"
    assert len(list(flags())) > 100


def test_an_error_in_the_settings_of_a_video_is_found_before_anything_runs(observe: Any) -> None:
    with pytest.raises(FaceDetError, match="keyframes need tracking"):
        observe("video", "--no-tracking --keyframes 5")
