"""Every measurement runs in a fresh process, so that nothing is warm, loaded or counted from another one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import ROOT

Figures = dict[str, Any]


class ChildError(RuntimeError):
    """A measurement that failed, with the end of what it said."""


def measure(
    python: Path, function: str, threads: int, settings: Mapping[str, str] | None = None, **arguments: Any
) -> Figures:
    """Call `module:function` of this package in a new process; returns the figures it returns.

    `settings` are what our own processes have in their environment and a host's does not.
    """
    environment = {
        **(settings or {}),
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "figures.json")
        command = [str(python), "-m", "benchmarks.children", function, json.dumps(arguments), str(result)]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not result.exists():
            raise ChildError(f"{function} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")
        figures: Figures = json.loads(result.read_text())
        return figures


def alternate(sides: dict[str, Callable[[], Figures]], rounds: int) -> dict[str, list[Figures]]:
    """Measure A B A B …, so that whatever else the machine does falls on all sides alike."""
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
    return found


def middle(figures: list[Figures], name: str) -> float:
    """Return the median of one figure over the rounds."""
    return float(median(f[name] for f in figures))


def main(function: str, arguments: str, result: str) -> None:
    module, _, name = function.partition(":")
    figures = getattr(importlib.import_module(f"benchmarks.{module}"), name)(**json.loads(arguments))
    Path(result).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
