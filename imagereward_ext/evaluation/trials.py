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
from imagereward_ext.evaluation.statistics import Interval, mean_interval, win_rate
from imagereward_ext.storage import replacing

BASE = "base"
Score = Callable[[Sequence[Image.Image], Sequence[str]], list[float]]
Progress = Callable[[str, int, int], None]
"""Called with the candidate, how many of its images are done, and how many there are."""


@dataclass(frozen=True)
class Candidate:
    """The base, or a LoRA at some weight."""

    label: str
    lora: Path | None = None
    weight: float = 0.0


@dataclass(frozen=True)
class TrialSettings:
    """How the images are made: the user's own settings, not the trainer's."""

    sampling: SamplingSettings
    negative: str = ""
    seed: int = 0
    """Of the first image; every further one takes the next"""
    seeds: int = 1
    """Images per prompt"""
    batch: int = 4


@dataclass
class Trials:
    """Everything that was measured; images are in the order prompt by prompt, seed by seed."""

    prompts: list[str]
    """One per image"""
    candidates: list[Candidate]
    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Candidate -> scorer -> one score per image"""
    diversities: dict[str, float] = field(default_factory=dict)
    shown: dict[str, list[Image.Image]] = field(default_factory=dict)

    @property
    def scorers(self) -> list[str]:
        """The scorers, in the order they were given."""
        return list(next(iter(self.scores.values())))

    @property
    def prompt_count(self) -> int:
        """How many different prompts there are: what the intervals resample."""
        return len(set(self.prompts))

    def gain(self, candidate: str, scorer: str, over: str = BASE) -> Interval:
        """Mean difference to another candidate, paired and resampled over prompts."""
        ours, theirs = self.scores[candidate][scorer], self.scores[over][scorer]
        return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)], self.prompts)

    def wins(self, candidate: str, scorer: str, over: str = BASE) -> Interval:
        """Share of the images that score higher than the other candidate's on the same prompt and seed."""
        return win_rate(self.scores[candidate][scorer], self.scores[over][scorer], self.prompts)


def make_candidates(loras: Sequence[Path], weights: Sequence[float]) -> list[Candidate]:
    """List the base and every LoRA at every weight."""
    if len({(path.resolve(), weight) for path in loras for weight in weights}) < len(loras) * len(weights):
        raise UsageError("two of the LoRA files (or weights) are the same: name each once")
    found = [Candidate(BASE)]
    for path in loras:
        for weight in weights:
            label = path.stem if len(weights) == 1 and weight == 1 else f"{path.stem} x {weight:g}"
            if any(label == other.label for other in found):
                label = f"{path.parent.resolve()}/{label}"
            found.append(Candidate(label, path, weight))
    return found


def run_trials(parts: DiffusionParts, candidates: Sequence[Candidate], prompts: Sequence[str], settings: TrialSettings,
               scorers: Mapping[str, Score], folder: Path | None = None, shown: int = 8,
               progress: Progress | None = None) -> Trials:  # fmt: skip
    """Make every candidate's images and score them. ``folder`` keeps the images."""
    texts = [prompt for prompt in prompts for _ in range(settings.seeds)]
    seeds = [settings.seed + number for number in range(len(texts))]  # one noise for all would be one sample
    trials = Trials(texts, list(candidates))
    for candidate in candidates:
        lora = read_lora(candidate.lora, parts.config) if candidate.lora is not None else {}
        with merged(parts, lora, candidate.weight):
            _try(parts, candidate.label, trials, settings, seeds, scorers, folder, shown, progress)
    return trials


def _try(parts: DiffusionParts, label: str, trials: Trials, settings: TrialSettings, seeds: Sequence[int],
         scorers: Mapping[str, Score], folder: Path | None, shown: int, progress: Progress | None) -> None:  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in scorers}
    small: list[Tensor] = []
    pictures: list[Image.Image] = []
    for start in range(0, len(seeds), settings.batch):
        rows = slice(start, start + settings.batch)
        texts = trials.prompts[rows]
        pixels = _images(parts, texts, seeds[rows], settings)
        small.append(miniature(pixels))
        images = [to_image(one) for one in pixels]
        for name, score in scorers.items():
            found[name] += score(images, texts)
        if folder is not None:
            _write(folder / _file_name(label), images, start)
        pictures += images[: max(0, shown * settings.seeds - len(pictures))]
        if progress is not None:
            progress(label, min(start + settings.batch, len(seeds)), len(seeds))
    trials.scores[label] = found
    trials.diversities[label] = diversity(torch.cat(small))
    trials.shown[label] = pictures[:: settings.seeds]


@torch.no_grad()
def _images(
    parts: DiffusionParts, texts: Sequence[str], seeds: Sequence[int], settings: TrialSettings
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


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in label)


def recommended(trials: Trials) -> dict[Path, Candidate | None]:
    """Choose each LoRA's weight: the highest mean win rate over all scorers, None when the base is better.

    Every scorer counts the same. A LoRA that only pleases the scorer it was trained on loses with the others, and one
    that wins narrowly and loses by far is no better than the base. Of equal win rates the larger gain decides.
    """
    best: dict[Path, Candidate | None] = {}
    worth: dict[Path, tuple[float, float]] = {}
    for candidate in trials.candidates:
        if candidate.lora is None:
            continue
        rate = fmean(trials.wins(candidate.label, scorer).value for scorer in trials.scorers)
        best.setdefault(candidate.lora, None)
        gain = fmean(_gain_in_spreads(trials, candidate.label, scorer) for scorer in trials.scorers)
        if gain > 0 and rate > 0.5 and (rate, gain) > worth.get(candidate.lora, (0.0, 0.0)):
            best[candidate.lora], worth[candidate.lora] = candidate, (rate, gain)
    return best


def _gain_in_spreads(trials: Trials, candidate: str, scorer: str) -> float:
    """Mean difference to the base, as a share of the spread of both: scorers differ in their units."""
    ours, base = trials.scores[candidate][scorer], trials.scores[BASE][scorer]
    spread = pstdev([*ours, *base])
    return (fmean(ours) - fmean(base)) / spread if spread else 0.0


def win_matrix(trials: Trials, scorer: str) -> list[list[float | None]]:
    """Return how often the row's candidate beats the column's; nothing on the diagonal."""
    labels = [candidate.label for candidate in trials.candidates]
    return [[None if a == b else trials.wins(a, scorer, b).value for b in labels] for a in labels]
