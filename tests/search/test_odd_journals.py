"""Files from anywhere in the place of a search's journal: each is read, or refused in one line that names it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mutations import damaged

optuna = pytest.importorskip("optuna")

from facedet_mm.errors import FaceDetError  # noqa: E402
from facedet_mm.search.cost import SETTINGS, SHARES  # noqa: E402
from facedet_mm.search.sampling import Space  # noqa: E402
from facedet_mm.search.store import SearchStore  # noqa: E402


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A search with a finished, a failed and a waiting architecture."""
    store = SearchStore(tmp_path / "search.journal")
    store.settle("scrfd_0.5g.py", 1e9)
    rows = [
        {
            "settings": dict.fromkeys(SETTINGS, 8 + i),
            "shares": dict.fromkeys(SHARES, 0.1),
            "operations": 9,
            "parameters": 9,
        }
        for i in range(3)
    ]
    store.add("all", rows, Space(blocks=(1, 200), head_convs=(1, 200)).ranges())
    store.finish(store.claim(), {"wider_face/hard": 0.5, "wider_face/easy": float("nan")})
    store.fail(store.claim(), "no memory")
    return store.path


def use(path: Path) -> list[Any]:
    """Does everything that the tool does with a journal."""
    store = SearchStore(path)
    store.facts()
    store.recover(failed=True)
    if claimed := store.claim():
        store.release(claimed)
    return store.architectures()


def test_a_whole_journal_is_read(journal: Path) -> None:
    assert [architecture.state for architecture in use(journal)] == ["done", "waiting", "waiting"]


def sqlite_file(path: Path, statements: str) -> None:
    with sqlite3.connect(path) as database:
        database.executescript(statements)
    database.close()


@pytest.mark.parametrize(
    "statements",
    [
        "CREATE TABLE other (id INTEGER); INSERT INTO other VALUES (1);",
        "CREATE TABLE studies (study_id INTEGER); CREATE TABLE trials (x BLOB);",
        "CREATE VIEW studies AS SELECT 1;",
    ],
)
def test_a_database_is_refused_and_left_alone(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "search.journal"
    sqlite_file(path, statements)
    before = path.read_bytes()
    for data in (before, before[:100], before[:-1000], before[:5] + before[50:]):
        path.write_bytes(data)
        with pytest.raises(FaceDetError, match=r"search\.journal: .* \(is it a search's journal"):
            SearchStore(path)
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    "content",
    [
        *(b"\x00" * 5000, b"\xff\xfe" + b"x\x00" * 99, b"[" * 5000 + b"\n", b"null\n", b"3\n", b'"text"\n', b"{}\n"),
        *(b'{"op_code": "x"}\n', b'{"op_code": 1e400}\n', b'{"op_code": 4, "worker_id": "a", "trial_id": 0}\n'),
        *(b'{"op_code": 0}\n', b'{"op_code": 0, "worker_id": "a", "study_name": 3, "directions": ["x"]}\n'),
        *(b'{"op_code": 0, "worker_id": "a", "study_name": [], "directions": [1]}\n', b'{"op_code": true}\n', b"\n"),
    ],
)
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "search.journal"
    path.write_bytes(content)
    with pytest.raises(FaceDetError, match=r"search\.journal: "):
        use(path)


def test_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "search.journal").mkdir()
    with pytest.raises(FaceDetError, match=r"search\.journal: it is no file"):
        SearchStore(tmp_path / "search.journal")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FaceDetError, match=r"pipe: it is no file"):
            SearchStore(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"wider_face/hard": 0.5', '"wider_face/hard": 2', "wider_face/hard is '2', not a number from 0 to 1"),
        ('"wider_face/hard": 0.5', '"wider_face/hard": NaN', "wider_face/hard of a finished architecture is not"),
        ('"wider_face/hard": 0.5', '"other": 0.5', "a finished architecture has no wider_face/hard"),
        ('"wider_face/hard": 0.5', '"wider_face/hard": [[1]]', "wider_face/hard is"),
        ('{"wider_face/hard": 0.5, "wider_face/easy": NaN}', "3", "a finished architecture has no wider_face/hard"),
        ('"operations": 9', '"operations": -9', "operations is '-9', not a whole number"),
        ('"operations": 9', '"operations": 1' + "0" * 400, "operations is '1000"),
        ('"operations": 9', '"operations": true', "operations is 'True'"),
        ('"budget": 1000000000.0', '"budget": NaN', "its budget 'nan' is no number"),
        ('"budget": 1000000000.0', '"budget": "1e9"', "its budget '1e9' is no number"),
        ('"budget": 1000000000.0', '"budget": -1', "its budget '-1' is no number"),
        ('"c2 of backbone": 0.1', '"c2 of backbone": 7', "c2 of backbone is '7', not a number from 0 to 1"),
    ],
)
def test_a_value_that_no_search_writes_is_refused(journal: Path, old: str, new: str, message: str) -> None:
    text = journal.read_text()
    old = old.replace(": ", ":").replace(", ", ",")
    assert old in text
    journal.write_text(text.replace(old, new, 1))
    with pytest.raises(FaceDetError, match=r"search\.journal: ") as caught:
        use(journal)
    assert message in str(caught.value)


def test_a_number_that_would_be_a_path_or_without_end_is_refused(journal: Path) -> None:
    lines = journal.read_text().splitlines()
    add = next(json.loads(line) for line in lines if '"operations"' in line)
    for number in ("../../evil", 10**400, -1, True, 1.5, [1]):
        extra = json.dumps({**add, "user_attrs": {**add["user_attrs"], "number": number}})
        journal.write_text("\n".join([*lines, extra]) + "\n")
        with pytest.raises(FaceDetError, match=r"search\.journal: number is "):
            use(journal)


def test_damaged_journals_are_read_or_refused(journal: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    read = 0
    for data in damaged(journal.read_bytes(), 250):
        journal.write_bytes(data)
        try:
            architectures = use(journal)
        except FaceDetError as error:
            if "search.journal" not in str(error):
                raise
            continue
        read += 1
        for architecture in architectures:
            assert all(type(value) is int and 0 <= value < 1 << 21 for value in architecture.settings.values())
    assert 20 < read < 250
