"""What a before/after report says, in one plain sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from imagereward_ext.evaluation.statistics import ENOUGH_PROMPTS, WORSE

DOUBT = "It may be chance: compare again with more prompts to be sure."


def sentence(
    prompts: Set[str],
    trained: Set[str] | None,
    weight: float | None,
    rows: Sequence[Mapping[str, Any]],
    found: Mapping[str, Any] | None = None,
    guidance: float | None = None,
) -> str:
    """Say whether it got better, which weight is recommended, by what, and how sure that is.

    `trained` is None where nobody knows; `found` and `guidance` are, where a version before wrote the report.
    """
    at = "" if guidance is None else f", guidance {guidance:g}"
    basis = f"{len(prompts)} prompt{'s' * (len(prompts) != 1)}{_seen(prompts, trained)}{at}, same seeds before and after"
    if len(prompts) < ENOUGH_PROMPTS:
        return (
            f"Too few prompts to recommend a weight ({basis}): compare again with {ENOUGH_PROMPTS} or more."
        )
    told = "" if found is None else f"{found['verdict'].capitalize()}, {_spreads(found['gain'])}. "
    if weight is None and found is not None and found["verdict"] != WORSE:
        return f"{told}No weight is recommended: what was gained may be chance ({basis})."
    if weight is None:
        return f"{told}No weight that was tried beats the checkpoint ({basis}): rather do not use it."
    beaten = [row["win_rate"] for row in rows if row["label"].endswith(f" x {weight:g}") and row["win_rate"]]
    chance = bool(beaten) and not any(rate["low"] > 0.5 for rate in beaten)
    return f"{told}Recommended weight: {weight:g} ({basis}).{f' {DOUBT}' if chance else ''}"


def _spreads(gain: Mapping[str, float]) -> str:
    return f"{gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}] spreads of the scorers"


def _seen(prompts: Set[str], trained: Set[str] | None) -> str:
    """Say how many of the prompts the training had seen: on these a LoRA looks better than it is."""
    if trained is None:
        return ""
    seen = len(prompts & trained)
    if not seen:
        return ", none of them trained on"
    return f", {'all' if seen == len(prompts) else seen} of them trained on (others may gain less)"
