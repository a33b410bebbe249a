"""CLIP-MLP: five layers over CLIP's embeddings of the image and the prompt; quick to train, quick to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers.clip import ClipScorer
from imagereward_ext.scorers.clip_tower import (
    ClipArchitecture,
    ClipTower,
    catalogue_tower,
    joint_digest,
    load_tower,
    tower_of,
)
from imagereward_ext.scorers.filling import fill, published_shapes
from imagereward_ext.scorers.loading import Source

HIDDEN_WIDTHS = (1024, 256, 128, 32)
_DROPOUTS = {0: 0.2, 1: 0.2, 2: 0.1}
"""Before the first layer (so on the input) and after the first two."""


class ClipMlpHead(nn.Module):
    """Linear layers with ReLU between them over the two embeddings, image first."""

    def __init__(self, shared_width: int, hidden_widths: Sequence[int] = HIDDEN_WIDTHS) -> None:
        super().__init__()
        widths = (2 * shared_width, *hidden_widths, 1)
        self.linear = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Reward pairs of embeddings, raw: (b,)."""
        hidden = torch.cat([images, texts], dim=-1)
        for index, layer in enumerate(self.linear):
            if index > 0:
                hidden = hidden.relu()
            hidden = nn.functional.dropout(hidden, _DROPOUTS.get(index, 0.0), self.training)
            hidden = layer(hidden)
        return hidden.squeeze(-1)


class ClipMlp(ClipScorer):
    """The head's reward, standardised."""

    def __init__(
        self, tower: ClipTower, head: ClipMlpHead, source: Source, placement: Placement, digest: str
    ) -> None:
        super().__init__(tower, source, placement, digest)
        self.head = head

    def compare(self, embeddings: Tensor, prompts: Sequence[str]) -> Tensor:
        """Let the head judge image and prompt together."""
        texts = self.tower.embed_texts(prompts)
        # The tower may have moved with another scorer; the head follows.
        rewards: Tensor = self.head.to(embeddings.device)(embeddings, texts)
        return (rewards - self.mean) / self.std

    def modules(self) -> Iterator[nn.Module]:
        """Yield the towers and the head."""
        yield self.tower.model
        yield self.head


def build(source: Source, placement: Placement) -> ClipMlp:
    """Load the head from a model folder, and the towers it was trained on."""
    settings = dict(source.settings)
    widths = tuple(settings.pop("head_widths", HIDDEN_WIDTHS))
    trained_on = settings.pop("tower_digest", None)
    tower = load_named_tower(source, placement, settings)
    if trained_on is not None and tower.digest != trained_on:
        raise WeightsError(
            f"{source.name} was trained on a CLIP tower with the digest {trained_on}, but the one here is "
            f"{tower.digest}: its scores would mean nothing. Bring back that tower, or train again."
        )
    with torch.device("meta"):
        head = ClipMlpHead(tower.architecture.shared_width, widths)
    shapes = published_shapes(head)
    file = source.open(shapes, f"{source.name} (clip-mlp)")
    fill(head, file, Placement(placement.device, torch.float32, placement.batch_size))
    return ClipMlp(tower, head, source, placement, joint_digest(tower, file.digest(shapes)))


def load_named_tower(source: Source, placement: Placement, settings: Mapping[str, Any]) -> ClipTower:
    """Load the towers from the folder itself, or those of the catalogue's scorer that `tower` names."""
    rest = dict(settings)
    name = rest.pop("tower", None)
    if name is None:
        return tower_of(source, placement, ClipArchitecture.from_settings(rest))
    shared = catalogue_tower(name, source)
    return load_tower(shared, placement, ClipArchitecture.from_settings(shared.settings))
