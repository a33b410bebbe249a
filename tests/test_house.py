"""The house: which room may import which, and what may be loaded when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests import house
from tests.house import PACKAGE, ROOT, room_of

# A room may import the rooms listed for it, and nothing else of ours.
_FILES = {
    *("errors", "bombs", "wording", "storage", "images", "relocation", "metadata", "selection", "rankings"),
    *("settings", "memory"),
}
_MODELS = _FILES | {"compute", "scorers", "weights", "residency"}
_TRAINED = _MODELS | {"diffusion"}
_USE_CASES = _TRAINED | {"training", "refl", "reward_training", "evaluation"}
ALLOWED = {
    "errors": set(),
    "bombs": {"errors"},
    "wording": set(),
    "settings": {"errors"},
    "storage": set(),
    "images": _FILES,
    "relocation": {"errors", "storage", "images"},
    "metadata": _FILES,
    "selection": _FILES,
    "rankings": _FILES,
    "memory": set(),
    "compute": {"errors", "settings"},
    "weights": _MODELS,
    "scorers": _MODELS,
    "residency": _MODELS,
    "diffusion": _TRAINED,
    "training": _TRAINED,
    "refl": _TRAINED | {"training"},
    "reward_training": _TRAINED | {"training"},
    "evaluation": _TRAINED,
    "jobs": _USE_CASES,
    "hosts": _USE_CASES | {"jobs"},
    "webui": _USE_CASES | {"jobs", "hosts"},
    "cli": _USE_CASES | {"jobs"},
    "__main__": {"cli"},
    "__init__": {"scorers"},
}
NO_TORCH = _FILES
WEBUI_ONLY = {"modules", "modules_forge", "backend", "launch"}


def rooms() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    return house.imported(ast.parse(path.read_text(encoding="utf-8"), path.name))


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_the_right_way(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"{room} is no room of docs/architecture.md"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "imagereward_ext" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] == room or parts[1] in ALLOWED[room], f"{room} imports {name}"
        if parts[0] in WEBUI_ONLY:
            assert room in {"hosts", "webui"}, f"{room} imports the WebUI's {name}"
        if parts[0] == "gradio":
            assert room == "webui", f"{room} imports gradio"
        if parts[0] == "torch":
            assert room not in NO_TORCH, f"{room} imports torch"


def test_no_files_import_each_other_in_a_circle() -> None:
    assert house.circles(house.sources(PACKAGE), ROOT) == []


@pytest.mark.parametrize(("walk", "files"), house.walks().items(), ids=lambda value: str(value)[:20])
def test_a_walk_of_the_map_goes_one_way(walk: str, files: list[Path]) -> None:
    assert files, walk
    assert [file for file in files if not file.is_file()] == []
    rooms = [room for room, _ in groupby(room_of(file) for file in files)]
    assert len(rooms) == len(set(rooms)), f"{walk} comes back to a room: {rooms}"


def test_an_import_by_name_is_seen() -> None:
    code = ast.parse("import_module('a.b').main(); importlib.import_module(f'a.c.{name}')")
    assert house.imported(code) == {"a.b", "a.c"}


def test_a_circle_is_seen(tmp_path: Path) -> None:
    for name, text in {
        "a": "import b",
        "b": "def f():\n    from c import g",
        "c": "import a",
        "d": "import a",
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert house.circles(house.sources(tmp_path), tmp_path) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    "module",
    [
        "imagereward_ext",
        "imagereward_ext.cli",
        "imagereward_ext.metadata",
        "imagereward_ext.jobs.child",  # takes its locks and answers signals before it loads what takes seconds
    ],
)
def test_importing_loads_no_model_library(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'diffusers', 'peft') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_runner_needs_only_the_standard_library() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_nothing_large_is_kept() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.decode().split("\0")
        if (ROOT / name).is_file()
    }
    assert [name for name, size in sizes.items() if size > 10e6 and not name.startswith("demo/")] == []
    assert sum(size for name, size in sizes.items() if name.startswith("demo/")) < 25e6


def test_scripts_of_the_page_make_html_of_nothing_they_were_told() -> None:
    makers = re.compile(
        r"(?:innerHTML|outerHTML)\s*\+?=|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment"
    )
    constant = re.compile(r"innerHTML = `[^`$]*`;")
    for script in (ROOT / "javascript").glob("*.js"):
        text = constant.sub("", script.read_text(encoding="utf-8"))
        assert makers.findall(text) == [], script.name
