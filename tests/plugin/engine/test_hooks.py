"""The augmentation of an image depends on seed, epoch and image, and on nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet")

from mmengine.dataset import RepeatDataset
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader, WeightedRandomSampler

from facedet_mm.plugin.datasets import WiderFaceDataset
from facedet_mm.plugin.engine import SampleSeedHook

PIPELINE = [
    dict(type="LoadFaceImage"),
    dict(type="LoadFaceAnnotations"),
    dict(type="RandomSquareCrop", size=64),
    dict(type="FacePhotoMetricDistortion"),
    dict(type="PackFaceInputs"),
]


@pytest.fixture
def dataset(tmp_path):
    """Two images of noise with a face each."""
    lines = []
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
        lines += [name, "1", "20 30 25 30 0 0 0 0 0 0"]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    init_default_scope("mmdet")
    return WiderFaceDataset(
        ann_file=str(tmp_path / "train.txt"), data_prefix=dict(img=str(tmp_path)), pipeline=PIPELINE
    )


def augmented(dataset, epoch, seed, index=0):
    """Returns an image as the training sees it in an epoch, through a wrapper around the dataset."""
    loader = DataLoader(RepeatDataset(dataset, 1), batch_size=1, collate_fn=list)
    start_epoch(loader, epoch, seed)
    return [pixels(batch) for batch in loader][index]


def start_epoch(loader, epoch, seed=0):
    """Does what the Runner does at the start of an epoch."""
    loop = SimpleNamespace(dataloader=loader)
    runner = SimpleNamespace(train_dataloader=loader, train_loop=loop, epoch=epoch, iter=0, seed=seed)
    SampleSeedHook().before_train_epoch(runner)


def pixels(batch):
    """Returns the pixels of a batch."""
    return b"".join(sample["inputs"].numpy().tobytes() for sample in batch)


def test_every_epoch_seed_and_image_has_its_own_augmentation(dataset):
    cases = [(epoch, seed, index) for epoch in (0, 1, 7) for seed in (0, 3) for index in (0, 1)]
    assert len({augmented(dataset, *case) for case in cases}) == len(cases)


def test_the_same_epoch_seed_and_image_have_the_same_augmentation(dataset):
    first = augmented(dataset, 5, 3)
    augmented(dataset, 6, 3, index=1)
    assert augmented(dataset, 5, 3) == first


def test_without_the_hook_the_global_random_numbers_decide(dataset):
    assert len({dataset[0]["inputs"].numpy().tobytes() for _ in range(5)}) == 5


def test_indices_that_a_sampler_draws_twice_are_new_too(dataset):
    sampler = WeightedRandomSampler([1.0, 0.0], 6, replacement=True)
    loader = DataLoader(dataset, 2, sampler=sampler, collate_fn=list)
    start_epoch(loader, 0)
    samples = [pixels([sample]) for batch in loader for sample in batch]
    assert len(set(samples)) == 6


def test_hooks_that_change_the_dataset_still_reach_it(dataset):
    loader = DataLoader(dataset, 2, collate_fn=list)
    start_epoch(loader, 0)
    loader.dataset.pipeline = "another"
    assert dataset.pipeline == "another"
    assert loader.dataset.metainfo == dataset.metainfo
    assert not hasattr(loader.sampler, "skip"), "MMEngine would call it"
