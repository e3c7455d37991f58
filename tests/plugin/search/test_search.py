"""Computation redistribution: counts, sampling within a budget, the bootstrap, resuming, and both steps together."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402

from facedet_mm.errors import FaceDetError, ModelError  # noqa: E402
from facedet_mm.plugin.apis.build import load_config  # noqa: E402
from facedet_mm.plugin.apis.complexity import complexity  # noqa: E402
from facedet_mm.plugin.search.bootstrap import best_interval, bootstrap  # noqa: E402
from facedet_mm.plugin.search.cost import (  # noqa: E402
    PARTS,
    STAGES,
    Design,
    Settings,
    model_options,
    operations,
    settings_of,
    total,
)
from facedet_mm.plugin.search.sampling import Space, backbone_shares, sample  # noqa: E402
from facedet_mm.plugin.search.steps import add_architectures, best_shares, statistics, write_config  # noqa: E402
from facedet_mm.plugin.search.store import SearchStore  # noqa: E402
from facedet_mm.plugin.search.training import Launch, train_next  # noqa: E402
from facedet_mm.report.logs import final_metrics  # noqa: E402

TOOL = ROOT / "tools" / "search" / "computation_redistribution.py"
CONFIGS = sorted((ROOT / "configs").glob("scrfd_*.py"))
SMALL = Space(blocks=(1, 8), planes=(8, 256), neck=(8, 64), head_convs=(1, 3), head=(16, 128))
BUDGET = 0.3e9


def template(name: str = "scrfd_0.5g") -> Any:
    return load_config(ROOT / "configs" / f"{name}.py")


class TestCounting:
    @pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
    def test_gives_what_mmengine_counts_in_the_published_models(self, path: Path) -> None:
        config = load_config(path)
        counted = total(operations(Design.of(config), settings_of(config)))
        assert counted.tolist() == [complexity(config)[1]]

    @pytest.mark.parametrize("name", ["scrfd_0.5g", "scrfd_2.5g_kps", "scrfd_34g"])
    def test_gives_what_mmengine_counts_in_drawn_models(self, name: str) -> None:
        config = template(name)
        design = Design.of(config)
        drawn = sample(design, Space(), {"scrfd_34g": 5e9}.get(name, 1e9), 2, seed=3)
        for i, counted in enumerate(total(operations(design, drawn, 320, 160)).tolist()):
            built = config.copy()
            built.merge_from_dict({"model": model_options(design, drawn, i)})
            assert complexity(built, 320, 160)[1] == counted

    def test_of_the_parts_is_that_of_the_modules(self) -> None:
        from mmengine.analysis import FlopAnalyzer

        from facedet_mm.plugin.apis.build import build_model

        config = template("scrfd_2.5g")
        analyzer = FlopAnalyzer(build_model(config).eval(), torch.zeros(1, 3, 480, 640))
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        modules = analyzer.by_module()
        names = ("backbone.stem", *(f"backbone.stages.{i}" for i in range(4)), "neck", "bbox_head")
        counted = operations(Design.of(config), settings_of(config))
        assert [int(counted[part][0]) for part in PARTS] == [modules[name] for name in names]

    def test_refuses_a_design_that_it_does_not_know(self) -> None:
        config = template()
        config.model.neck.type = "FPN"
        with pytest.raises(ModelError, match="PAFPN"):
            Design.of(config)


class TestSampling:
    @pytest.mark.parametrize(("name", "gflops"), [("scrfd_0.5g", 0.5), ("scrfd_2.5g", 2.5), ("scrfd_10g", 10.0)])
    def test_stays_within_two_percent_of_the_budget_and_in_the_space(self, name: str, gflops: float) -> None:
        design = Design.of(template(name))
        drawn = sample(design, Space(), gflops * 1e9, 50, seed=1)
        cost = total(operations(design, drawn))
        assert len(drawn) == 50
        assert np.abs(cost / (gflops * 1e9) - 1).max() <= 0.02
        assert (np.diff(drawn.planes, axis=1) >= 0).all()
        assert not (drawn.planes % 8).any()
        assert not (drawn.head % (design.groups or 8)).any()
        assert (drawn.blocks.min(), drawn.planes.min()) >= (1, 8)
        assert (drawn.blocks.max(), drawn.planes.max(), drawn.head.max()) <= (24, 512, 256)
        assert len({tuple(np.concatenate([drawn.blocks[i], drawn.planes[i]])) for i in range(50)}) > 45

    def test_of_the_first_step_leaves_neck_and_head_alone(self) -> None:
        config = template()
        space = Space().around(settings_of(config))
        drawn = sample(Design.of(config), space, BUDGET, 20)
        assert set(zip(drawn.neck.tolist(), drawn.head_convs.tolist(), drawn.head.tolist(), strict=True)) == {
            (16, 2, 64)
        }
        assert len(np.unique(drawn.planes, axis=0)) > 10

    def test_keeps_the_shares_that_it_is_given(self) -> None:
        design = Design.of(template("scrfd_2.5g"))
        shares = {"c2": (0.2, 0.3), "c4": (0.1, 0.2)}
        drawn = sample(design, Space(), 2.5e9, 20, shares=shares)
        have = backbone_shares(design, drawn)
        for stage, (low, high) in shares.items():
            assert low <= have[stage].min() <= have[stage].max() <= high
        assert len(np.unique(drawn.head)) > 3

    def test_loses_nothing_by_bounding_the_settings(self) -> None:
        """All architectures of a space small enough to list, and those that many draws find."""
        design = replace(Design.of(template()), groups=0)
        space = Space(blocks=(1, 3), planes=(8, 32), neck=(16, 16), head_convs=(1, 2), head=(16, 16))
        grid = np.array(np.meshgrid(*[[1, 2, 3]] * 4, *[[8, 16, 24, 32]] * 4, [1, 2])).reshape(9, -1).T
        grid = grid[(np.diff(grid[:, 4:8], axis=1) >= 0).all(axis=1)]
        same = np.full(len(grid), 16)
        every = Settings(grid[:, :4], grid[:, 4:8], same, grid[:, 8], same)
        cost = total(operations(design, every))
        budget = float(np.quantile(cost, 0.05))
        fits = np.abs(cost / budget - 1) <= 0.02
        assert 20 < fits.sum() < len(grid) / 4
        drawn = sample(design, space, budget, int(fits.sum()))
        found = np.column_stack([drawn.blocks, drawn.planes, drawn.head_convs])
        assert {*map(tuple, found.tolist())} == {*map(tuple, grid[fits].tolist())}

    def test_repeats_with_its_seed(self) -> None:
        design = Design.of(template())
        first, again, other = (sample(design, SMALL, BUDGET, 5, seed) for seed in (1, 1, 2))
        assert first.planes.tolist() == again.planes.tolist() != other.planes.tolist()

    def test_says_when_a_budget_cannot_be_met(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facedet_mm.plugin.search.sampling._BATCHES", 2)
        design = Design.of(template("scrfd_2.5g"))
        with pytest.raises(ModelError, match=r"the smallest architecture of the space has .* more than the budget"):
            sample(design, Space(planes=(256, 512)), 1e9, 5)
        with pytest.raises(ModelError, match=r"only 0 of 5 .* were found"):
            sample(design, Space(blocks=(1, 1), planes=(8, 8)), 100e9, 5)
        with pytest.raises(ModelError, match=r"blocks must be the least and the greatest value.* not 5 and 2"):
            sample(design, Space(blocks=(5, 2)), 2.5e9, 5)
        with pytest.raises(ModelError, match="no multiple of 16"):
            sample(design, Space(head=(17, 31)), 2.5e9, 5)


class TestBootstrap:
    def test_of_the_mean_has_the_standard_error_of_the_mean(self) -> None:
        values = np.random.default_rng(0).gamma(2.0, 3.0, 200)
        means = bootstrap(values, lambda samples: samples.mean(axis=1), repeats=20_000)
        assert means.mean() == pytest.approx(values.mean(), abs=0.02)
        assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.03)

    def test_of_a_quarter_has_twice_that(self) -> None:
        values = np.random.default_rng(0).normal(size=200)
        means = bootstrap(values, lambda samples: samples.mean(axis=1), fraction=0.25, repeats=20_000)
        assert means.std() == pytest.approx(values.std() / np.sqrt(50), rel=0.03)

    def test_of_the_best_follows_the_law_of_the_maximum(self) -> None:
        """P(rank of the best of m draws out of n ≤ k) = (k / n)^m."""
        n, m = 40, 10
        ranks = np.random.default_rng(1).permutation(n)
        estimate = best_interval(ranks.astype(float), ranks / n, repeats=200_000)
        law = (np.arange(1, n + 1) / n) ** m
        assert (estimate.low, estimate.median, estimate.high) == tuple(
            np.searchsorted(law, quantile) for quantile in (0.025, 0.5, 0.975)
        )

    def test_finds_the_settings_of_the_best_and_not_those_of_the_many(self) -> None:
        rng = np.random.default_rng(2)
        share = rng.uniform(0, 1, 320)
        estimate = best_interval(share, -((share - 0.3) ** 2) + rng.normal(0, 0.002, 320))
        assert estimate.low < 0.3 < estimate.high
        assert estimate.high - estimate.low < 0.2


@pytest.fixture
def store(tmp_path: Path) -> SearchStore:
    return SearchStore(tmp_path / "search.db")


def rows(number: int) -> list[dict[str, Any]]:
    return [dict(model={"i": i}, settings={"x": i}, operations=1, parameters=1) for i in range(number)]


class TestTheStore:
    def test_gives_each_run_to_one_worker(self, store: SearchStore) -> None:
        assert store.add("all", rows(3)) == 3
        assert store.add("all", rows(4)) == 1
        claimed = [SearchStore(store.path).claim() for _ in range(5)]
        assert [run.id if run else None for run in claimed] == [1, 2, 3, 4, None]
        assert store.recover() == 0  # this process lives

    def test_gives_a_dead_workers_run_back(self, store: SearchStore) -> None:
        store.add("all", rows(2))
        code = "import sys; from facedet_mm.plugin.search.store import SearchStore; SearchStore(sys.argv[1]).claim()"
        subprocess.run([sys.executable, "-c", code, store.path], check=True)
        assert [run.state for run in store.runs()] == ["running", "waiting"]
        assert store.recover() == 1
        assert store.claim().id == 1

    def test_tries_failed_ones_again_only_when_asked(self, store: SearchStore) -> None:
        store.add("all", rows(1))
        store.fail(store.claim(), "no memory")
        assert (store.recover(), store.claim()) == (0, None)
        assert store.runs(state="failed")[0].error == "no memory"
        assert store.recover(failed=True) == 1
        assert store.claim().id == 1

    def test_refuses_another_budget_and_a_file_that_is_none(self, store: SearchStore, tmp_path: Path) -> None:
        store.settle(dict(budget=1))
        with pytest.raises(FaceDetError, match="budget 1, not 2"):
            store.settle(dict(budget=2))
        (tmp_path / "text.db").write_text("no database" * 200)
        with pytest.raises(FaceDetError, match=r"text\.db: .*database"):
            SearchStore(tmp_path / "text.db")

    def test_is_an_sqlite_file_that_anything_can_read(self, store: SearchStore) -> None:
        store.add("all", rows(1))
        store.finish(store.claim(), {"wider_face/hard": 0.5})
        row = sqlite3.connect(store.path).execute("SELECT state, metrics FROM runs").fetchone()
        assert (row[0], json.loads(row[1])) == ("done", {"wider_face/hard": 0.5})


def quick_complexity(config: Any) -> tuple[int, int]:
    """The operations by formula, which TestCounting holds equal to mmengine's count, in a thousandth of the time."""
    return 1, int(total(operations(Design.of(config), settings_of(config)))[0])


def test_the_second_step_draws_around_the_best_of_the_first(
    store: SearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facedet_mm.plugin.search.steps.complexity", quick_complexity)
    path = ROOT / "configs" / "scrfd_0.5g.py"
    assert add_architectures(store, path, BUDGET, "backbone", 100, space=SMALL) == 100
    assert add_architectures(store, path, BUDGET, "backbone", 120, space=SMALL) == 20
    assert add_architectures(store, path, BUDGET, "backbone", 120, space=SMALL) == 0
    with pytest.raises(FaceDetError, match="0 runs of the step 'backbone' are done"):
        add_architectures(store, path, BUDGET, "all", 4, space=SMALL)
    while run := store.claim():  # C3 should have a fifth of the backbone
        store.finish(run, {"wider_face/hard": 1 - abs(run.settings["c3 of backbone"] - 0.2)})
    shares = best_shares(store)
    every = [run.settings["c3 of backbone"] for run in store.runs("backbone")]
    assert max(every) - min(every) > 4 * (shares["c3"][1] - shares["c3"][0])
    assert statistics(store, "backbone")["c3 of backbone"].median == pytest.approx(0.2, abs=0.02)
    assert add_architectures(store, path, BUDGET, "all", 6, space=SMALL) == 6
    second = store.runs("all")
    for run in second:
        assert abs(run.operations / BUDGET - 1) <= 0.02
        for stage in STAGES:
            low, high = shares[stage]
            assert low <= run.settings[f"{stage} of backbone"] <= high
    assert len({run.settings["head channels"] + run.settings["neck channels"] for run in second}) > 1


def test_a_written_config_is_the_architecture(store: SearchStore, tmp_path: Path) -> None:
    path = ROOT / "configs" / "scrfd_0.5g.py"
    add_architectures(store, path, BUDGET, "backbone", 1, space=SMALL)
    (run,) = store.runs()
    config = load_config(write_config(store, 1, tmp_path / "configs", epochs=64))
    assert complexity(config) == (run.parameters, run.operations)
    assert config.train_cfg.max_epochs == 64
    assert config.param_scheduler[1].milestones == [44, 54]
    assert config.optim_wrapper.optimizer.lr == 0.01  # the template's


TRAINER = """
import json, pathlib, sys, time
config, folder = sys.argv[1], pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])
assert "--resume" in sys.argv
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent / "calls.txt", "a") as calls:
    calls.write(pathlib.Path(config).stem + "\\n")
mode = sys.argv[-1]
if mode == "slow=1" and not (folder / "begun").exists():
    (folder / "begun").touch()
    time.sleep(120)
if mode == "bad=1" and "0002" in config:
    sys.exit("out of memory")
(folder / "1" / "vis_data").mkdir(parents=True)
log = folder / "1" / "vis_data" / "scalars.json"
log.write_text('{"loss": 1, "step": 1}\\n{"wider_face/hard": 0.25, "wider_face/easy": 0.5, "step": 3}\\n{"half')
"""


class TestTraining:
    @pytest.fixture
    def search(self, store: SearchStore) -> SearchStore:
        """Three architectures, and a program that stands in for their training."""
        add_architectures(store, ROOT / "configs" / "scrfd_0.5g.py", BUDGET, "backbone", 3, space=SMALL)
        (store.path.parent / "trainer.py").write_text(TRAINER)
        return store

    def launch(self, search: SearchStore, *options: str) -> Launch:
        return Launch(f"{sys.executable} {search.path.parent / 'trainer.py'} {{config}}", 3, options)

    def calls(self, search: SearchStore) -> list[str]:
        return (search.path.parent / "calls.txt").read_text().split()

    def test_writes_down_what_each_run_gave(self, search: SearchStore) -> None:
        launch = self.launch(search)
        while train_next(search, launch):
            pass
        assert [run.metrics for run in search.runs()] == [{"wider_face/hard": 0.25, "wider_face/easy": 0.5}] * 3
        assert self.calls(search) == ["backbone_0001", "backbone_0002", "backbone_0003"]

    def test_goes_on_after_a_failure_and_keeps_its_reason(self, search: SearchStore) -> None:
        launch = self.launch(search, "bad=1")
        states = [train_next(search, launch).state for _ in range(3)]
        assert states == ["done", "failed", "done"]
        assert search.runs(state="failed")[0].error == "status 1: out of memory"

    def test_takes_a_finished_run_as_it_is(self, search: SearchStore) -> None:
        launch = self.launch(search)
        train_next(search, launch)
        search.release(search.runs()[0])  # killed between the training's end and its entry
        assert train_next(search, launch).state == "done"
        assert self.calls(search) == ["backbone_0001"]

    def test_is_not_misled_by_the_log_of_fewer_epochs(self, search: SearchStore) -> None:
        train_next(search, self.launch(search))
        assert final_metrics(search.path.parent / "backbone_0001", 3) is not None
        assert final_metrics(search.path.parent / "backbone_0001", 4) is None

    def test_that_is_interrupted_goes_on_where_it_was(self, search: SearchStore) -> None:
        folder = search.path.parent
        command = [sys.executable, TOOL, "run", folder, "--epochs", "3", "--command", self.launch(search).command]
        command += ["--cfg-options", "slow=1"]
        worker = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
        for _ in range(600):
            if (folder / "backbone_0001" / "begun").exists():
                break
            time.sleep(0.1)
        assert [run.state for run in search.runs()] == ["running", "waiting", "waiting"]
        os.killpg(worker.pid, signal.SIGINT)  # Ctrl-C reaches the training too
        _, text = worker.communicate(timeout=60)
        assert worker.returncode == 130, text
        assert [run.state for run in search.runs()] == ["waiting"] * 3
        done = subprocess.run([*command[:-2], "--limit", "2"], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "backbone 1: 25.00 hard AP; 2 wait" in done.stdout
        assert [run.state for run in search.runs()] == ["done", "done", "waiting"]
        assert self.calls(search) == ["backbone_0001", "backbone_0001", "backbone_0002"]

    def test_needs_a_command_that_exists_and_takes_the_config(self, search: SearchStore) -> None:
        with pytest.raises(FaceDetError, match=r"has no \{config\}"):
            train_next(search, Launch("python train.py", 3))
        with pytest.raises(FaceDetError, match="cannot start no-such-program"):
            train_next(search, Launch("no-such-program {config}", 3))
        assert [run.state for run in search.runs()] == ["waiting"] * 3


def test_the_report_lists_the_best_first_and_writes_json(store: SearchStore, tmp_path: Path) -> None:
    add_architectures(store, ROOT / "configs" / "scrfd_0.5g.py", BUDGET, "backbone", 3, space=SMALL)
    for ap in (0.1, 0.3, 0.2):
        store.finish(store.claim(), {"wider_face/hard": ap})
    command = [sys.executable, TOOL, "report", tmp_path, "--json", tmp_path / "best.json", "--top", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[3] for line in done.stdout.splitlines() if "GFLOPs" in line]
    assert listed == ["configs/backbone_0002.py", "configs/backbone_0003.py"]
    report = json.loads((tmp_path / "best.json").read_text())
    assert [run["metrics"]["wider_face/hard"] for run in report["backbone"]["runs"]] == [0.3, 0.2, 0.1]
    assert set(report["backbone"]["best"]["c2 of backbone"]) == {"median", "low", "high"}


def test_the_tool_names_what_a_new_search_lacks(tmp_path: Path) -> None:
    for words, message in ((["sample"], "needs --template and --gflops"), (["report"], "'sample' begins a search")):
        done = subprocess.run(
            [sys.executable, TOOL, *words, tmp_path / "s"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
