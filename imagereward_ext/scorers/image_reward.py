"""ImageReward: BLIP's vision tower, BERT with cross-attention to it, and a small linear head.

Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation", 2023.
The networks are transformers' own BLIP classes; the published names are mapped to theirs when a file is read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers.attention import fuse_attention
from imagereward_ext.scorers.base import EmbeddingScorer
from imagereward_ext.scorers.filling import fill, published_shapes
from imagereward_ext.scorers.preprocessing import Preprocessing
from imagereward_ext.scorers.wordpiece import WordPieceTokenizer

if TYPE_CHECKING:
    from imagereward_ext.scorers.loading import Source


@dataclass(frozen=True)
class Architecture:
    """The sizes of the network; the defaults are those of ImageReward v1.0 (BLIP ViT-L/16 and BERT-base)."""

    image_size: int = 224
    patch_size: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_positions: int = 512
    vocabulary_size: int = 30_524
    window: int = 35
    """Tokens of a prompt that are read, the first and last mark included."""
    head_widths: tuple[int, ...] = (1024, 128, 64, 16)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Architecture:
        """Read a model folder's settings; an unknown one is an error."""
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise WeightsError(
                f"image-reward has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()
        }
        return cls(**values)


class Network(nn.Module):
    """The two towers and the head; raw output, not yet standardised."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        from transformers import BlipTextConfig, BlipVisionConfig
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        a = architecture
        self.vision = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=a.vision_width,
                intermediate_size=4 * a.vision_width,
                num_hidden_layers=a.vision_layers,
                num_attention_heads=a.vision_heads,
                image_size=a.image_size,
                patch_size=a.patch_size,
                hidden_act="gelu",
                layer_norm_eps=1e-6,
            )
        )
        fuse_attention(self.vision)
        self.text = BlipTextModel(
            BlipTextConfig(
                vocab_size=a.vocabulary_size,
                hidden_size=a.text_width,
                encoder_hidden_size=a.vision_width,
                intermediate_size=4 * a.text_width,
                num_hidden_layers=a.text_layers,
                num_attention_heads=a.text_heads,
                max_position_embeddings=a.text_positions,
                hidden_act="gelu",
                layer_norm_eps=1e-12,
                is_decoder=True,  # builds the cross-attention; the call says it does not decode
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=0,
                sep_token_id=None,
            ),
            add_pooling_layer=False,
        )
        self.head = _head(a)

    def embed(self, inputs: Tensor) -> Tensor:
        """Image tokens of normalised images: (b, 1 + patches, vision width)."""
        return cast(Tensor, self.vision(pixel_values=inputs).last_hidden_state)

    def compare(self, embeddings: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Raw rewards of image tokens under tokenized prompts: float32 (b,)."""
        hidden = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=embeddings,
            encoder_attention_mask=torch.ones(
                embeddings.shape[:2], dtype=torch.long, device=embeddings.device
            ),
            is_decoder=False,
        ).last_hidden_state
        return cast(Tensor, self.head(hidden[:, 0].float()).squeeze(-1))


class ImageReward(EmbeddingScorer):
    """The scorer around the network: preprocessing, tokens, standardisation."""

    def __init__(
        self,
        network: Network,
        tokenizer: WordPieceTokenizer,
        architecture: Architecture,
        source: Source,
        placement: Placement,
        digest: str,
    ) -> None:
        self.name, self.label, self.digest = source.name, source.label, digest
        self.device, self.dtype, self.batch_size = placement.device, placement.dtype, placement.batch_size
        self.network = network
        self.tokenizer = tokenizer
        self.architecture = architecture
        self.mean, self.std = source.mean, source.std
        self._preprocessing = Preprocessing(architecture.image_size)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalise with Pillow."""
        return self._preprocessing.image(image)

    def preprocess_pixels(self, pixels: Tensor) -> Tensor:
        """Resize, crop and normalise differentiably."""
        return self._preprocessing.pixels(pixels)

    def embed(self, inputs: Tensor) -> Tensor:
        """Run the vision tower."""
        return self.network.embed(inputs)

    def compare(self, embeddings: Tensor, prompts: Sequence[str]) -> Tensor:
        """Run the text tower over the image tokens, then the head; standardised."""
        tokens = self.tokenizer(list(prompts), self.device).trimmed()
        return (self.network.compare(embeddings, tokens.ids, tokens.mask) - self.mean) / self.std

    def unread(self, prompt: str) -> str:
        """Return the part of the prompt behind the model's window of 35 tokens."""
        return self.tokenizer.unread(prompt)

    def modules(self) -> Iterator[nn.Module]:
        """Yield the network."""
        yield self.network


def build(source: Source, placement: Placement) -> ImageReward:
    """Load the scorer from its files; nothing is built before every key and shape has been checked."""
    architecture = Architecture.from_settings(dict(source.settings))
    tokenizer = WordPieceTokenizer(source.companion("vocabulary"), architecture.window)
    if tokenizer.size > architecture.vocabulary_size:
        raise WeightsError(
            f"{source.companion('vocabulary')} has {tokenizer.size:,} tokens, "
            f"but the model knows {architecture.vocabulary_size:,}: it belongs to another model"
        )
    with torch.device("meta"):  # names and shapes, no memory
        network = Network(architecture)
    shapes = published_shapes(network, published_name)
    file = source.open(shapes, f"{source.name} (image-reward)")
    digest = file.digest(shapes)
    # The head stays in single precision: it is small, and its sums decide the third decimal.
    fill(network, file, placement, published_name, single_precision=("head.",))
    return ImageReward(network, tokenizer, architecture, source, placement, digest)


def published_tensors(network: Network) -> dict[str, Tensor]:
    """The network's weights under the names in which the model was published."""
    return {published_name(name): tensor for name, tensor in network.named_parameters()}


def published_name(name: str) -> str:
    """Translate a name of ours (transformers' BLIP) into the published one (BLIP's first implementation)."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


_RENAMES = (
    (r"^head\.", "mlp.layers."),
    (r"^text\.", "blip.text_encoder."),
    (r"^vision\.", "blip.visual_encoder."),
    (r"^(blip\.visual_encoder)\.embeddings\.class_embedding$", r"\1.cls_token"),
    (r"^(blip\.visual_encoder)\.embeddings\.position_embedding$", r"\1.pos_embed"),
    (r"^(blip\.visual_encoder)\.embeddings\.patch_embedding\.", r"\1.patch_embed.proj."),
    (r"^(blip\.visual_encoder)\.post_layernorm\.", r"\1.norm."),
    (r"^(blip\.visual_encoder)\.encoder\.layers\.(\d+)\.", r"\1.blocks.\2."),
    (r"^(blip\.visual_encoder\.blocks\.\d+)\.self_attn\.qkv\.", r"\1.attn.qkv."),
    (r"^(blip\.visual_encoder\.blocks\.\d+)\.self_attn\.projection\.", r"\1.attn.proj."),
    (r"^(blip\.visual_encoder\.blocks\.\d+)\.layer_norm(\d)\.", r"\1.norm\2."),
)


def _head(a: Architecture) -> nn.Sequential:
    """Linear layers without activations; dropout between the first ones, as published (so the numbering fits)."""
    widths = (a.text_width, *a.head_widths, 1)
    dropouts = (0.2, 0.2, 0.1)
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        if index < min(len(dropouts), len(widths) - 3):
            layers.append(nn.Dropout(dropouts[index]))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1 / (a.text_width + 1))
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
