"""Mix: a weighted sum of rewards.

A cosine of 0.25 and a standardised score of 0.9 cannot be added. So what is added up are rewards, each brought to the
same scale first. A mix that a person keeps is a model folder, measured on images of their own; a training mixes what
it was told to on the spot.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.errors import ScoringError, WeightsError
from imagereward_ext.scorers import loading
from imagereward_ext.scorers.base import Progress, Scorer
from imagereward_ext.scorers.calibration import STANDARD, Calibration
from imagereward_ext.scorers.loading import Source
from imagereward_ext.scorers.reward import Reward

HOW_TO_MEASURE = "measure them with: python -m imagereward_ext evaluate calibrate FOLDER_OF_YOUR_IMAGES --output {name} {parts}"


@dataclass(frozen=True)
class WeightedReward:
    """A reward, and how much of it goes into the mix."""

    reward: Reward
    weight: float

    def __post_init__(self) -> None:
        _require_weight(self.reward.scorer.name, self.weight)


class Mix(Scorer):
    """The weighted sum of rewards; a mix that was measured takes `sum_of` out of it."""

    def __init__(
        self, parts: Sequence[WeightedReward], name: str, label: str, sum_of: Calibration = STANDARD
    ) -> None:
        self.parts = tuple(parts)
        self.name, self.label, self.digest = name, label, _digest(self.parts)
        self.mean, self.std = sum_of.mean, sum_of.std
        self.device, self.dtype = self.parts[0].reward.scorer.device, self.parts[0].reward.scorer.dtype

    def score(
        self, images: Sequence[Image.Image], prompts: str | Sequence[str], progress: Progress | None = None
    ) -> list[float]:
        """Reward with every part, and add up."""
        last = self.parts[-1]
        columns = [part.reward.of(images, prompts, progress if part is last else None) for part in self.parts]
        weights = [part.weight for part in self.parts]
        totals = [
            sum(weight * reward for weight, reward in zip(weights, row, strict=True))
            for row in zip(*columns, strict=True)
        ]
        return [(total - self.mean) / self.std for total in totals]

    def score_pixels(self, pixels: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Add the parts' rewards up; the gradient of each reaches the pixels."""
        total = pixels.new_zeros(len(pixels))
        for part in self.parts:
            total = total + part.weight * part.reward(pixels, prompts)
        return (total - self.mean) / self.std

    def unread(self, prompt: str) -> str:
        """Return what at least one part does not read: the longest of their unread ends."""
        return max((part.reward.scorer.unread(prompt) for part in self.parts), key=len)

    def to(self, device: torch.device | str) -> None:
        """Move all parts."""
        for part in self.parts:
            part.reward.scorer.to(device)
        self.device = self.parts[0].reward.scorer.device

    def modules(self) -> Iterator[nn.Module]:
        """Yield every network once; parts may share a tower."""
        seen: set[int] = set()
        for part in self.parts:
            for module in part.reward.scorer.modules():
                if id(module) not in seen:
                    seen.add(id(module))
                    yield module


def mixed(parts: Sequence[WeightedReward]) -> Reward:
    """Make one reward of several: their weighted sum. Weights that add up to 1 keep the meaning of a cap."""
    if len(parts) == 1 and parts[0].weight == 1:
        return parts[0].reward
    name = ",".join(f"{part.reward.scorer.name}:{part.weight:g}" for part in parts)
    return Reward(Mix(parts, name, name), STANDARD)


@dataclass(frozen=True)
class PartRecord:
    """A part as a mix's folder keeps it."""

    scorer: str
    """Its name, or the folder it lies in."""
    weight: float
    mean: float | None = None
    """With `std`, measured on the user's own images."""
    std: float | None = None
    digest: str | None = None
    """The weights they were measured with."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PartRecord:
        """Read a part of a mix's configuration; an unknown key is an error."""
        known = [item.name for item in dataclasses.fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise WeightsError(f"a part of a mix has no {unknown[0]!r}; it has {', '.join(known)}")
        if missing := [name for name in ("scorer", "weight") if name not in settings]:
            raise WeightsError(f"a part of a mix lacks its {missing[0]}")
        record = cls(**settings)
        _require_weight(record.scorer, record.weight)
        return record


def build(source: Source, placement: Placement) -> Mix:
    """Load all parts of a mix's folder."""
    settings = dict(source.settings)
    records = settings.pop("parts", None)
    if settings:
        raise WeightsError(f"a mix has no setting {next(iter(settings))!r}; it has parts")
    if not records:
        raise WeightsError(f"{source.name} is a mix without parts")
    known = [PartRecord.from_settings(record) for record in records]
    how = HOW_TO_MEASURE.format(
        name=source.name, parts=" ".join(f"--scorer {record.scorer}={record.weight:g}" for record in known)
    )
    calibrations = [
        _calibration(record, source.name, how) for record in known
    ]  # before anything large is loaded
    parts = []
    for record, calibration in zip(known, calibrations, strict=True):
        scorer = _load(record, source, placement)
        if record.digest is not None and record.digest != scorer.digest:
            raise ScoringError(
                f"{source.name} was measured with other weights of {record.scorer} "
                f"({record.digest}, now {scorer.digest}); {how}"
            )
        parts.append(WeightedReward(Reward(scorer, calibration), record.weight))
    return Mix(parts, source.name, source.label, Calibration(source.mean, source.std))


def _calibration(record: PartRecord, name: str, how: str) -> Calibration:
    if record.mean is None or record.std is None or not record.std > 0:
        raise ScoringError(
            f"{name} does not know the mean and spread of {record.scorer} on your images; {how}"
        )
    return Calibration(record.mean, record.std)


def _load(record: PartRecord, source: Source, placement: Placement) -> Scorer:
    part = loading.find_source(source.spec.another(record.scorer), source.report)
    if part.architecture == "mix":
        raise WeightsError(
            f"{source.name} mixes {record.scorer}, which is a mix itself; name its parts instead"
        )
    return loading.build_scorer(part, placement)


def _require_weight(scorer: str, weight: float) -> None:
    if not math.isfinite(weight) or weight == 0:
        raise WeightsError(f"the weight of {scorer} is {weight}; expected a number other than 0")


def _digest(parts: Sequence[WeightedReward]) -> str:
    content = [
        [part.reward.scorer.digest, part.weight, part.reward.calibration.mean, part.reward.calibration.std]
        for part in parts
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
