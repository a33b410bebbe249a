"""Hostile input, made from a seed: what outsiders could put before the project, and what must hold of each.

A kind is a module with three functions:

- `cases(seed)` yields cases without end; the same seed yields the same ones.
- `check(case)` says what went wrong with a case, None when everything that is promised holds.
- `smaller(case)` yields simpler versions of a case.

`smallest` makes of a failing case the simplest one that still fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Kind(Protocol):
    def cases(self, seed: int) -> Iterator[Any]: ...

    def check(self, case: Any) -> str | None: ...

    def smaller(self, case: Any) -> Iterator[Any]: ...


def smallest(kind: Kind, case: Any) -> Any:
    """Simplify a failing case as long as it fails."""
    while True:
        simpler = next((candidate for candidate in kind.smaller(case) if kind.check(candidate)), None)
        if simpler is None:
            return case
        case = simpler


def without_a_part(case: Any) -> Iterator[Any]:
    """Leave out a half, a quarter, … of a text or of bytes, at each place."""
    size = len(case) // 2
    while size:
        for start in range(0, len(case), size):
            yield case[:start] + case[start + size :]
        size //= 2
