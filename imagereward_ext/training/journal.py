"""A file of JSON lines that is only ever added to, and that any process may read at any moment.

A line is written in one piece. What a crash or a full disk leaves of one stays where it is: the next line begins on
a line of its own, and whoever reads passes over what is no JSON object.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_READ = 4 << 20
"""Bytes in one answer of :meth:`Journal.read_from`; the rest comes with the next."""


@dataclass(frozen=True)
class Lines:
    """Some lines, and where the next ones begin."""

    objects: tuple[dict[str, Any], ...]
    position: int


class Journal:
    """The lines of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *objects: Mapping[str, Any], durable: bool = False) -> None:
        """Add lines, all of them in one write; a durable one is on the disk when this returns."""
        # In ASCII: a path on Linux need not be UTF-8, and stands as escapes that come back as they were.
        content = b"".join(json.dumps(line).encode() + b"\n" for line in objects)
        with self.path.open("ab+", buffering=0) as file:
            if _ends_within_a_line(file):
                content = b"\n" + content
            written = file.write(content)
            if written < len(content):  # the disk is full: the next write says so
                file.write(content[written:])
            if durable:
                os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Return every line; none where there is no file."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        return list(_objects(lines))

    def read_from(self, position: int) -> Lines:
        """Return the complete lines behind a position, or all where the file has become shorter since."""
        try:
            with self.path.open("rb") as file:
                if not 0 <= position <= file.seek(0, os.SEEK_END):
                    position = 0
                file.seek(position)
                block = file.read(LONGEST_READ)
        except OSError:
            return Lines((), 0)
        whole = block[: block.rfind(b"\n") + 1]
        return Lines(tuple(_objects(whole.splitlines())), position + len(whole))

    def read_end(self, size: int) -> Iterator[dict[str, Any]]:
        """Yield the lines within the last bytes of the file, the last one first; only what is taken is parsed."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                lines = file.read().splitlines()
        except OSError:
            return
        yield from _objects(reversed(lines))


def _ends_within_a_line(file: Any) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")


def _objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line, parse_constant=lambda constant: None, parse_float=_finite)
        except (ValueError, RecursionError):  # cut off, or nothing of ours
            continue
        if isinstance(value, dict):
            yield value


def _finite(text: str) -> float | None:
    """Read a number as browsers do: they know no infinity, and take no answer that holds one."""
    value = float(text)
    return value if math.isfinite(value) else None
