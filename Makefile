# make demo: find faces in a photograph and a clip.  make lint: ruff and mypy.  make test: lint and all tests.
# make setup: only set up .venv, which the others do first.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
MMCV ?= onedl-mmcv==2.3.6

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
DEMO := facedet_mm/assets/solvay_1927.jpg
CLIP := facedet_mm/assets/four_people.mp4

.PHONY: demo test setup lint clean python compiler
.DELETE_ON_ERROR:

demo: $(VENV)/.core
	@$(BIN)/facedet detect $(DEMO) --out outputs --json outputs/faces.json
	@$(BIN)/facedet video $(CLIP) --out outputs/four_people.mp4 outputs/four_people.jsonl

test: $(VENV)/.train lint
	@$(BIN)/python -m pytest

setup: $(VENV)/.train

lint: $(VENV)/.train
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

$(VENV)/.core: pyproject.toml | python
	@echo "facedet-mm: setting up $(VENV) with the runtime"
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@$(PIP) --editable .
	@touch $@

# mmcv is compiled against the torch that is installed, hence the order and --no-build-isolation
$(VENV)/.train: $(VENV)/.core | compiler
	@echo "facedet-mm: adding PyTorch, MMDetection and the test tools; compiling mmcv takes ten to twenty minutes once"
	@$(PIP) "$(TORCH)" "setuptools<81" wheel ninja psutil
	@$(PIP) --no-build-isolation "$(MMCV)"
	@$(PIP) --editable ".[train,dev,mmdeploy]"
	@# its pins from 2023 would install an old onnx, and its mmengine would replace the maintained one
	@$(PIP) --no-deps mmdeploy==1.3.1
	@# mmdet installs the OpenCV build without windows, whose files hide those of the build with windows
	@$(BIN)/python -m pip uninstall --quiet --yes opencv-python-headless 2>/dev/null
	@$(PIP) --force-reinstall --no-deps "$$($(BIN)/python -m pip freeze | grep '^opencv-python==')"
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
		{ echo "facedet-mm: missing: Python 3.10 to 3.13 (make PYTHON=/path/to/python3.11 ... picks one)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "facedet-mm: missing: Python's venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }

compiler: python
	@command -v "$${CXX:-c++}" >/dev/null || \
		{ echo "facedet-mm: missing: a C++ compiler to build mmcv (Debian, Ubuntu: apt install g++)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null || \
		{ echo "facedet-mm: missing: Python's headers to build mmcv (Debian, Ubuntu: apt install python3-dev)" >&2; exit 1; }

clean:
	rm -rf $(VENV) outputs
