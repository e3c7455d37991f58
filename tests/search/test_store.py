"""The search's journal: several workers, killed workers, failures, and journals from strangers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

from facedet_mm.errors import FaceDetError  # noqa: E402
from facedet_mm.search import store as store_module  # noqa: E402
from facedet_mm.search.cost import SETTINGS, SHARES  # noqa: E402
from facedet_mm.search.sampling import Space  # noqa: E402
from facedet_mm.search.store import SearchStore  # noqa: E402

METRICS = {"wider_face/hard": 0.5, "wider_face/easy": 0.75}
CLAIM = "from facedet_mm.search.store import SearchStore; import sys; store = SearchStore(sys.argv[1]); "


@pytest.fixture
def store(tmp_path: Path) -> SearchStore:
    return SearchStore(tmp_path / "search.journal")


def add(store: SearchStore, number: int, step: str = "all") -> int:
    """Makes a step have this many architectures."""
    rows = [
        dict(
            settings=dict.fromkeys(SETTINGS, 8 + i),
            shares=dict.fromkeys(SHARES, i / 100),
            operations=i,
            parameters=i,
        )
        for i in range(number)
    ]
    return store.add(step, rows, Space(blocks=(1, 200), head_convs=(1, 200)).ranges())


def states(store: SearchStore) -> list[str]:
    return [architecture.state for architecture in store.architectures()]


def start(store: SearchStore, code: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLAIM + code, str(store.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_architectures_come_back_as_they_were_added(store: SearchStore) -> None:
    assert add(store, 2) == 2
    first, second = SearchStore(store.path).architectures()
    assert (first.number, second.number, second.step, second.state) == (1, 2, "all", "waiting")
    assert second.settings == dict.fromkeys(SETTINGS, 9)
    assert second.shares == dict.fromkeys(SHARES, 0.01)
    assert (second.operations, second.parameters, second.metrics, second.error) == (1, 1, None, None)


def test_each_architecture_is_added_once_and_claimed_once(store: SearchStore) -> None:
    assert add(store, 3) == 3
    assert add(store, 4) == 1
    claimed = [SearchStore(store.path).claim() for _ in range(5)]
    assert [architecture.number if architecture else None for architecture in claimed] == [1, 2, 3, 4, None]
    assert store.recover() == 0  # this process lives
    assert states(store) == ["running"] * 4


def test_workers_that_claim_at_the_same_time_get_different_architectures(store: SearchStore) -> None:
    add(store, 24)
    code = "print('ready', flush=True); input()\nwhile claimed := store.claim(): print(claimed.number, flush=True)"
    workers = [start(store, code, stdin=subprocess.PIPE) for _ in range(3)]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 3
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [int(number) for worker in workers for number in worker.communicate(timeout=120)[0].split()]
    assert sorted(claimed) == list(range(1, 25))
    assert len(store.architectures()) == 24


def test_a_step_has_its_own_queue_and_the_first_step_goes_first(store: SearchStore) -> None:
    add(store, 1, "all")
    add(store, 2, "backbone")
    assert store.claim("all").step == "all"
    assert [store.claim().step, store.claim("all"), store.claim().step, store.claim()] == [
        "backbone", None, "backbone", None,
    ]  # fmt: skip
    assert [architecture.number for architecture in store.architectures("backbone", "running")] == [1, 2]
    assert store.architectures("all", "waiting") == []


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_workers_architecture_is_claimed_again(store: SearchStore) -> None:
    add(store, 2)
    worker = start(store, "store.claim(); print('claimed', flush=True); input()", stdin=subprocess.PIPE)
    assert worker.stdout.readline() == "claimed\n"
    assert store.recover() == 0  # it lives
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=60)
    assert states(store) == ["running", "waiting"]
    assert store.recover() == 1
    assert states(store) == ["waiting", "waiting"]
    assert store.claim().number == 1
    assert store.recover() == 0  # its worker is now this process


def test_a_worker_of_another_machine_is_left_alone(store: SearchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, 1)
    with monkeypatch.context() as patched:
        patched.setattr("socket.gethostname", lambda: "elsewhere")
        patched.setattr("os.getpid", lambda: 2**22 + 1)  # beyond Linux's largest
        store.claim()
    assert store.recover() == 0
    assert states(store) == ["running"]


def test_a_worker_killed_before_it_wrote_its_name_is_given_a_minute(
    store: SearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 1)
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "set_user_attr", lambda *_: None)
        store.claim()
    assert store.recover() == 0
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_START_UP", -store_module._START_UP)
        assert store.recover() == 1
    assert states(store) == ["waiting"]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_new_worker_is_not_taken_for_the_killed_one_before_it(
    store: SearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 1)
    start(store, "store.claim()").communicate(timeout=60)
    assert store.recover() == 1
    monkeypatch.setattr(optuna.Trial, "set_user_attr", lambda *_: None)  # it has not written its name yet
    store.claim()
    assert store.recover() == 0


def test_a_released_architecture_keeps_its_place_in_the_queue(store: SearchStore) -> None:
    add(store, 3)
    store.release(store.claim())
    assert [store.claim().number for _ in range(3)] == [1, 2, 3]


def test_failed_ones_are_tried_again_only_on_request(store: SearchStore) -> None:
    add(store, 2)
    store.fail(store.claim(), "no memory")
    assert (store.recover(), states(store)) == (0, ["failed", "waiting"])
    assert store.architectures(state="failed")[0].error == "no memory"
    assert store.recover(failed=True) == 1
    assert store.recover(failed=True) == 0
    assert states(store) == ["waiting", "waiting"]
    again = [store.claim(), store.claim()][1]
    assert (again.number, again.error) == (1, None)
    assert again.settings == dict.fromkeys(SETTINGS, 8)
    store.finish(again, METRICS)
    assert [done.number for done in store.architectures(state="done")] == [1]
    assert len(store.architectures()) == 2


def test_a_search_keeps_to_its_template_and_budget(store: SearchStore) -> None:
    assert store.facts() == {}
    store.settle("a.py", 1e9)
    store.settle("a.py", 1e9)
    assert SearchStore(store.path).facts() == {"template": "a.py", "budget": 1e9}
    with pytest.raises(FaceDetError, match=r"search with budget 1000000000\.0, not 2"):
        store.settle("a.py", 2e9)
    with pytest.raises(FaceDetError, match=r"search with template 'a\.py', not 'b\.py'"):
        store.settle("b.py", 1e9)


def test_any_program_can_read_the_journal_and_optuna_knows_the_settings(store: SearchStore) -> None:
    add(store, 3)
    for score in (0.5, 0.4):
        store.finish(store.claim(), {**METRICS, "wider_face/hard": score})
    assert all(isinstance(json.loads(line), dict) for line in store.path.read_text().splitlines())
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(store.path)))
    study = optuna.load_study(study_name="all", storage=storage)
    assert study.best_trial.value == 0.5
    assert study.best_trial.user_attrs["metrics"] == METRICS
    assert study.best_params == dict.fromkeys(SETTINGS, 8)
    assert study.best_trial.distributions["head channels"] == optuna.distributions.IntDistribution(8, 256)


def test_opening_a_search_does_not_change_its_journal(store: SearchStore) -> None:
    add(store, 1)
    before = store.path.read_bytes()
    assert len(SearchStore(store.path).architectures()) == 1
    assert store.path.read_bytes() == before


def test_half_a_line_at_the_end_does_no_harm(store: SearchStore) -> None:
    add(store, 2)
    with store.path.open("ab") as journal:
        journal.write(b'{"op_code":9,"trial')  # the disk was full
    again = SearchStore(store.path)
    again.finish(again.claim(), METRICS)
    assert states(SearchStore(store.path)) == ["done", "waiting"]


@pytest.mark.parametrize("content", [b"no journal", b"no journal\n" * 9, b'{"op_code": 99}\n', b"[1]\n", b"\xff\n\n"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.db"
    path.write_bytes(content)
    with pytest.raises(FaceDetError, match=r"text\.db: .* \(is it a search's journal"):
        SearchStore(path)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FaceDetError, match=r"file.search\.journal: .*(exists|directory)"):
        SearchStore(tmp_path / "file" / "search.journal")


class TestJournalsFromStrangers:
    """The settings end in a config, which is a program, and the worker's number in a system call."""

    def study(self, store: SearchStore) -> Any:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(store.path)))
        return optuna.load_study(study_name="all", storage=storage)

    @pytest.mark.parametrize(
        "changes",
        [
            {"params": dict.fromkeys(SETTINGS, "__import__('os')")},
            {"params": {"other": 1}},
            {"shares": {"c2 of backbone": 0.5}},
            {"shares": 3},
            {"operations": "many"},
            {"number": "../../evil"},
        ],
    )
    def test_trials_that_are_no_architectures_are_refused(self, store: SearchStore, changes: dict[str, Any]) -> None:
        params = changes.pop("params", dict.fromkeys(SETTINGS, 8))
        attributes = {"shares": dict.fromkeys(SHARES, 0.1), "operations": 1, "parameters": 1, **changes}
        ranges = {name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()}
        self.study(store).add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.WAITING, params=params, distributions=ranges, user_attrs=attributes
            )
        )
        for action in (store.architectures, store.claim, store.recover):
            if action != store.recover or changes.get("number"):
                with pytest.raises(FaceDetError, match=r"search\.journal: "):
                    action()

    @pytest.mark.parametrize("worker", ["text", [1], ["{host}", "1"], ["{host}", 1e300], ["{host}", 2**80]])
    def test_a_worker_that_is_none_is_refused(self, store: SearchStore, worker: Any) -> None:
        import socket

        add(store, 1)
        claimed = self.study(store).ask()
        claimed.set_user_attr("worker", [socket.gethostname() if part == "{host}" else part for part in worker])
        with pytest.raises(FaceDetError, match=r"search\.journal: "):
            store.recover()

    @pytest.mark.parametrize(
        "template", ["/tmp/evil.py", "../evil.py", "evil", "http://evil/a.py", "a.py\n", "", 3, None]
    )
    def test_a_template_is_a_plain_file_name(self, store: SearchStore, template: Any) -> None:
        store.settle("good.py", 1e9)
        text = store.path.read_text()
        store.path.write_text(text.replace('"good.py"', json.dumps(template)))
        with pytest.raises(FaceDetError, match=r"search\.journal: "):
            SearchStore(store.path).facts()

    def test_a_study_that_is_no_step_is_ignored(self, store: SearchStore) -> None:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(store.path)))
        optuna.create_study(study_name="../../evil", storage=storage).enqueue_trial({})
        assert SearchStore(store.path).architectures() == []
        assert SearchStore(store.path).claim() is None


def test_the_store_needs_neither_torch_nor_openmmlab() -> None:
    code = "import sys, facedet_mm.search.store; print({'torch', 'mmengine'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
