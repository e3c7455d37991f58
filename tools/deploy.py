"""Exports a checkpoint through mmdeploy 1.3.1, and compares the faces of the backend with those of PyTorch.

Writes end2end.onnx, for TensorRT 8 also end2end.engine, drawings of the faces that both find in each image, and with
--dump-info the files that mmdeploy's SDK reads. The configs are in configs/deploy.

Example:
    python tools/deploy.py configs/deploy/scrfd_onnxruntime_dynamic.py configs/scrfd_0.5g_kps.py scrfd_0.5g_kps.pth \\
        photo.jpg --work-dir work_dirs/mmdeploy --dump-info
    python tools/deploy.py configs/deploy/scrfd_tensorrt-fp16_static-640.py configs/scrfd_2.5g.py epoch_640.pth \\
        photo.jpg --work-dir work_dirs/mmdeploy --device cuda:0
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from facedet_mm.cli import guard
from facedet_mm.cli.parsing import Parser
from facedet_mm.system.dependencies import missing_dependency


def main() -> int:
    """Deploys one checkpoint."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deploy_cfg", type=Path, help="deploy config, such as one of configs/deploy")
    parser.add_argument("model_cfg", type=Path, help="config of the model")
    parser.add_argument("checkpoint", type=Path, help="checkpoint of that config")
    parser.add_argument("img", type=Path, help="image with faces, to trace with and to compare on")
    parser.add_argument("--test-img", type=Path, nargs="+", default=[], help="more images to compare on")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work_dirs/mmdeploy"), help="output folder (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:0 for TensorRT (default: %(default)s)")
    parser.add_argument("--dump-info", action="store_true", help="also write the JSON files of mmdeploy's SDK")
    parser.add_argument("--onnx-only", action="store_true", help="write only the graph; works without TensorRT")
    parser.add_argument("--calib-dataset-cfg", type=Path, help="config whose val_dataloader loads the images for INT8")
    parser.add_argument(
        "--log-level",
        default="ERROR",
        choices=["INFO", "WARNING", "ERROR"],
        help="log level of mmdeploy (default: %(default)s)",
    )
    args = parser.parse_args()
    try:
        from facedet_mm.plugin.deploy.mmdeploy_export import deploy
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = "train" if package in ("torch", "mmengine", "mmcv", "mmdet") else "mmdeploy"
        raise missing_dependency(f"{package} is needed", extra, error) from error
    from mmdeploy.utils import get_root_logger

    get_root_logger().setLevel(logging.getLevelName(args.log_level))
    result = deploy(
        args.deploy_cfg, args.model_cfg, args.checkpoint, [args.img, *args.test_img], args.work_dir,
        args.device, args.dump_info, args.onnx_only, args.calib_dataset_cfg,
    )  # fmt: skip
    for path, (ours, theirs) in result.faces.items():
        counts = [int((faces.scores > 0.5).sum()) for faces in (ours, theirs)]
        print(f"{path}: {counts[0]} faces above 0.5 in PyTorch, {counts[1]} in the backend")
    for kind, difference in result.differences.items():
        print(f"largest difference of {kind}: {difference:.2e}")
    if result.faces and not result.differences:
        print("no face found, so nothing was compared: pass images with faces")
    for path in result.files:
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, "deploy"))
