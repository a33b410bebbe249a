"""The demo world's language: prompts with a meaning one can draw and check.

A :class:`Scene` is what a prompt says: one thing ("a small red circle on the left on a blue background"), two or
three equal things ("two green triangles on a white background"), or a pair ("a red star above a black square on a
yellow background"). Style words after it ("flat colours", "high quality") change nothing that is drawn.

:func:`describe` writes a scene as a prompt and :func:`parse` reads it back; :func:`draw` paints it at 64 px with
jitter in place, size, angle and shade. Everything follows from the generator that is passed in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
"""Side of every image, in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 45),
    "orange": (245, 140, 30),
    "yellow": (245, 220, 60),
    "green": (50, 160, 70),
    "blue": (45, 85, 215),
    "purple": (140, 60, 175),
    "white": (243, 243, 243),
    "black": (24, 24, 24),
}
NUMBERS = {2: "two", 3: "three"}
SIZES = ("small", "large")
PLACES: dict[str, tuple[float, float]] = {
    "on the left": (0.27, 0.5),
    "on the right": (0.73, 0.5),
    "at the top": (0.5, 0.27),
    "at the bottom": (0.5, 0.73),
    "in the middle": (0.5, 0.5),
}
"""Where a single thing can be said to be, and the centre that means, as shares of width and height."""
RELATIONS = ("left of", "above")
"""How the first of a pair can be said to lie to the second; "and" says nothing about it."""
STYLES = (
    "",
    "flat colours",
    "simple vector art",
    "high quality",
    "minimalist",
    "clean drawing",
    "sharp, detailed",
    "digital art, best quality",
)

Split = Literal["train", "held-out"]
HELD_OUT_SHARE = 0.2


def _circle() -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return [(0.92 * float(np.cos(a)), 0.92 * float(np.sin(a))) for a in turns]


def _star() -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * np.pi, 10, endpoint=False) - np.pi / 2
    return [
        (r * float(np.cos(a)), r * float(np.sin(a))) for a, r in zip(turns, [1.12, 0.47] * 5, strict=True)
    ]


def _cross() -> list[tuple[float, float]]:
    arm = [
        (-0.33, -1.0),
        (0.33, -1.0),
        (0.33, -0.33),
    ]  # one quarter; the others are turned by a right angle each
    quarters = [arm]
    for _ in range(3):
        quarters.append([(-y, x) for x, y in quarters[-1]])
    return [point for quarter in quarters for point in quarter]


SHAPES: dict[str, list[tuple[float, float]]] = {
    "circle": _circle(),
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": [(0, -1.08), (1.08, 0.82), (-1.08, 0.82)],
    "star": _star(),
    "cross": _cross(),
}
"""Outlines around the origin at radius 1; y points down, as in an image."""

RADII = {"small": 12.0, None: 17.0, "large": 24.0}
"""Radius in pixels of a thing that stands alone. Several things are drawn smaller so that they fit, see `_radius`."""


@dataclass(frozen=True)
class Thing:
    """One shape: what must be seen. ``size`` is None where the prompt does not say."""

    colour: str
    shape: str
    size: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a prompt says. ``where`` is a place for one thing, a relation for a pair, None where nothing is said."""

    things: tuple[Thing, ...]
    background: str
    where: str | None = None

    @property
    def kind(self) -> Literal["one", "many", "pair"]:
        """Tell the three forms of a prompt apart."""
        if len(self.things) == 1:
            return "one"
        return "many" if len(set(self.things)) == 1 else "pair"


# --- words ---------------------------------------------------------------------------------------------------


def describe(scene: Scene, style: str = "") -> str:
    """Write a scene as a prompt."""
    first = scene.things[0]
    if scene.kind == "many":
        head = f"{NUMBERS[len(scene.things)]} {_plural(first)}"
    elif scene.kind == "pair":
        head = f"{_one(first)} {scene.where or 'and'} {_one(scene.things[1])}"
    else:
        head = _one(first) + (f" {scene.where}" if scene.where else "")
    prompt = f"{head} on {_article(scene.background)} {scene.background} background"
    return f"{prompt}, {style}" if style else prompt


def _noun(thing: Thing) -> str:
    return " ".join(word for word in (thing.size, thing.colour, thing.shape) if word)


def _plural(thing: Thing) -> str:
    return _noun(thing) + ("es" if thing.shape == "cross" else "s")


def _one(thing: Thing) -> str:
    noun = _noun(thing)
    return f"{_article(noun)} {noun}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


_COLOUR = "|".join(COLOURS)
_NOUN = rf"(?:({'|'.join(SIZES)})\s+)?({_COLOUR})\s+({'|'.join(SHAPES)})"
_GROUND = rf"\s+on\s+an?\s+({_COLOUR})\s+background"
_ONE = re.compile(rf"an?\s+{_NOUN}(?:\s+({'|'.join(PLACES)}))?{_GROUND}")
_MANY = re.compile(rf"({'|'.join(NUMBERS.values())})\s+{_NOUN}(?:es|s){_GROUND}")
_PAIR = re.compile(rf"an?\s+{_NOUN}\s+({'|'.join(RELATIONS)}|and)\s+an?\s+{_NOUN}{_GROUND}")


def parse(prompt: str) -> Scene:
    """Read the scene out of a prompt; words around it are style. Raises ValueError when there is none."""
    text = " ".join(prompt.lower().split())
    if found := _PAIR.search(text):
        size, colour, shape, relation, size2, colour2, shape2, ground = found.groups()
        where = None if relation == "and" else relation
        return Scene((Thing(colour, shape, size), Thing(colour2, shape2, size2)), ground, where)
    if found := _MANY.search(text):
        number, size, colour, shape, ground = found.groups()
        count = next(n for n, word in NUMBERS.items() if word == number)
        return Scene((Thing(colour, shape, size),) * count, ground)
    if found := _ONE.search(text):
        size, colour, shape, place, ground = found.groups()
        return Scene((Thing(colour, shape, size),), ground, place)
    raise ValueError(
        f"the demo world does not understand the prompt {prompt!r}; it reads, for example, "
        "'a small red circle on the left on a blue background'"
    )


# --- drawing lots --------------------------------------------------------------------------------------------


def split_of(scene: Scene) -> Split:
    """Say which split a scene belongs to: decided by what it says, so style never carries one across."""
    digest = hashlib.sha256(describe(scene).encode()).digest()
    return "held-out" if digest[0] < HELD_OUT_SHARE * 256 else "train"


def random_scene(rng: np.random.Generator, split: Split | None = None) -> Scene:
    """Draw one scene, of a split when it is named."""
    while True:
        scene = _any_scene(rng)
        if split is None or split_of(scene) == split:
            return scene


def _any_scene(rng: np.random.Generator) -> Scene:
    kind = rng.choice(["one", "many", "pair"], p=[0.6, 0.2, 0.2])
    ground, *others = (str(c) for c in rng.permutation(list(COLOURS)))
    shapes = [str(s) for s in rng.permutation(list(SHAPES))]
    if kind == "one":
        size = [None, *SIZES][rng.integers(3)]
        place = None if size == "large" else [None, *PLACES][rng.integers(6)]  # a large one fills the image
        return Scene((Thing(others[0], shapes[0], size),), ground, place)
    if kind == "many":
        return Scene((Thing(others[0], shapes[0]),) * int(rng.integers(2, 4)), ground)
    relation = [None, *RELATIONS][rng.integers(3)]
    return Scene((Thing(others[0], shapes[0]), Thing(others[1], shapes[1])), ground, relation)


def random_style(rng: np.random.Generator) -> str:
    """Draw style words, often none."""
    return STYLES[rng.integers(len(STYLES))] if rng.random() < 0.6 else ""


def random_prompts(seed: int, split: Split) -> Iterator[str]:
    """Yield prompts of a split without end; different scenes come first, style words vary."""
    rng = np.random.default_rng([seed, 7])
    seen: set[Scene] = set()
    while True:
        scene = random_scene(rng, split)
        if scene not in seen:
            seen.add(scene)
            yield describe(scene, random_style(rng))


def corrupt(scene: Scene, rng: np.random.Generator, changes: int = 1) -> Scene:
    """Change facts of a scene, so that its picture is a near miss of the prompt: one fact per change."""
    for _ in range(changes):
        while (other := _change_one_fact(scene, rng)) is None or other == scene:
            pass
        scene = other
    return scene


def _change_one_fact(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """Try one change; None where the one drawn does not fit this scene."""
    first, last = scene.things[0], scene.things[-1]
    change = rng.choice(["colour", "shape", "background", "count", "place", "size"])
    taken = {scene.background, *(thing.colour for thing in scene.things)}
    free = [c for c in COLOURS if c not in taken]
    if change == "background":
        return replace(scene, background=str(rng.choice(free)))
    if change == "colour":
        return _with_last(scene, replace(last, colour=str(rng.choice(free))))
    if change == "shape":
        used = {thing.shape for thing in scene.things}
        return _with_last(scene, replace(last, shape=str(rng.choice([s for s in SHAPES if s not in used]))))
    if change == "count":
        if scene.kind == "pair":
            return Scene((first,), scene.background)
        counts = [n for n in (1, 2, 3) if n != len(scene.things)]
        return Scene((replace(first, size=None),) * int(rng.choice(counts)), scene.background)
    if change == "size" and scene.kind == "one" and first.size:
        return replace(scene, things=(replace(first, size="large" if first.size == "small" else "small"),))
    if change == "place" and scene.kind == "one" and scene.where:
        return replace(scene, where=str(rng.choice([p for p in PLACES if p != scene.where])))
    if change == "place" and scene.kind == "pair" and scene.where:
        return replace(scene, things=(last, first))
    return None


def _with_last(scene: Scene, thing: Thing) -> Scene:
    """Replace the last thing of a pair, or every thing of the other kinds."""
    if scene.kind == "pair":
        return replace(scene, things=(scene.things[0], thing))
    return replace(scene, things=(thing,) * len(scene.things))


# --- pictures ------------------------------------------------------------------------------------------------

_SCALE = 4
"""Drawn this many times larger and averaged down: that is the antialiasing."""
_GAP = 3.0
"""Free pixels between two things, and between a thing and the border."""


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Paint a scene at 64 px; the generator jitters place, size, angle and shade."""
    canvas = Image.new("RGB", (SIZE * _SCALE, SIZE * _SCALE), _shade(scene.background, rng))
    brush = ImageDraw.Draw(canvas)
    radii = [_radius(scene, thing) * rng.uniform(0.94, 1.06) for thing in scene.things]
    shades = {thing.colour: _shade(thing.colour, rng) for thing in scene.things}
    for thing, radius, centre in zip(scene.things, radii, _centres(scene, radii, rng), strict=True):
        points = outline(thing.shape, radius, centre, rng.uniform(-8, 8))
        brush.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=shades[thing.colour])
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX)


def outline(
    shape: str, radius: float, centre: tuple[float, float], degrees: float = 0.0
) -> list[tuple[float, float]]:
    """Place a shape's outline in the image, in pixels."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [
        (centre[0] + radius * float(x * cos - y * sin), centre[1] + radius * float(x * sin + y * cos))
        for x, y in SHAPES[shape]
    ]


def _radius(scene: Scene, thing: Thing) -> float:
    if len(scene.things) == 1:
        return RADII[thing.size]
    if scene.kind == "pair":
        return 12.0
    return 13.0 if len(scene.things) == 2 else 11.0


def _shade(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """Vary a colour a little: one shift of brightness, and less of each channel."""
    value = np.array(COLOURS[colour]) + rng.uniform(-10, 10) + rng.uniform(-6, 6, 3)
    red, green, blue = (int(v) for v in np.clip(value.round(), 0, 255))
    return red, green, blue


def _centres(scene: Scene, radii: list[float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Choose centres inside the image that keep things apart and obey what the scene says."""
    if scene.kind == "one":
        x, y = PLACES[scene.where] if scene.where else (0.5, 0.5)
        spread = 0.03 if scene.where else 0.08
        x, y = x + rng.uniform(-spread, spread), y + rng.uniform(-spread, spread)
        low = (radii[0] * 1.08 + 1) / SIZE  # a large thing "on the left" still fits
        return [(SIZE * float(np.clip(x, low, 1 - low)), SIZE * float(np.clip(y, low, 1 - low)))]
    while True:
        centres = [tuple(rng.uniform(r * 1.1 + _GAP, SIZE - r * 1.1 - _GAP, 2)) for r in radii]
        if _apart(centres, radii) and _related(scene.where, centres):
            return centres


def _apart(centres: list[tuple[float, float]], radii: list[float]) -> bool:
    pairs = [(i, j) for i in range(len(radii)) for j in range(i)]
    return all(
        np.hypot(centres[i][0] - centres[j][0], centres[i][1] - centres[j][1])
        > 1.1 * (radii[i] + radii[j]) + _GAP
        for i, j in pairs
    )


def _related(relation: str | None, centres: list[tuple[float, float]]) -> bool:
    """Say whether the first lies clearly where the relation wants it: further along that axis than across."""
    if relation is None:
        return True
    right, down = centres[1][0] - centres[0][0], centres[1][1] - centres[0][1]
    along, across = (right, down) if relation == "left of" else (down, right)
    return along > 1.2 * abs(across) and along > 0.25 * SIZE
