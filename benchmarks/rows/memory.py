"""What scoring adds to the memory of a process in which the scorer is loaded."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row, limit
from benchmarks.children import middle


def measure(bench: Bench) -> Row:
    images = bench.small(8, 2)
    sides = {"ours": {}, "peer": {}, "peer without no_grad": {"no_grad": False}}
    found = bench.beside("scoring_tasks:memory", sides, folder=str(bench.scorer), images=images)
    peer = middle(found["peer"], "added_mb") if "peer" in found else None
    row = Row(f"Memory added while scoring {images} images", figures=found)
    row.lines.append(limit("resident memory", middle(found["ours"], "added_mb"), 250, "MB", peer))
    row.notes.append(
        "Measured after one image was scored: the peer, which takes one at a time, has its memory by then."
    )
    if careless := found.get("peer without no_grad"):
        row.lines.append(
            Line("when the caller forgets no_grad", "the same", f"{middle(careless, 'added_mb'):,.0f} MB")
        )
    return row
