"""Logs and times from anywhere: what the page makes of odd numbers, and what is refused with its line."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from mutations import damaged
from report_samples import Page, training_rows, write_log

from facedet_mm.cli import main
from facedet_mm.errors import AnnotationError
from facedet_mm.report import logs
from facedet_mm.report.galleries import galleries
from facedet_mm.report.logs import join_logs, read_rows
from facedet_mm.report.page import render
from facedet_mm.report.results import Options, Report
from facedet_mm.report.runs import Run, find_runs

HUGE = "1" + "0" * 400


def log_of(folder: Path, *lines: str) -> Path:
    path = folder / "scalars.json"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"step": -1, "loss": 1}', "step is not a whole number from 0"),
        ('{"step": 1.5, "loss": 1}', "step is not a whole number"),
        ('{"step": Infinity, "loss": 1}', "step is not a whole number"),
        (f'{{"step": {HUGE}, "loss": 1}}', "step is not a whole number"),
        ('{"step": true, "loss": 1}', "step is not a number"),
        ('{"step": [1], "loss": 1}', "step is not a number"),
        ('{"step": 2, "epoch": -1, "loss": 1}', "epoch is not a whole number from 0"),
        ('{"step": 2, "epoch": NaN, "loss": 1}', "epoch is not a whole number"),
        ('{"step": 2, "epoch": {"a": 1}, "loss": 1}', "epoch is not a number"),
        ('{"step": 2, "loss": "low"}', "loss is not a number"),
        ('{"step": 2, "loss": {"a": 1}}', "loss is not a number"),
        ('{"step": 2, "loss": 1, "loss": 2}', "a name comes twice"),
        ('{"step": 2, "wider_face/hard": 77.9}', "wider_face/hard is an AP, which is from 0 to 1"),
        ('{"step": 2, "wider_face/hard": -Infinity}', "is an AP, which is from 0 to 1"),
        ('{"step": 2, "a": ' + "[" * 9000 + "]" * 9000 + "}", "nested too deeply"),
        ('{"step": 2, "loss": ' + "1" * 5000 + "}", "Exceeds the limit"),
        ('{"loss": 2}', "it has no step"),
    ],
)
def test_an_odd_row_is_refused_with_its_line(tmp_path: Path, capsys: Any, line: str, reason: str) -> None:
    path = log_of(tmp_path, '{"step": 1, "loss": 1}', line)
    assert main(["report", str(path), "--out", str(tmp_path / "r.html")]) == 1
    error = capsys.readouterr().err
    assert f"{path}, line 2: expected a JSON object with a number 'step'" in error
    assert reason in error
    assert error.count("\n") == 1
    assert len(error) < 1000


def test_numbers_beyond_float32_are_infinite_and_other_values_are_left_out(tmp_path: Path) -> None:
    line = '{"step": 1, "loss": 3.5e38, "loss_a": -1e308, "loss_b": 1e400, "loss_c": %s, "b": true, "n": [1], "s": "x"}'
    (row,) = read_rows(log_of(tmp_path, line % HUGE))
    assert row == {"step": 1, "loss": math.inf, "loss_a": -math.inf, "loss_b": math.inf, "loss_c": math.inf}


def test_a_line_without_an_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log_of(tmp_path, '{"step": 1, "loss": 1}', '{"step": 2, "note": "' + "x" * (1 << 20) + '"}')
    with pytest.raises(AnnotationError, match=r"scalars\.json is not a log of a training run: line 2 has more than 1"):
        read_rows(path)
    if Path("/dev/zero").exists():
        with pytest.raises(AnnotationError, match="line 1 has more than 1 MB"):
            read_rows("/dev/zero")
    monkeypatch.setattr(logs, "_LARGEST_FILE", 60)
    with pytest.raises(AnnotationError, match="it is larger than"):
        read_rows(log_of(tmp_path, *['{"step": 1, "loss": 1}'] * 3))


def test_where_the_steps_of_a_log_go_back_the_later_rows_count() -> None:
    rows = [
        *({"step": 10, "epoch": 1, "loss": 5.0}, {"step": 1, "wider_face/hard": 0.1}),
        *({"step": 20, "epoch": 2, "loss": 4.0}, {"step": 2, "wider_face/hard": 0.2}),
        *({"step": 20, "epoch": 2, "loss": 3.0}, {"step": 2, "wider_face/hard": 0.3}),
        *({"step": 30, "epoch": 3, "loss": 2.0}, {"step": 3, "wider_face/hard": 0.4}),
    ]
    log = join_logs([rows])
    assert [(row["step"], row["loss"]) for row in log.train] == [(10, 5), (20, 3), (30, 2)]
    assert [(row["step"], row["wider_face/hard"]) for row in log.val] == [(1, 0.1), (2, 0.3), (3, 0.4)]


@pytest.mark.parametrize("loss", ["3.4e38", "-3.4e38", "1e-320", "1e400", "-1e400", "NaN", "0", "1e30"])
@pytest.mark.parametrize("epoch", ["0", "1", "9007199254740992"])
def test_a_page_is_drawn_of_every_row_that_is_read(tmp_path: Path, loss: str, epoch: str) -> None:
    rows = [
        f'{{"step": {step}, "epoch": {epoch}, "loss": {loss}, "time": {loss}, "memory": {loss}}}' for step in (0, 5)
    ]
    path = log_of(tmp_path, *rows, '{"step": 9007199254740992, "wider_face/hard": 1e-300, "time": 1e-320}')
    assert main(["report", str(path), "--out", str(tmp_path / "r.html")]) == 0
    text = "".join(Page((tmp_path / "r.html").read_text()).text).lower()
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1]", "something else than rows"),
        ('{"median_ms": 1}', "it is no list"),
        ('[{"median_ms": "5", "p95_ms": 5, "size": 1, "batch": 1, "threads": 1}]', "median_ms is missing or of"),
        ('[{"median_ms": 0, "p95_ms": 5, "size": 1, "batch": 1, "threads": 1}]', "median_ms is no time"),
        ('[{"median_ms": NaN, "p95_ms": 5, "size": 1, "batch": 1, "threads": 1}]', "median_ms is no time"),
        (f'[{{"median_ms": {HUGE}, "p95_ms": 5, "size": 1, "batch": 1, "threads": 1}}]', "median_ms is no time"),
        ('[{"median_ms": 5, "p95_ms": 5, "size": {}, "batch": 1, "threads": 1}]', "size is missing or of another"),
        ("[" * 9999, "nested too deeply"),
        ("", "Expecting value"),
    ],
)
def test_odd_times_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    write_log(tmp_path / "1", training_rows(1))
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(AnnotationError, match=rf"bench\.json: not a file that facedet bench --json writes.*{reason}"):
        find_runs([tmp_path])


def test_damaged_logs_are_drawn_or_refused(tmp_path: Path) -> None:
    valid = "".join(json.dumps(row) + "\n" for row in training_rows(1)).encode()
    path = tmp_path / "scalars.json"
    read = 0
    for number, data in enumerate(damaged(valid, 300)):
        path.write_bytes(data)
        try:
            log = join_logs([read_rows(path)])
        except AnnotationError:
            continue
        read += 1
        if number % 30 == 0:  # drawing takes a tenth of a second
            report = Report.of([Run("a", tmp_path, log, None, [])], None, None, Options())
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                render(report, tmp_path / "r.html")
                assert galleries(report, tmp_path / "r.html") == []
    assert 20 < read < 290
