"""Settings classes: values are checked once, and command lines are made from their fields."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import fields

import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.cli.arguments import add_settings, settings_from
from facedet_mm.detectors import DetectorOptions
from facedet_mm.errors import FaceDetError
from facedet_mm.system.settings import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, POSITIVE_NUMBER, declared_settings
from facedet_mm.video.pipeline import VideoOptions


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (FRACTION, [0, 0.5, 1, np.float32(0.25)], [-0.1, 1.1, float("nan"), "x", None, True]),
        (NON_NEGATIVE, [0, 7.5], [-1, float("inf"), float("nan"), False]),
        (POSITIVE_NUMBER, [1e-9, 3], [0, -1, float("inf")]),
        (POSITIVE, [1, np.int64(9)], [0, 2.5, True, "3", [1]]),
        (COUNT, [0, 5], [-1, 0.5, None]),
    ],
)
def test_a_kind_takes_its_values_and_names_what_it_expects(kind, good, bad) -> None:
    for value in good:
        assert kind.checked("x", value) == value
    for value in bad:
        with pytest.raises(FaceDetError, match=f"x must be {kind.expected}, not"):
            kind.checked("x", value)


@pytest.mark.parametrize("cls", [DetectorOptions, VideoOptions])
def test_every_field_is_a_setting_with_one_sentence_of_help(cls) -> None:
    declared = declared_settings(cls)
    assert [item.name for item, _ in declared] == [item.name for item in fields(cls)]
    for item, setting in declared:
        assert setting.help[0].isupper(), item.name
        assert not setting.help.endswith("."), item.name
        assert f"    {item.name}: " in cls.__doc__


def test_build_detector_has_the_signature_of_the_options() -> None:
    ours, theirs = inspect.signature(build_detector), inspect.signature(DetectorOptions)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
    assert list(ours.parameters)[:4] == ["model", "weights", "device", "score_thr"]


def test_a_command_line_without_options_gives_the_defaults_and_with_them_the_values() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, DetectorOptions, input_size="auto")
    assert settings_from(parser.parse_args([]), DetectorOptions) == DetectorOptions(input_size="auto")
    words = "--model scrfd_1g --size 320,640x480,original --tiles 800x600 --max-faces 3 --threads 2 --score-thr 0.1"
    assert settings_from(parser.parse_args(words.split()), DetectorOptions) == DetectorOptions(
        "scrfd_1g", score_thr=0.1, input_size=[320, (640, 480), "original"], max_faces=3, tiles=(800, 600), threads=2
    )


def test_values_that_the_options_refuse_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, DetectorOptions)
    for words, message in {
        "--tiles 10": "tiles must be at least 64 pixels",
        "--tiles many": "must be a side like 640 or WxH like 800x600, not 'many'",
        "--size 640,650": "must be a multiple of 32; nearest is 640 x 640",
        "--max-faces 0": "must be a whole number from 1 on, not '0'",
        "--precision int4": "must be one of fp32, fp16, bf16, int8, not 'int4'",
    }.items():
        with pytest.raises(SystemExit):
            parser.parse_args(words.split())
        assert message in capsys.readouterr().err
