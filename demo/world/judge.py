"""The referee: says by measuring pixels how much of a prompt holds in an image, from 0 to 1.

It is never a reward; it ranks training data, and it tells whether filtering or training made images better.

What it does, in plain NumPy:

1. *Background*: the palette colour most of the border has. Colours are compared in CIE Lab.
2. *Objects*: connected areas that differ from the background, cut at half of their own contrast, so that soft
   edges neither bridge two objects nor shrink one. Each has a colour, a soft coverage per pixel, a centre, a size
   and, for every shape of the grammar, the overlap (IoU) with that shape at the same area and centre.
3. *Facts*: the prompt is a list of facts (background, count, and colour, shape, size of each thing, place or
   relation). Each holds to a degree; things are assigned to objects so that the sum is best. The score is the weighted
   mean of the degrees, times how *clear* the image is: the share of pixels that belong to a flat area at all.
4. An image without any object scores 0, whatever its background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo.world.grammar import COLOURS, PLACES, SHAPES, SIZE, Scene, Thing, outline, parse

Array = NDArray[np.float64]

WEIGHTS = {"background": 1.0, "count": 2.0, "colour": 2.0, "shape": 2.0, "size": 1.0, "place": 2.0}
"""What a fact counts: how many there are of what, in which colour and where, twice. Colour, shape and size are means
over the things, so a pair weighs as much as one."""

MIN_CONTRAST = 16.0
"""Lab distance from the background below which nothing is an object; the closest two colours are 30 apart."""
MIN_AREA = 60.0
"""Pixels; the smallest drawn thing, one of three stars, covers about 160."""
FLAT = 12.0
"""Lab distance to its area's colour up to which a pixel counts as flat."""
MOST_OBJECTS = 6
"""Further objects still count as clutter, but are not compared with what was asked for."""
ANGLES = (-6.0, 0.0, 6.0)


@dataclass(frozen=True)
class Found:
    """One object in an image."""

    colour: str
    area: float
    """Covered pixels, edges counted by how much they are covered."""
    centre: tuple[float, float]
    fits: dict[str, float]
    """Overlap with each shape of the grammar."""

    @property
    def shape(self) -> str:
        """The shape that fits best."""
        return max(self.fits, key=self.fits.__getitem__)

    def radius(self, shape: str) -> float:
        """The radius it has if it is that shape."""
        return float(np.sqrt(self.area / _unit_area(shape)))


@dataclass(frozen=True)
class View:
    """What there is to see in an image, without any prompt."""

    background: str
    objects: tuple[Found, ...]
    """Largest first."""
    clarity: float


@dataclass(frozen=True)
class Verdict:
    """How much of a prompt holds, fact by fact."""

    score: float
    facts: dict[str, float]
    view: View


def judge(image: Image.Image, prompt: str | Scene) -> float:
    """Say how much of the prompt holds in the image, 0 to 1."""
    return explain(image, prompt).score


def explain(image: Image.Image, prompt: str | Scene) -> Verdict:
    """Judge, and say why."""
    return verdict(look(image), parse(prompt) if isinstance(prompt, str) else prompt)


# --- facts ---------------------------------------------------------------------------------------------------


def verdict(view: View, scene: Scene) -> Verdict:
    """Compare what is seen with what was asked for."""
    if not view.objects:
        return Verdict(0.0, dict.fromkeys(_stated(scene), 0.0), view)
    seen = view.objects[:MOST_OBJECTS]
    candidates = [*range(len(seen)), *[None] * len(scene.things)]
    choices = dict.fromkeys(permutations(candidates, len(scene.things)))  # one None is like another
    chosen = (tuple(None if n is None else seen[n] for n in choice) for choice in choices)
    facts = max((_facts(view, scene, objects) for objects in chosen), key=_mean)
    return Verdict(_mean(facts) * view.clarity, facts, view)


def _stated(scene: Scene) -> list[str]:
    names = ["background", "count", "colour", "shape"]
    names += ["size"] if any(thing.size for thing in scene.things) else []
    return names + (["place"] if scene.where else [])


def _mean(facts: dict[str, float]) -> float:
    return sum(WEIGHTS[name] * held for name, held in facts.items()) / sum(WEIGHTS[name] for name in facts)


def _facts(view: View, scene: Scene, chosen: tuple[Found | None, ...]) -> dict[str, float]:
    """Degrees to which the prompt's facts hold if these objects are the things it names."""
    pairs = list(zip(scene.things, chosen, strict=True))
    wanted = len(scene.things)
    facts = {
        "background": float(view.background == scene.background),
        "count": max(0.0, 1 - abs(len(view.objects) - wanted) / wanted),
        "colour": _average(float(found.colour == thing.colour) if found else 0.0 for thing, found in pairs),
        "shape": _average(_shape_holds(found, thing) if found else 0.0 for thing, found in pairs),
    }
    sized = [(thing, found) for thing, found in pairs if thing.size]
    if sized:
        facts["size"] = _average(_size_holds(found, thing) if found else 0.0 for thing, found in sized)
    if scene.where:
        facts["place"] = _place_holds(scene.where, chosen)
    return facts


def _average(values: Iterable[float]) -> float:
    return fmean(values)


def _shape_holds(found: Found, thing: Thing) -> float:
    """Full when the asked shape fits well and better than any other, half where another fits as well."""
    fit = found.fits[thing.shape]
    rival = max(value for shape, value in found.fits.items() if shape != thing.shape)
    return _ramp(fit, 0.55, 0.7) * _ramp(fit - rival, -0.05, 0.02)


def _size_holds(found: Found, thing: Thing) -> float:
    radius = found.radius(thing.shape)
    return _ramp(-radius, -15.5, -13.5) if thing.size == "small" else _ramp(radius, 18.5, 21.0)


def _place_holds(where: str, chosen: tuple[Found | None, ...]) -> float:
    if any(found is None for found in chosen):
        return 0.0
    x, y = (coordinate / SIZE for coordinate in chosen[0].centre)
    if where in PLACES:
        right, down = PLACES[where]
        return _side(x, right) * _side(y, down)
    x2, y2 = (coordinate / SIZE for coordinate in chosen[1].centre)
    along, across = (x2 - x, y2 - y) if where == "left of" else (y2 - y, x2 - x)
    return _ramp(along, 0.05, 0.2) * _ramp(along - abs(across), -0.15, 0.0)


def _side(at: float, wanted: float) -> float:
    """Degree to which a coordinate lies on the wanted third: low, middle or high."""
    if wanted == 0.5:
        return _ramp(-abs(at - 0.5), -0.19, -0.13)
    return _ramp(0.5 - at if wanted < 0.5 else at - 0.5, 0.06, 0.12)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0, 1))


# --- seeing --------------------------------------------------------------------------------------------------


def look(image: Image.Image) -> View:
    """Find the background and the objects of an image of any size."""
    small = image.convert("RGB")
    if small.size != (SIZE, SIZE):
        small = small.resize((SIZE, SIZE), Image.Resampling.BOX)
    rgb = np.asarray(small, np.float64)
    lab = to_lab(rgb)
    names = list(COLOURS)
    labels = np.argmin(_distance(lab[:, :, None], _palette()), axis=-1)

    border = np.ones((SIZE, SIZE), bool)
    border[3:-3, 3:-3] = False
    ground = int(np.bincount(labels[border], minlength=len(names)).argmax())
    ground_lab = np.median(lab[border & (labels == ground)], axis=0)
    contrast = _distance(lab, ground_lab)

    peak = _spread(contrast, np.maximum, 2)
    marks = components(contrast > np.maximum(MIN_CONTRAST, 0.5 * peak))
    objects, flat = [], contrast < FLAT
    for mark in range(1, marks.max() + 1):
        found, lies_flat = _describe(marks == mark, lab, contrast, ground_lab)
        flat |= lies_flat
        if found:
            objects.append(found)
    objects.sort(key=lambda found: -found.area)
    return View(names[ground], tuple(objects), _ramp(float(flat.mean()), 0.5, 0.85))


def _describe(
    inside: NDArray[np.bool_], lab: Array, contrast: Array, ground: Array
) -> tuple[Found | None, NDArray[np.bool_]]:
    """Measure one connected area: the object (None when too small to be one) and its flat pixels."""
    core = inside & (contrast >= 0.8 * np.quantile(contrast[inside], 0.75))
    own = np.median(lab[core], axis=0)
    flat = inside & (_distance(lab, own) < FLAT)
    reach = _spread(inside, np.logical_or, 2)
    cover = np.where(reach, np.clip((lab - ground) @ (own - ground) / np.sum((own - ground) ** 2), 0, 1), 0.0)
    area = float(cover.sum())
    if area < MIN_AREA:
        return None, flat
    ys, xs = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    centre = (float((cover * xs).sum() / area), float((cover * ys).sum() / area))
    fits = {shape: max(_overlap(cover, area, centre, shape, angle) for angle in ANGLES) for shape in SHAPES}
    colour = list(COLOURS)[int(np.argmin(_distance(own, _palette())))]
    return Found(colour, area, centre, fits), flat


def _overlap(cover: Array, area: float, centre: tuple[float, float], shape: str, angle: float) -> float:
    """Intersection over union with a shape of the same area and the same centre of mass."""
    radius = float(np.sqrt(area / _unit_area(shape)))
    points = np.array(outline(shape, radius, (0.0, 0.0), angle))
    ideal = _raster(points - _mass(points)[1] + centre)
    return float(np.minimum(cover, ideal).sum() / np.maximum(cover, ideal).sum())


def components(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the 4-connected areas of a mask from 1; 0 is outside."""
    marks = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        grown = np.where(mask, _spread(marks, np.maximum, 1, diagonal=False), 0)
        if np.array_equal(grown, marks):
            break
        marks = grown
    return np.unique(marks, return_inverse=True)[1].reshape(mask.shape) + (0 if (~mask).any() else 1)


def _spread(values: NDArray, larger: np.ufunc, steps: int, diagonal: bool = True) -> NDArray:
    """Give every pixel the largest value within so many steps."""
    for _ in range(steps):
        rows = values.copy()
        rows[1:] = larger(rows[1:], values[:-1])
        rows[:-1] = larger(rows[:-1], values[1:])
        source = rows if diagonal else values
        grown = rows.copy()
        grown[:, 1:] = larger(grown[:, 1:], source[:, :-1])
        grown[:, :-1] = larger(grown[:, :-1], source[:, 1:])
        values = grown
    return values


# --- geometry and colour -------------------------------------------------------------------------------------


def _mass(points: Array) -> tuple[float, Array]:
    """Area and centre of mass of a polygon (the shoelace formula)."""
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    area = cross.sum() / 2
    return abs(float(area)), ((points + following) * cross[:, None]).sum(axis=0) / (6 * area)


@lru_cache
def _unit_area(shape: str) -> float:
    return _mass(np.array(SHAPES[shape]))[0]


def _raster(points: Array, scale: int = 4) -> Array:
    """Coverage of every pixel by a polygon, 0 to 1."""
    canvas = Image.new("L", (SIZE * scale, SIZE * scale))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in points * scale], fill=255)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), np.float64) / 255


@lru_cache
def _palette() -> Array:
    return to_lab(np.array(list(COLOURS.values()), np.float64))


def _distance(first: Array, second: Array) -> Array:
    return np.sqrt(((first - second) ** 2).sum(axis=-1))


def to_lab(rgb: Array) -> Array:
    """Convert sRGB (0 to 255, last axis) to CIE Lab under D65."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _WHITE
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
