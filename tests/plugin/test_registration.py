"""``custom_imports = dict(imports=['facedet_mm.plugin'])`` alone registers every part."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmdet")

from conftest import ROOT

FRESH_PROCESS = """
import json, sys
from mmengine.config import Config
config = Config.fromfile(sys.argv[1])  # runs custom_imports and nothing else
import mmdet.registry
from mmengine.fileio.backends import backends
from mmengine.registry import init_default_scope
init_default_scope('mmdet')
found = {}
for registry, name in json.loads(sys.argv[2]):
    if registry == 'register_backend':
        found[name] = backends[name].__module__
    else:
        part = getattr(mmdet.registry, registry).get(name)
        found[name] = part and part.__module__
print(json.dumps(found))
"""


def registered_parts(path: Path) -> list[tuple[str, str]]:
    """Returns registry and name of every class in a file that a decorator registers."""
    parts = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(call, ast.Attribute) and call.attr == "register_module":
                assert not decorator.args
                assert not decorator.keywords
                parts.append((ast.unparse(call.value), node.name))
            elif isinstance(call, ast.Name) and call.id == "register_backend":
                parts.append((call.id, ast.literal_eval(decorator.args[0])))
    return parts


def test_importing_the_plugin_registers_every_part(tmp_path):
    plugin = ROOT / "facedet_mm" / "plugin"
    files = {
        path: registered_parts(path)
        for path in sorted(plugin.rglob("*.py"))
        if path.relative_to(plugin).parts[0] != "deploy"  # needs mmdeploy, which imports it by codebase_config.module
    }
    parts = [part for found in files.values() for part in found]
    registries = {registry for registry, _ in parts}
    assert registries >= {"MODELS", "TASK_UTILS", "DATASETS", "TRANSFORMS", "HOOKS", "METRICS", "register_backend"}
    assert len(parts) >= 20
    (tmp_path / "config.py").write_text("custom_imports = dict(imports=['facedet_mm.plugin'])\n")
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, tmp_path / "config.py", json.dumps(parts)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {
        name: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files for _, name in files[path]
    }
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_every_config_imports_the_plugin_and_nothing_else():
    from mmengine.config import Config

    for path in (ROOT / "configs").rglob("*.py"):
        if not {"_base_", "deploy"} & set(path.parts):
            config = Config.fromfile(path, import_custom_modules=False)
            assert config.custom_imports["imports"] == ["facedet_mm.plugin"], path
