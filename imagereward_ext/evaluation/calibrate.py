"""Measuring scorers on a person's own images, and mixing them on a common scale."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.evaluation.report import Table
from imagereward_ext.evaluation.scoring import CanScore, Item, ScoreTable
from imagereward_ext.images import find_images
from imagereward_ext.metadata import records
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.scorers.mix import PartRecord
from imagereward_ext.weights.labels import label_of
from imagereward_ext.weights.model_folder import ModelConfig, write_config

_ENOUGH = 20


def own_images(folder: Path, prompt: str | None = None) -> tuple[list[Item], int]:
    """List the images of a folder under the prompts they were made with; also count those without a prompt.

    `prompt` is used for images that carry none.
    """
    if not folder.is_dir():
        raise ImageRewardError(f"{folder} is no folder of images")
    items, without_prompt = [], 0
    for path in find_images([folder], recursive=True).paths:
        own = _own_prompt(path) or prompt
        if own:
            items.append(Item(path, own))
        else:
            without_prompt += 1
    if len(items) < _ENOUGH:
        raise ImageRewardError(
            f"{folder} has {len(items)} images with a prompt ({without_prompt} without); "
            f"a mean and a spread take {_ENOUGH} or more, some hundred are better"
        )
    return items, without_prompt


def measure(scores: ScoreTable) -> dict[str, Calibration]:
    """Return each scorer's mean and spread."""
    measures = {}
    for name, table in scores.by_scorer.items():
        values = list(table.values())
        if len(values) < _ENOUGH:
            raise ImageRewardError(f"only {len(values)} images can be read; {_ENOUGH} or more are needed")
        measures[name] = Calibration.of(values, name)
    return measures


def measures_table(measures: dict[str, Calibration]) -> Table:
    """Lay the measures out."""
    rows = [[name, f"{m.mean:.4f}", f"{m.std:.4f}", f"{m.images:,}"] for name, m in measures.items()]
    return Table("On your images", ["scorer", "mean", "spread", "images"], rows)


def write_mix(
    folder: Path,
    references: Sequence[str],
    weights: Sequence[float],
    scorers: Sequence[CanScore],
    scores: ScoreTable,
    label: str | None = None,
) -> Path:
    """Write a mix as a model folder; its own scores have mean 0 and spread 1 on the measured images.

    `references` are the names (or folders) by which the parts are found again.
    """
    measures = measure(scores)
    parts = [
        PartRecord(reference, weight, measures[scorer.name].mean, measures[scorer.name].std, scorer.digest)
        for reference, weight, scorer in zip(references, weights, scorers, strict=True)
    ]
    items = list(scores.by_scorer[scorers[0].name])
    columns = [scores.of(scorer.name, items) for scorer in scorers]
    scales = [measures[scorer.name] for scorer in scorers]
    totals = [
        math.fsum(weight * scale(score) for weight, scale, score in zip(weights, scales, row, strict=True))
        for row in zip(*columns, strict=True)
    ]
    std = statistics.pstdev(totals)
    if not std > 0:
        raise ImageRewardError("the weighted scores cancel out on every image: change a weight")
    folder.mkdir(parents=True, exist_ok=True)
    config = ModelConfig(
        architecture="mix",
        name=folder.name,
        label=label_of(folder.name) if label is None else label,
        mean=statistics.fmean(totals),
        std=std,
        settings={"parts": [asdict(part) for part in parts]},
        notes={"measured_on_images": len(items)},
    )
    write_config(folder, config)
    return folder


def _own_prompt(path: Path) -> str:
    try:
        return records.read(path).prompt
    except ImageRewardError:
        return ""
