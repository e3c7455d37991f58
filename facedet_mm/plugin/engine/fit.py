"""Whether a checkpoint fits the model that it is loaded into; MMEngine only logs what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.engine.loading import FLOAT_TYPES

_CONVERT = "tools/convert_insightface.py converts the SCRFD authors' .pth and .onnx files"


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the weights in a checkpoint, without the prefix that a wrapper for several processes adds."""
    state = checkpoint.get("state_dict", checkpoint)
    return {name.removeprefix("module."): value for name, value in state.items()}


def check_start(model: nn.Module, checkpoint: Mapping[str, Any], name: str) -> None:
    """Checks that training can start from a checkpoint: the whole backbone is in it, or most of another model.

    Logs one line if other parts start from random values.

    Args:
        model: Detector, or a part of one.
        checkpoint: Content of the file, with the names of ``model``.
        name: File name used in messages.

    Raises:
        ModelError: Training would start from random weights.
    """
    own, reasons = _mismatches(model, weights_of(checkpoint))
    decisive = [key for key in own if key.startswith("backbone.")] or own
    random = [key for key in decisive if key in reasons]
    if len(random) > (0 if decisive is not own else len(own) // 2):
        part = "backbone" if decisive is not own else "model"
        raise ModelError(
            f"{name}: {len(random)} of the {len(decisive)} tensors of the {part} are not in it ({reasons[random[0]]}), "
            f"so training would start from random weights: was it made with another config? {_CONVERT}"
        )
    if reasons:
        parts = Counter(key.partition(".")[0] for key in reasons)
        counts = ", ".join(f"{count} of {part}" for part, count in parts.items())
        first = next(iter(reasons.values()))
        print_log(f"{name}: {counts} start from random values, because they do not fit ({first})", logger="current")


def check_complete(model: nn.Module, checkpoint: Mapping[str, Any], name: str) -> None:
    """Checks that a checkpoint has all weights of a model and no others, as resuming and testing need.

    Raises:
        ModelError: Weights are missing, have another shape or are unknown to the model.
    """
    state = weights_of(checkpoint)
    _, reasons = _mismatches(model, state)
    reasons.update({key: f"{key} is unknown to the model" for key in state if key not in model.state_dict()})
    if reasons:
        raise ModelError(
            f"{name}: {len(reasons)} weights do not fit the config ({next(iter(reasons.values()))}): "
            f"was it made with another config? {_CONVERT}"
        )


def check_resumable(checkpoint: Mapping[str, Any], name: str, optimizer: Any = None) -> None:
    """Checks that a run can continue from a checkpoint.

    Args:
        checkpoint: Content of the file.
        name: File name used in messages.
        optimizer: PyTorch optimizer that the state in the checkpoint is for, if it exists already.

    Raises:
        ModelError: The checkpoint lacks optimizer, log or counters, or its optimizer is another one.
    """
    remedy = f"to start a new run from its weights, use --cfg-options load_from={name} without --resume"
    meta = checkpoint.get("meta")
    counters = isinstance(meta, Mapping) and all(isinstance(meta.get(key), int) for key in ("epoch", "iter"))
    parts = {
        "optimizer state": isinstance(checkpoint.get("optimizer"), Mapping),
        "log": isinstance(checkpoint.get("message_hub"), Mapping),
        "epoch and iteration": counters,
    }
    if missing := [part for part, present in parts.items() if not present]:
        raise ModelError(f"{name}: has no {' and no '.join(missing)}, so no run can continue from it; {remedy}")
    saved, own = checkpoint["optimizer"].get("param_groups"), getattr(optimizer, "param_groups", None)
    if saved is None or own is None:
        return
    if [len(group["params"]) for group in saved] != [len(group["params"]) for group in own]:
        raise ModelError(f"{name}: its optimizer state is that of other parameters; {remedy}")
    absent = {key for mine, theirs in zip(own, saved, strict=True) for key in mine.keys() - theirs.keys()}
    if absent:
        needed = f"{type(optimizer).__name__} needs {', '.join(sorted(absent))}"
        raise ModelError(f"{name}: its optimizer is another one ({needed}); {remedy}")


def _mismatches(model: nn.Module, state: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Returns the names of a model's tensors, and for those that a state does not fill the reason."""
    reasons, own = {}, []
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        own.append(key)
        given = state.get(key)
        if not isinstance(given, Tensor):
            reasons[key] = f"{key} is missing"
        elif given.shape != value.shape:
            reasons[key] = f"{key} has shape {tuple(given.shape)}, the model needs {tuple(value.shape)}"
        elif (given.dtype in FLOAT_TYPES) != (value.dtype in FLOAT_TYPES):
            reasons[key] = f"{key} has the type {given.dtype}, the model needs {value.dtype}"
    return own, reasons


class CheckedPretrainedInit(PretrainedInit):
    """MMEngine's ``init_cfg=dict(type='Pretrained', checkpoint=…)``, refused if the file has other weights.

    Raises:
        ModelError: The part would start from random weights.
    """

    def __call__(self, module: nn.Module) -> None:
        """Checks the file and loads it into a module."""
        checkpoint = CheckpointLoader.load_checkpoint(self.checkpoint, "cpu", logger="current")
        prefix = self.prefix or ""
        prefix += "." if prefix and not prefix.endswith(".") else ""
        state = {key.removeprefix(prefix): v for key, v in weights_of(checkpoint).items() if key.startswith(prefix)}
        check_start(module, state, str(self.checkpoint))
        super().__call__(module)
