"""Rankings to train and measure scorers on: images of one prompt, ranked by the judge.

A prompt's images are a right drawing, drawings with one, two and three wrong facts, a drawing of another prompt,
and, where a model is given, images it made for this prompt with and without guidance. They are
written as PNGs beside a JSON in the layout of the ImageReward project: id, prompt, generations, ranking.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from demo.world import grammar
from demo.world.judge import judge
from imagereward_ext.diffusion.parts import DiffusionParts

TIE = 0.1
"""Judge scores that fall into one step of this width share a rank: closer ones are nobody's preference."""
PAINTED = "-painted"
"""Ends the name of an image that the model made."""
GUIDANCES = (1.0, 1.0, 1.0, 3.0)
"""Of a prompt's paintings, in turn: most as the demo paints, one with guidance."""


@dataclass(frozen=True)
class Plan:
    """How many rankings, of which prompts."""

    split: grammar.Split
    prompts: int
    seed: int
    painted: int = 0
    """The first so many prompts also get images of the model."""
    paintings: int = 4
    """How many each."""
    skip: int = 0
    """Leave out the first prompts of the stream: those belong to another set."""


def write(folder: Path, plan: Plan, parts: DiffusionParts | None = None) -> Path:
    """Write the images and `rankings.json`; returns the JSON. A finished set is left as it is."""
    target = folder / "rankings.json"
    if target.exists():
        return target
    (folder / "images").mkdir(parents=True, exist_ok=True)
    prompts = list(islice(grammar.random_prompts(plan.seed, plan.split), plan.skip, plan.skip + plan.prompts))
    painted = _paintings(parts, prompts[: plan.painted], plan) if parts else {}
    records = []
    for index, prompt in enumerate(prompts):
        rng = np.random.default_rng([plan.seed, plan.skip + index, 13])
        drawn, paintings = _drawings(grammar.parse(prompt), plan.split, rng), painted.get(prompt, [])
        images = [("", image) for image in drawn] + [(PAINTED, image) for image in paintings]
        order = rng.permutation(len(images))
        records.append(_record(folder, f"{index:05d}", prompt, [images[i] for i in order]))
    target.write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    return target


def _drawings(scene: grammar.Scene, split: grammar.Split, rng: np.random.Generator) -> list[Image.Image]:
    scenes = [scene, *(grammar.corrupt(scene, rng, changes) for changes in (1, 2, 3))]
    scenes.append(grammar.random_scene(rng, split))
    return [soften(grammar.draw(each, rng), rng) for each in scenes]


def soften(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur and dirty some drawings a little, so that a crisp edge does not tell a drawing from a painting."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
        noise = rng.normal(0, rng.uniform(0, 4), (grammar.SIZE, grammar.SIZE, 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).round().astype(np.uint8))
    return image


def _paintings(parts: DiffusionParts, prompts: Sequence[str], plan: Plan) -> dict[str, list[Image.Image]]:
    from demo.world.artist import paint

    found: dict[str, list[Image.Image]] = {prompt: [] for prompt in prompts}
    for start in range(0, len(prompts), 50):
        chunk = prompts[start : start + 50]
        for turn in range(plan.paintings):
            seeds = [plan.seed * 1_000_000 + (start + i) * 100 + turn for i in range(len(chunk))]
            guidance = GUIDANCES[turn % len(GUIDANCES)]
            for prompt, image in zip(chunk, paint(parts, chunk, seeds, guidance), strict=True):
                found[prompt].append(image)
        print(f"[rankings] painted for {start + len(chunk)}/{len(prompts)} prompts", flush=True)
    return found


def _record(
    folder: Path, name: str, prompt: str, images: Sequence[tuple[str, Image.Image]]
) -> dict[str, object]:
    files = []
    for number, (mark, image) in enumerate(images):
        files.append(f"images/{name}-{number}{mark}.png")
        image.save(folder / files[-1])
    return {
        "id": name,
        "prompt": prompt,
        "generations": files,
        "ranking": places([judge(image, prompt) for _, image in images]),
    }


def places(judged: Sequence[float]) -> list[int]:
    """Rank the images of one prompt, 1 for the best; those whose judge scores fall into one step tie."""
    steps = [round(score / TIE) for score in judged]
    best_first = sorted(set(steps), reverse=True)
    return [best_first.index(step) + 1 for step in steps]
