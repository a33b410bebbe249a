"""Which images to keep: pure rules over scores, for every place that keeps or leaves images. No torch.

A score that is missing (None) or no number passes nothing and is worth less than every other one. All functions
return positions in the list they were given, so that whatever belongs to an image can follow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from imagereward_ext.errors import UsageError

Score = float | None


def is_score(score: Score) -> bool:
    """Tell whether there is a number at all."""
    return score is not None and not math.isnan(score)


def ranked(scores: Sequence[Score]) -> list[int]:
    """List the positions of all scores, best first; equal ones keep the order they came in."""
    positions = [position for position, score in enumerate(scores) if is_score(score)]
    return sorted(positions, key=lambda position: -_number(scores[position]))


def passing(scores: Sequence[Score], limit: float) -> list[int]:
    """List what reaches the limit, in the order given."""
    return [position for position, score in enumerate(scores) if is_score(score) and _number(score) >= limit]


def best(scores: Sequence[Score], count: int) -> list[int]:
    """List the best `count`, in the order given."""
    if count < 0:
        raise UsageError(f"the best {count} images cannot be kept; give 0 or more")
    return sorted(ranked(scores)[:count])


def kept(scores: Sequence[Score], *, limit: float | None = None, count: int | None = None) -> list[int]:
    """List what reaches the limit and is among the best `count`, whichever of the two is set."""
    chosen = set(range(len(scores)))
    if limit is not None:
        chosen &= set(passing(scores, limit))
    if count is not None:
        chosen &= set(best(scores, count))
    return sorted(chosen)


def share_below(scores: Sequence[Score], score: float) -> float | None:
    """Say which share of earlier scores lies below this one, in [0, 1]; equal ones count half. None without any."""
    known = [_number(other) for other in scores if is_score(other)]
    if not known:
        return None
    return sum((other < score) + 0.5 * (other == score) for other in known) / len(known)


def limit_for_share(scores: Sequence[Score], share: float) -> float | None:
    """Find the limit that the best `share` of earlier scores reach, share in (0, 1]. None without any."""
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share} cannot be kept; give more than 0 and at most 1")
    known = sorted((_number(score) for score in scores if is_score(score)), reverse=True)
    if not known:
        return None
    # 0.07 * 100 is a little more than 7 in binary, and must not become 8.
    return known[math.ceil(round(share * len(known), 9)) - 1]


def _number(score: Score) -> float:
    return -math.inf if score is None else score
