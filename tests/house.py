#!/usr/bin/env python3
"""The house in numbers: how large its rooms are, and where it is hard to find one's way.

`python3 run.py check --house` prints them. They are information, not a gate: what must hold (imports, types, lint)
is held by tests and tools. Reads the sources as text, with the standard library alone; runs nothing of them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "imagereward_ext"
MAP = ROOT / "docs" / "architecture.md"

LONG_FILE = 350  # lines
MANY_METHODS = 15
MARK = re.compile(r"_imagereward_\w+")
"""What we hang on an object of the host's."""


@dataclass(frozen=True)
class Source:
    """One Python file, parsed."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Its path from the root of the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return self.text.count("\n")


def sources(folder: Path) -> list[Source]:
    """Parse every Python file below a folder."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Source(path, text, ast.parse(text, path.name)))
    return found


def room_of(path: Path) -> str:
    """Return the room a file of the package stands in: the first folder, or the file itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Return every module a file imports, at any depth, by name through `import_module` too; not for types alone."""
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            names.update(_constant_start(argument) for argument in node.args[:1])
    return names - {""}


def _constant_start(node: ast.expr) -> str:
    """Return the part of a module's name that stands in the text: all of it, or what precedes the first hole."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    return str(node.value).rstrip(".") if isinstance(node, ast.Constant) else ""


def circles(files: Iterable[Source], root: Path) -> list[list[str]]:
    """Return the groups of files that import each other in a circle, inside functions too (Tarjan's algorithm)."""
    by_module = {_module_name(file.path, root): file for file in files}
    graph = {name: _imported_files(file.tree, by_module) - {name} for name, file in by_module.items()}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[-len(group) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_files(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Return those modules of ours that a file imports; `from room import thing` imports the room or its file."""
    found = set()
    for name in imported(tree):
        while name and name not in known:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {""}


def classes(files: Iterable[Source]) -> Iterator[tuple[Source, ast.ClassDef]]:
    """Yield every class with the file it stands in."""
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef):
                yield file, node


def methods(node: ast.ClassDef) -> int:
    """Count the functions of a class."""
    return sum(isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) for item in node.body)


def function_lengths(files: Iterable[Source]) -> list[int]:
    """Return the lines of every function, without its decorators."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for file in files
        for node in ast.walk(file.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def walks() -> dict[str, list[Path]]:
    """Return the walks of the map: a heading that begins with "A walk:", and the files named in its list."""
    found: dict[str, list[Path]] = {}
    heading = ""
    for line in MAP.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").removeprefix("A walk: ") if "A walk: " in line else ""
            found.update({heading: []} if heading else {})
        elif heading and re.match(r"\d+\. ", line) and (named := re.search(r"`([\w/.]+\.(?:py|js))", line)):
            found[heading].append(PACKAGE / named.group(1))
    return found


def report() -> Iterator[str]:
    """Yield the lines of the report."""
    package, host = sources(PACKAGE), sources(ROOT / "demo" / "host")
    yield from _sizes(package)
    yield from _findings(package, host)
    yield "\nwalks of docs/architecture.md"
    for name, files in walks().items():
        total = sum(path.read_text(encoding="utf-8").count("\n") for path in files)
        yield f"  {name}: {len(files)} files, {total:,} lines"


def _sizes(package: list[Source]) -> Iterator[str]:
    by_room: dict[str, list[Source]] = defaultdict(list)
    for file in package:
        by_room[room_of(file.path)].append(file)
    yield f"{'room':<20}{'files':>6}{'lines':>8}"
    for room, files in sorted(by_room.items()):
        yield f"{room:<20}{len(files):>6}{sum(file.lines for file in files):>8,}"
    yield f"{'imagereward_ext':<20}{len(package):>6}{sum(file.lines for file in package):>8,}"
    for folder in ("demo/host", "demo", "benchmarks", "tests"):
        files = sources(ROOT / folder)
        yield f"{folder:<20}{len(files):>6}{sum(file.lines for file in files):>8,}"
    lengths = function_lengths(package)
    yield f"\nlines of a function: median {median(lengths):.0f}, 90 % at most {quantiles(lengths, n=10)[-1]:.0f}"


def _findings(package: list[Source], host: list[Source]) -> Iterator[str]:
    yield _listed(
        f"files over {LONG_FILE} lines",
        [f"{file.name} ({file.lines})" for file in package if file.lines > LONG_FILE],
    )
    yield _listed(
        f"classes of more than {MANY_METHODS} methods",
        [
            f"{file.name}: {node.name} ({methods(node)})"
            for file, node in classes(package)
            if methods(node) > MANY_METHODS
        ],
    )
    places: dict[str, set[str]] = defaultdict(set)
    for file, node in classes(package):
        places[node.name].add(file.name)
    twins = [
        f"{name}: {', '.join(sorted(files))}" for name, files in sorted(places.items()) if len(files) > 1
    ]
    yield _listed("class names in several files", [twin for twin in twins if not twin.startswith("_")])
    yield _listed("import circles", [" <-> ".join(group) for group in circles(package, ROOT)])
    yield _listed(
        "import circles of demo/host", [" <-> ".join(group) for group in circles(host, ROOT / "demo/host")]
    )
    marks = {mark for file in package for node in ast.walk(file.tree) for mark in _marks(node)}
    yield _listed("marks on objects of the host", sorted(marks))
    skips = [file.name for file in package if "# fmt: skip" in file.text]
    yield _listed("files with a fmt: skip", skips)


def _marks(node: ast.AST) -> list[str]:
    text = (
        node.value if isinstance(node, ast.Constant) else node.attr if isinstance(node, ast.Attribute) else ""
    )
    return [text] if isinstance(text, str) and MARK.fullmatch(text) else []


def _listed(what: str, items: list[str]) -> str:
    return "\n".join([f"{what}: {len(items)}", *(f"  {item}" for item in items)])


if __name__ == "__main__":
    print("\n".join(report()))
    sys.exit(0)
