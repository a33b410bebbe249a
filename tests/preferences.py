"""Images whose quality is known by construction, ranked: what a reward model can learn in minutes.

A prompt names a colour and a shape. Each of its images shows that shape, on a grey ground, in the wanted colour or
in another one, with more or less noise. People's rank follows the quality: the right colour counts for half, a
clean picture for the other half, in steps, so that there are ties.
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 70, 220),
    "yellow": (230, 210, 40),
    "purple": (150, 50, 180),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross")
PROMPTS = [f"a {colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES)]
NOISE = (0, 20, 40, 60, 80)


def draw(colour: str, shape: str, noise: int, seed: int, size: int = 32) -> Image.Image:
    """Draw one picture."""
    place = random.Random(f"draw {seed}")
    radius = size * place.uniform(0.25, 0.35)
    x, y = (place.uniform(radius, size - radius) for _ in range(2))
    image = Image.new("RGB", (size, size), (110, 110, 110))
    pen = ImageDraw.Draw(image)
    fill = COLOURS[colour]
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, box[1]), (box[2], box[3]), (box[0], box[3])], fill=fill)
    else:
        pen.rectangle((x - radius / 3, box[1], x + radius / 3, box[3]), fill=fill)
        pen.rectangle((box[0], y - radius / 3, box[2], y + radius / 3), fill=fill)
    grain = np.random.RandomState(seed).normal(0, noise, (size, size, 3))
    return Image.fromarray(np.clip(np.asarray(image, dtype=float) + grain, 0, 255).astype(np.uint8))


def quality(wanted: str, colour: str, noise: int) -> float:
    """Say how good a picture is, from 0 to 1."""
    return 0.5 * (colour == wanted) + 0.5 * (1 - noise / max(NOISE))


def make_preferences(
    folder: Path, prompts: int, seed: int = 0, *, images: tuple[int, int] = (4, 6), shuffled: bool = False
) -> Path:
    """Write images and `rankings.json`; with `shuffled`, ranks that have nothing to do with the images."""
    choice = random.Random(f"preferences {seed}")
    records = []
    for number in range(prompts):
        prompt = PROMPTS[number % len(PROMPTS)]
        wanted, shape = prompt.split()[1:]
        names, qualities = [], []
        for index in range(choice.randint(*images)):
            colour = wanted if choice.random() < 0.5 else choice.choice([c for c in COLOURS if c != wanted])
            noise = choice.choice(NOISE)
            name = f"images/{seed}-{number}-{index}.png"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(colour, shape, noise, seed=choice.randrange(2**31)).save(path)
            names.append(name)
            qualities.append(quality(wanted, colour, noise))
        if shuffled:
            choice.shuffle(qualities)
        places = sorted(set(qualities), reverse=True)
        ranks = [1 + places.index(value) for value in qualities]
        records.append({"id": f"{seed}-{number}", "prompt": prompt, "generations": names, "ranking": ranks})
    rankings = folder / "rankings.json"
    rankings.write_text(json.dumps(records), encoding="utf-8")
    return rankings
