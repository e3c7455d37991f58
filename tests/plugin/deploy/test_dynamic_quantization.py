"""PyTorch's dynamic quantization."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="NEEDS PyTorch: pip install 'facedet-mm[train]'")

from facedet_mm.errors import FaceDetError  # noqa: E402
from facedet_mm.plugin.deploy.dynamic_quantization import quantize_model  # noqa: E402


def test_linear_layers_get_int8_weights_and_the_model_stays() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 8))
    quantized = quantize_model(model)
    assert quantized[0].weight().dtype == torch.qint8
    assert model[0].weight.dtype == torch.float32
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(quantized(x), model(x), atol=0.05)


def test_a_convolutional_net_comes_out_as_it_went_in_and_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    quantized = quantize_model(model)
    assert torch.equal(quantized[0].weight, model[0].weight)
    assert "no linear layer" in caplog.text
    assert "facedet quantize" in caplog.text


def test_another_method_is_refused() -> None:
    with pytest.raises(FaceDetError, match="facedet quantize"):
        quantize_model(None, "static")  # type: ignore[arg-type]
