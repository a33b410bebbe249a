"""Mix: a weighted sum of several scorers, each brought to the same scale first.

A cosine of 0.25 and a standardised score of 0.9 cannot be added. So each part has the mean and spread it shows on
the user's own images; a mix without them is refused.
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

from imagereward_ext.errors import ScoringError, WeightsError
from imagereward_ext.scorers import loading
from imagereward_ext.scorers.base import Progress, Scorer
from imagereward_ext.scorers.loading import Source
from imagereward_ext.scorers.placement import PRECISIONS, Placement

HOW_TO_MEASURE = "measure them with: python -m imagereward_ext evaluate calibrate FOLDER_OF_YOUR_IMAGES --output {name} {parts}"


@dataclass(frozen=True)
class Part:
    """One scorer of a mix."""

    scorer: str
    """Its name, or the folder it lies in."""
    weight: float
    mean: float | None = None
    """With `std`, measured on the user's own images."""
    std: float | None = None
    digest: str | None = None
    """The weights they were measured with."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Part:
        """Read a part of a mix's configuration; an unknown key is an error."""
        known = [item.name for item in dataclasses.fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise WeightsError(f"a part of a mix has no {unknown[0]!r}; it has {', '.join(known)}")
        if missing := [name for name in ("scorer", "weight") if name not in settings]:
            raise WeightsError(f"a part of a mix lacks its {missing[0]}")
        part = cls(**settings)
        if not math.isfinite(part.weight) or part.weight == 0:
            raise WeightsError(
                f"the weight of {part.scorer} is {part.weight}; expected a number other than 0"
            )
        return part


class Mix(Scorer):
    """The weighted sum, itself standardised."""

    def __init__(
        self, parts: Sequence[Part], scorers: Sequence[Scorer], source: Source, placement: Placement
    ) -> None:
        _require_measures(source.name, parts, scorers)
        self.name, self.label = source.name, source.label
        self.device, self.dtype = placement.device, placement.dtype
        self.parts, self.scorers = tuple(parts), tuple(scorers)
        self.mean, self.std = source.mean, source.std
        self.digest = _digest(self.parts, self.scorers)

    def score(
        self, images: Sequence[Image.Image], prompts: str | Sequence[str], progress: Progress | None = None
    ) -> list[float]:
        """Score with every part, and add up."""
        last = self.scorers[-1]
        columns = [
            scorer.score(images, prompts, progress if scorer is last else None) for scorer in self.scorers
        ]
        return [self._sum(row) for row in zip(*columns, strict=True)]

    def reward(self, pixels: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Add the parts' rewards up; the gradient of each reaches the pixels."""
        total = torch.zeros(len(pixels), device=self.device)
        for part, scorer in zip(self.parts, self.scorers, strict=True):
            total = total + part.weight * (
                scorer.reward(pixels, prompts).to(self.device) - _mean(part)
            ) / _std(part)
        return (total - self.mean) / self.std

    def unread(self, prompt: str) -> str:
        """Return what at least one part does not read: the longest of their unread ends."""
        return max((scorer.unread(prompt) for scorer in self.scorers), key=len)

    def to(self, device: torch.device | str) -> None:
        """Move all parts."""
        self.device = torch.device(device)
        for scorer in self.scorers:
            scorer.to(device)

    def modules(self) -> Iterator[nn.Module]:
        """Yield every network once; parts may share a tower."""
        seen: set[int] = set()
        for scorer in self.scorers:
            for module in scorer.modules():
                if id(module) not in seen:
                    seen.add(id(module))
                    yield module

    def _sum(self, scores: Sequence[float]) -> float:
        total = sum(
            part.weight * (score - _mean(part)) / _std(part)
            for part, score in zip(self.parts, scores, strict=True)
        )
        return (total - self.mean) / self.std


def build(source: Source, placement: Placement) -> Mix:
    """Load all parts."""
    settings = dict(source.settings)
    records = settings.pop("parts", None)
    if settings:
        raise WeightsError(f"a mix has no setting {next(iter(settings))!r}; it has parts")
    if not records:
        raise WeightsError(f"{source.name} is a mix without parts")
    parts = [Part.from_settings(record) for record in records]
    _require_measures(source.name, parts)  # before anything large is loaded
    return Mix(parts, [_load(part, source, placement) for part in parts], source, placement)


def _load(part: Part, source: Source, placement: Placement) -> Scorer:
    if loading.find_source(part.scorer, folder=source.folder, download=source.download).architecture == "mix":
        raise WeightsError(
            f"{source.name} mixes {part.scorer}, which is a mix itself; name its parts instead"
        )
    return loading.load_scorer(
        part.scorer,
        device=str(placement.device),
        precision=next(name for name, dtype in PRECISIONS.items() if dtype == placement.dtype),
        batch_size=placement.batch_size,
        folder=source.folder,
        download=source.download,
        report=source.report,
    )


def _require_measures(name: str, parts: Sequence[Part], scorers: Sequence[Scorer] = ()) -> None:
    command = HOW_TO_MEASURE.format(
        name=name, parts=" ".join(f"--scorer {p.scorer}={p.weight:g}" for p in parts)
    )
    for part in parts:
        if part.mean is None or part.std is None or not part.std > 0:
            raise ScoringError(
                f"{name} does not know the mean and spread of {part.scorer} on your images; {command}"
            )
    for part, scorer in zip(parts, scorers, strict=False):
        if part.digest is not None and part.digest != scorer.digest:
            raise ScoringError(
                f"{name} was measured with other weights of {part.scorer} ({part.digest}, now {scorer.digest}); {command}"
            )


def _mean(part: Part) -> float:
    assert part.mean is not None
    return part.mean


def _std(part: Part) -> float:
    assert part.std is not None
    return part.std


def _digest(parts: Sequence[Part], scorers: Sequence[Scorer]) -> str:
    content = [
        [scorer.digest, part.weight, part.mean, part.std] for part, scorer in zip(parts, scorers, strict=True)
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
