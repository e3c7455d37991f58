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

from facedet_mm.benchmark.robustness import CLEAN, Cell, plan_cells
from facedet_mm.datasets.ground_truth import SETTINGS, GroundTruth
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.corruptions import CORRUPTIONS, SEVERITIES
from facedet_mm.system.files import write_text


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
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path, run)
        except (OSError, UnicodeDecodeError) as error:
            raise FaceDetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            content = json.loads(text)
            ap = dict(_cell(row) for row in content["cells"])
            differing = [key for key in {**content["run"], **run} if content["run"].get(key) != run.get(key)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FaceDetError(f"{path} has no results of this benchmark; delete it or write elsewhere") from error
        if differing:
            raise FaceDetError(
                f"{path} has the results of another run, which differs in {', '.join(differing)}; delete it or write "
                "elsewhere"
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
        """Returns the mean drop of all corrupted cells except those with CLAHE, by setting; NaN without any."""
        corrupted = [cell for cell in self.ap if cell.severity and not cell.clahe]
        if not corrupted or Cell(CLEAN) not in self.ap:
            return dict.fromkeys(SETTINGS, math.nan)
        clean = self.ap[Cell(CLEAN)]
        return {s: math.fsum(clean[s] - self.ap[cell][s] for cell in corrupted) / len(corrupted) for s in SETTINGS}

    def _row(self, cell: Cell) -> dict[str, Any]:
        return {**cell._asdict(), "value": cell.value, **_finite(self.ap[cell])}


def _cell(row: dict[str, Any]) -> tuple[Cell, dict[str, float]]:
    ap = {s: math.nan if row[s] is None else float(row[s]) for s in SETTINGS}
    return Cell(str(row["corruption"]), int(row["severity"]), bool(row["clahe"])), ap


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
