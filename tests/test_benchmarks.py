"""The benchmarks run: every row at tiny size, nothing timed here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import least, limit
from benchmarks.children import ChildError, alternate, measure, middle
from benchmarks.rows import NAMES

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_row_runs_in_miniature(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("the peer's environment and the gauges are for Linux and macOS")
    kept = {path.name: path.stat().st_mtime_ns for path in (ROOT / "benchmarks").iterdir()}
    command = [sys.executable, "-m", "benchmarks", "--smoke"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(NAMES)
    assert {path.name: path.stat().st_mtime_ns for path in (ROOT / "benchmarks").iterdir()} == kept


def test_sides_take_turns() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) or {"x": len(order)} for name in "AB"}
    found = alternate(sides, 2)
    assert order == ["A", "B", "A", "B"]
    assert middle(found["A"], "x") == 2


def test_a_measurement_that_fails_says_why() -> None:
    with pytest.raises(ChildError, match="no_such_task"):
        measure(Path(sys.executable), "scoring_tasks:no_such_task", 1)


def test_a_target_is_met_or_missed_by_its_own_figure() -> None:
    assert least("time", 2.0, 1.6, 0.8).met is True
    assert least("time", 2.0, 1.61, 0.8).met is False
    assert least("time", None, 1.0, 0.8).met is None
    assert limit("memory", 250.0, 250, "MB").met is True
    assert limit("memory", 251.0, 250, "MB").met is False
