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
from imagereward_ext.reward_training.reward_model import RewardModel
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.storage import replace
from imagereward_ext.weights.model_folder import write_config


def calibration_of(rewards: Sequence[float]) -> Calibration:
    """Measure what turns raw rewards into scores of mean 0 and spread 1 on a reference set."""
    if len(rewards) < 2:
        raise RewardTrainingError(f"{len(rewards)} reference images give no spread: give 2 or more")
    mean, std = statistics.fmean(rewards), statistics.pstdev(rewards)
    if not math.isfinite(mean) or not std > 0:
        raise RewardTrainingError(
            f"the model gives all {len(rewards)} reference images the same reward ({mean:.6g}): "
            "it has learned nothing that could be standardised"
        )
    return Calibration(mean, std, len(rewards))


def write_model(
    model: RewardModel, target: Path, label: str, calibration: Calibration, notes: Mapping[str, Any]
) -> Path:
    """Write the model as a model folder; an older one of that name is replaced only when all is written."""
    config = model.config(target.name, label, calibration.mean, calibration.std, notes)
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
