"""What the rows are given, and what they give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.children import Figures, alternate, measure, middle


@dataclass(frozen=True)
class Line:
    """One figure of a row. `ours` over `target` is what counts; without a target it is told and not judged."""

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


@dataclass
class Row:
    """One row of the table: its lines, what has to be said about them, and every raw figure."""

    title: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where and how large to measure."""

    ours: Path
    peer: Path | None
    """None leaves the peer out: for the smoke mode, and where it cannot be installed."""
    data: Path
    scorer: Path
    """The folder of the scorer both sides load."""
    threads: int
    rounds: int
    full: bool
    device: str = "cpu"

    @property
    def clock(self) -> str:
        """Which seconds are compared.

        A process with one thread takes as many processor seconds on a busy machine as on an idle one, where they are
        the seconds on the wall; with more threads only those on the wall mean anything.
        """
        return "_cpu_s" if self.threads == 1 and self.device == "cpu" else "_s"

    def run(self, function: str, **arguments: Any) -> Figures:
        """Measure on our side alone."""
        return measure(self.ours, function, self.threads, **arguments)

    def beside(
        self, function: str, variants: dict[str, dict[str, Any]], **common: Any
    ) -> dict[str, list[Figures]]:
        """Measure our variants and the peer's in turns; a variant's name begins with its side."""

        def one(name: str, own: dict[str, Any]) -> Callable[[], Figures]:
            side = name.partition(" ")[0]
            python = self.ours if side == "ours" else self.peer
            assert python is not None
            return lambda: measure(python, function, self.threads, side=side, **common, **own)

        wanted = {name: own for name, own in variants.items() if self.peer or name.startswith("ours")}
        return alternate({name: one(name, own) for name, own in wanted.items()}, self.rounds)

    def seconds(self, figures: list[Figures], name: str) -> float:
        """Return the median seconds of a figure by the clock that counts here."""
        return middle(figures, name + self.clock)

    def small(self, full: int, smoke: int) -> int:
        """Choose a size."""
        return full if self.full else smoke


def least(what: str, peer: float | None, ours: float, target: float | None, unit: str = "s") -> Line:
    """Compare two figures of which less is better: `target` is the largest allowed ratio ours / peer."""
    if peer is None:
        return Line(what, f"{ours:.2f} {unit}")
    ratio = ours / peer
    met = None if target is None else ratio <= target
    wanted = "" if target is None else f"at most {target:g} of the peer"
    return Line(what, f"{ours:.2f} {unit}", f"{peer:.2f} {unit}", ratio, wanted, met)


def limit(what: str, ours: float, most: float, unit: str, peer: float | None = None) -> Line:
    """Hold a figure against an absolute limit."""
    nothing = peer is None or peer < (1 if unit == "MB" else 1e-3)  # a ratio to nothing says nothing
    ratio = None if peer is None or nothing else ours / peer
    other = "" if peer is None else f"{peer:,.0f} {unit}" if unit == "MB" else f"{peer:.2f} {unit}"
    shown = f"{ours:,.0f} {unit}" if unit == "MB" else f"{ours:.3f} {unit}".strip()
    return Line(what, shown, other, ratio, f"at most {most:,g} {unit}".strip(), ours <= most)


def floor(what: str, ours: float, least_allowed: float) -> Line:
    """Hold a share or a factor against the least it may be."""
    return Line(what, f"{ours:.3f}", target=f"at least {least_allowed:g}", met=ours >= least_allowed)
