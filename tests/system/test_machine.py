"""What is read of the processor and the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from facedet_mm.system import machine
from facedet_mm.system.machine import cpu_features


def test_flags_are_read_as_linux_and_macos_print_them() -> None:
    assert cpu_features("flags\t\t: fpu avx2 avx512f avx_vnni amx_bf16 amx_tile") == [
        "AVX2", "AVX512", "VNNI", "AMX", "BF16",
    ]  # fmt: skip
    assert cpu_features("Features\t: fp asimd asimddp i8mm bf16") == ["BF16", "DotProd", "I8MM"]
    arm = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\nhw.optional.arm.FEAT_I8MM: 1"
    assert cpu_features(arm) == ["DotProd", "I8MM"]
    assert cpu_features("") is None


def test_the_processor_has_a_name_and_cores() -> None:
    assert machine.cpu_name()
    assert 1 <= machine.codec_threads() <= machine.cores()


def test_peak_memory_is_in_megabytes_and_counts_what_was_freed() -> None:
    code = (
        "from facedet_mm.system.machine import peak_memory\nbefore = peak_memory()\n"
        "block = bytearray(200_000_000)\nblock[::4096] = bytes(len(block[::4096]))\ndel block\n"
        "print(0 if before is None else peak_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    grown = float(done.stdout)
    if not grown:
        pytest.skip("the system does not report peak memory")
    assert 198 < grown < 215
