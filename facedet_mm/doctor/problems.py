"""Problems of an installation, and the commands that fix them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.version import Version

from facedet_mm.system.dependencies import BUILD_MMCV, TORCH

_COMMANDS = {"torch": f"pip install {TORCH}", "onedl-mmcv": BUILD_MMCV}
"""Distribution → the command that installs it, where the newest version is not the right one."""


@dataclass(frozen=True)
class Problem:
    """Something in the installation that is not as it should be.

    Attributes:
        what: Description of the problem.
        remedy: Command that fixes it.
        broken: Whether something that is installed does not work because of it.
    """

    what: str
    remedy: str
    broken: bool = True


def install_command(requirement: str) -> str:
    """Returns the command that installs a requirement.

    Example:
        >>> install_command("setuptools<81"), install_command("torch>=2.6")
        ("pip install 'setuptools<81'", 'pip install torch==2.13.0')
    """
    name = re.split(r"[<>=!~\[ ]", requirement, maxsplit=1)[0]
    return _COMMANDS.get(name, f"pip install '{requirement}'" if name != requirement else f"pip install {requirement}")


def reinstall_command(name: str, version: str) -> str:
    """Returns the command that installs the files of a distribution again, at the same version.

    Example:
        >>> reinstall_command("opencv-python", "4.12.0.88")
        'pip install --force-reinstall --no-deps opencv-python==4.12.0.88'
    """
    return f"pip install --force-reinstall --no-deps {name}=={Version(version).public}"


def failed_test(test: str, error: str, package: tuple[str, str] | None, otherwise: str) -> Problem:
    """Returns the problem behind a smoke test that failed.

    Args:
        test: Name of the smoke test: a module or ``device:…``.
        error: Message of the exception.
        package: Name and version of the distribution that the module belongs to, ``None`` if there is none.
        otherwise: Remedy for a test that belongs to no distribution.
    """
    what = f"{test.replace('device:', 'finding faces on device ')} fails: {error}"
    if package is None:
        return Problem(what, otherwise)
    name, version = package
    if "libGL" in error or "libgthread" in error:
        command = f"pip uninstall -y {name} && pip install opencv-python-headless=={Version(version).public}"
        return Problem(what, f"{command}   (has no windows for --show)")
    if test.partition(".")[0] == "mmcv":
        return Problem(
            f"{what}; the operators of mmcv are not compiled, or compiled for another torch",
            f"pip uninstall -y {name} && {BUILD_MMCV} --no-cache-dir --no-binary onedl-mmcv",
        )
    return Problem(what, reinstall_command(name, version))
