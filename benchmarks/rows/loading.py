"""From a bare Python to the first score, the converted file on disk."""

from __future__ import annotations

from benchmarks.bench import Bench, Row, least, limit
from benchmarks.children import middle


def measure(bench: Bench) -> Row:
    halves = {"ours half": {"precision": "bf16"}}
    found = bench.beside(
        "scoring_tasks:first_score", {"ours": {}, "peer": {}, **halves}, folder=str(bench.scorer)
    )
    row = Row("Load from disk to the first score, imports included", figures=found)
    peer = found.get("peer")
    other = bench.seconds(peer, "first_score") if peer else None
    peak = middle(peer, "peak_mb") if peer else None
    for name, label, share, most in (("ours", "fp32", 0.8, 2.3), ("ours half", "half precision", 0.6, 1.4)):
        row.lines.append(
            least(
                f"{label}: time to the first score", other, bench.seconds(found[name], "first_score"), share
            )
        )
        row.lines.append(
            limit(f"{label}: peak memory", middle(found[name], "peak_mb"), most * 1000, "MB", peak)
        )
    return row
