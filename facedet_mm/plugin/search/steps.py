"""The two steps of the search, from a template to statistics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.apis.build import load_config
from facedet_mm.plugin.apis.complexity import complexity
from facedet_mm.plugin.search.bootstrap import Estimate, best_interval
from facedet_mm.plugin.search.cost import STAGES, Design, Settings, model_options, operations, settings_of, total
from facedet_mm.plugin.search.sampling import TOLERANCE, Interval, Space, backbone_shares, sample
from facedet_mm.plugin.search.store import SearchStore
from facedet_mm.system.files import write_text

METRIC = "wider_face/hard"
FEWEST = 8
"""Finished runs of the first step that the second step asks for."""


def add_architectures(
    store: SearchStore, template: Path, budget: float, step: str, number: int, seed: int = 0, space: Space | None = None
) -> int:
    """Draws architectures for one step, counts each exactly, and adds them to the search.

    Args:
        store: of the search.
        template: config of everything that is not searched; in the step ``backbone`` also of neck and head.
        budget: operations for one image of 640×480.
        step: ``backbone``, or ``all`` once the first step has run.
        number: of architectures that the step has afterwards.
        seed: of the random numbers.
        space: what to draw from.

    Returns:
        How many were added.

    Raises:
        ModelError: the template is no SCRFD, or the space has too few architectures of the budget.
        FaceDetError: the search is about another template or budget, or the first step has too few results.
    """
    config = load_config(template)
    design, space = Design.of(config), space or Space()
    store.settle(dict(template=str(Path(template).resolve()), budget=budget))
    shares = best_shares(store) if step == "all" else None
    drawn = sample(design, space if step == "all" else space.around(settings_of(config)), budget, number, seed, shares)
    known = [run.model for run in store.runs(step)]
    rows: list[dict[str, Any]] = []
    for i in range(number):
        model = model_options(design, drawn, i)
        if model in known or len(known) + len(rows) >= number:
            continue
        exact = config.copy()
        exact.merge_from_dict({"model": model})
        parameters, count = complexity(exact)
        if abs(count - budget) > TOLERANCE * budget:
            raise ModelError(f"{model} has {count / 1e9:.4g} GFLOPs instead of {budget / 1e9:g} ± 2 %: this is a bug")
        described = describe(design, drawn[i : i + 1])
        rows.append(dict(model=model, settings=described, operations=count, parameters=parameters))
    return store.add(step, rows)


def describe(design: Design, settings: Settings) -> dict[str, float]:
    """What the statistics of one architecture are about: shares of the operations, and the settings themselves."""
    costs = operations(design, settings)
    everything = total(costs)
    described = {f"{part} of backbone": float(share[0]) for part, share in backbone_shares(design, settings).items()}
    described["backbone of all"] = float(1 - (costs["neck"][0] + costs["head"][0]) / everything[0])
    described |= {f"{part} of all": float(costs[part][0] / everything[0]) for part in ("neck", "head")}
    for name in ("blocks", "planes"):
        values = getattr(settings, name)[0].tolist()
        described |= {f"{stage} {name}": value for stage, value in zip(STAGES, values, strict=True)}
    one = dict(neck="neck channels", head_convs="head convolutions", head="head channels")
    return described | {label: int(getattr(settings, name)[0]) for name, label in one.items()}


def best_shares(store: SearchStore) -> dict[str, Interval]:
    """Stage → the interval of its share of the backbone that the best of the first step have.

    Raises:
        FaceDetError: too few runs of the first step are done.
    """
    estimates = statistics(store, "backbone")
    done = len(store.runs("backbone", "done"))
    if done < FEWEST:
        raise FaceDetError(
            f"{store.path}: {done} runs of the step 'backbone' are done, and the step 'all' draws around the best of "
            f"at least {FEWEST}: run more of them first"
        )
    return {stage: (estimates[f"{stage} of backbone"].low, estimates[f"{stage} of backbone"].high) for stage in STAGES}


def statistics(store: SearchStore, step: str, metric: str = METRIC, **options: Any) -> dict[str, Estimate]:
    """Setting → where it lies in the best architectures of a step, by the bootstrap; empty before any run is done."""
    runs = store.runs(step, "done")
    if not runs:
        return {}
    scores = np.array([(run.metrics or {})[metric] for run in runs])
    return {
        name: best_interval(np.array([run.settings[name] for run in runs], float), scores, **options)
        for name in runs[0].settings
    }


def write_config(store: SearchStore, number: int, folder: str | os.PathLike[str], epochs: int) -> Path:
    """The config of one run: the template with its model and a schedule of that length."""
    run = next(run for run in store.runs() if run.id == number)
    path = Path(folder) / f"{run.step}_{run.id:04d}.py"
    base = os.path.relpath(store.facts()["template"], path.parent.resolve())
    warm_up, *milestones = (max(1, round(epochs * part / 640)) for part in (3, 440, 544))
    text = f"""\
# {run.operations / 1e9:.3f} GFLOPs at 640x480, {run.parameters / 1e6:.3f} M parameters.
_base_ = {base!r}

model = {run.model!r}
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
# the published schedule, shortened
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end={warm_up}, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', begin=0, end={epochs}, milestones={milestones}, gamma=0.1, by_epoch=True),
]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None))
randomness = dict(seed=0)
"""
    write_text(path, text)
    return path
