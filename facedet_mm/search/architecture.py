"""``Architecture``: one architecture of a search, which is kept as an Optuna trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from facedet_mm.search.cost import SETTINGS, SHARES

STEPS = ("backbone", "all")
METRIC = "wider_face/hard"
"""The metric that the search maximizes."""
RECORDED = ("shares", "operations", "parameters")
"""Attributes of a trial that stay the same when the architecture is trained again."""
_LARGEST_SETTING = 1 << 20
_LARGEST_NUMBER = 10**9
_MOST_OPERATIONS = 10**18
_LONGEST_ERROR = 1000
_STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "done",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Architecture:
    """An architecture and the state of its training.

    Attributes:
        number: Number within its step, from 1.
        step: Step of the search, one of :data:`STEPS`.
        settings: Setting name → value, for each of :data:`~facedet_mm.search.cost.SETTINGS`.
        shares: Share name → fraction of the operations, for each of :data:`~facedet_mm.search.cost.SHARES`.
        operations: Multiply-adds for one image of 640×480.
        parameters: Number of parameters of the model.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        metrics: Results of the evaluation, or ``None`` before it.
        error: Reason of the failure, or ``None``.
        trial: Number of its latest Optuna trial.
    """

    number: int
    step: str
    settings: dict[str, int]
    shares: dict[str, float]
    operations: int
    parameters: int
    state: str
    metrics: dict[str, float] | None
    error: str | None
    trial: int

    @classmethod
    def from_trial(cls, step: str, trial: FrozenTrial) -> Architecture:
        """Returns the architecture of an Optuna trial.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: The trial was not written by a search.
        """
        attributes: dict[str, Any] = trial.user_attrs
        done, failed = trial.state == TrialState.COMPLETE, trial.state == TrialState.FAIL
        if trial.state not in _STATES:
            raise ValueError(f"trial {trial.number} has the state {trial.state.name}, which a search never gives")
        shares = attributes["shares"]
        return cls(
            number=architecture_number(trial),
            step=step,
            settings={name: _whole(name, trial.params[name], _LARGEST_SETTING) for name in SETTINGS},
            shares={name: _fraction(name, shares[name]) for name in SHARES},
            operations=_whole("operations", attributes["operations"], _MOST_OPERATIONS),
            parameters=_whole("parameters", attributes["parameters"], _MOST_OPERATIONS),
            state=_STATES[trial.state],
            metrics=_checked_metrics(attributes["metrics"]) if done else None,
            error=str(attributes.get("error"))[:_LONGEST_ERROR] if failed else None,
            trial=trial.number,
        )


def architecture_number(trial: FrozenTrial | Trial) -> int:
    """Returns the number of a trial's architecture, which all its trials share."""
    return _whole("number", trial.user_attrs.get("number", trial.number + 1), _LARGEST_NUMBER)


def waiting_trial(
    settings: Mapping[str, int], ranges: Mapping[str, BaseDistribution], attributes: Mapping[str, Any]
) -> FrozenTrial:
    """Returns a trial that waits for a worker."""
    return create_trial(
        state=TrialState.WAITING, params=dict(settings), distributions=dict(ranges), user_attrs=dict(attributes)
    )


def _whole(name: str, value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a whole number from 0 to {most:,}")
    return value


def _fraction(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a number from 0 to 1")
    return float(value)


def _checked_metrics(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, dict) or METRIC not in metrics:
        raise ValueError(f"a finished architecture has no {METRIC}")
    known = {name: _fraction(name, value) for name, value in metrics.items() if value == value}
    if METRIC not in known:
        raise ValueError(f"{METRIC} of a finished architecture is not a number")
    return {name: known.get(name, math.nan) for name in metrics}  # NaN: no face counts in that setting
