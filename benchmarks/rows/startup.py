"""Importing what the WebUI executes at start-up."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row, limit
from benchmarks.children import middle


def measure(bench: Bench) -> Row:
    found = bench.beside("scoring_tasks:imports", {"ours": {}, "peer": {}})
    ours, peer = found["ours"], found.get("peer")
    row = Row("Importing what the WebUI executes at start-up", figures=found)
    for name in ("imports", "added"):
        figure, most, unit = {
            "imports": ("imports" + bench.clock, 0.05, "s"),
            "added": ("added_mb", 20, "MB"),
        }[name]
        other = middle(peer, figure) if peer else None
        line = limit(
            "time above the host's own imports" if name == "imports" else "memory above them",
            middle(ours, figure), most, unit, other,
        )  # fmt: skip
        row.lines.append(line if name == "imports" else Line(line.what, line.ours, line.peer, line.ratio))
    libraries = sorted({name for figures in ours for name in figures["libraries"]})
    row.lines.append(Line("model libraries loaded", ", ".join(libraries) or "none",
                          ", ".join(peer[0]["libraries"]) if peer else "", target="none", met=not libraries))  # fmt: skip
    row.notes.append("Ours on top of the demo's WebUI, the peer on top of torch, numpy and Pillow.")
    return row
