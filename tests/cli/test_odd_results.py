"""Results files of the corruption benchmark from anywhere: nothing in them is believed that a run does not write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mutations import damaged

from facedet_mm.benchmark.results import Results
from facedet_mm.benchmark.robustness import Cell
from facedet_mm.errors import FaceDetError

RUN: dict[str, Any] = {"model": ["abc"], "images": 1, "size": 640, "corruptions": {"jpeg": [1, 2]}}
AP = {"easy": 0.9, "medium": 0.8, "hard": 0.5}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    results = Results(tmp_path / "robustness.json", RUN)
    results.ap[Cell("clean")] = AP
    results.ap[Cell("jpeg", 1)] = {**AP, "hard": 0.25}
    results.save()
    return results.path


def change(path: Path, **changes: Any) -> None:
    """Adds a cell like that of JPEG, with changes."""
    content = json.loads(path.read_text())
    content["cells"].append({**content["cells"][1], "severity": 2, **changes})
    path.write_text(json.dumps(content))


def test_what_was_saved_is_read(saved: Path) -> None:
    change(saved, hard=None, easy=0, medium=1)
    results = Results.open(saved, RUN)
    assert len(results.ap) == 3
    assert results.ap[Cell("jpeg", 1)]["hard"] == 0.25


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"corruption": "fog"}, "its cell 'fog, 2' is unknown"),
        ({"severity": 4}, "'jpeg, 4' is unknown"),
        ({"severity": 0}, "is unknown"),
        ({"severity": -1}, "is unknown"),
        ({"clahe": True}, r"'jpeg \+ CLAHE, 2' is unknown"),
        ({"severity": 1}, "'jpeg, 1' is there twice"),
        ({"severity": 1.9}, "has no corruption, severity or clahe"),
        ({"severity": "1"}, "has no corruption, severity or clahe"),
        ({"severity": True}, "has no corruption, severity or clahe"),
        ({"clahe": "false"}, "has no corruption, severity or clahe"),
        ({"corruption": ["jpeg"]}, "has no corruption, severity or clahe"),
        ({"hard": 2}, "an AP hard is '2', not a number from 0 to 1"),
        ({"hard": -0.1}, "an AP hard"),
        ({"hard": "0.5"}, "an AP hard"),
        ({"hard": True}, "an AP hard"),
        ({"hard": [[0.5]]}, "an AP hard"),
        ({"hard": 10**400}, "an AP hard"),
        ({"hard": float("nan")}, "NaN is no JSON"),
        ({"hard": float("inf")}, "Infinity is no JSON"),
    ],
)
def test_a_cell_that_no_run_writes_is_refused(saved: Path, changes: dict[str, Any], reason: str) -> None:
    change(saved, **changes)
    before = saved.read_bytes()
    with pytest.raises(FaceDetError, match=rf"robustness\.json has no results of this benchmark \(.*{reason}"):
        Results.open(saved, RUN)
    assert saved.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", "null", "{}", '{"run": {}}', '{"run": [], "cells": []}', '{"run": {}, "cells": {}}'),
        *('{"run": {}, "cells": [3]}', '{"run": {}, "run": {}, "cells": []}', "[" * 9999, '{"a": 1' + "0" * 5000),
        *('{"run": {}, "cells": [{}]}', '{"run": {}, "cells": [[]]}', '{"run": {}, "cells": null}'),
    ],
)
def test_other_json_is_refused(saved: Path, text: str) -> None:
    saved.write_text(text)
    with pytest.raises(FaceDetError, match=r"robustness\.json has no results of this benchmark"):
        Results.open(saved, RUN)


@pytest.mark.parametrize("images", [True, 1.0, "1", None, [1]])
def test_a_run_whose_numbers_are_of_another_type_is_another_run(saved: Path, images: Any) -> None:
    with pytest.raises(FaceDetError, match="another run, which differs in images;"):
        Results.open(saved, {**RUN, "images": images})


def test_a_run_that_differs_in_everything_is_named_briefly(saved: Path) -> None:
    with pytest.raises(FaceDetError) as caught:
        Results.open(saved, {**RUN, **{f"option {i}": i for i in range(1000)}})
    assert len(str(caught.value)) < 400


def test_damaged_files_are_read_as_fractions_or_refused(saved: Path) -> None:
    read = 0
    valid = saved.read_bytes()
    for data in damaged(valid, 400):
        saved.write_bytes(data)
        try:
            results = Results.open(saved, RUN)
        except FaceDetError:
            continue
        read += 1
        results.save()
        assert all(-1 <= drop <= 1 or drop != drop for drop in results.mean_drop().values())
        saved.unlink()
    assert 5 < read < 390
