"""How well scorers agree with people, measured as the ImageReward paper measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation.plots import interval_plot
from imagereward_ext.evaluation.report import Report, Table, left_out
from imagereward_ext.evaluation.scoring import Item, ScoreTable
from imagereward_ext.evaluation.statistics import (
    Hits,
    Interval,
    agreement_share,
    doubt,
    filter_share,
    preference_share,
    recall_share,
    share_difference,
    share_interval,
)
from imagereward_ext.rankings import RankedPrompt, count_pairs, without
from imagereward_ext.wording import counted

KS = (1, 2, 4)
PEOPLE = "people"
ShareOfTopK = Callable[[Sequence[float], Sequence[float], int], Hits]
_PAIRS = "A pair counts when people ranked its two images differently; a scorer's tie is wrong."
_BRACKETS = "In brackets: 95 % intervals, prompts resampled 2,000 times."


@dataclass(frozen=True)
class Preferences:
    """Everything measured on one set of rankings."""

    prompts: int
    pairs: int
    full_prompts: int
    """Prompts with more images than the largest k: the ones on which recall and filter can fail."""
    accuracy: Mapping[str, Interval]
    recall: Mapping[str, Mapping[int, Interval]]
    filter: Mapping[str, Mapping[int, Interval]]
    agreement: Mapping[tuple[str, str], Interval]
    """By pair of raters, people among them; both orders have the same value."""
    differences: Mapping[tuple[str, str], Interval]
    """How much more accurate the first scorer is than the second, paired over the same prompts."""


def items_of(prompts: Sequence[RankedPrompt]) -> list[Item]:
    """List the images to score."""
    return [Item(image, prompt.prompt) for prompt in prompts for image in prompt.images]


def measure_preferences(
    prompts: Sequence[RankedPrompt],
    scores: ScoreTable,
    *,
    images_per_prompt: int | None = None,
    seed: int = 0,
) -> Preferences:
    """Measure all scorers on all rankings whose images could be read.

    `images_per_prompt` restricts recall and filter to prompts with exactly that many images (the paper's have 8).
    """
    usable = without(prompts, [problem.image for problem in scores.problems])
    if not usable:
        raise ImageRewardError(
            f"none of the {len(prompts):,} prompts has two readable images of different rank; "
            f"{len(scores.problems):,} images are missing or broken"
        )
    by_scorer = {
        name: [scores.of(name, [Item(image, p.prompt) for image in p.images]) for p in usable]
        for name in scores.scorers
    }
    ranks = [prompt.ranks for prompt in usable]
    right = {
        name: [preference_share(r, s) for r, s in zip(ranks, values, strict=True)]
        for name, values in by_scorer.items()
    }
    full = [row for row, prompt in enumerate(usable) if _is_full(len(prompt.images), images_per_prompt)]

    def found(measure: ShareOfTopK) -> dict[str, dict[int, Interval]]:
        return {
            name: {
                k: share_interval([measure(ranks[row], values[row], k) for row in full], seed=seed)
                for k in KS
            }
            for name, values in by_scorer.items()
        }

    accuracy = {name: share_interval(shares, seed=seed) for name, shares in right.items()}
    return Preferences(
        prompts=len(usable),
        pairs=count_pairs(usable),
        full_prompts=len(full),
        accuracy=accuracy,
        recall=found(recall_share),
        filter=found(filter_share),
        agreement={(PEOPLE, name): interval for name, interval in accuracy.items()}
        | _agreement(ranks, by_scorer, seed),
        differences={
            (first, second): share_difference(right[first], right[second], seed=seed)
            for first, second in combinations(right, 2)
        },
    )


def _is_full(images: int, images_per_prompt: int | None) -> bool:
    """Tell whether recall and filter can fail on a prompt with so many images, or whether it has as many as asked for."""
    return images > max(KS) if images_per_prompt is None else images == images_per_prompt


def _agreement(
    ranks: Sequence[Sequence[float]], by_scorer: Mapping[str, Sequence[Sequence[float]]], seed: int
) -> dict[tuple[str, str], Interval]:
    """Measure how often each two scorers order people's pairs alike."""
    agreement = {}
    for first, second in combinations(by_scorer, 2):
        rows = zip(ranks, by_scorer[first], by_scorer[second], strict=True)
        agreement[first, second] = share_interval([agreement_share(*row) for row in rows], seed=seed)
    return agreement


def preferences_report(measured: Preferences, skipped: int = 0) -> Report:
    """Lay the measurement out."""
    introduction = (
        f"{counted(measured.prompts, 'prompt')}, {counted(measured.pairs, 'pair')}.{left_out(skipped)}"
    )
    tables = [_accuracy_table(measured), *([_recall_table(measured)] if measured.full_prompts else [])]
    if len(measured.accuracy) > 1:
        tables += [_agreement_table(measured), _difference_table(measured)]
    shown = {name: interval.shown_for(measured.prompts) for name, interval in measured.accuracy.items()}
    plot = interval_plot("Preference accuracy", shown, percent=True, mark=0.5, mark_label="chance")
    return Report(
        name="preferences",
        title="Agreement with people's preferences",
        introduction=introduction,
        tables=tables,
        data=_data(measured, skipped),
        pictures={"Preference accuracy": plot},
        csv_rows=_rows(measured),
    )


def _accuracy_table(measured: Preferences) -> Table:
    shown = {name: interval.shown_for(measured.prompts) for name, interval in measured.accuracy.items()}
    rows = [[name, interval.percent()] for name, interval in shown.items()]
    note = f"{_PAIRS} {doubt(measured.prompts) or _BRACKETS}"
    return Table("Preference accuracy", ["scorer", "accuracy"], rows, note)


def _recall_table(measured: Preferences) -> Table:
    both = (measured.recall, measured.filter)
    header = ["scorer", *(f"recall@{k}" for k in KS), *(f"filter@{k}" for k in KS)]
    rows = [
        [name, *(by_k[name][k].shown_for(measured.full_prompts).percent() for by_k in both for k in KS)]
        for name in measured.recall
    ]
    note = (
        f"Over {measured.full_prompts:,} prompts with enough images. Recall@k: the share of people's best images in the "
        f"scorer's top k; filter@k: the share of people's worst images in its bottom k. {doubt(measured.full_prompts)}"
    ).rstrip()
    return Table("Finding the best, filtering the worst", header, rows, note)


def _agreement_table(measured: Preferences) -> Table:
    raters = [PEOPLE, *measured.accuracy]
    table = {**measured.agreement, **{(b, a): value for (a, b), value in measured.agreement.items()}}
    rows = [[a, *("–" if a == b else f"{100 * table[a, b].value:.2f} %" for b in raters)] for a in raters]
    return Table(
        "Agreement between raters", ["", *raters], rows, "Over the pairs that people ranked differently."
    )


def _difference_table(measured: Preferences) -> Table:
    rows = [
        [f"{a} – {b}", interval.shown_for(measured.prompts).percent()]
        for (a, b), interval in measured.differences.items()
    ]
    verdict = doubt(measured.prompts) or "An interval without 0 is a difference that holds."
    note = f"In percentage points, paired over the same prompts. {verdict}"
    return Table("Differences in accuracy", ["scorers", "difference"], rows, note)


def _rows(measured: Preferences) -> list[dict[str, Any]]:
    named = [("accuracy", name, interval) for name, interval in measured.accuracy.items()]
    for k in KS:
        named += [(f"recall@{k}", name, by_k[k]) for name, by_k in measured.recall.items()]
        named += [(f"filter@{k}", name, by_k[k]) for name, by_k in measured.filter.items()]
    named += [("agreement", f"{a} / {b}", value) for (a, b), value in measured.agreement.items()]
    named += [("accuracy difference", f"{a} - {b}", value) for (a, b), value in measured.differences.items()]
    return [
        {"measure": measure, "scorer": scorer, **interval._asdict()} for measure, scorer, interval in named
    ]


def _data(measured: Preferences, skipped: int) -> dict[str, Any]:
    return {
        "prompts": measured.prompts,
        "pairs": measured.pairs,
        "skipped_images": skipped,
        "prompts_for_recall": measured.full_prompts,
        "accuracy": measured.accuracy,
        "recall": measured.recall,
        "filter": measured.filter,
        "agreement": [{"raters": pair, **value._asdict()} for pair, value in measured.agreement.items()],
        "accuracy_differences": [
            {"scorers": pair, **value._asdict()} for pair, value in measured.differences.items()
        ],
    }
