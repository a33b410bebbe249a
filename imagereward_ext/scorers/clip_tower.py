"""CLIP's two towers, loaded once for all scorers that use the same weights.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from imagereward_ext.compute import Placement
from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers.filling import fill, published_shapes
from imagereward_ext.scorers.loading import Source
from imagereward_ext.scorers.preprocessing import Preprocessing
from imagereward_ext.weights import catalogue
from imagereward_ext.wording import well_formed

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class ClipArchitecture:
    """The sizes of both towers; the defaults are those of OpenAI's ViT-L/14."""

    image_size: int = 224
    patch_size: int = 14
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    vocabulary_size: int = 49_408
    window: int = 77
    """Tokens of a prompt that are read, the first and last mark included."""
    shared_width: int = 768
    """Numbers in an embedding."""
    activation: str = "quick_gelu"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ClipArchitecture:
        """Read a scorer's settings; an unknown one is an error."""
        known = [item.name for item in dataclasses.fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise WeightsError(f"a CLIP tower has no setting {unknown[0]!r}; it has {', '.join(known)}")
        return cls(**settings)


class ClipTokenizer:
    """Cuts prompts into the window: begin, the words, end; what follows the end is never looked at."""

    def __init__(self, path: Path, window: int, vocabulary_size: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise WeightsError(f"the tokenizer {path} cannot be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        begin, end = (self._tokenizer.token_to_id(mark) for mark in (_BEGIN, _END))
        if begin is None or end is None:
            raise WeightsError(f"{path} is no CLIP tokenizer: it lacks {_BEGIN} or {_END}")
        if end != vocabulary_size - 1:
            raise WeightsError(
                f"{path} belongs to another model: its {_END} is token {end:,}, the model's is {vocabulary_size - 1:,}"
            )
        self._begin, self._end, self._window = begin, end, window
        self._encode = lru_cache(maxsize=1024)(self._encode_uncached)

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """Encode prompts as ids, (b, window)."""
        return torch.tensor([self._encode(prompt)[0] for prompt in prompts], device=device)

    def unread(self, prompt: str) -> str:
        """Return the end of the prompt that does not fit into the window."""
        return prompt[self._encode(prompt)[1] :].strip()

    def _encode_uncached(self, prompt: str) -> tuple[list[int], int]:
        encoding = self._tokenizer.encode(well_formed(prompt), add_special_tokens=False)
        room = self._window - 2
        ids = [self._begin, *encoding.ids[:room], self._end]
        read_to = encoding.offsets[room][0] if len(encoding.ids) > room else len(prompt)
        return ids + [self._end] * (self._window - len(ids)), read_to


class ClipTower:
    """Both towers with what prepares their input; embeddings have length 1."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: ClipTokenizer,
        architecture: ClipArchitecture,
        placement: Placement,
        digest: str,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.architecture = architecture
        self.device, self.dtype = placement.device, placement.dtype
        self.digest = digest
        self.preprocessing = Preprocessing(architecture.image_size)

    def embed_images(self, inputs: Tensor) -> Tensor:
        """Embed normalised images: float32 (b, shared width)."""
        # The submodules are called one by one: the model's own convenience functions changed what they return.
        pooled = cast(Any, self.model).vision_model(pixel_values=inputs).pooler_output
        return F.normalize(cast(Any, self.model).visual_projection(pooled).float(), dim=-1)

    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts: float32 (b, shared width)."""
        ids = self.tokenizer(prompts, self.device)
        pooled = cast(Any, self.model).text_model(input_ids=ids).pooler_output
        return F.normalize(cast(Any, self.model).text_projection(pooled).float(), dim=-1)

    def logit_scale(self) -> float:
        """Return the factor that CLIP learned for its cosines."""
        return math.exp(float(cast(Any, self.model).logit_scale))

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.model.to(device)
        self.device = device


_towers: weakref.WeakValueDictionary[tuple[object, ...], ClipTower] = weakref.WeakValueDictionary()
"""Towers in use, by file, device and type; the last scorer that lets go of one unloads it."""


def load_tower(
    source: Source, placement: Placement, architecture: ClipArchitecture, weights: Source | None = None
) -> ClipTower:
    """Load the towers from a source's weights, or give the ones that are loaded already."""
    weights = weights or source
    file_state = weights.weights.stat()
    key = (
        weights.weights.resolve(),
        file_state.st_mtime_ns,
        file_state.st_size,
        str(placement.device),
        placement.dtype,
    )
    tower = _towers.get(key)
    # Whoever moved a tower since took it along for all its scorers; this placement needs one of its own.
    if tower is None or tower.device != placement.device:
        tower = _load(weights, source.companion("tokenizer"), placement, architecture)
        _towers[key] = tower
    return tower


def tower_of(source: Source, placement: Placement, architecture: ClipArchitecture) -> ClipTower:
    """Load the towers a scorer names: the file of its companion `tower`."""
    path = source.companion("tower")
    weights = dataclasses.replace(source, name=f"{source.name}'s CLIP tower", weights=path, fetch_again=None)
    return load_tower(source, placement, architecture, weights)


def catalogue_tower(name: str, source: Source) -> Source:
    """Bring the towers of a scorer in the catalogue, to be used by another one (whose source this is)."""
    entry = catalogue.entry(name)
    if entry.architecture != "clip":
        raise WeightsError(f"{name} is no CLIP model but {entry.architecture}; its towers cannot be shared")

    def bring(file: catalogue.RemoteFile) -> Path:
        return source.spec.obtain(file, source.report)

    companions = {role: bring(file) for role, file in entry.companions.items()}
    return dataclasses.replace(
        source, weights=bring(entry.weights), companions=companions, settings=entry.settings
    )


def joint_digest(tower: ClipTower, head: str) -> str:
    """Identify a tower and what stands on it together: 10 hexadecimal digits."""
    return hashlib.sha256(f"{tower.digest} {head}".encode()).hexdigest()[:10]


def _load(source: Source, tokenizer: Path, placement: Placement, architecture: ClipArchitecture) -> ClipTower:
    with torch.device("meta"):
        model = _new_model(architecture)
    shapes = published_shapes(model)
    file = source.open(shapes, f"{source.name} (CLIP)")
    digest = file.digest(shapes)
    fill(model, file, placement)
    words = ClipTokenizer(tokenizer, architecture.window, architecture.vocabulary_size)
    return ClipTower(model, words, architecture, placement, digest)


def _new_model(a: ClipArchitecture) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": a.vocabulary_size,
        "hidden_size": a.text_width,
        "intermediate_size": 4 * a.text_width,
        "num_hidden_layers": a.text_layers,
        "num_attention_heads": a.text_heads,
        "max_position_embeddings": a.window,
        "hidden_act": a.activation,
        # The last two ids are the marks; the sentence's embedding is taken at its first end mark.
        "bos_token_id": a.vocabulary_size - 2,
        "eos_token_id": a.vocabulary_size - 1,
        "pad_token_id": a.vocabulary_size - 1,
    }
    vision = {
        "hidden_size": a.vision_width,
        "intermediate_size": 4 * a.vision_width,
        "num_hidden_layers": a.vision_layers,
        "num_attention_heads": a.vision_heads,
        "image_size": a.image_size,
        "patch_size": a.patch_size,
        "hidden_act": a.activation,
    }
    model: nn.Module = CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=a.shared_width)
    )
    return model
