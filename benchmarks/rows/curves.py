"""Time against the number of images, their size and the prompts per image."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row

COUNTS, SIZES, PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128, 256), (256, 512, 1024, 2048), (1, 2, 4, 8, 16)
AXES = {"images": 0, "size": 1, "prompts": 2}


def measure(bench: Bench) -> Row:
    few = bench.small(4, 2)
    grids = {
        "images": [[count, 512, 1] for count in (COUNTS if bench.full else COUNTS[:3])],
        "size": [[few, size, 1] for size in (SIZES if bench.full else SIZES[:2])],
        "prompts": [[few, 512, prompts] for prompts in (PROMPTS if bench.full else PROMPTS[:2])],
    }
    row = Row("Curves")
    for name, points in grids.items():
        found = bench.beside("scoring_tasks:curve", {"ours": {}, "peer": {}}, folder=str(bench.scorer), points=points,
                             seconds=bench.small(120, 5), clock=bench.clock)  # fmt: skip
        row.figures[name] = found
        reached = {side: max(p[AXES[name]] for p in runs[0]["points"]) for side, runs in found.items()}
        row.lines.append(Line(f"largest {name} measured", str(reached["ours"]), str(reached.get("peer", ""))))
    row.notes.append("A curve ends before a point that would take longer than two minutes by itself.")
    return row
