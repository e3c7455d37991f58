"""Computation redistribution: operation counts, draws within a budget, interrupted trainings, both steps together."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402
from interrupts import heed_interrupts  # noqa: E402

from facedet_mm.errors import FaceDetError, ModelError  # noqa: E402
from facedet_mm.plugin.apis.build import load_config  # noqa: E402
from facedet_mm.plugin.apis.complexity import complexity  # noqa: E402
from facedet_mm.plugin.search.steps import add_architectures, best_shares, statistics, write_config  # noqa: E402
from facedet_mm.plugin.search.training import Launch, train_next  # noqa: E402
from facedet_mm.report.logs import final_metrics  # noqa: E402
from facedet_mm.search.cost import PARTS, STAGES, Design, Settings, model_options, operations, shares, total  # noqa: E402
from facedet_mm.search.sampling import Space, sample  # noqa: E402
from facedet_mm.search.store import SearchStore  # noqa: E402

TOOL = ROOT / "tools" / "search" / "computation_redistribution.py"
TEMPLATE = ROOT / "configs" / "scrfd_0.5g.py"
CONFIGS = sorted((ROOT / "configs").glob("scrfd_*.py"))
SMALL = Space(blocks=(1, 8), planes=(8, 256), neck=(8, 64), head_convs=(1, 3), head=(16, 128))
BUDGET = 0.3e9


def template(name: str = "scrfd_0.5g") -> Any:
    return load_config(ROOT / "configs" / f"{name}.py")


class TestCounting:
    @pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
    def test_gives_what_mmengine_counts_in_the_published_models(self, path: Path) -> None:
        config = load_config(path)
        counted = total(operations(Design.from_config(config), Settings.from_config(config)))
        assert counted.tolist() == [complexity(config)[1]]

    @pytest.mark.parametrize("name", ["scrfd_0.5g", "scrfd_2.5g_kps", "scrfd_34g"])
    def test_gives_what_mmengine_counts_in_drawn_models(self, name: str) -> None:
        config = template(name)
        design = Design.from_config(config)
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
        counted = operations(Design.from_config(config), Settings.from_config(config))
        assert [int(counted[part][0]) for part in PARTS] == [modules[name] for name in names]
        have = shares(Design.from_config(config), Settings.from_config(config))
        everything, backbone = modules[""], modules["backbone"]
        assert have["neck of all"] == pytest.approx(modules["neck"] / everything)
        assert have["head of all"] == pytest.approx(modules["bbox_head"] / everything)
        assert have["backbone of all"] == pytest.approx(backbone / everything)
        assert [have[f"{part} of backbone"][0] for part in PARTS[:5]] == pytest.approx(
            [modules[name] / backbone for name in names[:5]]
        )

    def test_refuses_a_design_that_it_does_not_know(self) -> None:
        config = template()
        config.model.neck.type = "FPN"
        with pytest.raises(ModelError, match="PAFPN"):
            Design.from_config(config)


class TestSampling:
    @pytest.mark.parametrize(("name", "gflops"), [("scrfd_0.5g", 0.5), ("scrfd_2.5g", 2.5), ("scrfd_10g", 10.0)])
    def test_stays_within_two_percent_of_the_budget_and_in_the_space(self, name: str, gflops: float) -> None:
        design = Design.from_config(template(name))
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
        space = Space().around(Settings.from_config(config))
        drawn = sample(Design.from_config(config), space, BUDGET, 20)
        assert set(zip(drawn.neck.tolist(), drawn.head_convs.tolist(), drawn.head.tolist(), strict=True)) == {
            (16, 2, 64)
        }
        assert len(np.unique(drawn.planes, axis=0)) > 10

    def test_keeps_the_shares_that_it_is_given(self) -> None:
        design = Design.from_config(template("scrfd_2.5g"))
        limits = {"c2 of backbone": (0.2, 0.3), "c4 of backbone": (0.1, 0.2)}
        drawn = sample(design, Space(), 2.5e9, 20, limits=limits)
        have = shares(design, drawn)
        for name, (low, high) in limits.items():
            assert low <= have[name].min() <= have[name].max() <= high
        assert len(np.unique(drawn.head)) > 3

    def test_loses_nothing_by_bounding_the_settings(self) -> None:
        """All architectures of a space small enough to list, and those that many draws find."""
        design = replace(Design.from_config(template()), groups=0)
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
        design = Design.from_config(template())
        first, again, other = (sample(design, SMALL, BUDGET, 5, seed) for seed in (1, 1, 2))
        assert first.planes.tolist() == again.planes.tolist() != other.planes.tolist()

    def test_says_when_a_budget_cannot_be_met(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facedet_mm.search.sampling._BATCHES", 2)
        design = Design.from_config(template("scrfd_2.5g"))
        with pytest.raises(ModelError, match=r"the smallest architecture of the space has .* more than the budget"):
            sample(design, Space(planes=(256, 512)), 1e9, 5)
        with pytest.raises(ModelError, match=r"only 0 of 5 .* were found"):
            sample(design, Space(blocks=(1, 1), planes=(8, 8)), 100e9, 5)
        with pytest.raises(ModelError, match=r"blocks must be the smallest and the largest value.* not 5 and 2"):
            sample(design, Space(blocks=(5, 2)), 2.5e9, 5)
        with pytest.raises(ModelError, match="contains no multiple of 16"):
            sample(design, Space(head=(17, 31)), 2.5e9, 5)


@pytest.fixture
def store(tmp_path: Path) -> SearchStore:
    return SearchStore(tmp_path / "search.journal")


def quick_complexity(config: Any) -> tuple[int, int]:
    """The operations by formula, which TestCounting holds equal to mmengine's count, in a thousandth of the time."""
    return 1, int(total(operations(Design.from_config(config), Settings.from_config(config)))[0])


def test_the_second_step_draws_around_the_best_of_the_first(
    store: SearchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facedet_mm.plugin.search.steps.complexity", quick_complexity)
    path = TEMPLATE
    assert add_architectures(store, path, BUDGET, "backbone", 100, space=SMALL) == 100
    assert add_architectures(store, path, BUDGET, "backbone", 120, space=SMALL) == 20
    assert add_architectures(store, path, BUDGET, "backbone", 120, space=SMALL) == 0
    with pytest.raises(FaceDetError, match="0 trainings of the step 'backbone' are done"):
        add_architectures(store, path, BUDGET, "all", 4, space=SMALL)
    while claimed := store.claim():  # C3 should have a fifth of the backbone
        store.finish(claimed, {"wider_face/hard": 1 - abs(claimed.shares["c3 of backbone"] - 0.2)})
    limits = best_shares(store)
    every = [architecture.shares["c3 of backbone"] for architecture in store.architectures("backbone")]
    low, high = limits["c3 of backbone"]
    assert max(every) - min(every) > 4 * (high - low)
    assert statistics(store, "backbone")["c3 of backbone"].median == pytest.approx(0.2, abs=0.02)
    assert add_architectures(store, path, BUDGET, "all", 6, space=SMALL) == 6
    second = store.architectures("all")
    for architecture in second:
        assert abs(architecture.operations / BUDGET - 1) <= 0.02
        for stage in STAGES:
            low, high = limits[f"{stage} of backbone"]
            assert low <= architecture.shares[f"{stage} of backbone"] <= high
    assert len({drawn.settings["head channels"] + drawn.settings["neck channels"] for drawn in second}) > 1


def test_seven_results_are_too_few_for_the_second_step(store: SearchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedet_mm.plugin.search.steps.complexity", quick_complexity)
    add_architectures(store, TEMPLATE, BUDGET, "backbone", 8, space=SMALL)
    for _ in range(7):
        store.finish(store.claim(), {"wider_face/hard": 0.5})
    with pytest.raises(FaceDetError, match=r"7 trainings of the step 'backbone' are done, .* at least 8"):
        best_shares(store)
    store.finish(store.claim(), {"wider_face/hard": 0.5})
    assert len(best_shares(store)) == 4


def test_a_written_config_is_the_architecture(store: SearchStore, tmp_path: Path) -> None:
    add_architectures(store, TEMPLATE, BUDGET, "backbone", 1, space=SMALL)
    (drawn,) = store.architectures()
    config = load_config(write_config(drawn, TEMPLATE, tmp_path / "configs", epochs=64))
    assert complexity(config) == (drawn.parameters, drawn.operations)
    assert Settings.from_config(config).rows() == [drawn.settings]
    assert {
        name: share[0] for name, share in shares(Design.from_config(config), Settings.from_config(config)).items()
    } == (pytest.approx(drawn.shares))
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


def states(store: SearchStore) -> list[str]:
    return [architecture.state for architecture in store.architectures()]


class TestTraining:
    @pytest.fixture
    def search(self, store: SearchStore) -> SearchStore:
        """Three architectures, and a program that stands in for their training."""
        add_architectures(store, TEMPLATE, BUDGET, "backbone", 3, space=SMALL)
        (store.path.parent / "trainer.py").write_text(TRAINER)
        return store

    def launch(self, search: SearchStore, *options: str) -> Launch:
        return Launch(f"{sys.executable} {search.path.parent / 'trainer.py'} {{config}}", TEMPLATE, 3, options)

    def calls(self, search: SearchStore) -> list[str]:
        return (search.path.parent / "calls.txt").read_text().split()

    def test_records_the_metrics_of_each(self, search: SearchStore) -> None:
        launch = self.launch(search)
        while train_next(search, launch):
            pass
        assert [trained.metrics for trained in search.architectures()] == [
            {"wider_face/hard": 0.25, "wider_face/easy": 0.5}
        ] * 3
        assert self.calls(search) == ["backbone_0001", "backbone_0002", "backbone_0003"]

    def test_goes_on_after_a_failure_and_keeps_its_reason(self, search: SearchStore) -> None:
        launch = self.launch(search, "bad=1")
        assert [train_next(search, launch).state for _ in range(3)] == ["done", "failed", "done"]
        assert search.architectures(state="failed")[0].error == "status 1: out of memory"

    def test_takes_a_finished_training_as_it_is(self, search: SearchStore, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        launch = self.launch(search)
        with monkeypatch.context() as patched:  # between the end of the training and the record of its metrics
            patched.setattr(search, "finish", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train_next(search, launch)
        assert states(search) == ["waiting"] * 3
        assert train_next(search, launch).state == "done"
        assert self.calls(search) == ["backbone_0001"]

    def test_is_not_misled_by_the_log_of_fewer_epochs(self, search: SearchStore) -> None:
        train_next(search, self.launch(search))
        assert final_metrics(search.path.parent / "backbone_0001", 3) is not None
        assert final_metrics(search.path.parent / "backbone_0001", 4) is None

    @pytest.mark.slow
    def test_that_is_interrupted_goes_on_where_it_was(self, search: SearchStore) -> None:
        folder = search.path.parent
        command = [sys.executable, TOOL, "run", folder, "--epochs", "3", "--command", self.launch(search).command]
        command += ["--cfg-options", "slow=1"]
        worker = subprocess.Popen(
            command, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
        )
        for _ in range(600):
            if (folder / "backbone_0001" / "begun").exists():
                break
            time.sleep(0.1)
        assert states(search) == ["running", "waiting", "waiting"]
        os.killpg(worker.pid, signal.SIGINT)  # Ctrl-C reaches the training too
        _, text = worker.communicate(timeout=60)
        assert worker.returncode == 130, text
        assert states(search) == ["waiting"] * 3
        done = subprocess.run([*command[:-2], "--limit", "2"], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "backbone 1: 25.00 hard AP; 2 waiting" in done.stdout
        assert states(search) == ["done", "done", "waiting"]
        assert self.calls(search) == ["backbone_0001", "backbone_0001", "backbone_0002"]

    def test_needs_a_command_that_exists_and_takes_the_config(self, search: SearchStore) -> None:
        with pytest.raises(FaceDetError, match=r"lacks \{config\}"):
            train_next(search, Launch("python train.py", TEMPLATE, 3))
        with pytest.raises(FaceDetError, match="cannot start no-such-program"):
            train_next(search, Launch("no-such-program {config}", TEMPLATE, 3))
        assert states(search) == ["waiting"] * 3


def test_the_report_lists_the_best_first_and_writes_json(store: SearchStore, tmp_path: Path) -> None:
    add_architectures(store, TEMPLATE, BUDGET, "backbone", 3, space=SMALL)
    for ap in (0.1, 0.3, 0.2):
        store.finish(store.claim(), {"wider_face/hard": ap})
    command = [sys.executable, TOOL, "report", tmp_path, "--json", tmp_path / "best.json", "--top", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[3] for line in done.stdout.splitlines() if "GFLOPs" in line]
    assert listed == ["configs/backbone_0002.py", "configs/backbone_0003.py"]
    report = json.loads((tmp_path / "best.json").read_text())
    assert [done["metrics"]["wider_face/hard"] for done in report["backbone"]["architectures"]] == [0.3, 0.2, 0.1]
    assert set(report["backbone"]["best"]["c2 of backbone"]) == {"median", "low", "high"}


@pytest.mark.slow
def test_the_tool_names_what_a_new_search_lacks(tmp_path: Path) -> None:
    for words, message in ((["sample"], "needs --template and --gflops"), (["report"], "'sample' starts a search")):
        done = subprocess.run(
            [sys.executable, TOOL, *words, tmp_path / "s"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the tool in this process."""
    spec = importlib.util.spec_from_file_location("computation_redistribution", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def main(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["tool", *map(str, words)])
        return module.main()

    return main


def test_a_template_is_never_taken_from_where_the_journal_says(
    store: SearchStore, tmp_path: Path, tool: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_architectures(store, TEMPLATE, BUDGET, "backbone", 1, space=SMALL)
    evil, touched = tmp_path / "evil.py", tmp_path / "touched"
    evil.write_text(f"open({str(touched)!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    text = store.path.read_text()
    for name, message in ((str(evil), "is not a plain file name"), ("evil.py", "give the template of this search as")):
        store.path.write_text(text.replace('"scrfd_0.5g.py"', json.dumps(name)))
        for action in ("run", "sample"):
            with pytest.raises(FaceDetError, match=message):
                tool(action, tmp_path)
    assert not touched.exists()


def test_the_template_of_a_search_can_be_anywhere_if_it_is_named_each_time(
    tmp_path: Path, tool: Callable[..., int]
) -> None:
    own = tmp_path / "own.py"
    own.write_text(f"_base_ = {str(TEMPLATE)!r}\n")
    draw_one = ("sample", tmp_path / "s", "--gflops", 0.3, "--number", 1, "--planes", 8, 256, "--template")
    train = ("run", tmp_path / "s", "--command", "true {config}")
    assert tool(*draw_one, own) == 0
    with pytest.raises(FaceDetError, match=r"the template of this search is own\.py, not .*scrfd_0\.5g\.py"):
        tool(*draw_one, TEMPLATE)
    with pytest.raises(FaceDetError, match=r"own\.py: no such file; give the template"):
        tool(*train)
    assert tool(*train, "--template", own) == 1  # `true` leaves no metrics
    assert "_base_ = '../../own.py'" in (tmp_path / "s" / "configs" / "backbone_0001.py").read_text()
    assert tool(*train, "--template", own) == 0  # nothing is waiting
    assert tool(*train, "--template", own, "--retry") == 1


@pytest.mark.slow
def test_the_tool_runs_no_program_and_leaves_no_folder_that_a_journal_names(tmp_path: Path) -> None:
    """A search from a stranger: its folder has configs, and its journal names them in every way."""
    folder = tmp_path / "stranger" / "search"
    store = SearchStore(folder / "search.journal")
    store.settle("scrfd_0.5g.py", BUDGET)
    add_architectures(store, TEMPLATE, BUDGET, "backbone", 1, space=SMALL)
    program = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for path in (folder / "evil.py", folder / "configs" / "evil.py", folder.parent / "evil.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
    text = store.path.read_text()
    for old, new in (
        *(("scrfd_0.5g.py", name) for name in ("evil.py", "../evil.py", str(folder / "evil.py"))),
        *(('"study_name":"backbone"', f'"study_name":"{step}"') for step in ("../../out", tmp_path / "out")),
    ):
        assert old in text
        store.path.write_text(text.replace(old, new))
        for words in (["run", "--epochs", "1"], ["report"]):
            done = subprocess.run(
                [sys.executable, TOOL, *words, folder, *(["--command", "false {config}"] if words[0] == "run" else [])],
                capture_output=True, text=True, check=False, cwd=folder,
            )  # fmt: skip
            assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stranger"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["evil.py", "search"]
