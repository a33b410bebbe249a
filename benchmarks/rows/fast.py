"""The opt-in fast mode on a CPU: half the bits, twice the speed where the processor has bf16 instructions."""

from __future__ import annotations

from statistics import mean, median

from benchmarks.bench import Bench, Line, Row, floor

FAST = "bf16"


def measure(bench: Bench) -> Row:
    images, prompts = bench.small(24, 3), bench.small(2, 2)
    found = bench.run("scoring_tasks:precisions", folder=str(bench.scorer), images=images, prompts=prompts,
                      rounds=bench.rounds, fast=FAST)  # fmt: skip
    times = found["processor" if bench.clock == "_cpu_s" else "times"]
    exact, fast = found["scores"]["fp32"], found["scores"][FAST]
    row = Row(f"Fast mode on a CPU (`--precision {FAST}`, off by default)", figures=found)
    row.lines.append(floor("times faster than our fp32", median(times["fp32"]) / median(times[FAST]), 1.8))
    row.lines.append(floor(f"Spearman over {len(exact)} pairs", spearman(exact, fast), 0.995))
    within = [spearman(exact[n : n + images], fast[n : n + images]) for n in range(0, len(exact), images)]
    row.lines.append(Line("the same within one prompt, mean", f"{mean(within):.3f}"))
    row.lines.append(
        Line("worst deviation", f"{max(abs(a - b) for a, b in zip(exact, fast, strict=True)):.3f}")
    )
    row.lines.append(Line("spread (standard deviation) of the fp32 scores", f"{_spread(exact):.3f}"))
    return row


def spearman(first: list[float], second: list[float]) -> float:
    from imagereward_ext.evaluation.statistics import spearman as of_lists

    return float(of_lists(first, second))


def _spread(values: list[float]) -> float:
    from statistics import pstdev

    return pstdev(values)
