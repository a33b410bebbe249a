"""The numbers of the reports: shares, means and their 95 % intervals. Pure functions over arrays, no torch.

Every interval is a percentile bootstrap that resamples *prompts*, not images or pairs: what belongs to one prompt
is not independent. Two raters measured with the same seed are resampled alike, so their differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imagereward_ext.rankings import ordered_pairs

Array = NDArray[np.float64]

BETTER, NO_DIFFERENCE, WORSE = "better", "no difference", "worse"
"""What a paired comparison says: by more than chance, or not."""
RESAMPLES = 2000
LEVEL = 0.95
ENOUGH_PROMPTS = 10
"""Of fewer, resampling finds too little to tell how much would change with others: its intervals are far too narrow."""
# Draws are counted in blocks, so that ten thousand prompts need no gigabyte.
_BLOCK_ENTRIES = 4_000_000


class Interval(NamedTuple):
    """A measured value and the interval it would fall into again (95 % unless asked otherwise)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        bounds = "" if math.isnan(self.low) else f" [{self.low:.4f}, {self.high:.4f}]"
        return f"{self.value:.4f}{bounds}"

    def percent(self) -> str:
        """Spell a share the way the tables show it."""
        if math.isnan(self.value):
            return "–"
        bounds = "" if math.isnan(self.low) else f" [{100 * self.low:.2f}, {100 * self.high:.2f}]"
        return f"{100 * self.value:.2f} %{bounds}"

    def shown_for(self, prompts: int) -> Interval:
        """Leave the bounds out where they come from too few prompts to be shown to anybody."""
        return self if prompts >= ENOUGH_PROMPTS else Interval(self.value, math.nan, math.nan)


def doubt(prompts: int) -> str:
    """Say that so few prompts decide nothing; nothing when they are enough."""
    if prompts >= ENOUGH_PROMPTS:
        return ""
    few = "1 prompt is" if prompts == 1 else f"{prompts} prompts are"
    return f"{few} too few to say: intervals and verdicts take {ENOUGH_PROMPTS} or more."


class Hits(NamedTuple):
    """How many of a prompt's cases came out right, of how many."""

    hits: float
    cases: float


def bootstrap_interval(
    statistic: Callable[[Array], Array],
    groups: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Resample ``groups`` prompts and take the percentiles of a statistic.

    ``statistic`` maps how often each prompt was drawn, (draws, groups), to one value per draw; a draw on which it
    is undefined is NaN and left out.
    """
    if groups == 0:
        return Interval(math.nan, math.nan, math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(np.ones((1, groups)))[0])
        drawn = np.concatenate([statistic(block) for block in _draw_counts(groups, resamples, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(drawn):
        return Interval(value, math.nan, math.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _draw_counts(groups: int, resamples: int, seed: int) -> Iterable[Array]:
    """Yield how often each prompt is drawn, in blocks of (draws, groups)."""
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_ENTRIES // groups)
    for start in range(0, resamples, block):
        draws = min(block, resamples - start)
        yield generator.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(np.float64)


def share_interval(shares: Sequence[Hits], **bootstrap: float) -> Interval:
    """Pool the shares of all prompts (sum of hits over sum of cases), resampling prompts."""
    hits = np.array([share.hits for share in shares], dtype=np.float64)
    cases = np.array([share.cases for share in shares], dtype=np.float64)
    return bootstrap_interval(lambda drawn: (drawn @ hits) / (drawn @ cases), len(shares), **bootstrap)  # type: ignore[arg-type]


def share_difference(first: Sequence[Hits], second: Sequence[Hits], **bootstrap: float) -> Interval:
    """Measure how much larger the first rater's pooled share is, both resampled over the same prompts."""
    if len(first) != len(second):
        raise ValueError(f"a paired comparison needs the same prompts: {len(first)} against {len(second)}")
    table = np.array([[*a, *b] for a, b in zip(first, second, strict=True)], dtype=np.float64).reshape(-1, 4)

    def difference(drawn: Array) -> Array:
        sums: Array = drawn @ table
        result: Array = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
        return result

    return bootstrap_interval(difference, len(table), **bootstrap)  # type: ignore[arg-type]


def mean_interval(
    values: ArrayLike, groups: Sequence[Hashable] | None = None, **bootstrap: float
) -> Interval:
    """Average values; those of one group (a prompt) are drawn together."""
    return share_interval(_shares_by_group(np.asarray(values, dtype=np.float64), groups), **bootstrap)


def win_rate(
    ours: ArrayLike, theirs: ArrayLike, groups: Sequence[Hashable] | None = None, **bootstrap: float
) -> Interval:
    """Count how often ours scores higher than theirs on the same prompt and seed; a tie is half a win."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    wins = np.where(differences > 0, 1.0, np.where(differences == 0, 0.5, 0.0))
    return share_interval(_shares_by_group(wins, groups), **bootstrap)


def _shares_by_group(values: Array, groups: Sequence[Hashable] | None) -> list[Hits]:
    if groups is None:
        return [Hits(float(value), 1) for value in values]
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values but {len(groups)} groups")
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(float(value))
    return [Hits(math.fsum(part), len(part)) for part in members.values()]


def preference_share(ranks: Sequence[float], scores: Sequence[float]) -> Hits:
    """Count the pairs that a scorer orders like people: strictly, so a scorer's tie is wrong."""
    pairs = ordered_pairs(ranks)
    return Hits(sum(scores[better] > scores[worse] for better, worse in pairs), len(pairs))


def agreement_share(ranks: Sequence[float], first: Sequence[float], second: Sequence[float]) -> Hits:
    """Count the pairs that two scorers order alike, over the pairs that people rank differently.

    The same pairs serve every two raters, so the numbers stand beside the preference accuracy, which is a scorer's
    agreement with people. A tie of either scorer is no agreement.
    """
    pairs = ordered_pairs(ranks)
    alike = sum(
        (first[i] > first[j] and second[i] > second[j]) or (first[i] < first[j] and second[i] < second[j])
        for i, j in pairs
    )
    return Hits(alike, len(pairs))


def recall_share(ranks: Sequence[float], scores: Sequence[float], k: int) -> Hits:
    """Count people's best images (several when tied) among the scorer's top k.

    An image whose score ties with others counts as found only when all of them fit into the top k: the order of
    the files must not help.
    """
    best = [index for index, rank in enumerate(ranks) if rank == min(ranks)]
    return Hits(sum(sum(other >= scores[index] for other in scores) <= k for index in best), len(best))


def filter_share(ranks: Sequence[float], scores: Sequence[float], k: int) -> Hits:
    """Count people's worst images (several when tied) among the scorer's bottom k; ties as in recall."""
    return recall_share([-rank for rank in ranks], [-score for score in scores], k)


def average_ranks(values: ArrayLike) -> Array:
    """Rank values from 1 (the smallest); equal values share the mean of their places."""
    array = np.asarray(values, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    places = np.empty(len(array))
    places[order] = np.arange(1, len(array) + 1)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    means: Array = np.bincount(inverse.ravel(), weights=places) / counts
    return means[inverse.ravel()]


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Correlate the ranks of two lists; NaN when either has no spread."""
    a, b = average_ranks(first), average_ranks(second)
    if len(a) != len(b):
        raise ValueError(f"rank correlation of {len(a)} against {len(b)} values")
    a, b = a - a.mean() if len(a) else a, b - b.mean() if len(b) else b
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan
