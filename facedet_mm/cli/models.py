"""``facedet models``: lists the models, describes one, and downloads its weights."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from facedet_mm.errors import ModelError
from facedet_mm.system.text import one_line
from facedet_mm.zoo import MODELS, ZooModel, cache_dir, cached_path, fetch, find_model, weights_path

_EPILOG = """\
examples:
  facedet models list
  facedet models info scrfd_10g_kps
  facedet models fetch scrfd_2.5g_kps
  facedet detect photo.jpg --model scrfd_2.5g_kps

Downloaded files are kept in $FACEDET_HOME, or in facedet-mm in your cache folder. Proxies are read from the
environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY). A download that fails is retried three times."""
_HEADINGS = (
    *("name", "family", "Mparam", "GFLOPs", "MB", "easy", "medium", "hard", "at"),
    *("score", "precision", "recall", "points", "where", "license"),
)
_NUMBERS = frozenset([*range(2, 8), 9, 10, 11])
"""Indices of the right-aligned columns."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to ``parser``."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser(
        "list",
        help="list all models: size, published accuracy, license, location of the file",
        epilog="example: facedet models list",
    )
    info = actions.add_parser(
        "info", help="show all details of one model", epilog="example: facedet models info scrfd_10g_kps"
    )
    info.add_argument("name", metavar="NAME", help="model name, as in the list")
    get = actions.add_parser(
        "fetch",
        help="download the weights of one model",
        epilog="example: facedet models fetch scrfd_2.5g_kps --accept-license",
    )
    get.add_argument("name", metavar="NAME", help="model name, as in the list")
    get.add_argument(
        "--accept-license",
        action="store_true",
        help="you have read the license of the weights and comply with it",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status."""
    if args.action == "list":
        print(_table())
    elif args.action == "info":
        print(_description(find_model(args.name)))
    else:
        print(_fetch(find_model(args.name), args.accept_license))
    return 0


def _table() -> str:
    rows = [_HEADINGS, *(_row(model) for model in MODELS.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i in _NUMBERS else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    notes = [
        "easy, medium, hard: published AP on WIDER FACE val in percent, at that input size; GFLOPs at 640x480; "
        "points: landmarks.",
        "score: default score threshold; precision and recall at it in percent, on 404 images of WIDER FACE val, "
        "all sizes of faces; -: not measured.",
        f"Downloaded files are kept in {cache_dir()}.",
    ]
    if not all(model.verified for model in MODELS.values()):
        notes.insert(1, "unverified: only the download source states the file's SHA-256.")
    return "\n".join([*lines, "", *notes])


def _row(model: ZooModel) -> tuple[str, ...]:
    return (
        model.name,
        model.family,
        f"{model.params_m:.2f}",
        "-" if model.gflops is None else f"{model.gflops:.2f}",
        f"{model.size / 1e6:.1f}",
        *(f"{ap:.2f}" for ap in model.ap),
        model.ap_size,
        f"{model.score_thr:.2f}",
        *(("-", "-") if model.at_score_thr is None else (f"{value:.1f}" for value in model.at_score_thr)),
        "5" if model.landmarks else "-",
        _where(model),
        model.license,
    )


def _where(model: ZooModel) -> str:
    if model.file:
        return "bundled"
    place = "not downloaded" if weights_path(model.name) is None else "cached"
    return place if model.verified else f"{place}, unverified"


def _description(model: ZooModel) -> str:
    path = weights_path(model.name)
    ap = " / ".join(f"{value:.2f}" for value in model.ap)
    size = "original size" if model.ap_size == "original" else model.ap_size
    lines = {
        "name": model.name,
        "family": model.family,
        "parameters": f"{model.params_m} million",
        "GFLOPs": "not published" if model.gflops is None else f"{model.gflops} at 640x480",
        "WIDER FACE AP": f"{ap} (easy / medium / hard, published, at {size})",
        "score threshold": f"{model.score_thr:.2f}, {_operating_point(model)}",
        "landmarks": "5" if model.landmarks else "none",
        "license": model.license,
        "training config": model.config,
        "file size": f"{model.size} bytes",
        "SHA-256": f"{model.sha256} ({_trust(model)})",
        "file": f"{path or cached_path(model.name)} ({_where(model)})",
    }
    lines |= {f"source {i}": f"{s.url} {s.member or ''}".rstrip() for i, s in enumerate(model.sources, 1)}
    return "\n".join(f"{label + ':':<17}{value}" for label, value in lines.items())


def _operating_point(model: ZooModel) -> str:
    if model.at_score_thr is None:
        return "not measured"
    precision, recall = model.at_score_thr
    return f"precision {precision:.1f} and recall {recall:.1f} percent on 404 images of WIDER FACE val"


def _trust(model: ZooModel) -> str:
    return "verified" if model.verified else "not verified: only the download source states it"


def _fetch(model: ZooModel, accept_license: bool) -> str:
    path = weights_path(model.name)
    if path is None and model.non_commercial and not accept_license:
        accept_license = _ask(model)
    path = fetch(model.name, accept_license, progress=True, notify=_note)
    if not model.verified:
        _note(f"the file has the expected SHA-256, {model.sha256}, which is {_trust(model)}")
    return f"{model.name}: {path}"


def _ask(model: ZooModel) -> bool:
    """Asks on a terminal whether the license is accepted; elsewhere returns False, and ``fetch`` says how to accept."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    print(f"The weights of {model.name} have this license: {model.license}.", file=sys.stderr)
    try:
        answer = input("Does your use comply with it? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ModelError(f"{model.name} is not downloaded: its license is not accepted")
    return True


def _note(message: str) -> None:
    tqdm.write(f"facedet models: {one_line(message)}", file=sys.stderr)  # print would break a progress bar
