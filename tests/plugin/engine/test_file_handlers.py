"""MMEngine's readers of pickle and YAML files, such as annotations, run no code."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")
mmengine = pytest.importorskip("mmengine")
pytest.importorskip("mmdet")

from mmengine.dataset import BaseDataset  # noqa: E402
from model_samples import Malicious  # noqa: E402

import facedet_mm.plugin  # noqa: E402, F401
from facedet_mm.errors import AnnotationError  # noqa: E402


class Tensor:
    """A tensor as MMDetection stores it in predictions, with code in it."""

    def __init__(self, target):
        self.file = io.BytesIO()
        torch.save(Malicious(target), self.file)

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.file.getvalue(),)


CONTENTS = {
    "plain": lambda target: pickle.dumps(Malicious(target)),
    "tensor": lambda target: pickle.dumps(Tensor(target)),
    "array": lambda target: pickle.dumps(np.array([Malicious(target)], object)),
    "protocol 0": lambda target: pickle.dumps(Malicious(target), 0),
    "yaml": lambda target: f"!!python/object/apply:os.mkdir ['{target}']".encode(),
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("road", [mmengine.load, lambda path: BaseDataset(ann_file=path)], ids=["load", "ann_file"])
def test_code_is_refused_by_the_name_of_the_file(kind, road, tmp_path):
    path = tmp_path / f"a.{'yml' if kind == 'yaml' else 'pkl'}"
    path.write_bytes(CONTENTS[kind](tmp_path / "ran"))
    with pytest.raises(AnnotationError, match=r"a\.(pkl|yml): refused: .*mkdir"):
        road(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("end", ["pkl", "yaml"])
def test_the_training_tool_names_the_annotations(end, root, tmp_path):
    path = tmp_path / f"a.{end}"
    path.write_bytes(CONTENTS["yaml" if end == "yaml" else "plain"](tmp_path / "ran"))
    config = tmp_path / "c.py"
    config.write_text(
        f"_base_ = {str(root / 'configs' / 'scrfd_0.5g.py')!r}\n"
        "train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(\n"
        f"    _delete_=True, type='BaseDetDataset', ann_file={str(path)!r}, pipeline=[]))\n"
        "val_dataloader = val_cfg = val_evaluator = None\n"
    )
    command = [sys.executable, root / "tools" / "train.py", config, "--work-dir", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"train: error: {path}: refused: ")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_data_of_every_protocol_are_read(protocol, tmp_path):
    data = {
        "array": np.arange(6.0).reshape(2, 3), "number": np.float32(3), "texts": np.array(["a"]), "bytes": b"\xff",
        "tensor": torch.arange(4.0), "set": {1}, "frozen": frozenset([1]), "ordered": OrderedDict(a=(1, 2)),
        "plain": [None, True, 1.5, 1j, "x", slice(1), b""],
    }  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data, protocol))
    assert str(mmengine.load(tmp_path / "a.pkl")) == str(data)


def test_what_mmengine_writes_is_read(tmp_path):
    data = {"metainfo": {"classes": ("face",)}, "data_list": [{"img_id": 1, "instances": []}]}
    for name in ("a.pkl", "a.pickle", "a.yml", "a.yaml"):
        mmengine.dump(data, str(tmp_path / name))
        assert mmengine.load(str(tmp_path / name)) == data


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pkl", b""), ("a.pkl", b"\x80\x04\x95\xff\xff"), ("a.pkl", b"\x80\x02]q\x00(K\x01"), ("a.yml", b"{'a: [")],
)
def test_damaged_files_are_refused_in_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=rf"{name}: refused: [^\n]*$"):
        mmengine.load(tmp_path / name)
