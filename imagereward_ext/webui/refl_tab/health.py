"""How a training goes, in one plain sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SMALL = 0.02
"""A change of a standardised score that nobody would see."""
STOP = "this looks like reward hacking, stop or lower the strength"


def sentence(checks: Sequence[Mapping[str, Any]]) -> str:
    """Compare the newest check with the first: same prompts, same seeds."""
    if not checks:
        return "No check yet: the first one shows where the checkpoint stands."
    if len(checks) < 2:
        return f"Before the training the reward is {checks[0]['reward']:.2f} on the prompts that are checked."
    first, last = checks[0], checks[-1]
    reward = last["reward"] - first["reward"]
    text = f"reward {reward:+.2f}"
    if last.get("judge") is None or first.get("judge") is None:
        return f"{text}, no judge: {_by_reward(reward)}"
    judge = last["judge"] - first["judge"]
    best = max(check["judge"] for check in checks if check.get("judge") is not None)
    text += f", judge {judge:+.2f}"
    if reward > SMALL and judge < -SMALL:
        return f"{text}: the judge is falling, {STOP}"
    if reward > SMALL and last["judge"] < best - max(SMALL, 0.5 * (best - first["judge"])):
        return f"{text}: the judge has begun to fall again, soon it is time to stop"
    return f"{text}: {_by_reward(reward)}"


def _by_reward(reward: float) -> str:
    if reward > SMALL:
        return "healthy"
    if reward < -SMALL:
        return "the reward is falling, which should not last: lower the learning rate if it does"
    return "no change yet"


def ended_by_guard(lora: str) -> str:
    """Say what a run has given that the guard rails ended."""
    if not lora:
        return (
            "So the guard rails ended the run. No state was better than the checkpoint itself, so there is no LoRA; "
            "train more gently, or with a smaller learning rate."
        )
    return f"So the guard rails ended the run. {lora} is the best state before that; train more gently to get further."
