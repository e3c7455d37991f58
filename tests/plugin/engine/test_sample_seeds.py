"""Real loops of MMEngine see new samples all the time, and a resumed run goes on like one that was not interrupted."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import mmengine.runner.loops as loops
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmengine.hooks import Hook  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

import facedet_mm.plugin  # noqa: E402, F401 - registers the parts

IMAGES, BATCH = 6, 2
PIPELINE = [
    dict(type="LoadFaceImage"),
    dict(type="LoadFaceAnnotations"),
    dict(type="RandomSquareCrop", size=32),
    dict(type="FacePhotoMetricDistortion"),
    dict(type="PackFaceInputs"),
]
MIXED = [dict(type="Mosaic", img_scale=(32, 32)), PIPELINE[-1]]


class Mean(BaseModel):
    """Learns from every pixel, so that its weight tells which samples it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples, mode):  # noqa: ARG002
        assert mode == "loss"
        images = torch.stack(inputs).float()
        return dict(loss=(self.weight * images.mean() / 100 - 1) ** 2)


class Recorder(Hook):
    """Keeps the pixels of every sample that is trained on."""

    def __init__(self):
        self.samples = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):  # noqa: ARG002
        self.samples += [image.numpy().tobytes() for image in data_batch["inputs"]]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of noise with a face each, alternately upright and wide, and the config of a dataset that reads them."""
    folder = tmp_path_factory.mktemp("images")
    rng, lines = np.random.default_rng(0), []
    for i in range(IMAGES):
        size = (90, 120) if i % 2 else (120, 90)
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, (*size, 3), np.uint8))
        lines.append(f"# {i}.png {size[1]} {size[0]}\n20 30 45 60")
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    return dict(
        type="WiderFaceDataset",
        ann_file=str(folder / "train.txt"),
        data_prefix=dict(img=str(folder)),
        pipeline=PIPELINE,
    )


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """MMEngine sleeps two seconds before it starts a loader again."""
    monkeypatch.setattr(loops, "time", SimpleNamespace(sleep=lambda _: None))


WRAPPED = {
    "alone": lambda dataset: dataset,
    "repeated": lambda dataset: dict(type="RepeatDataset", times=2, dataset=dataset),
    "joined": lambda dataset: dict(type="ConcatDataset", datasets=[dataset, dataset]),
    "balanced": lambda dataset: dict(type="ClassBalancedDataset", oversample_thr=1.0, dataset=dataset),
    "mixed": lambda dataset: dict(
        type="MultiImageMixDataset", dataset=dict(dataset, pipeline=PIPELINE[:3]), pipeline=MIXED
    ),
    "nested": lambda dataset: dict(
        type="RepeatDataset",
        times=2,
        dataset=dict(
            type="ConcatDataset",
            datasets=[dict(type="RepeatDataset", times=2, dataset=dataset), dataset],
        ),
    ),
}


def run(dataset, work_dir, loop, workers=0, persistent=False, sampler="DefaultSampler", resume=None, batches=None):
    """Trains with a real Runner; returns the pixels of the samples and the final state of the model."""
    init_default_scope("mmdet")
    by_epoch = loop["type"] == "EpochBasedTrainLoop"
    recorder = Recorder()
    loader = dict(
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=persistent,
        sampler=dict(type=sampler, shuffle=True),
        collate_fn=dict(type="pseudo_collate"),
        dataset=dataset,
    )
    if batches:
        loader["batch_sampler"] = dict(type=batches)
    runner = Runner(
        model=Mean(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", interval=1 if by_epoch else 4, by_epoch=by_epoch), logger=None
        ),
        custom_hooks=[dict(type="SampleSeedHook"), recorder],
        load_from=resume,
        resume=resume is not None,
        randomness=dict(seed=5),
        default_scope="mmdet",
        log_level="ERROR",
        experiment_name=str(work_dir),
    )
    runner.train()
    # workers that wait for the garbage collector take ten seconds to end
    runner.train_dataloader._iterator = None
    if not by_epoch:
        runner.train_loop.dataloader_iterator._iterator = None
    return recorder.samples, runner.model.weight.item()


EPOCHS = dict(type="EpochBasedTrainLoop", max_epochs=3)
ITERATIONS = dict(type="IterBasedTrainLoop", max_iters=10)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("loop", [EPOCHS, ITERATIONS], ids=["epochs", "iterations"])
def test_every_sample_is_new_whatever_wraps_the_dataset(images, wrap, loop, tmp_path):
    samples, _ = run(wrap(images), tmp_path, loop)
    assert len(samples) >= 3 * IMAGES
    assert len(set(samples)) == len(samples)


@pytest.mark.parametrize(
    ("loop", "sampler"), [(EPOCHS, "DefaultSampler"), (ITERATIONS, "DefaultSampler"), (ITERATIONS, "InfiniteSampler")]
)
def test_samples_do_not_depend_on_the_workers(images, loop, sampler, tmp_path):
    dataset = WRAPPED["nested"](images)
    runs = [
        run(dataset, tmp_path / f"{workers}{persistent}", loop, workers, persistent, sampler)
        for workers, persistent in ((0, False), (2, False), (2, True))
    ]
    assert len(set(runs[0][0])) == len(runs[0][0])
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches", [None, "AspectRatioBatchSampler"])
@pytest.mark.parametrize(
    ("loop", "sampler", "checkpoint", "seen"),
    [
        (EPOCHS, "DefaultSampler", "epoch_2.pth", 2 * 3 * BATCH),
        (ITERATIONS, "DefaultSampler", "iter_4.pth", 4 * BATCH),
        (ITERATIONS, "InfiniteSampler", "iter_8.pth", 8 * BATCH),
    ],
)
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    images, workers, batches, loop, sampler, checkpoint, seen, tmp_path
):
    samples, weight = run(images, tmp_path / "whole", loop, workers, workers > 0, sampler, batches=batches)
    rest, resumed = run(
        images, tmp_path / "resumed", loop, 0, False, sampler, str(tmp_path / "whole" / checkpoint), batches
    )
    assert rest == samples[seen:]
    assert resumed == weight


def test_a_run_that_does_not_go_through_the_samples_again_still_sees_new_ones(images, tmp_path):
    loop = dict(ITERATIONS, fast_forward_on_resume=True)
    samples, _ = run(images, tmp_path / "whole", loop)
    rest, _ = run(images, tmp_path / "resumed", loop, resume=str(tmp_path / "whole" / "iter_4.pth"))
    assert not set(rest) & set(samples)
