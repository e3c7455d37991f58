"""The parts of the WIDER FACE data set and where to get them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PARTS"]

_PAGE = "http://shuoyang1213.me/WIDERFACE/"
_MIRROR = "https://huggingface.co/datasets/CUHK-CSE/wider_face/resolve/main/data/"


@dataclass(frozen=True)
class Part:
    """A part of the data set.

    Attributes:
        title: Name for messages.
        folder: Its folder below the root.
        archives: File names of the download, with wildcards.
        member: Regular expression of the wanted archive members; its group is the path below ``folder``.
        source: Where to get the archive.
        files: Paths below ``folder`` that must exist; empty for images, which an annotation file lists.
        annotations: Annotation file below the root that lists the images.
        count: Number of images.
        optional: Whether training works without it.
    """

    title: str
    folder: str
    archives: tuple[str, ...]
    member: str
    source: str
    files: tuple[str, ...] = ()
    annotations: str = ""
    count: int = 0
    optional: bool = False


PARTS = (
    Part(
        "annotations",
        "wider_face_split",
        ("wider_face_split.zip",),
        r"(?:.*/)?wider_face_split/([^/]+)",
        f"{_MIRROR}wider_face_split.zip",
        files=("wider_face_train_bbx_gt.txt", "wider_face_val_bbx_gt.txt"),
    ),
    Part(
        "training images",
        "WIDER_train/images",
        ("WIDER_train.zip",),
        r"(?:.*/)?WIDER_train/images/([^/]+/[^/]+)",
        f"{_MIRROR}WIDER_train.zip (1.5 GB)",
        annotations="wider_face_split/wider_face_train_bbx_gt.txt",
        count=12_880,
    ),
    Part(
        "validation images",
        "WIDER_val/images",
        ("WIDER_val.zip",),
        r"(?:.*/)?WIDER_val/images/([^/]+/[^/]+)",
        f"{_MIRROR}WIDER_val.zip (363 MB)",
        annotations="wider_face_split/wider_face_val_bbx_gt.txt",
        count=3_226,
    ),
    Part(
        "evaluation ground truth",
        "ground_truth",
        ("eval_tools.zip",),
        r"(?:.*/)?ground_truth/(wider_\w+_val\.mat)",
        f"{_PAGE}support/eval_script/eval_tools.zip",
        files=tuple(f"wider_{name}_val.mat" for name in ("face", "easy", "medium", "hard")),
    ),
    Part(
        "landmarks (for the _kps models)",
        "retinaface_gt",
        ("retinaface_gt*.zip",),
        r"(?:.*/)?((?:train|val)/label\.txt)",
        "retinaface_gt_v1.1.zip, linked from https://github.com/deepinsight/insightface/tree/master/detection/retinaface",
        files=("train/label.txt", "val/label.txt"),
        optional=True,
    ),
)
"""All parts, in the order in which they are checked."""
