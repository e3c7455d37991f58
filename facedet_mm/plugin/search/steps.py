"""The two steps of the search, from a template to statistics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.apis.build import load_config
from facedet_mm.plugin.apis.complexity import complexity
from facedet_mm.search.architecture import METRIC, Architecture
from facedet_mm.search.bootstrap import Estimate, best_interval
from facedet_mm.search.cost import SETTINGS, SHARES, STAGES, Design, Settings, model_options, shares
from facedet_mm.search.sampling import TOLERANCE, Interval, Space, sample
from facedet_mm.search.store import SearchStore
from facedet_mm.system.files import write_text

_FEWEST = 8
"""Finished trainings of the first step that the second step needs."""


def add_architectures(
    store: SearchStore, template: Path, budget: float, step: str, number: int, seed: int = 0, space: Space | None = None
) -> int:
    """Draws architectures for one step, counts the operations of each exactly and adds them to the search.

    Args:
        store: Journal of the search.
        template: Config of everything that is not searched; in the step ``backbone`` that includes neck and head.
        budget: Multiply-adds for one image of 640×480.
        step: ``backbone``, or ``all`` once the first step has been trained.
        number: Number of architectures in the step afterwards.
        seed: Seed of the random numbers.
        space: Ranges to draw from.

    Returns:
        Number of architectures added.

    Raises:
        ModelError: The template is not an SCRFD, or the space has too few architectures of the budget.
        FaceDetError: The search has another template or budget, or the first step has too few results.
    """
    config = load_config(template)
    design, space = Design.from_config(config), space or Space()
    store.settle(Path(template).name, budget)
    limits = best_shares(store) if step == "all" else None
    space = space if step == "all" else space.around(Settings.from_config(config))
    drawn = sample(design, space, budget, number, seed, limits)
    known = [architecture.settings for architecture in store.architectures(step)]
    rows: list[dict[str, Any]] = []
    for i, settings in enumerate(drawn.rows()):
        if settings in known or len(known) + len(rows) >= number:
            continue
        exact = config.copy()
        exact.merge_from_dict({"model": model_options(design, drawn, i)})
        parameters, count = complexity(exact)
        if abs(count - budget) > TOLERANCE * budget:
            raise ModelError(
                f"{settings} has {count / 1e9:.4g} GFLOPs instead of {budget / 1e9:g} ± 2 %: this is a bug"
            )
        parts = {name: float(share[i]) for name, share in shares(design, drawn).items()}
        rows.append(dict(settings=settings, shares=parts, operations=count, parameters=parameters))
    return store.add(step, rows, space.ranges())


def best_shares(store: SearchStore) -> dict[str, Interval]:
    """Returns the intervals in which the best architectures of the first step have the backbone's shares.

    Returns:
        Share name of each of :data:`~facedet_mm.search.cost.STAGES` → its smallest and largest value.

    Raises:
        FaceDetError: Too few trainings of the first step are done.
    """
    done = len(store.architectures("backbone", "done"))
    if done < _FEWEST:
        raise FaceDetError(
            f"{store.path}: {done} trainings of the step 'backbone' are done, but the step 'all' draws around the best "
            f"of at least {_FEWEST}: run more of them first"
        )
    estimates = statistics(store, "backbone")
    names = [f"{stage} of backbone" for stage in STAGES]
    return {name: (estimates[name].low, estimates[name].high) for name in names}


def statistics(store: SearchStore, step: str) -> dict[str, Estimate]:
    """Estimates by the bootstrap where the best architectures of a step lie.

    Returns:
        Name of a share or setting → its estimate; empty if no training is done.
    """
    finished = store.architectures(step, "done")
    if not finished:
        return {}
    scores = np.array([(architecture.metrics or {})[METRIC] for architecture in finished])
    values = [{**architecture.shares, **architecture.settings} for architecture in finished]
    return {
        name: best_interval(np.array([row[name] for row in values], float), scores) for name in (*SHARES, *SETTINGS)
    }


def write_config(architecture: Architecture, template: Path, folder: str | os.PathLike[str], epochs: int) -> Path:
    """Writes the config of one training: the template with the architecture's model and a schedule of that length.

    Args:
        architecture: Architecture to train.
        template: Config that the search varies.
        folder: Folder for the config.
        epochs: Number of epochs.

    Returns:
        Path of the config.
    """
    path = Path(folder) / f"{architecture.step}_{architecture.number:04d}.py"
    base = os.path.relpath(Path(template).resolve(), path.parent.resolve())
    settings = Settings.from_rows([architecture.settings])
    model = model_options(Design.from_config(load_config(template)), settings, 0)
    warm_up, *milestones = (max(1, round(epochs * part / 640)) for part in (3, 440, 544))
    text = f"""\
# {architecture.operations / 1e9:.3f} GFLOPs at 640x480, {architecture.parameters / 1e6:.3f} M parameters.
_base_ = {base!r}

model = {model!r}
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
