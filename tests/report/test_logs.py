"""Training logs are read, joined and named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from report_samples import Page, lines_of, training_rows, write_log

from facedet_mm.cli import main
from facedet_mm.errors import AnnotationError
from facedet_mm.report.logs import final_metrics, read_rows
from facedet_mm.report.runs import find_runs


def test_logs_of_a_resumed_run_are_joined_without_what_was_done_twice(tmp_path: Path) -> None:
    write_log(tmp_path / "20250101_000000", training_rows(4))
    write_log(tmp_path / "20250102_000000", training_rows(3, first=3, offset=1.0))
    log = find_runs([tmp_path])[0].log
    epochs, losses = log.losses("loss_cls")
    steps = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    assert epochs.tolist() == [step / 10 for step in steps]
    assert losses.tolist() == pytest.approx([3 / step + (step > 20) for step in steps])
    assert log.ap("easy")[0].tolist() == [1, 2, 3, 4, 5]
    assert log.ap("hard")[1].tolist() == pytest.approx([100 * epoch / 12 for epoch in (1, 2, 3, 4, 5)])


def test_a_run_that_counts_iterations_puts_all_on_the_axis_of_iterations(tmp_path: Path) -> None:
    rows = [{"loss": 1.0, "step": 50}, {"wider_face/hard": 0.5, "step": 50}, {"loss": 0.5, "step": 100}]
    write_log(tmp_path / "a" / "1", rows)
    write_log(tmp_path / "b" / "1", training_rows(4))
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "r.html")]) == 0
    page = Page((tmp_path / "r.html").read_text())
    rows = page.rows(page.chart("AP hard"))
    assert rows[0][0] == "iteration"
    assert [row[0] for row in rows[1:]] == ["10", "20", "30", "40", "50"]
    assert rows[-1] == ["50", "50", "–"]


@pytest.mark.parametrize(
    "broken",
    ['{"loss": 1.0, "step"\n', "[1]", '{"loss": 1.0}', '{"step": true}', '{"step": NaN}', "2", "\xff", "[" * 9999],
)
def test_a_broken_line_of_a_log_is_named(tmp_path: Path, capsys: Any, broken: str) -> None:
    write_log(tmp_path / "1", training_rows(1))
    with (tmp_path / "1/vis_data/scalars.json").open("a") as file:
        file.write(broken)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 1
    error = capsys.readouterr().err
    assert "scalars.json, line 4: expected a JSON object with a number 'step'" in error
    assert not (tmp_path / "r.html").exists()


def test_a_last_line_that_was_cut_off_is_left_out_and_numbers_of_any_kind_are_read(tmp_path: Path) -> None:
    log = tmp_path / "scalars.json"
    text = '{"step": 1, "loss": NaN, "lr": -Infinity, "note": "é", "ok": true}\n\r\n{"step": 2.0, "loss": 1e999}\n'
    whole = text + '{"step": 3, "loss": 0.5, "note": "é"}'
    log.write_bytes(whole.encode())
    assert read_rows(log)[2] == {"step": 3, "loss": 0.5}
    for end in range(len(text.encode()), len(whole.encode())):
        log.write_bytes(whole.encode()[:end])
        first, second = read_rows(log)
        assert math.isnan(first.pop("loss"))
        assert first == {"step": 1, "lr": -math.inf}
        assert second == {"step": 2.0, "loss": math.inf}
    log.write_text(f"{text}{{\n{text}")
    with pytest.raises(AnnotationError, match=r"scalars\.json, line 4: expected a JSON object"):
        read_rows(log)


def test_the_final_metrics_are_those_of_the_newest_session_that_finished(tmp_path: Path) -> None:
    assert final_metrics(tmp_path, 4) is None
    write_log(tmp_path / "20250101_000000", [*training_rows(4), {"step": 4, "loss": 1}])
    write_log(tmp_path / "20250102_000000", [{"step": 4, "loss": 1, "lr": 1}, {"step": 3, "wider_face/hard": 0.75}])
    with (tmp_path / "20250102_000000" / "vis_data" / "scalars.json").open("a") as file:
        file.write('{"step": 4, "wider_face/hard": 0.')
    assert final_metrics(tmp_path, 4) == {
        "wider_face/easy": 0.4,
        "wider_face/medium": 4 / 11,
        "wider_face/hard": 4 / 12,
    }
    write_log(tmp_path / "20250103_000000", [{"step": 4, "wider_face/hard": 0.25, "time": 2}])
    assert final_metrics(tmp_path, 4) == {"wider_face/hard": 0.25}
    assert final_metrics(tmp_path, 5) is None


def test_names_are_as_short_as_tells_runs_apart(tmp_path: Path) -> None:
    paths = [write_log(tmp_path / name, []) for name in ("a/run", "b/run", "other")]
    assert [run.name for run in find_runs([*paths, paths[0]])] == ["a/run", "b/run", "other", "a/run (2)"]


def test_a_log_of_nothing_but_nan_and_one_with_a_gap_are_drawn(tmp_path: Path) -> None:
    rows = [{"loss": float("nan") if step in (3, 4) else 1 / step, "loss_x": float("nan"), "step": step, "epoch": step}
            for step in range(1, 9)]  # fmt: skip
    write_log(tmp_path / "run" / "1", rows)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    page = Page((tmp_path / "r.html").read_text())
    (drawn,) = lines_of(page, "loss")
    assert len(drawn) == 6
    (group,) = page.inside(page.chart("loss"), "g", **{"class": "line run0"})
    assert page.inside(group, "path")[0].attrs["d"].count("M") == 2
    assert page.chart("loss_x").text == "loss_xNo values."
    assert "nan" not in "".join(page.text).lower()
