"""RESULTS.md, made of results.json and of what benchmarks/FINDINGS.md says about rows that miss their target."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.environments import REQUIREMENTS
from benchmarks.gauges import load_average
from benchmarks.rows import NAMES

FINDINGS = Path(__file__).with_name("FINDINGS.md")


def circumstances(bench: Bench, seconds: float) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": bench.threads,
        "rounds": bench.rounds,
        "clock": "processor" if bench.clock == "_cpu_s" else "wall",
        "load": round(load_average(), 1),
        "minutes": round(seconds / 60, 1),
        "device": bench.device,
        "versions": {
            name: version(name) for name in ("torch", "transformers", "diffusers", "pillow", "numpy")
        },
        "peer": [
            line
            for line in REQUIREMENTS.read_text().split()
            if line.startswith(("torch==", "transformers==", "diffusers=="))
        ],
    }


def written(results: dict[str, Any]) -> str:
    """Write the page."""
    parts = [_INTRODUCTION]
    for name in NAMES:
        if (row := results.get(name)) is None:
            parts.append(f"## {name}\n\nNot run yet: `python -m benchmarks --only {name}`.\n")
            continue
        parts += [
            f"## {row['title']}\n",
            _table(row["lines"]) if row["lines"] else "",
            *(f"{n}\n" for n in row["notes"]),
        ]
        if name == "curves":
            parts.append("![time against images](time-images.png) ![time against size](time-size.png) "
                         "![time against prompts](time-prompts.png)\n")  # fmt: skip
        parts.append(_measured(name, row["measured"]))
    if FINDINGS.exists():
        parts.append(FINDINGS.read_text("utf-8"))
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _table(lines: list[dict[str, Any]]) -> str:
    rows = [
        "| figure | ours | the peer | ours / peer | target | met |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    for line in lines:
        ratio = "" if line["ratio"] is None else f"{line['ratio']:.2f}"
        met = {None: "", True: "yes", False: "**no**"}[line["met"]]
        cells = (line["what"], line["ours"], line["peer"], ratio, line["target"], met)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _measured(name: str, facts: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"<sub>`{name}`, {facts['date']}: {facts['processor']}, {facts['cores']} cores, load {facts['load']}, "
        f"{facts['threads']} threads, {facts['rounds']} rounds, {facts['clock']} seconds, {facts['device']}, "
        f"took {facts['minutes']} min. Ours: {libraries}. The peer: image-reward==1.5, {', '.join(facts['peer'])}.</sub>\n"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()


_INTRODUCTION = """\
# Results

Made by `python -m benchmarks`; every figure is a median over fresh processes that took turns with the peer's, and every
raw figure is in [results.json](results.json). Both sides load the same file: the full ImageReward architecture with random
weights. Where the clock is *processor seconds*, each process had one thread and the machine was doing other work: a
process then takes as many processor seconds as it would take seconds alone, while the wall tells how busy the others were.
"""
