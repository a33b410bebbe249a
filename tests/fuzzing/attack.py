"""Hostile input of every kind for some minutes: `python3 run.py fuzz --minutes 5`.

Prints how many cases of each kind were tried, how many broke a promise, and the slowest one; keeps the simplest version
of the first failing cases. The same seed tries the same cases in the same order, on as many processors.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.fuzzing import Kind, smallest

KINDS = ("texts", "graphs", "containers", "weights", "requests", "interruptions")
KEPT = 3
"""Failing cases kept of each kind; most of the rest have the same cause."""


@dataclass
class Tally:
    """What became of the cases of one kind."""

    tried: int = 0
    failed: int = 0
    slowest: float = 0.0
    """Seconds."""
    kept: list[tuple[Any, str]] = field(default_factory=list)
    """Failing cases, as simple as they get, and what is wrong with them."""

    def add(self, other: Tally) -> None:
        self.tried += other.tried
        self.failed += other.failed
        self.slowest = max(self.slowest, other.slowest)
        self.kept += other.kept


def attack(name: str, seed: int, seconds: float) -> Tally:
    """Try cases of a kind for so long."""
    kind = importlib.import_module(f"tests.fuzzing.{name}")
    try:
        return _attack(kind, seed, time.monotonic() + seconds)
    finally:
        getattr(kind, "close", lambda: None)()


def _attack(kind: Kind, seed: int, end: float) -> Tally:
    tally = Tally()
    for case in kind.cases(seed):
        started = time.monotonic()
        if started > end and tally.tried:
            return tally
        failure = _failure(kind, case)
        if tally.tried:  # the first one loads and starts what all need
            tally.slowest = max(tally.slowest, time.monotonic() - started)
        tally.tried += 1
        if failure is not None:
            tally.failed += 1
            if len(tally.kept) < KEPT:
                simple = smallest(_Checked(kind), case)
                tally.kept.append((simple, _failure(kind, simple) or failure))
    raise AssertionError("cases never end")


def _failure(kind: Kind, case: Any) -> str | None:
    """Check a case; an error that escapes is a failure too."""
    try:
        return kind.check(case)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@dataclass
class _Checked:
    """A kind whose checks raise nothing."""

    kind: Kind

    def cases(self, seed: int) -> Iterator[Any]:
        return self.kind.cases(seed)

    def check(self, case: Any) -> str | None:
        return _failure(self.kind, case)

    def smaller(self, case: Any) -> Iterator[Any]:
        return self.kind.smaller(case)


def keep(folder: Path, name: str, number: int, case: Any, failure: str) -> Path:
    """Write a failing case down."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-{number}.txt").write_text(f"{failure}\n\n{case!r}\n", encoding="utf-8")
    if isinstance(case, bytes):
        (folder / f"{name}-{number}.bin").write_bytes(case)
    return folder / f"{name}-{number}.txt"


def main(words: list[str]) -> int:
    """Attack with all kinds, spread over the processors; return 1 when anything broke a promise."""
    parser = argparse.ArgumentParser(prog="run.py fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="how long, with all kinds together")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="decides the cases")
    parser.add_argument("--kind", action="append", choices=KINDS, help="one kind alone; may be repeated")
    parser.add_argument("--keep", type=Path, default=Path("fuzzing"), help="folder for failing cases")
    options = parser.parse_args(words)
    kinds, processes = options.kind or list(KINDS), os.cpu_count() or 1
    seconds = options.minutes * 60 / len(kinds)
    print(f"seed {options.seed}, {seconds:.0f} s for each kind on {processes} processors", flush=True)

    tallies = {name: Tally() for name in kinds}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for name in kinds:
            seeds = range(options.seed * processes, (options.seed + 1) * processes)
            parts = pool.map(attack, itertools.repeat(name), seeds, itertools.repeat(seconds))
            for part in parts:
                tallies[name].add(part)
            tally = tallies[name]
            print(
                f"{name:<14} {tally.tried:>8,} tried  {tally.failed:>4,} failed  slowest {tally.slowest:.2f} s",
                flush=True,
            )
    for name, tally in tallies.items():
        for number, (case, failure) in enumerate(tally.kept):
            print(f"{name}: {failure[:300]}  ({keep(options.keep, name, number, case, failure)})")
    return int(any(tally.failed for tally in tallies.values()))
