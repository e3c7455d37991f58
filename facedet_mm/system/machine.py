"""What the machine has that inference gains from."""

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
"""Name → flags of Linux and macOS. INT8 models gain from VNNI, AMX, DotProd and I8MM, ``openvino`` from BF16."""


def cpu_name() -> str:
    """The processor's name."""
    names = re.findall(r"(?:model name\s*|machdep\.cpu\.brand_string): *(.+)", _cpu_text())
    return names[0] if names else platform.processor() or platform.machine()


def cpu_features(text: str | None = None) -> list[str] | None:
    """Those of :data:`CPU_FEATURES` that the processor has; ``None`` where the system doesn't tell.

    Args:
        text: what Linux's ``/proc/cpuinfo`` or macOS's ``sysctl`` say; by default those of this machine.

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
    """Cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def codec_threads() -> int:
    """Threads for decoding a video, and for encoding one, beside a network: with more, all three would wait in turn."""
    return max(1, cores() // 2)


def nvidia_gpus() -> list[str]:
    """NVIDIA's GPUs: name, driver, memory."""
    text = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return [line.strip() for line in text.splitlines() if line.count(",") == 2]


def gpu_memory() -> float | None:
    """MB in use on the first NVIDIA GPU, by all processes; ``None`` without one."""
    text = _output("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits").split()
    return float(text[0]) if text and text[0].isdigit() else None


def peak_memory() -> float | None:
    """The most MB of memory that this process held so far; ``None`` where the system doesn't tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Not on Linux, where a process starts with the figure of the one that started it.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _cpu_text() -> str:
    """What the system says of its first processor: Linux's cpuinfo or macOS's sysctl."""
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
