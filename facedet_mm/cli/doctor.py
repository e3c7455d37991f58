"""``facedet doctor``: shows what works, what is missing or broken, and the commands that fix it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facedet_mm.cli.console import write_result
from facedet_mm.doctor.report import diagnose
from facedet_mm.system.targets import Targets, goes_to_stdout

_EPILOG = """\
examples:
  facedet doctor
  facedet doctor --json doctor.json

Imports every package and finds faces on every device, in separate processes. The exit status is 1 only when something
that is installed does not work; a feature that is not installed is fine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to ``parser``."""
    parser.epilog = _EPILOG
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON; - prints only that")


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status."""
    Targets().add("--json", args.json, may_print=True)
    if sys.stderr.isatty():
        print("checking the installation …", file=sys.stderr)
    report = diagnose()
    text = json.dumps(report, indent=2) + "\n"
    if not goes_to_stdout(args.json):
        print("\n".join(_lines(report)))
    if args.json:
        write_result(args.json, text)
    return int(any(problem["broken"] for problem in report["problems"]))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    cpu, cache = report["cpu"], report["cache"]
    flags = "flags unknown" if cpu["features"] is None else " ".join(cpu["features"]) or "no vector extensions"
    yield f"facedet-mm {report['facedet_mm']}, Python {report['python']}, {report['platform']}"
    yield f"{'CPU':12}{cpu['name']}, {cpu['cores']} cores, {flags}"
    yield from (f"{'GPU':12}{gpu}" for gpu in report["gpus"] or ["no NVIDIA GPU found"])
    yield from (f"{'device':12}{device}: {outcome}" for device, outcome in report["devices"].items())
    kept = f"{cache['files']} files, {cache['bytes'] / 1e6:.1f} MB" if cache["files"] else "empty"
    yield f"{'models':12}{cache['path']}: {kept}{'' if cache['writable'] else ', not writable'}"
    yield ""
    for feature in report["features"]:
        yield f"{feature['name']:12}{feature['state']:11} {feature['summary']}"
        packages = ", ".join(map(_package, feature["packages"]))
        yield f"{'':24}{packages}"
        if feature["install"]:
            yield f"{'':24}{feature['install']}"
    for problem in report["problems"]:
        yield f"\n{'BROKEN' if problem['broken'] else 'note'}: {problem['what']}\n  fix: {problem['remedy']}"
    if not report["problems"]:
        yield "\neverything that is installed works"


def _package(package: dict[str, Any]) -> str:
    detail = f" ({package['detail']})" if package["detail"] else ""
    return f"{package['name']} {package['version'] or 'missing'}{detail}"
