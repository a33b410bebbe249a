"""One training loop for everything the demo trains: seeded, printed, and resumable to the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int
    lr: float
    warmup: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    save_every: int = 100
    seed: int = 0

    def lr_at(self, step: int) -> float:
        """Warm up in a line, then fall along half a cosine to a twentieth."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def generator(*seed: int) -> torch.Generator:
    """Make an own generator whose stream depends on every number given."""
    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part + 12_345) % (2**62)
    return torch.Generator().manual_seed(mixed)


def fit(
    name: str,
    networks: Mapping[str, nn.Module],
    loss_at: Callable[[int, torch.Generator], Tensor],
    schedule: Schedule,
    state_file: Path,
    mixed: bool = False,
) -> None:
    """Minimise ``loss_at(step, generator)``; every step has its own generator, so that a resumed run equals an uninterrupted one.

    The state (weights, optimiser, step, CPU time) is written to ``state_file`` now and then, and read from there.
    ``mixed`` computes in bfloat16 what may lose precision: convolutions take three quarters of the time, on CPUs
    that know it. The weights stay float32.
    """
    parameters = [p for network in networks.values() for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=schedule.lr, weight_decay=schedule.weight_decay)
    first, cpu_before = _resume(networks, optimiser, state_file)
    if first >= schedule.steps:
        print(f"[{name}] already trained ({first} steps)", flush=True)
        return
    started_cpu, started = time.process_time(), time.perf_counter()
    average = 0.0
    for network in networks.values():
        network.train()
    for step in range(first, schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr_at(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = loss_at(step, generator(schedule.seed, step))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimiser.step()
        average = loss.item() if step == first else 0.98 * average + 0.02 * loss.item()
        done = step + 1
        if done % schedule.save_every == 0 or done == schedule.steps:
            cpu = cpu_before + time.process_time() - started_cpu
            _save(networks, optimiser, done, cpu, state_file)
            wall = time.perf_counter() - started
            print(
                f"[{name}] {done}/{schedule.steps} loss {average:.4f} cpu {cpu:.0f} s, wall {wall:.0f} s",
                flush=True,
            )
    for network in networks.values():
        network.eval()


def _resume(
    networks: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, file: Path
) -> tuple[int, float]:
    if not file.exists():
        return 0, 0.0
    state = torch.load(file, weights_only=True)
    for key, network in networks.items():
        network.load_state_dict(state["networks"][key])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), float(state["cpu"])


def _save(
    networks: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, step: int, cpu: float, file: Path
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    state = {key: network.state_dict() for key, network in networks.items()}
    torch.save({"networks": state, "optimiser": optimiser.state_dict(), "step": step, "cpu": cpu}, part)
    part.replace(file)
