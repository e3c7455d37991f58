"""Information about the machine: processor, GPUs, memory."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

CPU_FEATURES = {
    "AVX2": ("avx2",),
    "AVX512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AMX": ("amx_tile",),
    "BF16": ("avx512_bf16", "amx_bf16", "bf16", "feat_bf16"),
    "DotProd": ("asimddp", "feat_dotprod"),
    "I8MM": ("i8mm", "feat_i8mm"),
}
"""Name → flags on Linux and macOS. VNNI, AMX, DotProd and I8MM speed up INT8 models, BF16 device ``openvino``."""


def cpu_name() -> str:
    """Returns the name of the processor."""
    names = re.findall(r"(?:model name\s*|machdep\.cpu\.brand_string): *(.+)", _cpu_text())
    return names[0] if names else platform.processor() or platform.machine()


def cpu_features(text: str | None = None) -> list[str] | None:
    """Returns the :data:`CPU_FEATURES` of the processor; ``None`` where the system does not report them.

    Args:
        text: Output of Linux's ``/proc/cpuinfo`` or macOS's ``sysctl``; ``None`` reads this machine's.

    Example:
        >>> cpu_features("flags : fpu avx avx2 avx512f avx512_vnni")
        ['AVX2', 'AVX512', 'VNNI']
        >>> cpu_features("hw.optional.arm.FEAT_BF16: 1\\nhw.optional.arm.FEAT_I8MM: 0")
        ['BF16']
    """
    flags = set()
    for line in (_cpu_text() if text is None else text).lower().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "features", "machdep.cpu.features", "machdep.cpu.leaf7_features"):
            flags |= set(value.split())
        elif value.strip() == "1":
            flags.add(key.strip().rpartition(".")[2])
    if not flags:
        return None
    return [name for name, alternatives in CPU_FEATURES.items() if flags & set(alternatives)]


def cores() -> int:
    """Returns the number of cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def codec_threads() -> int:
    """Returns the threads for decoding and for encoding a video next to a network; more would slow all three down."""
    return max(1, cores() // 2)


def nvidia_gpus() -> list[str]:
    """Returns name, driver version and memory of each NVIDIA GPU."""
    text = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return [line.strip() for line in text.splitlines() if line.count(",") == 2]


def gpu_memory() -> float | None:
    """Returns the MB in use on the first NVIDIA GPU, by all processes; ``None`` without a GPU."""
    text = _output("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits").split()
    return float(text[0]) if text and text[0].isdigit() else None


def peak_memory() -> float | None:
    """Returns the peak memory of this process in MB; ``None`` where the system does not report it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Not used on Linux, where a process inherits the figure of its parent.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _cpu_text() -> str:
    """Returns the system's description of its first processor: Linux's cpuinfo or macOS's sysctl."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return _output("sysctl", "machdep.cpu", "hw.optional")


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
