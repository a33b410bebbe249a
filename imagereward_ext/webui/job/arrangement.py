"""The lists a host returns from a job, taken apart into images and put together again.

A host keeps images, infotexts, prompts, seeds and subseeds in parallel lists that do not quite line up: a grid
may lead the images, masks may follow each of them, and other extensions append images of their own at the end.
Here they become one :class:`Entry` per image, which is then filtered and sorted as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from imagereward_ext.metadata.score_mark import without_marks


@dataclass(eq=False)
class Entry:
    """One finished image and everything that belongs to it."""

    image: Any
    score: float | None
    infotext: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    subseed: int = -1
    companions: list[Any] = field(default_factory=list)
    """Its mask and mask composite, where the host returns them."""


@dataclass
class Lists:
    """A host's parallel lists. All but the grid's place are aligned: entry i of each belongs together."""

    images: list[Any]
    infotexts: list[str]
    prompts: list[str]
    negative_prompts: list[str]
    seeds: list[int]
    subseeds: list[int]
    first: int
    """Index of the first image that is not a grid."""


@dataclass(frozen=True)
class Final:
    """An image as it was when it was scored."""

    image: Any
    score: float | None


@dataclass
class Taken:
    """A host's lists, taken apart."""

    entries: list[Entry]
    loose: list[Any]
    """Images of other extensions, which stay at the end."""


def take_apart(lists: Lists, finals: Sequence[Final], masks_per_image: int) -> Taken | None:
    """Find each final image with its masks and texts; None when the lists cannot be understood.

    Images are recognised by identity. Where another script replaced them after they were scored, their place
    tells: every image is followed by the same number of masks.
    """
    body = lists.images[lists.first :]
    places = _places(body, finals, masks_per_image)
    if places is None:
        return None
    entries = []
    placed = sorted(
        zip(places, finals, strict=True), key=lambda pair: pair[0]
    )  # texts follow the list's order
    for number, (place, final) in enumerate(placed):
        entries.append(
            Entry(
                image=body[place],
                score=final.score,
                infotext=_at(lists.infotexts, lists.first + number, ""),
                prompt=_at(lists.prompts, number, ""),
                negative_prompt=_at(lists.negative_prompts, number, ""),
                seed=_at(lists.seeds, number, -1),
                subseed=_at(lists.subseeds, number, -1),
                companions=body[place + 1 : place + 1 + masks_per_image],
            )
        )
    end = placed[-1][0] + 1 + masks_per_image if placed else 0
    return Taken(entries, body[end:])


def as_they_are(lists: Lists) -> list[Entry]:
    """Take every image for one without a score: nobody can tell which is which, and none shall be lost."""
    return [
        Entry(
            image,
            None,
            _at(lists.infotexts, lists.first + number, ""),
            _at(lists.prompts, number, ""),
            _at(lists.negative_prompts, number, ""),
            _at(lists.seeds, number, -1),
            _at(lists.subseeds, number, -1),
        )
        for number, image in enumerate(lists.images[lists.first :])
    ]


def put_together(taken: Taken, before: Lists, grid: Any = None, grid_infotext: str = "") -> Lists:
    """Make aligned lists of what is left. With nothing left the texts keep one element, as hosts read the first."""
    lists = Lists([], [], [], [], [], [], 0)
    for entry in taken.entries:
        for image in (entry.image, *entry.companions):
            lists.images.append(image)
            lists.infotexts.append(entry.infotext if image is entry.image else without_marks(entry.infotext))
            lists.prompts.append(entry.prompt)
            lists.negative_prompts.append(entry.negative_prompt)
            lists.seeds.append(entry.seed)
            lists.subseeds.append(entry.subseed)
    lists.images += taken.loose
    if not taken.entries:
        lists.prompts, lists.negative_prompts = before.prompts[:1], before.negative_prompts[:1]
        lists.seeds, lists.subseeds = before.seeds[:1], before.subseeds[:1]
    if grid is not None:
        lists.images.insert(0, grid)
        lists.infotexts.insert(0, grid_infotext)
        lists.first = 1
    return lists


def _places(body: Sequence[Any], finals: Sequence[Final], masks_per_image: int) -> list[int] | None:
    by_identity = {id(image): place for place, image in enumerate(body)}
    places = [by_identity.get(id(final.image)) for final in finals]
    found = [place for place in places if place is not None]
    if len(found) == len(finals):
        return found
    stride = 1 + masks_per_image
    expected = [number * stride for number in range(len(finals))]
    agree = all(place in (None, wanted) for place, wanted in zip(places, expected, strict=True))
    return expected if agree and len(body) >= len(finals) * stride else None


def _at(items: Sequence[Any], index: int, default: Any) -> Any:
    return items[index] if 0 <= index < len(items) else default
