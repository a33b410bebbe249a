"""The image each scorer would pick from the generations of a prompt, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation.contact_sheet import Cell, Row, contact_sheet
from imagereward_ext.evaluation.generators import Generator
from imagereward_ext.evaluation.report import Report, Table, left_out
from imagereward_ext.evaluation.scoring import Item, ScoreTable
from imagereward_ext.rankings import RankedPrompt
from imagereward_ext.wording import counted

_ROWS_ON_A_SHEET = 12


@dataclass(frozen=True)
class Generations:
    """The generations of one prompt; `best` are those people liked most, when that is known."""

    prompt: str
    images: Sequence[Path]
    best: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class Pick:
    """What every scorer chose for one prompt."""

    generations: Generations
    chosen: Mapping[str, tuple[Path, float]]
    """By scorer: the image and its score."""


def from_rankings(prompts: Sequence[RankedPrompt]) -> list[Generations]:
    """Take ranked prompts."""
    return [
        Generations(
            p.prompt,
            p.images,
            frozenset(i for i, r in zip(p.images, p.ranks, strict=True) if r == min(p.ranks)),
        )
        for p in prompts
    ]


def from_generator(generator: Generator, prompts: Mapping[str, str]) -> list[Generations]:
    """Take one model's images, named by prompt id."""
    return [Generations(prompts[key], images) for key, images in generator.images.items()]


def items_of(groups: Sequence[Generations]) -> list[Item]:
    """List the images to score."""
    return [Item(image, group.prompt) for group in groups for image in group.images]


def pick_best(groups: Sequence[Generations], scores: ScoreTable) -> list[Pick]:
    """Let every scorer choose; of equal scores the first image is taken. Prompts without a readable image go."""
    picks = []
    for group in groups:
        chosen = {}
        for scorer, table in scores.by_scorer.items():
            scored = [
                (image, table[Item(image, group.prompt)])
                for image in group.images
                if Item(image, group.prompt) in table
            ]
            if scored:
                chosen[scorer] = max(scored, key=lambda pair: pair[1])
        if chosen:
            picks.append(Pick(group, chosen))
    if not picks:
        raise ImageRewardError("none of the images can be read: there is nothing to pick from")
    return picks


def top1_report(picks: Sequence[Pick], scorers: Sequence[str], skipped: int = 0) -> Report:
    """Lay the choices out on contact sheets, a column for each scorer."""
    sheets = {}
    for number, start in enumerate(range(0, len(picks), _ROWS_ON_A_SHEET), start=1):
        rows = [_row(pick, scorers) for pick in picks[start : start + _ROWS_ON_A_SHEET]]
        sheets[f"Sheet {number}"] = contact_sheet(rows, scorers)
    introduction = (
        f"{counted(len(picks), 'prompt')}; a frame marks an image that people liked most.{left_out(skipped)}"
    )
    return Report(
        name="top1",
        title="The image each scorer would pick",
        introduction=introduction,
        tables=[_summary(picks, scorers)],
        data={"picks": [_plain(pick) for pick in picks]},
        pictures=sheets,
        csv_rows=[
            {"prompt": p.generations.prompt, "scorer": s, "image": str(image), "score": score}
            for p in picks
            for s, (image, score) in p.chosen.items()
        ],
    )


def _row(pick: Pick, scorers: Sequence[str]) -> Row:
    cells = []
    for scorer in scorers:
        image, score = pick.chosen.get(scorer, (None, math.nan))
        caption = f"{score:.4f}  {image.name}" if image else "–"
        cells.append(Cell(image, caption, highlighted=image in pick.generations.best))
    return Row(pick.generations.prompt, cells)


def _summary(picks: Sequence[Pick], scorers: Sequence[str]) -> Table:
    judged = [pick for pick in picks if pick.generations.best]
    rows = []
    for scorer in scorers:
        same = [
            sum(p.chosen[scorer][0] == p.chosen[other][0] for p in picks) / len(picks) for other in scorers
        ]
        liked = sum(p.chosen[scorer][0] in p.generations.best for p in judged)
        people = f"{100 * liked / len(judged):.1f} %" if judged else "–"
        rows.append([scorer, *(f"{100 * share:.1f} %" for share in same), people])
    return Table("Same choice", ["scorer", *scorers, "people's best"], rows)


def _plain(pick: Pick) -> dict[str, object]:
    return {
        "prompt": pick.generations.prompt,
        "chosen": {
            scorer: {"image": str(image), "score": score} for scorer, (image, score) in pick.chosen.items()
        },
        "people_s_best": sorted(str(path) for path in pick.generations.best),
    }
