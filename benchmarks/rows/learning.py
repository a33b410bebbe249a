"""Reward gained per minute on the demo world: our defaults against the published recipe."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row
from benchmarks.children import alternate, middle
from benchmarks.environments import ROOT


def measure(bench: Bench) -> Row:
    seconds, batch, held_out = bench.small(300, 1), bench.small(16, 2), bench.small(64, 2)
    found = alternate({name: lambda name=name: bench.run("refl_tasks:learning", recipe=name, models=str(ROOT / "demo" / "models"),
                       seconds=seconds, batch=batch, held_out=held_out, training=bench.small(500, 4)) for name in ("ours", "peer")}, 1)  # fmt: skip
    row = Row("Reward gained per minute on the demo world", figures=found)
    ours, peer = (middle(found[name], "gained_per_minute") for name in ("ours", "peer"))
    met = ours >= 1.5 * peer and ours > 0
    row.lines.append(Line("mean reward of held-out prompts, per minute of training", f"{ours:+.4f}", f"{peer:+.4f}",
                          ours / peer if peer > 0 else None, "at least 1.5 times the peer's", met if bench.full else None))  # fmt: skip
    row.lines.append(Line("updates", str(found["ours"][0]["updates"]), str(found["peer"][0]["updates"])))
    row.notes.append(f"The same model, reward, batch of {batch} and {seconds} s for both; the peer's recipe is the whole "
                     "UNet, AdamW at 1e-5 and no distance term, in our loop, since its trainer cannot open this model.")  # fmt: skip
    return row
