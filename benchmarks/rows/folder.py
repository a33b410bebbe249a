"""Scoring a folder as the command line does, and again from the cache of `evaluate` and `compare`."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row, floor
from benchmarks.materials import write_pictures


def measure(bench: Bench) -> Row:
    images = bench.small(48, 4)
    pictures = bench.data / f"pictures-{images}"
    if not pictures.exists():
        write_pictures(pictures, images, bench.small(512, 64))
    found = bench.run("scoring_tasks:folder_of_images", scorer=str(bench.scorer), images=str(pictures))
    row = Row(f"A folder of {images} PNGs of 512 px", figures={"folder": found})
    row.lines.append(Line("images a second", f"{images / found['all_s']:.2f}"))
    busy = floor("share of the time inside the scorer", found["busy"], 0.9)
    row.lines.append(busy if bench.full else Line(busy.what, busy.ours))
    cache = bench.data / "cache"
    for file in cache.glob("*.jsonl"):
        file.unlink()
    again = bench.run(
        "scoring_tasks:cached_scores", scorer=str(bench.scorer), images=str(pictures), cache=str(cache)
    )
    row.figures["cached"] = again
    row.lines.append(
        Line("scored again from the cache, images a second", f"{images / again['cached_s']:,.0f}")
    )
    return row
