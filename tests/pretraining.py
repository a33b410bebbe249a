"""Pretraining of small CLIP towers on drawn pictures with captions: a stand-in for the internet."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import torch
import torch.nn.functional as F

from imagereward_ext.scorers.clip_tower import ClipTokenizer, _new_model
from imagereward_ext.scorers.preprocessing import Preprocessing
from imagereward_ext.weights.tensors import save_tensors
from tests.preferences import COLOURS, NOISE, SHAPES, draw
from tests.tiny_clip import TINY_CLIP, make_clip_folder

TOWERS = dataclasses.replace(
    TINY_CLIP,
    vision_width=64,
    vision_layers=3,
    vision_heads=4,
    text_width=48,
    text_layers=2,
    text_heads=4,
    shared_width=32,
)
_NOISE_WORDS = dict(zip(NOISE, ("clean", "fine", "rough", "noisy", "broken"), strict=True))


def pretrain_clip(folder: Path, steps: int = 600, batch: int = 60, seed: int = 0) -> Path:
    """Train towers contrastively and write them as a CLIP model folder."""
    make_clip_folder(folder, clip=TOWERS)
    tokenizer = ClipTokenizer(folder / "tokenizer.json", TOWERS.window, TOWERS.vocabulary_size)
    prepare = Preprocessing(TOWERS.image_size).image
    choice = random.Random(f"captions {seed}")
    kinds = [(colour, shape, noise) for colour in COLOURS for shape in SHAPES for noise in NOISE]
    pictures = {
        kind: [prepare(draw(*kind, seed=choice.randrange(2**31))) for _ in range(8)] for kind in kinds
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(TOWERS).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        drawn = choice.sample(kinds, batch)
        images = torch.stack([choice.choice(pictures[kind]) for kind in drawn])
        ids = tokenizer([_caption(kind, choice) for kind in drawn], torch.device("cpu"))
        seen = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
        read = model.text_projection(model.text_model(input_ids=ids).pooler_output)
        logits = F.normalize(seen, dim=-1) @ F.normalize(read, dim=-1).T * model.logit_scale.exp()
        targets = torch.arange(batch)
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    save_tensors(folder / "model.safetensors", dict(model.named_parameters()))
    return folder


def _caption(kind: tuple[str, str, int], choice: random.Random) -> str:
    colour, shape, noise = kind
    return f"a {colour} {shape}" if choice.random() < 0.3 else f"a {_NOISE_WORDS[noise]} {colour} {shape}"
