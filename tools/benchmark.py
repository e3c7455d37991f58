"""Time of detection next to the other Python packages, on the same pictures and weights.

Each package runs in a process of its own; they take turns, a few pictures each, so that other load on the machine
meets all alike. The best of a few calls counts for each picture.

Example:
    python tools/benchmark.py runtime --model scrfd_500m_bnkps.onnx --images WIDER_val/images \\
        --peers insightface uniface
    python tools/benchmark.py runtime --images clip.mp4 --peers opencv
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facedet_mm.cli import guard
from facedet_mm.errors import FaceDetError
from facedet_mm.files import write_text
from facedet_mm.images import write_image
from facedet_mm.video.sources import open_source
from facedet_mm.zoo import asset_path

WORKER = Path(__file__).parent / "analysis" / "runtime_worker.py"
PEERS = {"insightface": "insightface==2.1", "uniface": "uniface==4.2.1", "opencv": "opencv-python>=4.9"}
TURN = 8
"""Pictures that a process works on before the next process does: long enough for its caches to warm up."""
PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}


def main() -> int:
    """Parses the command line and runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runtime = commands.add_parser("runtime", help="next to the other Python packages")
    runtime.add_argument("--model", type=Path, default=asset_path("yunet_n_dynamic.onnx"), help="an .onnx file")
    runtime.add_argument("--images", type=Path, required=True, help="a folder of pictures, or a video")
    runtime.add_argument("--peers", nargs="*", choices=PEERS, default=[], help="packages to run beside ours")
    runtime.add_argument(
        "--peers-env", type=Path, default=Path("outputs/peers"), help="where they are installed (%(default)s)"
    )
    runtime.add_argument("--score-thr", type=float, default=0.5)
    runtime.add_argument("--sizes", nargs="+", default=["640", "auto"], help="of ours: a side, auto, original")
    runtime.add_argument("--openvino", action="store_true", help="also run ours in OpenVINO")
    runtime.add_argument("--limit", type=int, default=404, help="pictures, evenly chosen (%(default)s)")
    runtime.add_argument("--repeats", type=int, default=3, help="calls for each picture; the best counts (3)")
    runtime.add_argument("--json", type=Path, help="write the times here")
    runtime.set_defaults(run=run_runtime)
    args = parser.parse_args()
    return args.run(args)


def run_runtime(args: argparse.Namespace) -> int:
    """``benchmark.py runtime``."""
    if not args.model.is_file():
        raise FaceDetError(f"--model {args.model}: no such file")
    common = dict(model=str(args.model.resolve()), score_thr=args.score_thr, repeats=args.repeats)
    devices = [None, "openvino"] if args.openvino else [None]
    jobs: dict[str, tuple[Any, dict[str, Any]]] = {
        f"facedet-mm {size}{' openvino' if device else ''}": (
            sys.executable,
            dict(common, package="facedet_mm", device=device, size=int(size) if size.isdigit() else size),
        )
        for size in args.sizes
        for device in devices
    }
    if args.peers:
        python = install(args.peers, args.peers_env)
        jobs.update({peer: (python, dict(common, package=peer)) for peer in args.peers})
    with tempfile.TemporaryDirectory() as folder:
        pictures = choose(args.images, args.limit, Path(folder))
        times = race(jobs, pictures)
    print_table(times, f"{len(pictures)} pictures, {args.model.name}, score above {args.score_thr}, milliseconds")
    if args.json:
        write_text(args.json, json.dumps(times))
    return 0


def install(peers: list[str], folder: Path) -> Path:
    """A separate environment that holds the peers; gives its Python."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    needs = [PEERS[peer] for peer in peers] + ["onnxruntime"]
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *needs], check=False)
    if done.returncode:
        raise FaceDetError(f"could not install {', '.join(needs)} in {folder}; see pip's words above")
    return python.absolute()


def choose(source: Path, limit: int, scratch: Path) -> list[Path]:
    """``limit`` pictures, evenly chosen, of a folder or a video."""
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in PICTURES)
        if not found:
            raise FaceDetError(f"--images {source}: no pictures in this folder")
        return [found[i] for i in evenly(len(found), limit)]
    pictures = []
    with open_source(source) as video:
        wanted = evenly(video.info.total_frames or 0, limit)
        for frame in video:
            if frame.number - 1 in wanted:
                pictures.append(scratch / f"{frame.number:06d}.png")
                write_image(pictures[-1], frame.image)
    if not pictures:
        raise FaceDetError(f"--images {source}: a video that doesn't say how long it is")
    return pictures


def evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` indices of ``count`` things, evenly spread."""
    return np.unique(np.linspace(0, count - 1, limit).round().astype(int)).tolist() if count else []


def race(jobs: dict[str, tuple[Any, dict[str, Any]]], pictures: list[Path]) -> dict[str, list[float]]:
    """Milliseconds a picture for each job and thing that it times; the first turn warms up."""
    workers = {}
    try:
        for name, (python, job) in jobs.items():
            workers[name] = subprocess.Popen(
                [python, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            ask(workers[name], json.dumps(job), name)
        times: dict[str, list[float]] = {}
        turns = [pictures[i : i + TURN] for i in range(0, len(pictures), TURN)]
        for number, turn in enumerate([turns[0], *tqdm(turns, disable=None)]):
            for name, worker in workers.items():
                answers = json.loads(ask(worker, json.dumps([str(picture.resolve()) for picture in turn]), name))
                for thing, value in (pair for answer in answers if number for pair in answer.items()):
                    times.setdefault(name if thing == "detect" else f"{name}: {thing} run", []).append(value)
        return times
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()


def ask(worker: subprocess.Popen[str], line: str, name: str) -> str:
    """One line in, one line out."""
    assert worker.stdin
    assert worker.stdout
    try:
        worker.stdin.write(line + "\n")
        worker.stdin.flush()
        answer = worker.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise FaceDetError(f"{name} stopped; see its words above")
    return answer


def print_table(times: dict[str, list[float]], title: str) -> None:
    """Mean and median of each, and the ratio of the first one's mean and median to it."""
    first = np.array(next(iter(times.values())))
    print(f"{title}\n{'':34}{'mean':>8}{'median':>8}{'mean ratio':>12}{'median ratio':>14}")
    for name, values in times.items():
        mean, median = np.mean(values), np.median(values)
        print(f"{name:34}{mean:8.2f}{median:8.2f}{mean / first.mean():12.2f}{median / np.median(first):14.2f}")


if __name__ == "__main__":
    sys.exit(guard(main, "benchmark.py"))
