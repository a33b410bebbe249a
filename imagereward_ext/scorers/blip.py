"""BLIP: the cosine of image and prompt in the space both of BLIP's towers are projected to.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022. The towers are those ImageReward started from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.scorers.base import EmbeddingScorer
from imagereward_ext.scorers.filling import fill, published_shapes
from imagereward_ext.scorers.image_reward import Architecture, Network
from imagereward_ext.scorers.image_reward import published_name as image_reward_name
from imagereward_ext.scorers.loading import Source
from imagereward_ext.scorers.preprocessing import Preprocessing
from imagereward_ext.scorers.wordpiece import WordPieceTokenizer

CATALOGUE_NAME = "BLIP"
_SHARED_WIDTH = 256


class BlipNetwork(nn.Module):
    """Both towers and their projections; the text is read without looking at the image."""

    def __init__(self, architecture: Architecture, shared_width: int) -> None:
        super().__init__()
        towers = Network(architecture)
        self.vision, self.text = towers.vision, towers.text
        self.vision_proj = nn.Linear(architecture.vision_width, shared_width)
        self.text_proj = nn.Linear(architecture.text_width, shared_width)

    def embed(self, inputs: Tensor) -> Tensor:
        """Project the image's first token: (b, shared width), length 1."""
        tokens = self.vision(pixel_values=inputs).last_hidden_state
        return F.normalize(self.vision_proj(tokens[:, 0]), dim=-1)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Project the prompt's first token: (b, shared width), length 1."""
        hidden = self.text(input_ids=ids, attention_mask=mask, is_decoder=False).last_hidden_state
        return F.normalize(self.text_proj(hidden[:, 0]), dim=-1)


class Blip(EmbeddingScorer):
    """The cosine similarity of image and prompt."""

    def __init__(
        self,
        network: BlipNetwork,
        tokenizer: WordPieceTokenizer,
        preprocessing: Preprocessing,
        source: Source,
        placement: Placement,
        digest: str,
    ) -> None:
        self.name, self.label, self.digest = source.name, source.label, digest
        self.device, self.dtype, self.batch_size = placement.device, placement.dtype, placement.batch_size
        self.mean, self.std = source.mean, source.std
        self._network, self._tokenizer, self._preprocessing = network, tokenizer, preprocessing

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalise with Pillow."""
        return self._preprocessing.image(image)

    def preprocess_pixels(self, pixels: Tensor) -> Tensor:
        """Resize, crop and normalise differentiably."""
        return self._preprocessing.pixels(pixels)

    def embed(self, inputs: Tensor) -> Tensor:
        """Run the vision tower."""
        return self._network.embed(inputs)

    def compare(self, embeddings: Tensor, prompts: Sequence[str]) -> Tensor:
        """Take the cosine with each prompt."""
        tokens = self._tokenizer(list(prompts), self.device)
        cosines = (embeddings.float() * self._network.embed_text(tokens.ids, tokens.mask).float()).sum(-1)
        return (cosines - self.mean) / self.std

    def unread(self, prompt: str) -> str:
        """Return the part of the prompt behind the model's window."""
        return self._tokenizer.unread(prompt)

    def modules(self) -> Iterator[nn.Module]:
        """Yield the network."""
        yield self._network


def build(source: Source, placement: Placement) -> Blip:
    """Load the scorer from BLIP's published file."""
    settings = dict(source.settings)
    shared_width = settings.pop("shared_width", _SHARED_WIDTH)
    architecture = Architecture.from_settings(settings)
    tokenizer = WordPieceTokenizer(source.companion("vocabulary"), architecture.window)
    with torch.device("meta"):
        network = BlipNetwork(architecture, shared_width)
    shapes = published_shapes(network, published_name)
    file = source.open(shapes, f"{source.name} (blip)")
    fill(network, file, placement, published_name)
    preprocessing = Preprocessing(architecture.image_size)
    return Blip(network, tokenizer, preprocessing, source, placement, file.digest(shapes))


def published_name(name: str) -> str:
    """Translate a name of ours into BLIP's own, which ImageReward's file has with a prefix."""
    return image_reward_name(name).removeprefix("blip.")


def load_towers(network: Network, source: Source) -> str:
    """Fill an ImageReward network's towers with BLIP's, leaving its head; return the weights' digest."""
    ours = [name for name, _ in network.named_parameters() if not name.startswith("head.")]
    parameters = dict(network.named_parameters())
    shapes = {published_name(name): tuple(parameters[name].shape) for name in ours}
    file = source.open(shapes, "BLIP")
    with torch.no_grad():
        for name in ours:
            parameters[name].copy_(file[published_name(name)])
    return file.digest(shapes)
