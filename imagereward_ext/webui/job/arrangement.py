"""The lists a host returns from a job, taken apart into images and put together again.

A host keeps images, infotexts, prompts, seeds and subseeds in parallel lists that do not quite line up: a grid
may lead the images, masks may follow each of them, and other extensions append images of their own at the end.
Here they become one :class:`ScoredImage` per image, which is then filtered and sorted as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imagereward_ext.metadata.score_mark import without_marks
from imagereward_ext.webui.job.scored_image import ScoredImage


@dataclass
class ResultLists:
    """A host's parallel lists. All but the grid's place are aligned: entry i of each belongs together."""

    images: list[Any]
    infotexts: list[str]
    prompts: list[str]
    negative_prompts: list[str]
    seeds: list[int]
    subseeds: list[int]
    first: int
    """Index of the first image that is not a grid."""

    @classmethod
    def read(cls, processed: Any) -> ResultLists:
        """Read them from the host's result."""
        return cls(
            images=list(processed.images),
            infotexts=list(processed.infotexts),
            prompts=list(processed.all_prompts),
            negative_prompts=list(processed.all_negative_prompts),
            seeds=list(processed.all_seeds),
            subseeds=list(processed.all_subseeds),
            first=processed.index_of_first_image,
        )

    def write(self, processed: Any, without_images: str) -> None:
        """Give the host its lists back, and the single values it takes from the first of each."""
        processed.images = self.images
        processed.infotexts = self.infotexts
        processed.all_prompts = self.prompts
        processed.all_negative_prompts = self.negative_prompts
        processed.all_seeds = self.seeds
        processed.all_subseeds = self.subseeds
        processed.index_of_first_image = self.first
        processed.info = self.infotexts[0] if self.infotexts else without_images
        if self.seeds:
            processed.seed, processed.subseed = self.seeds[0], self.subseeds[0]


@dataclass
class Arrangement:
    """The images of a result, in order."""

    images: list[ScoredImage]
    others: Sequence[Any] = ()
    """Images of other extensions, which stay at the end."""


def take_apart(lists: ResultLists, images: Sequence[ScoredImage], masks_per_image: int) -> Arrangement | None:
    """Find each scored image with its masks and texts; None when the lists cannot be understood.

    Images are recognised by identity. Where another script replaced them after they were scored, their place
    tells: every image is followed by the same number of masks.
    """
    body = lists.images[lists.first :]
    places = _places(body, images, masks_per_image)
    if places is None:
        return None
    placed = sorted(zip(places, images, strict=True), key=lambda pair: pair[0])
    for number, (place, record) in enumerate(placed):  # texts follow the list's order
        record.image = body[place]
        record.companions = body[place + 1 : place + 1 + masks_per_image]
        _add_texts(record, lists, number)
    end = placed[-1][0] + 1 + masks_per_image if placed else 0
    return Arrangement([record for _, record in placed], body[end:])


def as_they_are(lists: ResultLists) -> list[ScoredImage]:
    """Take every image for one without a score: nobody can tell which is which, and none shall be lost."""
    records = [ScoredImage(image) for image in lists.images[lists.first :]]
    for number, record in enumerate(records):
        _add_texts(record, lists, number)
    return records


def put_together(
    arrangement: Arrangement, before: ResultLists, grid: Any = None, grid_infotext: str = ""
) -> ResultLists:
    """Make aligned lists of what is left. With nothing left the texts keep one element, as hosts read the first."""
    lists = ResultLists([], [], [], [], [], [], 0)
    for record in arrangement.images:
        for image in (record.image, *record.companions):
            is_mask = image is not record.image
            lists.images.append(image)
            lists.infotexts.append(without_marks(record.infotext) if is_mask else record.infotext)
            lists.prompts.append(record.prompt)
            lists.negative_prompts.append(record.negative_prompt)
            lists.seeds.append(record.seed)
            lists.subseeds.append(record.subseed)
    lists.images += arrangement.others
    if not arrangement.images:
        lists.prompts, lists.negative_prompts = before.prompts[:1], before.negative_prompts[:1]
        lists.seeds, lists.subseeds = before.seeds[:1], before.subseeds[:1]
    if grid is not None:
        lists.images.insert(0, grid)
        lists.infotexts.insert(0, grid_infotext)
        lists.first = 1
    return lists


def _add_texts(record: ScoredImage, lists: ResultLists, number: int) -> None:
    record.infotext = _at(lists.infotexts, lists.first + number, "")
    record.prompt = _at(lists.prompts, number, "")
    record.negative_prompt = _at(lists.negative_prompts, number, "")
    record.seed = _at(lists.seeds, number, -1)
    record.subseed = _at(lists.subseeds, number, -1)


def _places(body: Sequence[Any], images: Sequence[ScoredImage], masks_per_image: int) -> list[int] | None:
    by_identity = {id(image): place for place, image in enumerate(body)}
    places = [by_identity.get(id(record.image)) for record in images]
    found = [place for place in places if place is not None]
    if len(found) == len(images):
        return found
    stride = 1 + masks_per_image
    expected = [number * stride for number in range(len(images))]
    agree = all(place in (None, wanted) for place, wanted in zip(places, expected, strict=True))
    return expected if agree and len(body) >= len(images) * stride else None


def _at(items: Sequence[Any], index: int, default: Any) -> Any:
    return items[index] if 0 <= index < len(items) else default
