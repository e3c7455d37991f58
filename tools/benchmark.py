"""Times detection: beside other Python packages, and with models in all backends of this machine.

``runtime``: the same images and weights for each package, in separate processes that take turns after a few images, so
that other load on the machine affects all alike. The best of a few calls counts for each image. Ours runs with and
without the second look for close-ups. The bare run is ONNX Runtime's, on an input that is ready.

``backends``: each model in each library, device and precision that this machine has, at each size and batch, in
separate processes: times from decoded images to faces, memory, AP if annotations are given, and a plot of both.

Example:
    python tools/benchmark.py runtime --model scrfd_500m_bnkps.onnx --images WIDER_val/images \\
        --peers insightface uniface
    python tools/benchmark.py runtime --images clip.mp4 --peers opencv
    python tools/benchmark.py backends scrfd_2.5g.onnx scrfd_2.5g_int8.onnx --batches 1 8 \\
        --annotations ground_truth --images WIDER_val/images --json times.json --plot times.png
    python tools/benchmark.py backends work_dirs/scrfd_2.5g/epoch_640.pth --config configs/scrfd_2.5g.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facedet_mm.benchmark.accuracy import find_images
from facedet_mm.benchmark.backends import Job, backends_for, measure_job
from facedet_mm.cli import guard
from facedet_mm.cli.arguments import positive
from facedet_mm.cli.parsing import Parser
from facedet_mm.datasets.ground_truth import SETTINGS, read_ground_truth
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import IMAGE_SUFFIXES, write_image
from facedet_mm.report.plots import check_plot, plot_speed
from facedet_mm.system.files import write_text
from facedet_mm.video.sources import open_source
from facedet_mm.zoo import asset_path

WORKER = Path(__file__).parent / "analysis" / "runtime_worker.py"
PEERS = {"insightface": "insightface==2.1", "uniface": "uniface==4.2.1", "opencv": "opencv-python>=4.9"}
HEADER = """\
| model                    | backend      | device   | precision | size | batch | mean ms |  p50 ms |  p99 ms \
| images/s |     MB | GPU MB |   easy | medium |   hard |
|--------------------------|--------------|----------|-----------|-----:|------:|--------:|--------:|--------:\
|-----------:|-------:|-------:|-------:|-------:|-------:|"""
IMAGES_IN_TURN = 16
"""Number of images that a backend is timed on, in turn."""
TURN = 8
"""Number of images per turn of a process: enough for its caches to warm up."""
REST = 0.1
"""Seconds between two turns: ONNX Runtime's threads spin for 0.05 s after a run and would slow the next process."""


def main() -> int:
    """Parses the command line and runs the benchmark."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runtime = commands.add_parser("runtime", help="compare with other Python packages")
    runtime.add_argument("--model", type=Path, default=asset_path("yunet_n_dynamic.onnx"), help="an .onnx file")
    runtime.add_argument("--images", type=Path, required=True, help="a folder of images, or a video")
    runtime.add_argument("--peers", nargs="*", choices=PEERS, default=[], help="packages to compare with")
    runtime.add_argument(
        "--peers-env",
        type=Path,
        default=Path("outputs/peers"),
        help="folder of their environment (default: %(default)s)",
    )
    runtime.add_argument("--score-thr", type=float, default=0.5, help="score threshold (default: %(default)s)")
    runtime.add_argument(
        "--sizes",
        nargs="+",
        default=["640", "auto"],
        help="our input sizes: a side, auto or original (default: 640 auto)",
    )
    runtime.add_argument("--openvino", action="store_true", help="also run our detector in OpenVINO")
    runtime.add_argument(
        "--threads", type=positive, help="threads of each network and of OpenCV (default: the package's choice)"
    )
    runtime.add_argument(
        "--limit", type=int, default=404, help="number of images, evenly chosen (default: %(default)s)"
    )
    runtime.add_argument(
        "--repeats", type=int, default=3, help="calls per image; the best counts (default: %(default)s)"
    )
    runtime.add_argument("--json", type=Path, help="write the times into this file")
    runtime.set_defaults(run=run_runtime)
    backends = commands.add_parser("backends", help="measure all libraries, devices and precisions of this machine")
    backends.add_argument("models", type=Path, nargs="+", metavar="MODEL", help=".onnx files, or one checkpoint")
    backends.add_argument("--config", help="config or model name of the checkpoint")
    backends.add_argument(
        "--sizes", nargs="+", type=positive, default=[320, 480, 640, 960], help="input sizes (default: %(default)s)"
    )
    backends.add_argument("--batches", nargs="+", type=positive, default=[1, 8], help="images per call (default: 1 8)")
    backends.add_argument("--images", type=Path, help="a folder of images (default: a photograph of 29 people)")
    backends.add_argument(
        "--annotations", type=Path, metavar="GT_DIR", help="WIDER FACE ground truth of the images, for AP"
    )
    backends.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="only backends with one of these words, such as openvino"
    )
    backends.add_argument("--seconds", type=float, default=3.0, help="time per row of the table (default: %(default)s)")
    backends.add_argument("--threads", type=positive, help="threads of networks on the CPU (default: one per core)")
    backends.add_argument("--json", type=Path, help="write the table into this file, after each row")
    backends.add_argument("--plot", type=Path, help="plot AP against time, as .png, .pdf or .svg")
    backends.set_defaults(run=run_backends)
    args = parser.parse_args()
    return args.run(args)


def run_runtime(args: argparse.Namespace) -> int:
    """Runs ``benchmark.py runtime`` and returns the exit status."""
    if not args.model.is_file():
        raise FaceDetError(f"--model {args.model}: no such file")
    common = dict(model=str(args.model.resolve()), score_thr=args.score_thr, repeats=args.repeats, threads=args.threads)
    devices = [None, "openvino"] if args.openvino else [None]
    sizes = {size: int(size) if size.isdigit() else size for size in args.sizes}
    jobs: dict[str, tuple[Any, dict[str, Any]]] = {
        f"facedet-mm {name}{' openvino' if device else ''}{'' if close_ups else ', one look'}": (
            sys.executable,
            dict(common, package="facedet_mm", device=device, size=size, close_ups=close_ups),
        )
        for name, size in sizes.items()
        for device in devices
        for close_ups in (True, False)
    }
    for name, size in sizes.items():
        jobs[f"bare run of the network at {name}"] = sys.executable, dict(common, package="onnxruntime", size=size)
    if args.peers:
        python = install(args.peers, args.peers_env)
        jobs.update({peer: (python, dict(common, package=peer)) for peer in args.peers})
    with tempfile.TemporaryDirectory() as folder:
        images = choose(args.images, args.limit, Path(folder))
        times = race(jobs, images)
    print_table(times, f"{len(images)} images, {args.model.name}, score above {args.score_thr}, milliseconds")
    if args.json:
        write_text(args.json, json.dumps(times))
    return 0


def run_backends(args: argparse.Namespace) -> int:
    """Runs ``benchmark.py backends`` and returns the exit status."""
    if args.annotations and not args.images:
        raise FaceDetError("--annotations needs --images: the folder of its images")
    if args.plot:
        check_plot(args.plot)
        if not args.annotations:
            raise FaceDetError("--plot shows AP against time; it needs --annotations and --images")
    if args.annotations:  # raises an error before any work if they do not fit
        find_images(args.images, read_ground_truth(args.annotations))
    found = choose(args.images, IMAGES_IN_TURN, Path()) if args.images else [asset_path("solvay_1927.jpg")]
    common = dict(
        files=tuple(map(str, found)),
        seconds=args.seconds,
        threads=args.threads,
        annotations=args.annotations and str(args.annotations),
        images=args.images and str(args.images),
    )
    rows: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [file for model in args.models for file in runnable(model, args.config, Path(folder))]
        chosen = [
            (name, backend, model, weights)
            for name, path, model, weights in files
            for backend in backends_for(path)
            if not args.only or any(word.lower() in str(backend).lower() for word in args.only)
        ]
        if not chosen:
            raise FaceDetError(f"--only {' '.join(args.only)}: no backend of these models has such a word in its name")
        print(HEADER)
        for name, backend, model, weights in chosen:
            for size, batch in itertools.product(args.sizes, args.batches):
                if str(backend) in absent:
                    continue
                job = Job(backend, model, weights, size, batch, **common)
                if batch != args.batches[0]:  # AP is the same for all
                    job = replace(job, annotations=None)
                try:
                    measured = measure_job(job)
                except FaceDetError as error:
                    absent[str(backend)] = str(error)
                    continue
                key = dict(model=name, backend=backend.name, device=backend.device, precision=backend.precision)
                rows.append({**key, "size": size, "batch": batch, **measured})
                print(as_line(rows[-1]), flush=True)
                if args.json:
                    write_text(args.json, json.dumps(rows, indent=1) + "\n")
    for backend_name, reason in absent.items():
        print(f"not here: {backend_name}: {reason}", file=sys.stderr)
    if not rows:
        raise FaceDetError("none of the backends runs these models here")
    if args.plot:
        plot_speed([row for row in rows if "ap" in row], args.plot)
    return 0


def runnable(model: Path, config: str | None, scratch: Path) -> list[tuple[str, Path, str, str | None]]:
    """Returns what to run for a file: its name, the file, and model and weights for ``build_detector``."""
    if not model.is_file():
        raise FaceDetError(f"{model}: no such file")
    if model.suffix.lower() == ".onnx":
        return [(model.stem, model, str(model), None)]
    if config is None:
        raise FaceDetError(f"{model}: a checkpoint needs --config, its config or name in the zoo")
    exported = scratch / f"{model.stem}.onnx"
    command = [sys.executable, "-m", "facedet_mm", "export", config, str(model), "--out", str(exported)]
    done = subprocess.run([*command, "--dynamic", "batch,height,width"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FaceDetError((done.stderr.strip().splitlines() or [f"{model} could not be exported"])[-1])
    return [(model.stem, model, config, str(model)), (model.stem, exported, str(exported), None)]


def as_line(row: dict[str, Any]) -> str:
    """Returns a row of the table in Markdown."""
    aps = [f"{row['ap'][setting]:6.2f}" for setting in SETTINGS] if "ap" in row else [" " * 6] * len(SETTINGS)
    cells = (
        f"{row['model']:<24}", f"{row['backend']:<12}", f"{row['device']:<8}", f"{row['precision']:<9}",
        f"{row['size']:4}", f"{row['batch']:5}", f"{row['mean_ms']:7.2f}", f"{row['p50_ms']:7.2f}",
        f"{row['p99_ms']:7.2f}", f"{row['images_per_second']:10.1f}", f"{number(row['memory_mb']):>6}",
        f"{number(row['gpu_mb']):>6}", *aps,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """Returns a whole number as text; empty if it is unknown."""
    return "" if value is None else f"{value:.0f}"


def install(peers: list[str], folder: Path) -> Path:
    """Installs the packages to compare with in a separate environment and returns its Python."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    needs = [PEERS[peer] for peer in peers] + ["onnxruntime"]
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *needs], check=False)
    if done.returncode:
        raise FaceDetError(f"could not install {', '.join(needs)} in {folder}; see pip's output above")
    return python.absolute()


def choose(source: Path, limit: int, scratch: Path) -> list[Path]:
    """Returns ``limit`` images, evenly chosen from a folder or a video."""
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise FaceDetError(f"--images {source}: no images in this folder")
        return [found[i] for i in evenly(len(found), limit)]
    images = []
    with open_source(source) as video:
        wanted = evenly(video.info.total_frames or 0, limit)
        for frame in video:
            if frame.number - 1 in wanted:
                images.append(scratch / f"{frame.number:06d}.png")
                write_image(images[-1], frame.image)
    if not images:
        raise FaceDetError(f"--images {source}: the number of frames of this video is unknown")
    return images


def evenly(count: int, limit: int) -> list[int]:
    """Returns at most ``limit`` of ``count`` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, limit).round().astype(int)).tolist() if count else []


def race(jobs: dict[str, tuple[Any, dict[str, Any]]], images: list[Path]) -> dict[str, list[float]]:
    """Returns the milliseconds per image for each job; the first turn is a warm-up."""
    workers = {}
    try:
        for name, (python, job) in jobs.items():
            workers[name] = subprocess.Popen(
                [python, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            ask(workers[name], json.dumps(job), name)
        times: dict[str, list[float]] = {name: [] for name in jobs}
        turns = [images[i : i + TURN] for i in range(0, len(images), TURN)]
        for number, turn in enumerate([turns[0], *tqdm(turns, disable=None)]):
            for name, worker in workers.items():
                time.sleep(REST)
                answers = json.loads(ask(worker, json.dumps([str(image.resolve()) for image in turn]), name))
                times[name] += answers if number else []
        return times
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()


def ask(worker: subprocess.Popen[str], line: str, name: str) -> str:
    """Sends a line to a process and returns the line that it answers."""
    assert worker.stdin
    assert worker.stdout
    try:
        worker.stdin.write(line + "\n")
        worker.stdin.flush()
        answer = worker.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise FaceDetError(f"{name} stopped; see its output above")
    return answer


def print_table(times: dict[str, list[float]], title: str) -> None:
    """Prints the mean and median of each job and their ratios to those of the first."""
    first = np.array(next(iter(times.values())))
    print(f"{title}\n{'':34}{'mean':>8}{'median':>8}{'mean ratio':>12}{'median ratio':>14}")
    for name, values in times.items():
        mean, median = np.mean(values), np.median(values)
        print(f"{name:34}{mean:8.2f}{median:8.2f}{mean / first.mean():12.2f}{median / np.median(first):14.2f}")


if __name__ == "__main__":
    sys.exit(guard(main, "benchmark.py"))
