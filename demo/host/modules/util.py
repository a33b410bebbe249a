"""File listing and ordering, under the names extensions import."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def natural_sort_key(text: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", text)]


def listfiles(dirname: str) -> list[str]:
    files = [f for f in Path(dirname).iterdir() if f.is_file() and not f.name.startswith(".")]
    return [str(f) for f in sorted(files, key=lambda f: natural_sort_key(f.name))]


def walk_files(path: str, allowed_extensions: list[str] | None = None) -> Iterator[str]:
    for file in sorted(Path(path).rglob("*"), key=lambda f: natural_sort_key(str(f))):
        if file.is_file() and (allowed_extensions is None or file.suffix.lower() in allowed_extensions):
            yield str(file)


def topological_sort(dependencies: dict[str, list[str]]) -> list[str]:
    """Names so that each comes after those it depends on; unknown names are left out, cycles are cut."""
    result: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for dependency in dependencies[name]:
            if dependency in dependencies:
                visit(dependency)
        result.append(name)

    for name in dependencies:
        visit(name)
    return result


def open_folder(path: str) -> None:
    """A demo runs where the browser runs: it names the folder instead of opening a window."""
    print(f"Folder: {path}")
