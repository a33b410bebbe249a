"""The seam every scorer stands behind.

People's images go in through :meth:`Scorer.score` (PIL images, exact preprocessing, no gradient) and training
through :meth:`Scorer.score_pixels` (a tensor of pixels, differentiable preprocessing, gradient to the pixels and to
no weight). Both give the same number, in the model's own units: a cosine, a rating, or a standardised score; higher is
better. Whatever compares or adds numbers of different models takes a :class:`~imagereward_ext.scorers.reward.Reward`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from imagereward_ext.errors import ScoringError
from imagereward_ext.scorers.calibration import Calibration

Progress = Callable[[int], None]
"""Called with the number of images that were just finished."""


class Ranking(NamedTuple):
    """Places (1 is the best) and scores, both in the order the images were given."""

    places: list[int]
    scores: list[float]


class Scorer(ABC):
    """A model that says how much a person would like an image for its prompt."""

    name: str
    """What a person types to choose it: a catalogue name, or the name of a trained model's folder."""
    label: str
    """The key its score has inside an image file; two scorers never share one."""
    digest: str
    """Identifies the weights (10 hexadecimal digits), so that a new model never passes for an old score."""
    mean: float = 0.0
    """With `std`, what is taken out of the network's raw output to give the score."""
    std: float = 1.0
    calibration: Calibration | None = None
    """What brings its scores to mean 0 and spread 1; None where nobody published it, and it has to be measured."""
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def score(
        self, images: Sequence[Image.Image], prompts: str | Sequence[str], progress: Progress | None = None
    ) -> list[float]:
        """Score each image under its own prompt (or all under the one given), in input order."""

    @abstractmethod
    def score_pixels(self, pixels: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Score pixels, float (b, 3, h, w) in [0, 1], as a float32 (b,) tensor that carries their gradient."""

    @abstractmethod
    def modules(self) -> Iterator[torch.nn.Module]:
        """Yield the networks that hold the weights, to be moved, counted or checkpointed."""

    def rank(self, images: Sequence[Image.Image], prompt: str) -> Ranking:
        """Rank images of one prompt; equal scores keep the order they came in."""
        scores = self.score(images, prompt)
        places = [0] * len(scores)
        for place, index in enumerate(sorted(range(len(scores)), key=lambda i: -scores[i]), start=1):
            places[index] = place
        return Ranking(places, scores)

    def unread(self, prompt: str) -> str:
        """Return the end of a prompt that lies beyond the model's window, "" when all of it is read."""
        return ""

    def to(self, device: torch.device | str) -> None:
        """Move the weights; the next call runs there."""
        self.device = torch.device(device)
        for module in self.modules():
            module.to(self.device)

    def size_in_bytes(self) -> int:
        """Count the bytes its weights take where they are loaded."""
        tensors = (t for module in self.modules() for t in (*module.parameters(), *module.buffers()))
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


class EmbeddingScorer(Scorer):
    """A scorer that embeds the image first and then compares it with the prompt.

    Subclasses say how; batching, input order and gradients are the same for all. The embedding does not depend
    on the prompt, so an image that is scored under several prompts is embedded once.
    """

    batch_size: int = 4

    @abstractmethod
    def preprocess(self, image: Image.Image) -> Tensor:
        """Turn a person's image into the network's input, float32 (3, h, w), exactly as the model was trained."""

    @abstractmethod
    def preprocess_pixels(self, pixels: Tensor) -> Tensor:
        """Turn (b, 3, h, w) pixels in [0, 1] into the network's input, differentiably."""

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Encode a batch of network inputs; the first axis stays the batch."""

    @abstractmethod
    def compare(self, embeddings: Tensor, prompts: Sequence[str]) -> Tensor:
        """Compare each embedding with its prompt: scores, float32 (b,)."""

    def score(
        self, images: Sequence[Image.Image], prompts: str | Sequence[str], progress: Progress | None = None
    ) -> list[float]:
        """Score each image under its own prompt (or all under the one given), in input order."""
        texts = one_prompt_each(prompts, len(images))
        # The same image object under several prompts is embedded once, then compared with each of them.
        pairs_of: dict[int, list[int]] = {}
        for index, image in enumerate(images):
            pairs_of.setdefault(id(image), []).append(index)
        groups = list(pairs_of.values())

        scores = [0.0] * len(images)
        with torch.inference_mode():
            for start in range(0, len(groups), self.batch_size):
                batch = groups[start : start + self.batch_size]
                inputs = torch.stack([self.preprocess(images[group[0]]) for group in batch])
                embeddings = self.embed(inputs.to(self.device, self.dtype))
                pairs = [(row, index) for row, group in enumerate(batch) for index in group]
                for first in range(0, len(pairs), self.batch_size):
                    part = pairs[first : first + self.batch_size]
                    rows = [row for row, _ in part]
                    # Picking every row once, in order, would copy the embeddings for nothing.
                    chosen = embeddings if rows == list(range(len(batch))) else embeddings[rows]
                    values = self.compare(chosen, [texts[index] for _, index in part]).tolist()
                    for (_, index), value in zip(part, values, strict=True):
                        scores[index] = value
                    if progress is not None:
                        progress(len(part))
        return scores

    def score_pixels(self, pixels: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Score pixels, float (b, 3, h, w) in [0, 1], as a float32 (b,) tensor that carries their gradient."""
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ScoringError(
                f"pixels have the shape {tuple(pixels.shape)}; expected (batch, 3, height, width)"
            )
        texts = one_prompt_each(prompts, len(pixels))
        inputs = self.preprocess_pixels(pixels.to(self.device, torch.float32))
        return self.compare(self.embed(inputs.to(self.dtype)), texts)


def one_prompt_each(prompts: str | Sequence[str], count: int) -> list[str]:
    """Give every image its prompt: one for all, or exactly as many as there are images."""
    texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
    if len(texts) != count:
        raise ScoringError(
            f"{count} images but {len(texts)} prompts: give one prompt for all, or one for each"
        )
    return texts
