"""Who stays and who goes: pure rules over a finished job's scores, and the sentence that tells about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imagereward_ext import selection
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.options import PER_PROMPT, ScoringRequest


@dataclass(frozen=True)
class Verdict:
    """The images to show, in that order, and those to put aside."""

    shown: tuple[ScoredImage, ...]
    rejected: tuple[ScoredImage, ...]
    passed: int
    """How many reached the limit (all that are scored, without one)."""
    message: str


def passing_score(request: ScoringRequest) -> float:
    """Return the score from which an image passes: without a filter every one does."""
    return request.limit if request.filter_low else -math.inf


def judge(images: Sequence[ScoredImage], request: ScoringRequest) -> Verdict:
    """Apply limit, best k and sorting. An image without a score is never rejected: nobody judged it."""
    values = [image.score for image in images]
    scores = {index: score for index, score in enumerate(values) if score is not None}
    passing = selection.passing(values, passing_score(request))
    staying = _best(passing, images, request)
    rescued = not staying and request.keep_one and bool(scores)
    if rescued:
        staying = selection.best(values, 1)
    rejected = set(scores) - set(staying)
    order: Sequence[int] = range(len(images))
    if request.sort:
        order = [*selection.ranked(values), *(index for index in order if index not in scores)]
    return Verdict(
        shown=tuple(images[index] for index in order if index not in rejected),
        rejected=tuple(images[index] for index in sorted(rejected)),
        passed=len(passing),
        message=_message(scores, len(images), len(passing), len(staying), rescued, request),
    )


def _best(passing: list[int], images: Sequence[ScoredImage], request: ScoringRequest) -> list[int]:
    if request.keep_best == 0:
        return passing
    groups: dict[str, list[int]] = {}
    for index in passing:
        group = images[index].prompt if request.keep_best_of == PER_PROMPT else ""
        groups.setdefault(group, []).append(index)
    staying = []
    for indices in groups.values():
        best = selection.best([images[index].score for index in indices], request.keep_best)
        staying += [indices[place] for place in best]
    return staying


def _message(
    scores: dict[int, float], count: int, passed: int, stayed: int, rescued: bool, request: ScoringRequest
) -> str:
    parts = []
    if request.filter_low and scores:
        limit, best = request.limit, max(scores.values())
        parts.append(f"{passed} of {len(scores)} passed {_short(limit, best)}")
        if not passed:
            parts.append(f"best was {_short(best, limit)}" + (" and is kept" if rescued else ""))
    if request.keep_best and stayed < passed:
        parts.append(f"kept the best {stayed} of {passed}")
    if scores and len(scores) < count and request.selects:
        parts.append(f"{count - len(scores)} without a score kept")
    return "; ".join(parts)


def _short(value: float, other: float) -> str:
    """Write two decimals, or as many as it takes to tell the value from the other one."""
    if abs(value) >= 1000:
        return f"{value:g}"
    for decimals in (2, 3, 4, 5):
        text = f"{value:.{decimals}f}"
        if value == other or text != f"{other:.{decimals}f}":
            return text
    return f"{value:.6g}"
