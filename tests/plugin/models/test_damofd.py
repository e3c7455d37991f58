"""DamoFD against the table that its authors print, and its blocks against their notation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from torch import nn  # noqa: E402

from facedet_mm import build_detector  # noqa: E402
from facedet_mm.errors import ModelError  # noqa: E402
from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402
from facedet_mm.plugin.apis.complexity import complexity  # noqa: E402
from facedet_mm.plugin.deploy.onnx_export import export_onnx  # noqa: E402
from facedet_mm.plugin.models import DamoFDBackbone  # noqa: E402

PUBLISHED = {  # parameters in millions; operations at 640×480 in units of the last printed digit
    "damofd_0.5g": (0.26, 520, 1e6),
    "damofd_0.5g_kps": (0.27, 593, 1e6),
    "damofd_2.5g": (0.44, 246, 1e7),
    "damofd_2.5g_kps": (0.45, 253, 1e7),
    "damofd_10g": (1.27, 974, 1e7),
    "damofd_10g_kps": (1.28, 983, 1e7),
    "damofd_34g": (6.24, 3403, 1e7),
    "damofd_34g_kps": (6.28, 3432, 1e7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_flops_are_printed_so(root, name):
    params, flops = complexity(root / "configs" / f"{name}.py")
    published_params, printed, unit = PUBLISHED[name]
    assert round(params / 1e6, 2) == published_params
    # the largest one, 520.53, is printed without the rest, the others are rounded
    assert printed in (round(flops / unit), int(flops / unit))


def stage(kind, width=8, layers=1, channels=16):
    """A backbone whose first stage has these blocks; the others have the smallest ones."""
    return DamoFDBackbone((8, 1), [(kind, channels, width, layers), *[("K3K3", 8, 8, 1)] * 3])


def convolutions(module):
    """Channels in and out, kernel, stride and whether it is depthwise, of each convolution with a norm after it."""
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.groups > 1)
        for m in module.modules()
        if isinstance(m, nn.Conv2d)
    ]


def test_layers_are_those_of_the_notation():
    plain = convolutions(stage("K5K5", layers=2).stages[0])
    assert plain == [
        (8, 8, 5, 2, False),
        (8, 16, 5, 1, False),
        (8, 16, 1, 2, False),
        *[(16, 8, 5, 1, False), (8, 16, 5, 1, False)],
    ]
    bottleneck = convolutions(stage("K1K7K1").stages[0])
    assert bottleneck == [
        (8, 8, 1, 1, False), (8, 8, 7, 2, False), (8, 16, 1, 1, False), (8, 16, 1, 2, False),
        (16, 8, 1, 1, False), (8, 8, 7, 1, False), (8, 16, 1, 1, False),
    ]  # fmt: skip
    depthwise = convolutions(stage("DWK3", width=24).stages[0])
    assert depthwise == [
        (8, 24, 1, 1, False), (24, 24, 3, 2, True), (24, 24, 1, 1, False), (8, 24, 1, 2, False),
        (24, 16, 1, 1, False), (16, 16, 3, 1, True), (16, 16, 1, 1, False), (24, 16, 1, 1, False),
    ]  # fmt: skip


def test_features_halve_from_stage_to_stage(root):
    backbone = build_model(root / "configs" / "damofd_0.5g.py").backbone
    features = backbone(torch.zeros(2, 3, 64, 96))
    assert [tuple(level.shape) for level in features] == [
        (2, c, 64 // s, 96 // s) for c, s in ((32, 4), (64, 8), (120, 16), (160, 32))
    ]
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_a_fresh_block_passes_its_input_on():
    backbone = stage("K1K3K1", layers=2).eval()
    backbone.init_weights()
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(backbone.stages[0][2:](x), x)
    square = backbone.stages[0][0].convs[1].conv.weight  # (8, 8, 3, 3)
    assert square.std().item() == pytest.approx(3.26033 * (2 / (72 + 72)) ** 0.5, rel=0.2)  # Xavier, the authors' gain


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([("K3", 8, 8, 1)] * 4, "blocks are called K1KkK1, KkKk or DWKk.*not 'K3'"),
        ([("K3K5", 8, 8, 1)] * 4, "not 'K3K5'"),
        ([("K3K3", 8, 8, 1)] * 3, "needs 4 positive numbers, one per stage"),
        ([("K3K3", 8, 8, 0)] * 4, "layers needs 4 positive numbers"),
        ([("K3K3", 8, -8, 1)] * 4, "widths must be positive"),
    ],
)
def test_a_stage_that_cannot_be_is_named(root, stages, message):
    config = load_config(root / "configs" / "damofd_0.5g.py")
    config.model.backbone.stages = stages
    with pytest.raises(ModelError, match=message):
        build_model(config)


def test_it_is_exported_as_an_scrfd_is(root, tmp_path):
    torch.manual_seed(0)
    model = build_model(root / "configs" / "damofd_0.5g_kps.py")
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "w.pth")
    export = export_onnx(root / "configs" / "damofd_0.5g_kps.py", tmp_path / "w.pth", tmp_path / "m.onnx")
    assert list(export.verification.differences)[::3] == ["score_8", "bbox_8", "kps_8"]
    assert build_detector(tmp_path / "m.onnx").network.normalization.to_rgb
