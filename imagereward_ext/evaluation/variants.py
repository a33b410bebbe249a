"""Base against LoRA, the honest way: same prompts, same seeds, same sampler, and scorers it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, pstdev

import torch
from PIL import Image
from torch import Tensor

from imagereward_ext.diffusion.lora import merged
from imagereward_ext.diffusion.lora_file import read_lora
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.pictures import diversity, miniature, to_image
from imagereward_ext.diffusion.sampling import SamplingSettings, generate
from imagereward_ext.errors import UsageError
from imagereward_ext.evaluation.statistics import (
    BETTER,
    NO_DIFFERENCE,
    WORSE,
    Interval,
    mean_interval,
    win_rate,
)
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.storage import replacing

BASE = "base"
SHOWN = 8  # prompts on the contact sheet
Score = Callable[[Sequence[Image.Image], Sequence[str]], list[float]]
Progress = Callable[[str, int, int], None]
"""Called with the variant, how many of its images are done, and how many there are."""


@dataclass(frozen=True)
class Variant:
    """The base, or a LoRA at some weight."""

    label: str
    lora: Path | None = None
    weight: float = 0.0


@dataclass(frozen=True)
class ImageSettings:
    """How the images are made: the user's own settings, not the trainer's."""

    sampling: SamplingSettings
    negative: str = ""
    seed: int = 0
    """Of the first image; every further one takes the next"""
    seeds: int = 1
    """Images per prompt"""
    batch: int = 4


@dataclass(frozen=True)
class VariantResult:
    """What one variant's images are worth; they are in the order prompt by prompt, seed by seed."""

    scores: Mapping[str, Sequence[float]]
    """By scorer, one per image, in the scorer's own units"""
    diversity: float = 0.0
    shown: Sequence[Image.Image] = ()
    """The first image of each of the first prompts"""


@dataclass(frozen=True)
class Finding:
    """What became of a LoRA at the settings it was compared at."""

    variant: Variant
    verdict: str
    gain: Interval
    """Mean over the scorers, as rewards"""

    @property
    def better(self) -> bool:
        """Whether it can be recommended."""
        return self.verdict == BETTER


@dataclass
class Comparison:
    """Everything that was measured. Variants are named by their labels."""

    prompts: list[str]
    """One per image"""
    variants: list[Variant]
    """The base first"""
    results: dict[str, VariantResult] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    """Those that were published, by scorer"""

    @property
    def scorers(self) -> list[str]:
        """The scorers, in the order they were given."""
        return list(self.results[BASE].scores)

    @property
    def prompt_count(self) -> int:
        """How many different prompts there are: what the intervals resample."""
        return len(set(self.prompts))

    def gain(self, variant: str, scorer: str, over: str = BASE) -> Interval:
        """Mean difference to another variant in the scorer's units, paired and resampled over prompts."""
        return mean_interval(
            [ours - theirs for ours, theirs in self._paired(variant, scorer, over)], self.prompts
        )

    def wins(self, variant: str, scorer: str, over: str = BASE) -> Interval:
        """Share of the images that score higher than the other variant's on the same prompt and seed."""
        return win_rate(self._scores(variant, scorer), self._scores(over, scorer), self.prompts)

    def win_matrix(self, scorer: str) -> list[list[float | None]]:
        """Return how often the row's variant beats the column's; nothing on the diagonal."""
        labels = [variant.label for variant in self.variants]
        return [[None if a == b else self.wins(a, scorer, b).value for b in labels] for a in labels]

    def reward_gain(self, variant: str) -> Interval:
        """Mean difference to the base over all scorers, as rewards: scores have units that cannot be added."""
        per_scorer = [
            [(ours - theirs) / self._spread(scorer) for ours, theirs in self._paired(variant, scorer)]
            for scorer in self.scorers
        ]
        return mean_interval([fmean(of_image) for of_image in zip(*per_scorer, strict=True)], self.prompts)

    def mean_win_rate(self, variant: str) -> float:
        """Mean share of won images over all scorers: each counts the same."""
        return fmean(self.wins(variant, scorer).value for scorer in self.scorers)

    def verdict(self, variant: str) -> str:
        """Say whether a LoRA is better or worse than the base at these settings, by more than chance.

        One that wins narrowly and loses by far, or pleases one scorer while another is clearly against it, is not better.
        """
        gain, each = self.reward_gain(variant), [self.gain(variant, scorer) for scorer in self.scorers]
        opposed = any(interval.high < 0 for interval in each)
        if gain.low > 0 and self.mean_win_rate(variant) > 0.5 and not opposed:
            return BETTER
        liked = any(interval.low > 0 for interval in each)
        return WORSE if gain.high < 0 or (opposed and not liked) else NO_DIFFERENCE

    def findings(self) -> dict[Path, Finding]:
        """Say of each LoRA what it is worth, at the best of the weights it was tried with.

        That is one that is better than the base, where there is one; the highest mean win rate decides, of equal ones
        the larger gain.
        """
        found: dict[Path, Finding] = {}
        worth: dict[Path, tuple[bool, float, float]] = {}
        for variant in self.variants:
            if variant.lora is None:
                continue
            gain, verdict = self.reward_gain(variant.label), self.verdict(variant.label)
            this = verdict == BETTER, self.mean_win_rate(variant.label), gain.value
            if variant.lora not in found or this > worth[variant.lora]:
                found[variant.lora], worth[variant.lora] = Finding(variant, verdict, gain), this
        return found

    def recommended(self) -> dict[Path, Variant | None]:
        """Choose each LoRA's weight; None where no weight is better than the base."""
        return {lora: found.variant if found.better else None for lora, found in self.findings().items()}

    def _paired(self, variant: str, scorer: str, over: str = BASE) -> list[tuple[float, float]]:
        return list(zip(self._scores(variant, scorer), self._scores(over, scorer), strict=True))

    def _scores(self, variant: str, scorer: str) -> Sequence[float]:
        return self.results[variant].scores[scorer]

    def _spread(self, scorer: str) -> float:
        """Return by what a difference of scores becomes one of rewards; where nothing was published, it is measured here."""
        if scorer in self.calibrations:
            return self.calibrations[scorer].std
        every = [score for result in self.results.values() for score in result.scores[scorer]]
        return pstdev(every) or 1.0  # one that says the same of all images has no difference to divide


def list_variants(loras: Sequence[Path], weights: Sequence[float]) -> list[Variant]:
    """List the base and every LoRA at every weight."""
    if len({(path.resolve(), weight) for path in loras for weight in weights}) < len(loras) * len(weights):
        raise UsageError("two of the LoRA files (or weights) are the same: name each once")
    variants = [Variant(BASE)]
    for path in loras:
        for weight in weights:
            label = path.stem if len(weights) == 1 and weight == 1 else f"{path.stem} x {weight:g}"
            if any(label == other.label for other in variants):
                label = f"{path.parent.resolve()}/{label}"
            variants.append(Variant(label, path, weight))
    return variants


def compare_variants(
    parts: DiffusionParts,
    variants: Sequence[Variant],
    prompts: Sequence[str],
    settings: ImageSettings,
    scorers: Mapping[str, Score],
    calibrations: Mapping[str, Calibration] | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Make every variant's images and score them. ``folder`` keeps the images."""
    texts = [prompt for prompt in prompts for _ in range(settings.seeds)]
    comparison = Comparison(texts, list(variants), calibrations=calibrations or {})
    for variant in variants:
        lora = read_lora(variant.lora, parts.config) if variant.lora is not None else {}
        own_folder = folder / _folder_name(variant.label) if folder is not None else None
        with merged(parts, lora, variant.weight):
            result = _measure(parts, variant.label, texts, settings, scorers, own_folder, progress)
        comparison.results[variant.label] = result
    return comparison


def _measure(
    parts: DiffusionParts,
    label: str,
    texts: Sequence[str],
    settings: ImageSettings,
    scorers: Mapping[str, Score],
    folder: Path | None,
    progress: Progress | None,
) -> VariantResult:
    """Make and score the images of the model as it is now."""
    seeds = [settings.seed + number for number in range(len(texts))]  # one noise for all would be one sample
    scores: dict[str, list[float]] = {name: [] for name in scorers}
    miniatures: list[Tensor] = []
    shown: list[Image.Image] = []
    for start in range(0, len(texts), settings.batch):
        rows = slice(start, start + settings.batch)
        pixels = _pixels(parts, texts[rows], seeds[rows], settings)
        miniatures.append(miniature(pixels))
        images = [to_image(image) for image in pixels]
        for name, score in scorers.items():
            scores[name] += score(images, texts[rows])
        if folder is not None:
            _write(folder, images, start)
        shown += images[: max(0, SHOWN * settings.seeds - len(shown))]
        if progress is not None:
            progress(label, min(start + settings.batch, len(texts)), len(texts))
    return VariantResult(scores, diversity(torch.cat(miniatures)), shown[:: settings.seeds])


@torch.no_grad()
def _pixels(
    parts: DiffusionParts, texts: Sequence[str], seeds: Sequence[int], settings: ImageSettings
) -> Tensor:
    cond, negative = parts.encode(texts), None
    if settings.sampling.guidance > 1:
        negative = parts.as_negative(parts.encode([settings.negative] * len(texts)), settings.negative)
    made = generate(parts, cond, negative, settings.sampling, seeds, settings.batch)
    return torch.stack([pixels.float().cpu() for pixels in made])


def _write(folder: Path, images: Sequence[Image.Image], start: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=start):
        with replacing(folder / f"{number:05d}.png") as part:
            image.save(part, format="PNG")


def _folder_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in label)
