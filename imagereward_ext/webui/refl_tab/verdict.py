"""What a before/after report says, in one plain sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS

DOUBT = "It may be chance: compare again with more prompts to be sure."


def sentence(
    prompts: Set[str], trained: Set[str] | None, weight: float | None, rows: Sequence[Mapping[str, Any]]
) -> str:
    """Say which weight is recommended, by what, and how sure that is. `trained` is None where nobody knows."""
    basis = f"{len(prompts)} prompt{'s' * (len(prompts) != 1)}{_seen(prompts, trained)}, same seeds before and after"
    if len(prompts) < ENOUGH_PROMPTS:
        return (
            f"Too few prompts to recommend a weight ({basis}): compare again with {ENOUGH_PROMPTS} or more."
        )
    if weight is None:
        return f"No weight that was tried beats the checkpoint ({basis}): rather do not use it."
    beaten = [row["win_rate"] for row in rows if row["label"].endswith(f" x {weight:g}") and row["win_rate"]]
    chance = bool(beaten) and not any(rate["low"] > 0.5 for rate in beaten)
    return f"Recommended weight: {weight:g} ({basis}).{f' {DOUBT}' if chance else ''}"


def _seen(prompts: Set[str], trained: Set[str] | None) -> str:
    """Say how many of the prompts the training had seen: on these a LoRA looks better than it is."""
    if trained is None:
        return ""
    seen = len(prompts & trained)
    if not seen:
        return ", none of them trained on"
    return f", {'all' if seen == len(prompts) else seen} of them trained on (others may gain less)"
