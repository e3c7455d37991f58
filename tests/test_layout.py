"""The floor plan: what each room may import, and how large a module may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = (
    *(
        "errors",
        "version",
        "system",
        "structures",
        "zoo",
        "io",
        "datasets",
        "evaluation",
        "imaging",
        "tracking",
        "detectors",
    ),
    *("video", "deploy", "benchmark", "doctor", "report", "search", "plugin", "cli"),
)
"""The rooms from the ground up: each may import those before it. CONTRIBUTING.md shows the same order."""
LARGEST_MODULE = 400
MEDIAN_MODULE = 125

PLUGIN = "facedet_mm.plugin"
NAMES_THE_PLUGIN = {"facedet_mm.detectors", "facedet_mm.cli.export", "facedet_mm.doctor.features"}
"""Where the runtime may name the plugin: to build a PyTorch detector, to export a checkpoint, and, in a process of its
own, to see whether it can be imported."""


def find_modules() -> dict[str, Path]:
    """Returns the file of every module of the package by its dotted name."""
    root = Path(__file__).resolve().parents[1]
    names = {path: path.relative_to(root).with_suffix("").parts for path in sorted(root.glob("facedet_mm/**/*.py"))}
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in names.items() if parts[1] != "configs"}


MODULES = find_modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yields the imports below ``node``, also those inside functions, but not those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from import_statements(other)
        else:
            yield from import_statements(child)


def imported_modules(name: str) -> set[str]:
    """Returns the modules of the package that module ``name`` imports."""
    targets = set()
    for statement in import_statements(TREES[name]):
        if isinstance(statement, ast.Import):
            targets |= {alias.name for alias in statement.names}
        else:
            origin = str(statement.module)
            full_names = [f"{origin}.{alias.name}" for alias in statement.names]
            targets |= {full if full in MODULES else origin for full in full_names}
    return (targets & MODULES.keys()) - {name}


IMPORTS = {name: imported_modules(name) for name in MODULES}


def room(name: str) -> str:
    """Returns the room of a module; the package itself and ``__main__`` are in none."""
    inner = name.partition(".")[2].partition(".")[0]
    return "" if inner == "__main__" else inner


def reachable(start: str) -> set[str]:
    """Returns every module that ``start`` imports, directly or through others."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = IMPORTS[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def private_attributes(name: str) -> Iterator[str]:
    """Yields the private names of other modules of the package that module ``name`` uses."""
    modules = {}
    for statement in import_statements(TREES[name]):
        for alias in statement.names:
            full = alias.name if isinstance(statement, ast.Import) else f"{statement.module}.{alias.name}"
            if full.startswith("facedet_mm.") and is_private(full.rpartition(".")[2]):
                yield full
            if full in MODULES:
                modules[alias.asname or alias.name] = full
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in modules:
            yield f"{modules[ast.unparse(node.value)]}.{node.attr}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def texts(name: str) -> Iterator[str]:
    """Yields the strings of module ``name`` that are values: no docstrings and no other bare strings."""
    bare = {id(node.value) for node in ast.walk(TREES[name]) if isinstance(node, ast.Expr)}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


def test_the_modules_and_their_imports_are_found() -> None:
    assert len(MODULES) > 100
    assert "facedet_mm.errors" in IMPORTS["facedet_mm.structures"]
    assert "facedet_mm.errors" in reachable("facedet_mm.cli.detect")
    assert "facedet_mm.imaging" in IMPORTS["facedet_mm.structures"], "an import inside a function"


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(name) for name in MODULES} - {""} == set(ROOMS)


def test_no_module_imports_itself_through_others() -> None:
    assert [name for name in MODULES if name in reachable(name)] == []


def test_at_most_two_imports_go_up() -> None:
    upward = [
        f"{name} imports {target}"
        for name, targets in IMPORTS.items()
        for target in sorted(targets)
        if room(name) and room(target) and ROOMS.index(room(target)) > ROOMS.index(room(name))
    ]
    assert len(upward) <= 2, upward


def test_rooms_take_only_the_version_from_the_package_itself() -> None:
    """Its other names come from rooms, so an import from it could hide an arrow that goes up."""
    taken = {
        f"{name} imports {alias.name}"
        for name in MODULES
        if room(name) not in ("", "doctor", "cli")
        for statement in import_statements(TREES[name])
        if isinstance(statement, ast.ImportFrom) and statement.module == "facedet_mm"
        for alias in statement.names
        if alias.name != "__version__" and f"facedet_mm.{alias.name}" not in MODULES
    }
    assert taken == set()


@pytest.mark.parametrize("name", MODULES)
def test_no_module_uses_a_private_name_of_another(name: str) -> None:
    assert list(private_attributes(name)) == []


def test_only_these_modules_name_the_plugin_in_a_string() -> None:
    places = [name for name in MODULES if room(name) != "plugin" for text in texts(name) if text.startswith(PLUGIN)]
    assert sorted(places) == sorted(NAMES_THE_PLUGIN), "each of them once"


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_every_room_says_what_it_is_for_and_who_may_import_it(name: str) -> None:
    docstring = ast.get_docstring(TREES[name])
    assert docstring
    first_line = docstring.splitlines()[0]
    assert first_line.endswith(".")
    if name.removeprefix("facedet_mm.") in ROOMS:
        assert "import" in first_line.lower()


def test_modules_are_small() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > LARGEST_MODULE} == {}
    assert sorted(lines.values())[len(lines) // 2] <= MEDIAN_MODULE
