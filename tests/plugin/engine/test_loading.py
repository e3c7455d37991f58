"""No road by which a file reaches ``torch.load`` runs code, and no unsound weights are loaded."""

from __future__ import annotations

import functools
import http.server
import io
import subprocess
import sys
import threading
import zipfile

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmdet.apis import init_detector  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint  # noqa: E402
from model_samples import Malicious, random_model  # noqa: E402

from facedet_mm.errors import ModelError  # noqa: E402
from facedet_mm.plugin.apis import checkpoint as checkpoints  # noqa: E402
from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner, prepare_config  # noqa: E402
from facedet_mm.zoo import config_path  # noqa: E402


@pytest.fixture
def trap(tmp_path):
    """A checkpoint that makes a folder when it is unpickled."""
    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Malicious(tmp_path / "ran")}, path)
    return path


@pytest.fixture(params=["0", "1"], ids=["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def _forced(request, monkeypatch):
    """With and without the variable that makes ``torch.load`` run code by default."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", request.param)


def tiny_config(root, folder, **changes):
    """A config whose Runner trains; it never gets as far as its data."""
    options = {"work_dir": str(folder), "visualizer.vis_backends": [], **changes}
    config = prepare_config(root / "configs" / "scrfd_0.5g.py", folder, options)
    config.train_dataloader.dataset = dict(type="BaseDetDataset", lazy_init=True, serialize_data=False)
    config.train_dataloader.update(num_workers=0, persistent_workers=False)
    for name in ("val_dataloader", "val_cfg", "val_evaluator", "test_dataloader", "test_cfg", "test_evaluator"):
        config[name] = None
    config.default_hooks.checkpoint.save_best = None
    return config


def start(config):
    """Does what ``Runner.train`` does before the first step."""
    runner = Runner.from_cfg(config)
    runner._init_model_weights()
    runner.load_or_resume()


def load_from(root, trap):
    start(tiny_config(root, trap.parent / "run", load_from=str(trap)))


def resume(root, trap):
    start(tiny_config(root, trap.parent / "run", load_from=str(trap), resume=True))


def last_checkpoint(root, trap):
    (trap.parent / "last_checkpoint").write_text(str(trap))
    start(tiny_config(root, trap.parent, resume=True))


def our_tool_with_resume_in_the_config(root, trap):
    (trap.parent / "last_checkpoint").write_text(str(trap))
    build_runner(tiny_config(root, trap.parent, resume=True)).load_or_resume()


def init_cfg_of_the_model(root, trap):
    changes = {"model.init_cfg": dict(type="Pretrained", checkpoint=str(trap))}
    start(tiny_config(root, trap.parent / "run", **changes))


def init_cfg_of_the_backbone(root, trap):
    changes = {"model.backbone.init_cfg": dict(type="Pretrained", checkpoint=str(trap), prefix="backbone.")}
    start(tiny_config(root, trap.parent / "run", **changes))


def moving_average(root, trap):
    changes = {"custom_hooks": [dict(type="EMAHook")], "load_from": str(trap), "resume": True}
    start(tiny_config(root, trap.parent / "run", **changes))


def inferencer(root, trap):
    init_detector(str(root / "configs" / "scrfd_0.5g.py"), str(trap), device="cpu")


def plain_load(_, trap):
    load_checkpoint(build_model(config_path("scrfd_0.5g")), str(trap))


def teacher(root, trap):
    student = load_config(root / "configs" / "scrfd_0.5g.py").model.to_dict()
    init_default_scope("mmdet")
    from mmdet.registry import MODELS

    teacher_config = str(root / "configs" / "scrfd_0.5g.py")
    MODELS.build(
        {**student, "type": "KnowledgeDistillationSingleStageDetector",
         "teacher_config": teacher_config, "teacher_ckpt": str(trap)}
    )  # fmt: skip


def address(_, trap):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(trap.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return CheckpointLoader.load_checkpoint(f"http://127.0.0.1:{server.server_port}/{trap.name}", "cpu")
    finally:
        server.shutdown()
        server.server_close()


ROADS = [
    load_from, resume, last_checkpoint, our_tool_with_resume_in_the_config, init_cfg_of_the_model,
    init_cfg_of_the_backbone, moving_average, inferencer, plain_load, teacher, address,
]  # fmt: skip


@pytest.mark.usefixtures("_forced")
@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_no_road_runs_code(road, root, trap, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(trap.parent / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(ModelError, match=r"epoch_1\.pth: refused: it uses posix\.mkdir"):
        road(root, trap)
    assert not (trap.parent / "ran").exists()


def test_weights_from_an_address_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.save({"state_dict": {"a": torch.ones(3)}}, tmp_path / "good.pth")
    assert torch.equal(address(None, tmp_path / "good.pth")["state_dict"]["a"], torch.ones(3))


def test_a_checkpoint_of_the_runner_with_its_log_is_loaded(tmp_path):
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer()
    history.update(1.5)
    torch.save({"state_dict": {"a": torch.ones(1)}, "message_hub": {"loss": history}}, tmp_path / "a.pth")
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "a.pth"), "cpu")
    assert loaded["message_hub"]["loss"].current() == 1.5


def test_the_tool_refuses_resume_by_an_option_in_one_line(root, trap):
    (trap.parent / "last_checkpoint").write_text(str(trap))
    command = [sys.executable, root / "tools" / "train.py", root / "configs" / "scrfd_0.5g.py"]
    command += ["--work-dir", trap.parent, "--cfg-options", "resume=True"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"train: error: {trap}: refused")
    assert "Traceback" not in done.stderr
    assert not (trap.parent / "ran").exists()


def float8(size):
    return torch.zeros(size).to(torch.float8_e4m3fn)


UNSOUND = {
    "NaN": (lambda t: t.index_fill(0, torch.tensor([0]), float("nan")), "NaN, infinite or too large"),
    "infinite": (lambda t: t / 0, "NaN, infinite or too large"),
    "beyond float32": (lambda t: t.double() + 1e300, "NaN, infinite or too large"),
    "complex": (lambda t: t.to(torch.complex64), "has the type torch.complex64"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "has the type torch.float8_e4m3fn"),
    "meta": (lambda t: t.to("meta"), "has a shape but no values"),
    "sparse": (lambda t: t.to_sparse(), "is not a dense tensor"),
    "quantized": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantized"),
    "expanded": (lambda _: torch.zeros(1).expand(10**12), "claims 1,000,000,000,000 values"),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_unsound_weights_are_refused_by_both_loaders(kind, tmp_path):
    change, message = UNSOUND[kind]
    torch.save(
        {"state_dict": {"backbone.a": torch.ones(2), "backbone.b": change(torch.ones(4, 2))}}, tmp_path / "w.pth"
    )
    for load in (checkpoints.load_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(ModelError, match=rf"w\.pth: backbone\.b .*{message}"):
            load(str(tmp_path / "w.pth"))


def test_an_unsound_moving_average_is_refused(tmp_path):
    sound, broken = torch.ones(2), torch.tensor([1, float("nan")])
    torch.save({"state_dict": {"a": sound}, "ema_state_dict": {"steps": torch.tensor(3), "module.a": broken}},
               tmp_path / "w.pth")  # fmt: skip
    with pytest.raises(ModelError, match=r"w\.pth: module\.a has values that are NaN"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("key", [5, None, ("a", "b"), b"a"])
def test_names_that_are_no_strings_are_refused(key, tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2), key: torch.ones(4)}}, tmp_path / "w.pth")
    for load in (checkpoints.load_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(ModelError, match=r"w\.pth: .*names must be strings"):
            load(str(tmp_path / "w.pth"))


def test_a_variance_below_zero_is_refused(tmp_path):
    state = random_model("scrfd_0.5g").state_dict()
    state["backbone.stem.0.bn.running_var"][0] = -1
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"running_var has negative values"):
        checkpoints.load_weights(build_model(config_path("scrfd_0.5g")), tmp_path / "w.pth")


def test_integers_are_no_weights(tmp_path):
    model = random_model("scrfd_0.5g")
    state = model.state_dict()
    state["backbone.stem.0.conv.weight"] = state["backbone.stem.0.conv.weight"].to(torch.int8)
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"has the type torch\.int8, the model needs torch\.float32"):
        checkpoints.load_weights(model, tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions_are_loaded(dtype, tmp_path):
    model = random_model("scrfd_0.5g")
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    checkpoints.load_weights(build_model(config_path("scrfd_0.5g")), tmp_path / "w.pth")


@pytest.mark.parametrize("meta", [[1], "text", {"model": ["scrfd_0.5g"]}, {"source_sha256": 5}])
def test_malformed_metadata_are_refused(meta, tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "meta": meta}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: its 'meta' is malformed"):
        checkpoints.load_checkpoint(tmp_path / "w.pth")


def test_a_file_that_unpacks_to_much_more_is_refused_before_it_is_unpacked(tmp_path):
    plain = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(10_000_000)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    for load in (checkpoints.load_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(ModelError, match=r"bomb\.pth: refused: its [\d,]+ bytes unpack to 40,0"):
            load(str(tmp_path / "bomb.pth"))


def test_a_config_object_is_not_needed_for_safety(tmp_path, trap):
    """What mmdet's own tools do: read a config with our import in it, then load a checkpoint."""
    text = "custom_imports = dict(imports=['facedet_mm.plugin'], allow_failed_imports=False)\n"
    (tmp_path / "theirs.py").write_text(text)
    code = (
        "import sys; from mmengine.config import Config; Config.fromfile(sys.argv[1])\n"
        "from mmengine.runner import CheckpointLoader; CheckpointLoader.load_checkpoint(sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "theirs.py", trap], capture_output=True, text=True, check=False
    )
    assert "ModelError" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert Config.fromfile(tmp_path / "theirs.py")
