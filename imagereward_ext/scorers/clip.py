"""CLIP: the cosine of image and prompt, the metric text-to-image models were first measured with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.scorers.base import EmbeddingScorer
from imagereward_ext.scorers.clip_tower import ClipArchitecture, ClipTower, load_tower
from imagereward_ext.scorers.loading import Source


class ClipScorer(EmbeddingScorer):
    """What all scorers on top of CLIP's towers share; a subclass compares embeddings with prompts."""

    def __init__(self, tower: ClipTower, source: Source, placement: Placement, digest: str) -> None:
        self.name, self.label, self.digest = source.name, source.label, digest
        self.batch_size = placement.batch_size
        self.mean, self.std = source.mean, source.std
        self.tower = tower

    # A tower may serve several scorers, and moves with all of them; so it alone knows where it is.
    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the tower is."""
        return self.tower.device

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """The tower's precision."""
        return self.tower.dtype

    def to(self, device: torch.device | str) -> None:
        """Move the tower, with all scorers that use it."""
        self.tower.to(torch.device(device))
        for module in self.modules():
            module.to(self.device)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalise with Pillow."""
        return self.tower.preprocessing.image(image)

    def preprocess_pixels(self, pixels: Tensor) -> Tensor:
        """Resize, crop and normalise differentiably."""
        return self.tower.preprocessing.pixels(pixels)

    def embed(self, inputs: Tensor) -> Tensor:
        """Embed images, length 1."""
        return self.tower.embed_images(inputs)

    def unread(self, prompt: str) -> str:
        """Return the part of the prompt behind CLIP's window."""
        return self.tower.tokenizer.unread(prompt)

    def modules(self) -> Iterator[nn.Module]:
        """Yield both towers."""
        yield self.tower.model


class Clip(ClipScorer):
    """The cosine similarity, times a factor for models that were trained with one."""

    def __init__(self, tower: ClipTower, source: Source, placement: Placement, factor: float = 1.0) -> None:
        super().__init__(tower, source, placement, tower.digest)
        self._factor = factor

    def compare(self, embeddings: Tensor, prompts: Sequence[str]) -> Tensor:
        """Take the cosine with each prompt."""
        cosines = (embeddings * self.tower.embed_texts(prompts)).sum(-1)
        return (self._factor * cosines - self.mean) / self.std


def build(source: Source, placement: Placement) -> Clip:
    """Load the scorer from CLIP's weights."""
    architecture = ClipArchitecture.from_settings(source.settings)
    return Clip(load_tower(source, placement, architecture), source, placement)
