"""One optimiser step of ReFL at equal settings: full-size scorer, tiny diffusion model, 512 px."""

from __future__ import annotations

from benchmarks.bench import Bench, Line, Row, least
from benchmarks.children import alternate, middle
from benchmarks.children import measure as child
from benchmarks.refl_tasks import PARTS
from imagereward_ext.memory import LARGE_PAGES


def measure(bench: Bench) -> Row:
    scorer, rounds, threads = str(bench.scorer), bench.small(2, 1), bench.threads
    sides = {
        name: lambda checkpointing=checkpointing: child(
            bench.ours, "refl_tasks:our_step", threads, LARGE_PAGES, scorer=scorer, rounds=rounds, pixels=bench.small(512, 64),
            checkpointing=checkpointing)
        for name, checkpointing in (("ours", False), ("ours checkpointed", True))
    }  # fmt: skip
    if (peer_python := bench.peer) is not None:
        for name, frozen in (("peer", True), ("peer unfrozen", False)):
            sides[name] = lambda frozen=frozen: child(
                peer_python, "refl_tasks:peer_step", threads, folder=scorer, rounds=rounds, frozen=frozen
            )
    found = alternate(sides, bench.rounds)
    ours, peer = found["ours"], found.get("peer")
    row = Row("ReFL, one optimiser step, full-size scorer, tiny diffusion model", figures=found)
    row.lines.append(
        least("step", bench.seconds(peer, "step") if peer else None, bench.seconds(ours, "step"), 1.0)
    )
    for part in PARTS:
        row.lines.append(
            least(
                f"of that, {part} (wall)",
                middle(peer, f"{part}_s") if peer else None,
                middle(ours, f"{part}_s"),
                None,
            )
        )
    row.lines.append(
        least(
            "peak memory",
            middle(peer, "peak_mb") / 1000 if peer else None,
            middle(ours, "peak_mb") / 1000,
            0.7,
            "GB",
        )
    )
    checkpointed = found["ours checkpointed"]
    row.lines.append(Line("ours with gradient checkpointing, which every memory preset turns on",
                          f"{bench.seconds(checkpointed, 'step'):.2f} s, {middle(checkpointed, 'peak_mb') / 1000:.2f} GB"))  # fmt: skip
    if unfrozen := found.get("peer unfrozen"):
        row.lines.append(Line("the peer with the scorer left unfrozen, as its SDXL LoRA trainer does", "",
                              f"{bench.seconds(unfrozen, 'step'):.2f} s, {middle(unfrozen, 'peak_mb') / 1000:.2f} GB"))  # fmt: skip
    return row
