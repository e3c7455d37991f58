"""The zoo's table, its cache folder, and fetching by name."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import flaky_server
import platformdirs
import pytest
from flaky_server import FlakyServer
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.zoo import MODELS, Source, ZooModel, asset_path, cache_dir, cached_path, fetch, find_model, weights_path
from facedet_mm.zoo.download import DownloadError

server = flaky_server.server
home = flaky_server.home

DATA = random.Random(0).randbytes(50_000)
NAME = "scrfd_1g"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ZooModel]:
    """Makes ``DATA`` the file of a model, to be had from the given sources."""

    def make(*sources: Source) -> ZooModel:
        sha256 = hashlib.sha256(DATA).hexdigest()
        model = dataclasses.replace(MODELS[NAME], sha256=sha256, size=len(DATA), sources=sources)
        monkeypatch.setitem(MODELS, NAME, model)
        return model

    return make


class TestTable:
    @pytest.mark.parametrize(
        ("official", "ours"),
        [
            ("scrfd_500m", "scrfd_0.5g"),
            ("scrfd_500m_bnkps", "scrfd_0.5g_kps"),
            ("SCRFD_500M_KPS", "scrfd_0.5g_kps"),
            ("scrfd_2.5g_bnkps", "scrfd_2.5g_kps"),
            ("scrfd_10g_bnkps", "scrfd_10g_kps"),
            ("det_500m", "scrfd_0.5g_kps"),
            ("det_10g", "scrfd_10g_kps"),
            ("buffalo_l", "scrfd_10g_kps"),
            ("buffalo_m", "scrfd_2.5g_kps"),
            ("buffalo_s", "scrfd_0.5g_kps"),
            ("yunet", "yunet_n"),
        ],
    )
    def test_official_names_are_answered_with_ours(self, official: str, ours: str) -> None:
        with pytest.raises(ModelError, match=rf"unknown model '{official}'; did you mean {ours}\?"):
            find_model(official)

    @pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
    def test_a_file_is_as_large_as_its_parameters(self, model: ZooModel) -> None:
        assert model.size == pytest.approx(4e6 * model.params_m, rel=0.07)  # four bytes each, and the graph

    @pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
    def test_every_model_is_bundled_or_has_a_source(self, model: ZooModel) -> None:
        assert (model.file is None) == bool(model.sources)
        assert len(bytes.fromhex(model.sha256)) == 32
        for source in model.sources:
            assert source.url.startswith("https://")
            assert source.url.endswith(".zip" if source.member else ".onnx")
            assert (source.archive_size > model.size) == bool(source.member)

    def test_files_are_told_apart(self) -> None:
        assert len({model.sha256 for model in MODELS.values()}) == len(MODELS)
        assert len({source.url for model in MODELS.values() for source in model.sources}) == 11

    def test_only_weights_that_may_be_used_freely_are_bundled(self) -> None:
        assert [model.name for model in MODELS.values() if not model.non_commercial] == ["yunet_n"]

    def test_the_bundled_file_is_that_of_the_table(self) -> None:
        content = asset_path(MODELS["yunet_n"].file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (MODELS["yunet_n"].size, MODELS["yunet_n"].sha256)

    def test_the_published_half_gflops_file_is_that_of_the_table(self, data: Path) -> None:
        content = (data / "weights" / "scrfd_500m.onnx").read_bytes()
        model = MODELS["scrfd_0.5g"]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (model.size, model.sha256)

    def test_the_table_is_read_without_the_modules_that_download(self) -> None:
        heavy = {"urllib.request", "requests", "pooch", "platformdirs", "tqdm", "ssl"}
        code = f"import sys, facedet_mm.zoo; print(sorted({heavy} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "[]\n"


class TestCacheFolder:
    def test_facedet_home_wins(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        assert cache_dir() == home
        assert cached_path("scrfd_2.5g") == home / "scrfd_2.5g.onnx"
        monkeypatch.setenv("FACEDET_HOME", "~/models")
        assert cache_dir() == Path.home() / "models"

    @pytest.mark.parametrize(
        ("platform", "variable", "value", "expected"),
        [
            ("linux", "XDG_CACHE_HOME", "/xdg", "/xdg/facedet-mm"),
            ("linux", "XDG_CACHE_HOME", "", "~/.cache/facedet-mm"),
            ("linux", "XDG_CACHE_HOME", "relative", "~/.cache/facedet-mm"),
            ("darwin", "XDG_CACHE_HOME", "", "~/Library/Caches/facedet-mm"),
            ("win32", "XDG_CACHE_HOME", "/xdg", "/local/facedet-mm"),
        ],
    )
    def test_else_it_is_the_habit_of_the_platform(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, value: str, expected: str
    ) -> None:
        rules: dict[str, type] = {"linux": Unix, "darwin": MacOS, "win32": Windows}
        monkeypatch.setattr(platformdirs, "PlatformDirs", rules[platform])
        monkeypatch.setattr("platformdirs.windows.get_win_folder", {"CSIDL_LOCAL_APPDATA": "/local"}.__getitem__)
        monkeypatch.setenv("FACEDET_HOME", "")
        monkeypatch.setenv(variable, value)
        assert cache_dir() == Path(expected).expanduser()

    def test_without_a_home_folder_the_variable_to_set_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_home(*_: object, **__: object) -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("FACEDET_HOME")
        for unknown in (no_home, lambda *_, **__: Path("~/.cache/facedet-mm")):  # platformdirs 4.14, 4.0
            monkeypatch.setattr(platformdirs, "user_cache_path", unknown)
            with pytest.raises(FaceDetError, match="set FACEDET_HOME"):
                cache_dir()
        monkeypatch.setenv("FACEDET_HOME", "~nobody-of-that-name/models")
        with pytest.raises(FaceDetError, match="set FACEDET_HOME"):
            cache_dir()


class TestFetch:
    def test_a_fetched_file_is_found_from_then_on(
        self, server: FlakyServer, home: Path, offer: Callable[..., ZooModel]
    ) -> None:
        offer(Source(server.add("/a.onnx", DATA)))
        assert weights_path(NAME) is None
        assert fetch(NAME, accept_license=True) == weights_path(NAME) == home / "scrfd_1g.onnx"
        assert weights_path(NAME).read_bytes() == DATA
        assert fetch(NAME) == home / "scrfd_1g.onnx"
        assert len(server.requests) == 1

    def test_the_bundled_model_is_there_already(self, home: Path) -> None:
        assert fetch("yunet_n") == weights_path("yunet_n") == asset_path("yunet_n_dynamic.onnx")
        assert not home.exists()

    def test_a_license_has_to_be_accepted_before_anything_is_fetched(
        self, server: FlakyServer, home: Path, offer: Callable[..., ZooModel]
    ) -> None:
        offer(Source(server.add("/a.onnx", DATA)))
        with pytest.raises(ModelError, match=r"scrfd_1g: .*'non-commercial research'.*--accept-license"):
            fetch(NAME)
        assert server.requests == []
        assert not home.exists()

    def test_the_next_source_is_tried_when_one_fails(
        self, server: FlakyServer, home: Path, offer: Callable[..., ZooModel]
    ) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as pack:
            pack.writestr("pack/det.onnx", DATA)
        archive = buffer.getvalue()
        gone = Source(server.origin + "/gone.onnx")
        wrong = Source(server.add("/wrong.onnx", DATA[::-1]))
        cut = Source(server.add("/cut.onnx", DATA, cuts=[1000]))
        good = Source(server.add("/pack.zip", archive), "det.onnx", len(archive))
        offer(gone, wrong, cut, good)
        told: list[str] = []
        assert fetch(NAME, accept_license=True, notify=told.append).read_bytes() == DATA
        assert told == [f"downloading {source.url} (0.1 MB)" for source in (gone, wrong, cut, good)]
        assert {path.name for path in home.iterdir()} == {"scrfd_1g.onnx"}

    def test_when_all_fail_each_reason_and_the_way_out_are_named(
        self, server: FlakyServer, home: Path, offer: Callable[..., ZooModel]
    ) -> None:
        offer(Source(server.origin + "/gone.onnx"), Source(server.add("/wrong.onnx", DATA[::-1])))
        with pytest.raises(DownloadError) as caught:
            fetch(NAME, accept_license=True)
        message = str(caught.value)
        assert message.startswith(f"cannot download scrfd_1g: {server.origin}/gone.onnx: the server says 404 ")
        assert f"{server.origin}/wrong.onnx: SHA256 hash of downloaded file (scrfd_1g.onnx) does not match" in message
        assert "HTTPS_PROXY" in message
        assert str(home / "scrfd_1g.onnx") in message
        assert weights_path(NAME) is None

    def test_a_full_disk_is_not_blamed_on_the_sources(
        self, server: FlakyServer, home: Path, offer: Callable[..., ZooModel]
    ) -> None:
        home.write_text("a file where the folder should be")
        offer(Source(server.add("/a.onnx", DATA)), Source(server.add("/b.onnx", DATA)))
        with pytest.raises(FaceDetError, match="cannot write") as caught:
            fetch(NAME, accept_license=True)
        assert not isinstance(caught.value, ModelError)
        assert server.requests == []

    def test_a_cached_file_that_was_damaged_is_fetched_again(
        self, server: FlakyServer, home: Path, offer: Callable[..., ZooModel]
    ) -> None:
        offer(Source(server.add("/a.onnx", DATA)))
        home.mkdir()
        (home / "scrfd_1g.onnx").write_bytes(DATA[:100])
        assert fetch(NAME, accept_license=True).read_bytes() == DATA

    def test_an_unknown_name_is_said(self) -> None:
        for function in (fetch, weights_path, cached_path):
            with pytest.raises(ModelError, match=r"unknown model 'scrfd_1'; did you mean scrfd_1"):
                function("scrfd_1")

    def test_a_fetched_model_detects(self, home: Path, data: Path) -> None:
        from facedet_mm import build_detector

        home.mkdir()
        (home / "scrfd_0.5g.onnx").write_bytes((data / "weights" / "scrfd_500m.onnx").read_bytes())
        assert len(build_detector(str(fetch("scrfd_0.5g"))).detect(asset_path("solvay_1927.jpg"))) == 29
