"""The doctor's view of packages that do not go together, and of devices."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from installations import FITTING

from facedet_mm.doctor.conflicts import find_conflicts
from facedet_mm.doctor.devices import check_devices
from facedet_mm.doctor.features import FeatureCheck, Package, SmokeTestResults
from facedet_mm.doctor.problems import Problem

CPU_ONLY = "CPUExecutionProvider"
GPU = ["NVIDIA H200, 580.1, 143771 MiB"]


def remedies(found: Sequence[Problem]) -> list[str]:
    return [problem.remedy for problem in found]


class TestConflicts:
    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            (
                {"opencv-python-headless": "5.0.0.1"},
                "pip uninstall -y opencv-python opencv-python-headless"
                " && pip install --force-reinstall --no-deps opencv-python==4.12.0.88",
            ),
            (
                {"opencv-python": "5.0.0.90", "opencv-python-headless": "4.12.0.88"},
                "pip uninstall -y opencv-python opencv-python-headless && pip install 'opencv-python>=4.10,<5'",
            ),
            (
                {"onnxruntime-gpu": "1.23.0"},
                "pip uninstall -y onnxruntime onnxruntime-gpu"
                " && pip install --force-reinstall --no-deps onnxruntime-gpu==1.23.0",
            ),
            ({"opencv-python": "4.9.0.80"}, "pip install 'opencv-python>=4.10,<5'"),
            ({"torchvision": "0.27.1"}, "pip install 'torchvision==0.28.*'"),
            ({"mmdet": "3.3.0"}, "pip uninstall -y mmdet mmcv mmengine"),
            (
                {"mmcv": "2.1.0"},
                "pip uninstall -y onedl-mmcv mmcv && pip install --no-build-isolation onedl-mmcv==2.3.6",
            ),
            (
                {"torch": "2.14.0"},
                "pip uninstall -y onedl-mmcv && pip install torch==2.13.0 &&"
                " pip install --no-build-isolation onedl-mmcv==2.3.6",
            ),
        ],
    )
    def test_each_is_named_with_the_command_that_fixes_it(self, change: dict[str, str], remedy: str) -> None:
        assert find_conflicts(FITTING) == []
        found = remedies(find_conflicts({**FITTING, **change}))
        assert any(line.startswith(remedy) for line in found), found

    def test_two_builds_of_opencv_without_the_usual_one_keep_their_version(self) -> None:
        (problem,) = find_conflicts({"opencv-contrib-python": "4.11.0.86", "opencv-python-headless": "4.12.0.88"})
        assert problem.remedy.endswith("--no-deps opencv-contrib-python==4.11.0.86")

    def test_what_goes_together_is_none(self) -> None:
        assert find_conflicts({**FITTING, "torchvision": "0.28.0"}) == []
        assert find_conflicts({"mmdet": "3.3.0", "mmcv": "2.1.0", "mmengine": "0.10.7"}) == []
        assert find_conflicts({"opencv-python": "4.9.0.80", "numpy": "1.26.4"}) == []
        assert find_conflicts({"torch": "2.14.0"}) == []


AUTO = {"detail": "cpu, 29 faces"}


class TestDevices:
    @staticmethod
    def check(onnxruntime: str, gpus: Sequence[str] = (), torch: str = "", **results: dict[str, str]) -> tuple:
        tested: list[str] = []

        def run_tests(names: Sequence[str]) -> SmokeTestResults:
            tested.extend(names)
            return {name: {"auto": AUTO, **results}[name.removeprefix("device:")] for name in names}

        packages = [
            Package("onnxruntime", "1.23", "onnxruntime>=1.18", True, "onnxruntime", onnxruntime),
            Package("torch", "2.13.0", "torch>=2.6", True, "torch", torch),
        ]
        checks = [FeatureCheck("detect", "works", packages, [], {"cpu": {"detail": "29 of 29 faces"}})]
        return (*check_devices(checks, gpus, run_tests), tested)

    def test_those_of_the_features_are_not_tested_again(self) -> None:
        expected = {"cpu": "29 of 29 faces", "auto": "cpu, 29 faces"}
        assert self.check(CPU_ONLY) == (expected, [], ["device:auto"])

    def test_a_provider_is_tested_where_onnx_runtime_has_it(self) -> None:
        devices, problems, tested = self.check(f"CUDAExecutionProvider, {CPU_ONLY}", GPU, cuda={"detail": "29 faces"})
        assert devices == {"cpu": "29 of 29 faces", "cuda": "29 faces", "auto": "cpu, 29 faces"}
        assert (problems, tested) == ([], ["device:cuda", "device:auto"])

    def test_cuda_that_fails_is_broken_only_with_a_gpu(self) -> None:
        providers = f"CUDAExecutionProvider, {CPU_ONLY}"
        devices, (problem,), _ = self.check(providers, GPU, cuda={"error": "libcudnn.so.9 is missing"})
        assert devices["cuda"] == "fails: libcudnn.so.9 is missing"
        assert problem.broken
        assert problem.remedy == "pip install --force-reinstall 'onnxruntime-gpu[cuda,cudnn]'"
        assert self.check(providers, [], cuda={"error": "no GPU"})[1] == []

    def test_another_device_that_fails_is_broken(self) -> None:
        assert self.check(f"CoreMLExecutionProvider, {CPU_ONLY}", coreml={"error": "no"})[1][0].broken

    def test_a_gpu_that_onnx_runtime_or_torch_cannot_use_is_noted(self) -> None:
        _, problems, _ = self.check(CPU_ONLY, GPU, torch="CPU build")
        assert [problem.broken for problem in problems] == [False, False]
        assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in problems[0].remedy
        assert "torch==2.13.0" in problems[1].remedy
        assert self.check(CPU_ONLY, [], torch="CPU build")[1] == []
