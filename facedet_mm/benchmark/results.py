"""The results file of the corruption benchmark."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facedet_mm.benchmark.robustness import CLEAN, TURNED, Cell, plan_cells
from facedet_mm.datasets.ground_truth import SETTINGS, GroundTruth
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.corruptions import CORRUPTIONS, SEVERITIES
from facedet_mm.system.files import write_text
from facedet_mm.system.reading import MB, read_text_file, unique_names

_LARGEST_FILE = 16 * MB


def describe_run(
    model_files: Sequence[Path], settings: dict[str, Any], ground_truth: GroundTruth, images: Sequence[Path]
) -> dict[str, Any]:
    """Returns what results must have in common to be in one table, as JSON values.

    Args:
        model_files: Files of the model, identified by their content.
        settings: Settings of the detector, such as sizes, thresholds and device.
        ground_truth: Ground truth, identified by its content.
        images: Images, identified by their sizes in bytes.

    Raises:
        FaceDetError: A file can't be read.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> files = [asset_path("yunet_n_dynamic.onnx")]
        >>> describe_run(files, {"size": 640}, GroundTruth.from_images([]), [])["model"][0][:8]
        '104ee26c'
    """
    data = hashlib.sha256()
    try:
        model = [hashlib.sha256(path.read_bytes()).hexdigest() for path in model_files]
        data.update(json.dumps([ground_truth.names, [path.stat().st_size for path in images]]).encode())
    except OSError as error:
        raise FaceDetError(f"cannot read {error.filename}: {error.strerror or error}") from error
    for array in (ground_truth.offsets, ground_truth.boxes, *ground_truth.settings.values()):
        data.update(np.ascontiguousarray(array).tobytes())
    corruptions = {name: list(kind.values) for name, kind in CORRUPTIONS.items()}
    run = {"model": model, "data": data.hexdigest(), "images": len(images), **settings, "corruptions": corruptions}
    fit_for_json: dict[str, Any] = json.loads(json.dumps(run))
    return fit_for_json


@dataclass
class Results:
    """The results of one run, kept in a file that a later run continues.

    Attributes:
        path: Path of the JSON file.
        run: Description of the run, see :func:`describe_run`.
        ap: Cell → setting → AP as a fraction; NaN where no face counts.

    Example:
        >>> results = Results(Path("robustness.json"), {})
        >>> results.ap[Cell("clean")] = {"easy": 0.9, "medium": 0.8, "hard": 0.6}
        >>> results.ap[Cell("jpeg", 1)] = {"easy": 0.9, "medium": 0.7, "hard": 0.5}
        >>> {setting: round(drop, 3) for setting, drop in results.mean_drop().items()}
        {'easy': 0.0, 'medium': 0.1, 'hard': 0.1}
    """

    path: Path
    run: dict[str, Any]
    ap: dict[Cell, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, run: dict[str, Any]) -> Results:
        """Reads the results of an earlier run if the file exists; otherwise starts empty.

        Raises:
            FaceDetError: The file belongs to another run, or is not such a file.
        """
        try:
            path.stat()
        except FileNotFoundError:
            return cls(path, run)
        except (OSError, ValueError):
            pass  # reading the file says what is wrong
        text = read_text_file(path, _LARGEST_FILE, "a file of results")
        try:
            content = json.loads(text, object_pairs_hook=unique_names, parse_constant=_refuse_constant)
            before, ap = _parse(content)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise FaceDetError(
                f"{path} has no results of this benchmark ({reason}); delete it or write elsewhere"
            ) from error
        differing = [key for key in {**before, **run} if _json(before.get(key)) != _json(run.get(key))]
        if differing:
            names = ", ".join(differing[:5]) + (", …" if len(differing) > 5 else "")
            raise FaceDetError(
                f"{path} has the results of another run, which differs in {names}; delete it or write elsewhere"
            )
        return cls(path, run, ap)

    def save(self) -> None:
        """Writes the file atomically.

        Raises:
            FaceDetError: The file can't be written.
        """
        content = {"run": self.run, "mean_drop": _finite(self.mean_drop()), "cells": [self._row(c) for c in self.cells]}
        write_text(self.path, json.dumps(content, indent=2) + "\n")

    @property
    def cells(self) -> list[Cell]:
        """The measured cells, in the order of the benchmark."""
        return [cell for cell in plan_cells(CORRUPTIONS, SEVERITIES, clahe=True) if cell in self.ap]

    def mean_drop(self) -> dict[str, float]:
        """Returns the mean drop of all corrupted cells except CLAHE and rotation, by setting; NaN without any."""
        corrupted = [cell for cell in self.ap if cell.severity and not cell.clahe and cell.corruption != TURNED]
        if not corrupted or Cell(CLEAN) not in self.ap:
            return dict.fromkeys(SETTINGS, math.nan)
        clean = self.ap[Cell(CLEAN)]
        return {s: math.fsum(clean[s] - self.ap[cell][s] for cell in corrupted) / len(corrupted) for s in SETTINGS}

    def _row(self, cell: Cell) -> dict[str, Any]:
        return {**cell._asdict(), "value": cell.value, **_finite(self.ap[cell])}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _json(value: Any) -> str:
    """Returns a text that differs where values differ: Python takes ``True`` for 1 and ``1.0`` for 1."""
    return json.dumps(value, sort_keys=True)


def _parse(content: Any) -> tuple[dict[str, Any], dict[Cell, dict[str, float]]]:
    """Returns the description of the run and the results of its cells.

    Raises:
        ValueError: The content is not what :meth:`Results.save` writes.
    """
    if not isinstance(content, dict) or not isinstance(content.get("run"), dict):
        raise ValueError("it does not describe a run")
    rows = content.get("cells")
    if not isinstance(rows, list):
        raise ValueError("it has no cells")
    known = set(plan_cells(CORRUPTIONS, SEVERITIES, clahe=True))
    found: dict[Cell, dict[str, float]] = {}
    for row in rows:
        cell, ap = _cell(row)
        if cell not in known or cell in found:
            raise ValueError(f"its cell {str(cell)[:60]!r} is {'there twice' if cell in found else 'unknown'}")
        found[cell] = ap
    return content["run"], found


def _cell(row: Any) -> tuple[Cell, dict[str, float]]:
    if not isinstance(row, dict):
        raise ValueError("a cell is no object")
    name, severity, clahe = row.get("corruption"), row.get("severity"), row.get("clahe")
    if not isinstance(name, str) or type(severity) is not int or not isinstance(clahe, bool):
        raise ValueError("a cell has no corruption, severity or clahe")
    return Cell(name, severity, clahe), {setting: _fraction(row, setting) for setting in SETTINGS}


def _fraction(row: dict[str, Any], setting: str) -> float:
    value = row.get(setting, "")
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"an AP {setting} is {str(value)[:40]!r}, not a number from 0 to 1")
    return float(value)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
