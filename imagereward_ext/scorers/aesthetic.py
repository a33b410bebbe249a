"""Aesthetic: LAION's predictor of how well people rate a picture, whatever it was asked to show.

Linear layers over CLIP ViT-L/14 image embeddings, trained on SAC, LAION-Logos and AVA; scores lie about 1 to 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers.clip import ClipScorer
from imagereward_ext.scorers.clip_tower import ClipArchitecture, ClipTower, joint_digest, tower_of
from imagereward_ext.scorers.filling import fill, published_shapes
from imagereward_ext.scorers.loading import Source

_WIDTHS = (1024, 128, 64, 16)


class AestheticHead(nn.Module):
    """Five linear layers without activations; the gaps in the numbering are the published dropouts."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.layers = nn.Sequential(
            nn.Linear(inputs, first),
            nn.Dropout(0.2),
            nn.Linear(first, second),
            nn.Dropout(0.2),
            nn.Linear(second, third),
            nn.Dropout(0.1),
            nn.Linear(third, fourth),
            nn.Linear(fourth, 1),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Rate embeddings: (b,)."""
        rating: Tensor = self.layers(embeddings).squeeze(-1)
        return rating


class Aesthetic(ClipScorer):
    """A rating of the image alone; the prompt is not read."""

    def __init__(
        self, tower: ClipTower, head: AestheticHead, source: Source, placement: Placement, digest: str
    ) -> None:
        super().__init__(tower, source, placement, digest)
        self._head = head

    def compare(self, embeddings: Tensor, prompts: Sequence[str]) -> Tensor:
        """Rate the images."""
        # The tower may have moved with another scorer; the head follows.
        ratings: Tensor = self._head.to(embeddings.device)(embeddings)
        return (ratings - self.mean) / self.std

    def unread(self, prompt: str) -> str:
        """Return nothing: there is no window to miss."""
        return ""

    def modules(self) -> Iterator[nn.Module]:
        """Yield the towers and the head."""
        yield self.tower.model
        yield self._head


def build(source: Source, placement: Placement) -> Aesthetic:
    """Load the head and share CLIP's towers."""
    settings = dict(source.settings)
    widths = settings.pop("head_widths", _WIDTHS)
    if len(widths) != len(_WIDTHS):
        raise WeightsError(
            f"{source.name}: head_widths are {list(widths)!r}; expected {len(_WIDTHS)} numbers"
        )
    architecture = ClipArchitecture.from_settings(settings)
    tower = tower_of(source, placement, architecture)
    with torch.device("meta"):
        head = AestheticHead(architecture.shared_width, widths)
    shapes = published_shapes(head)
    file = source.open(shapes, f"{source.name} (aesthetic)")
    fill(head, file, Placement(placement.device, torch.float32, placement.batch_size))
    return Aesthetic(tower, head, source, placement, joint_digest(tower, file.digest(shapes)))
