"""Many images under one prompt and under four; and how near that is to the machine's matrix products."""

from __future__ import annotations

from statistics import median

from benchmarks.bench import Bench, Line, Row, floor, limit


def measure(bench: Bench) -> Row:
    images, prompts = bench.small(16, 3), bench.small(4, 2)
    found = bench.beside(
        "scoring_tasks:several",
        {"ours": {"prompts": prompts}, "peer": {"prompts": 1}},
        folder=str(bench.scorer),
        images=images,
    )
    ours, peer = found["ours"], found.get("peer")
    row = Row(f"{images} images at 512 px, under one prompt and under {prompts}", figures=found)
    one = bench.seconds(ours, "one")
    if peer:
        other = bench.seconds(peer, "one")
        factor = other / one
        row.lines.append(Line(f"{images} images, one prompt", f"{one:.2f} s", f"{other:.2f} s", one / other,
                              "at least 1.3 times faster", factor >= 1.3))  # fmt: skip
        same = max(abs(a - b) for a, b in zip(ours[0]["scores"], peer[0]["scores"], strict=True))
        row.lines.append(
            Line("largest difference of a score", f"{same:.1e}", target="at most 2e-5", met=same <= 2e-5)
        )
    # Each process measures the ceiling right before and after, so that a machine whose speed drifts drifts in both.
    shares = [run["ceiling" + bench.clock] / run["one" + bench.clock] for run in ours]
    row.lines.append(floor("share of the matrix-product ceiling", median(shares), 0.95))
    work = ours[0]["gflop"] / images
    row.lines.append(Line("work per image in matrix products", f"{work:.1f} GFLOP"))
    row.lines.append(
        Line(
            "the machine, on these products alone",
            f"{work * images / bench.seconds(ours, 'ceiling'):.0f} GFLOP/s",
        )
    )
    several = bench.seconds(ours, "several")
    row.lines.append(limit(f"{prompts} prompts, times the one-prompt time", several / one, 1.6, ""))
    return row
