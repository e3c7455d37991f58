"""The search's one file: architectures, where they stand, and what they gave."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import FaceDetError

STEPS = ("backbone", "all")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS search (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    step TEXT NOT NULL,
    model TEXT NOT NULL,
    settings TEXT NOT NULL,
    operations INTEGER NOT NULL,
    parameters INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    worker TEXT,
    metrics TEXT,
    error TEXT,
    UNIQUE (step, model)
);
"""


@dataclass(frozen=True)
class Run:
    """An architecture and its training.

    Attributes:
        id: a number from 1 on.
        step: of the search, one of :data:`STEPS`.
        model: what makes its model out of the template's.
        settings: what the statistics are about: name → number.
        operations: for one image of 640×480.
        parameters: of the model.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        metrics: what its evaluation gave, ``None`` before.
        error: why it failed, else ``None``.
    """

    id: int
    step: str
    model: dict[str, Any]
    settings: dict[str, float]
    operations: int
    parameters: int
    state: str
    metrics: dict[str, float] | None
    error: str | None


class SearchStore:
    """A search's SQLite file; several workers may use it at once, on one machine or on a shared disk.

    Args:
        path: the file; made where it does not exist.

    Raises:
        FaceDetError: the file is none of SQLite, or it can't be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FaceDetError(f"{self.path.parent}: {error.strerror}") from error
        with self._open() as connection:
            connection.executescript(_SCHEMA)

    def facts(self) -> dict[str, Any]:
        """What the search is about, empty for a new one."""
        with self._open() as connection:
            return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM search")}

    def settle(self, facts: Mapping[str, Any]) -> None:
        """Writes down what the search is about.

        Raises:
            FaceDetError: it is about something else already.
        """
        before = self.facts()
        for key, value in facts.items():
            if before.get(key, value) != value:
                raise FaceDetError(
                    f"{self.path} is a search with {key} {before[key]!r}, not {value!r}: use another folder"
                )
        with self._open() as connection:
            rows = [(key, json.dumps(value)) for key, value in facts.items()]
            connection.executemany("INSERT OR REPLACE INTO search VALUES (?, ?)", rows)

    def add(self, step: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Adds architectures (``model``, ``settings``, ``operations``, ``parameters``) that the step lacks.

        Returns:
            How many were new.
        """
        values = [
            (step, json.dumps(row["model"]), json.dumps(row["settings"]), row["operations"], row["parameters"])
            for row in rows
        ]
        with self._open() as connection:
            sql = "INSERT OR IGNORE INTO runs (step, model, settings, operations, parameters) VALUES (?, ?, ?, ?, ?)"
            return connection.executemany(sql, values).rowcount

    def runs(self, step: str | None = None, state: str | None = None) -> list[Run]:
        """Those of a step and state, in the order in which they were added."""
        wanted = {name: value for name, value in (("step", step), ("state", state)) if value is not None}
        where = " AND ".join(f"{name} = ?" for name in wanted)
        with self._open() as connection:
            sql = f"SELECT {_COLUMNS} FROM runs {'WHERE ' + where if where else ''} ORDER BY id"
            return [_run(row) for row in connection.execute(sql, tuple(wanted.values()))]

    def claim(self, step: str | None = None) -> Run | None:
        """Takes the first waiting run for this process; ``None`` where there is none."""
        worker = f"{socket.gethostname()} {os.getpid()}"
        where, values = ("AND step = ?", (step,)) if step else ("", ())
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # no other worker looks before this one has written
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE state = 'waiting' {where} ORDER BY id LIMIT 1", values
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE runs SET state = 'running', worker = ?, error = NULL WHERE id = ?", (worker, row[0])
            )
        return _run(row)

    def finish(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Writes down what a run gave."""
        self._update(run, "done", json.dumps(dict(metrics)), None)

    def fail(self, run: Run, error: str) -> None:
        """Writes down why a run failed."""
        self._update(run, "failed", None, error)

    def release(self, run: Run) -> None:
        """Gives a run back that was interrupted."""
        self._update(run, "waiting", None, None)

    def recover(self, failed: bool = False) -> int:
        """Gives back the runs of this machine's workers that are no more, and with ``failed`` the failed ones.

        Returns:
            How many there were.
        """
        with self._open() as connection:
            rows = connection.execute("SELECT id, worker FROM runs WHERE state = 'running'").fetchall()
            lost = [(number,) for number, worker in rows if _is_gone(worker)]
            connection.executemany("UPDATE runs SET state = 'waiting' WHERE id = ?", lost)
            again = (
                connection.execute("UPDATE runs SET state = 'waiting' WHERE state = 'failed'").rowcount if failed else 0
            )
        return len(lost) + again

    def _update(self, run: Run, state: str, metrics: str | None, error: str | None) -> None:
        with self._open() as connection:
            sql = "UPDATE runs SET state = ?, metrics = ?, error = ? WHERE id = ?"
            connection.execute(sql, (state, metrics, error, run.id))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection, committed and closed at the end; nothing is written when the block fails."""
        try:
            connection = sqlite3.connect(self.path, timeout=60)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise FaceDetError(
                f"{self.path}: {error} (is it a search's file, writable, on a disk with room?)"
            ) from error


_COLUMNS = "id, step, model, settings, operations, parameters, state, metrics, error"


def _run(row: Sequence[Any]) -> Run:
    number, step, model, settings, operations, parameters, state, metrics, error = row
    return Run(
        number, step, json.loads(model), json.loads(settings), operations, parameters, state,
        json.loads(metrics) if metrics else None, error,
    )  # fmt: skip


def _is_gone(worker: str) -> bool:
    host, pid = worker.rsplit(" ", 1)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
