"""The search's journal: one Optuna study per step, whose trials are the architectures."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import IntDistribution
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from facedet_mm.errors import FaceDetError
from facedet_mm.search.architecture import METRIC, RECORDED, STEPS, Architecture, architecture_number, waiting_trial

_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    OptunaError,
)
"""What Optuna raises for a damaged journal, or for one that cannot be read or written."""
_LARGEST_JOURNAL = 1 << 30
_START_UP = timedelta(minutes=1)
"""A worker that claimed an architecture this long ago has written its name beside it, unless it was killed."""


class SearchStore:
    """A search's journal; several workers may use it at once, on one machine or on a shared disk.

    Nothing in a journal is executed, imported or used as a path: it may come from a stranger.

    Args:
        path: Journal file; it is created if missing.

    Raises:
        FaceDetError: The file is not the journal of a search, or it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        lock = JournalFileOpenLock(str(self.path))
        with self._naming_the_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise ValueError("it is no file")
            if self.path.exists() and self.path.stat().st_size > _LARGEST_JOURNAL:
                raise ValueError("it is larger than 1 GB, which no search writes")
            self._storage = JournalStorage(JournalFileBackend(str(self.path), lock))
            known = {study.study_name for study in self._storage.get_all_studies()}
            if not known and self.path.stat().st_size:
                raise ValueError("it holds no study")
            _cut_off_half_a_line(self.path, lock)
            self._studies = {step: self._open_study(step, step in known) for step in STEPS}

    def facts(self) -> dict[str, Any]:
        """Returns ``template`` (a file name without a folder) and ``budget``, or an empty dict for a new search."""
        with self._naming_the_file():
            facts: dict[str, Any] = self._studies[STEPS[0]].user_attrs
            if facts and not re.fullmatch(r"\w[\w.-]*\.py", facts["template"]):
                raise ValueError(f"its template {facts['template']!r} is not a plain file name")
            budget = facts["budget"] if facts else 1.0
            if type(budget) not in (int, float) or not 0 < budget < 1e18:
                raise ValueError(f"its budget {str(budget)[:40]!r} is no number of multiply-adds")
            return dict(template=facts["template"], budget=float(budget)) if facts else {}

    def settle(self, template: str, budget: float) -> None:
        """Records what the search is about.

        Args:
            template: File name of the template, without a folder.
            budget: Multiply-adds for one image of 640×480.

        Raises:
            FaceDetError: The search has another template or budget already.
        """
        before = self.facts()
        for name, value in dict(template=template, budget=budget).items():
            if before.get(name, value) != value:
                raise FaceDetError(
                    f"{self.path} is a search with {name} {before[name]!r}, not {value!r}: use another folder"
                )
            with self._naming_the_file():
                self._studies[STEPS[0]].set_user_attr(name, value)

    def add(self, step: str, rows: Sequence[Mapping[str, Any]], ranges: Mapping[str, IntDistribution]) -> int:
        """Adds the architectures that the step lacks.

        Args:
            step: Step of the search.
            rows: ``settings``, ``shares``, ``operations`` and ``parameters`` of each.
            ranges: Setting name → the values that it was drawn from.

        Returns:
            Number of architectures added.
        """
        known = [architecture.settings for architecture in self.architectures(step)]
        new = [row for row in rows if row["settings"] not in known]
        with self._naming_the_file():
            for row in new:
                others = {name: row[name] for name in RECORDED}
                self._studies[step].add_trial(waiting_trial(row["settings"], ranges, others))
        return len(new)

    def architectures(self, step: str | None = None, state: str | None = None) -> list[Architecture]:
        """Returns the architectures of a step and state in the order in which they were added.

        Args:
            step: Step of the search; ``None`` returns those of all steps.
            state: State of the training; ``None`` returns those of all states.
        """
        with self._naming_the_file():
            everything = [
                Architecture.from_trial(name, trial)
                for name in ([step] if step else STEPS)
                for trial in self._latest(name).values()
            ]
        return [architecture for architecture in everything if state in (None, architecture.state)]

    def claim(self, step: str | None = None) -> Architecture | None:
        """Takes the first waiting architecture for this process; returns ``None`` if none is waiting."""
        with self._naming_the_file():
            for name in [step] if step else STEPS:
                study = self._studies[name]
                while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                    trial = study.ask()
                    if trial.params:
                        trial.set_user_attr("worker", [socket.gethostname(), os.getpid()])
                        return Architecture.from_trial(name, self._latest(name)[architecture_number(trial)])
                    study.tell(trial, state=TrialState.PRUNED)  # another worker was faster: Optuna made an empty trial
        return None

    def finish(self, architecture: Architecture, metrics: Mapping[str, float]) -> None:
        """Records the results of a training."""
        with self._naming_the_file():
            self._storage.set_trial_user_attr(self._trial_id(architecture), "metrics", dict(metrics))
            self._studies[architecture.step].tell(architecture.trial, metrics[METRIC])

    def fail(self, architecture: Architecture, error: str) -> None:
        """Records why a training failed."""
        with self._naming_the_file():
            self._storage.set_trial_user_attr(self._trial_id(architecture), "error", error)
            self._studies[architecture.step].tell(architecture.trial, state=TrialState.FAIL)

    def release(self, architecture: Architecture) -> None:
        """Lets an architecture whose training was interrupted wait again, at its old place in the queue."""
        with self._naming_the_file():
            trial = self._trial_id(architecture)
            self._storage.set_trial_user_attr(trial, "worker", None)
            self._storage.set_trial_state_values(trial, TrialState.WAITING)

    def recover(self, failed: bool = False) -> int:
        """Lets the architectures of this machine's dead workers wait again.

        Args:
            failed: Whether failed architectures wait again, too.

        Returns:
            Number of architectures that wait again.
        """
        recovered = 0
        with self._naming_the_file(), _locked(JournalFileOpenLock(f"{self.path}.recovery")):
            for step, study in self._studies.items():
                for number, trial in self._latest(step).items():
                    if trial.state == TrialState.RUNNING and _is_gone(trial):
                        self.release(Architecture.from_trial(step, trial))
                    elif trial.state == TrialState.FAIL and failed:
                        others = {name: trial.user_attrs[name] for name in RECORDED}
                        study.add_trial(waiting_trial(trial.params, trial.distributions, {**others, "number": number}))
                    else:
                        continue
                    recovered += 1
        return recovered

    def _open_study(self, step: str, exists: bool) -> optuna.Study:
        if exists:
            return optuna.load_study(study_name=step, storage=self._storage)
        return optuna.create_study(study_name=step, storage=self._storage, direction="maximize", load_if_exists=True)

    def _latest(self, step: str) -> dict[int, FrozenTrial]:
        """Returns the latest trial of each architecture by the architecture's number."""
        trials = self._studies[step].get_trials(deepcopy=False)
        return {architecture_number(trial): trial for trial in trials if trial.params}

    def _trial_id(self, architecture: Architecture) -> int:
        study = self._storage.get_study_id_from_name(architecture.step)
        return self._storage.get_trial_id_from_study_id_trial_number(study, architecture.trial)

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise FaceDetError(
                f"{self.path}: {str(error) or type(error).__name__} (is it a search's journal, writable, on a disk "
                "with room?)"
            ) from error


def _is_gone(trial: FrozenTrial) -> bool:
    """Returns whether the worker that claimed a trial ran on this machine and has ended."""
    worker: Any = trial.user_attrs.get("worker")
    if worker is None:
        return trial.datetime_start is None or datetime.now() - trial.datetime_start > _START_UP
    host, pid = worker
    if not isinstance(host, str) or type(pid) is not int or pid < 1:
        raise ValueError(f"{str(worker)[:60]!r} is no worker")
    if host != socket.gethostname() or os.name == "nt":  # where signal 0 is Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _cut_off_half_a_line(path: Path, lock: JournalFileOpenLock) -> None:
    """Removes a last line that a killed worker or a full disk left unfinished; the next one would be added to it."""
    if not path.read_bytes().endswith(b"\n"):
        with _locked(lock):
            whole = path.read_bytes()
            os.truncate(path, whole.rfind(b"\n") + 1)


@contextmanager
def _locked(lock: JournalFileOpenLock) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
