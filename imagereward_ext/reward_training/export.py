"""From a trained model to a model folder that every command can name."""

from __future__ import annotations

import math
import shutil
import statistics
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagereward_ext.reward_training.recipes import RewardTrainingError
from imagereward_ext.reward_training.reward_model import RewardModel, Standard
from imagereward_ext.storage import replace
from imagereward_ext.weights.model_folder import write_config


def standard_of(rewards: Sequence[float]) -> Standard:
    """Measure the mean and spread of raw rewards."""
    if len(rewards) < 2:
        raise RewardTrainingError(f"{len(rewards)} reference images give no spread: give 2 or more")
    standard = Standard(statistics.fmean(rewards), statistics.pstdev(rewards))
    if not math.isfinite(standard.mean) or not standard.std > 0:
        raise RewardTrainingError(
            f"the model gives all {len(rewards)} reference images the same reward ({standard.mean:.6g}): "
            "it has learned nothing that could be standardised"
        )
    return standard


def write_model(
    model: RewardModel, target: Path, label: str, standard: Standard, notes: Mapping[str, Any]
) -> Path:
    """Write the model as a model folder; an older one of that name is replaced only when all is written."""
    config = model.config(target.name, label, standard.mean, standard.std, notes)
    with _replacing_folder(target) as part:
        model.write_files(part, config)
        write_config(part, config)
    return target


@contextmanager
def _replacing_folder(target: Path) -> Iterator[Path]:
    token = uuid.uuid4().hex[:8]
    part, old = (target.with_name(f".{target.name}.{token}.{kind}") for kind in ("part", "old"))
    part.mkdir(parents=True)
    try:
        yield part
        if target.exists():
            replace(target, old)
        try:
            replace(part, target)
        except BaseException:
            if old.exists():
                replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
