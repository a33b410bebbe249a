"""Small CLIP towers with random weights, their tokenizer, and model folders for every scorer beside ImageReward."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from imagereward_ext.scorers.aesthetic import AestheticHead
from imagereward_ext.scorers.blip import BlipNetwork, published_name
from imagereward_ext.scorers.clip_mlp import ClipMlpHead
from imagereward_ext.scorers.clip_tower import ClipArchitecture, _new_model
from imagereward_ext.weights.model_folder import ModelConfig, write_config
from imagereward_ext.weights.tensors import save_tensors
from tests import tiny
from tests.frozen_weights import frozen_weights

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.:-!"
VOCABULARY_SIZE = 2 * len(_LETTERS) + 2
TINY_CLIP = ClipArchitecture(
    image_size=32,
    patch_size=8,
    vision_width=32,
    vision_layers=2,
    vision_heads=2,
    text_width=24,
    text_layers=2,
    text_heads=2,
    vocabulary_size=VOCABULARY_SIZE,
    window=24,
    shared_width=16,
)


def write_tokenizer(path: Path) -> None:
    """Write a tokenizer of CLIP's make that knows letters only: no merges, so a word is its letters."""
    tokens = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        BPE(
            vocabulary, [], end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token="<|endoftext|>"
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True
    )
    tokenizer.save(str(path))


def clip_weights(architecture: ClipArchitecture = TINY_CLIP) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in _weights(architecture).items()}


@cache
def _weights(architecture: ClipArchitecture) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = _new_model(architecture)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.ndim}
    return {**frozen_weights(shapes), "logit_scale": torch.tensor(2.0)}


def _start(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer.json")


def _finish(folder: Path, architecture: str, companions: dict[str, str], settings: dict[str, object]) -> Path:
    config = ModelConfig(
        architecture=architecture,
        name=folder.name,
        label=folder.name,
        mean=0.1,
        std=0.5,
        companions=companions,
        settings=settings,
    )
    write_config(folder, config)
    return folder


def make_clip_folder(folder: Path, architecture: str = "clip", clip: ClipArchitecture = TINY_CLIP) -> Path:
    """Write a CLIP (or, with the same files, a PickScore)."""
    _start(folder)
    save_tensors(folder / "model.safetensors", clip_weights(clip))
    return _finish(folder, architecture, {"tokenizer": "tokenizer.json"}, dataclasses.asdict(clip))


def make_aesthetic_folder(folder: Path) -> Path:
    return _make_head_folder(folder, "aesthetic", AestheticHead(16, (12, 10, 8, 6)), [12, 10, 8, 6])


def make_clip_mlp_folder(folder: Path) -> Path:
    return _make_head_folder(folder, "clip-mlp", ClipMlpHead(16, (20, 12, 10, 8)), [20, 12, 10, 8])


def make_blip_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tiny.write_vocabulary(folder / "vocab.txt")
    with torch.device("meta"):
        network = BlipNetwork(tiny.TINY, 16)
    shapes = {published_name(name): tuple(p.shape) for name, p in network.named_parameters()}
    save_tensors(folder / "model.safetensors", frozen_weights(shapes))
    settings = {**dataclasses.asdict(tiny.TINY), "shared_width": 16}
    return _finish(folder, "blip", {"vocabulary": "vocab.txt"}, settings)


def make_mix_folder(folder: Path) -> Path:
    """Write a mix of a CLIP and an ImageReward, which lie inside it."""
    clip = make_clip_folder(folder / "parts" / "clip")
    reward = tiny.make_tiny_scorer_folder(folder / "parts" / "reward")
    parts = [
        {"scorer": str(clip), "weight": 0.7, "mean": 0.2, "std": 0.1},
        {"scorer": str(reward), "weight": -0.3, "mean": 0.0, "std": 2.0},
    ]
    return _finish(folder, "mix", {}, {"parts": parts})


def _make_head_folder(folder: Path, architecture: str, head: torch.nn.Module, widths: list[int]) -> Path:
    _start(folder)
    save_tensors(folder / "tower.safetensors", clip_weights())
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    save_tensors(folder / "model.safetensors", frozen_weights(shapes))
    companions = {"tower": "tower.safetensors", "tokenizer": "tokenizer.json"}
    return _finish(folder, architecture, companions, {**dataclasses.asdict(TINY_CLIP), "head_widths": widths})
