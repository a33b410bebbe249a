"""One image of a job: what the hook learns about it, what the host's lists say of it, where its file is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagereward_ext.metadata.score_mark import ScoreMark


@dataclass(eq=False)
class ScoredImage:
    """An image from the hook to the gallery, and everything that belongs to it.

    The hook notes image, mark, fields and place; the rest is read from the host's lists once the job is over.
    """

    image: Any
    """None once it is dealt with and only its score still counts."""
    mark: ScoreMark | None = None
    """The score and the scorer it came from; None when it could not or must not be scored."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What its infotext says about its score."""
    place: tuple[int, int] = (-1, -1)
    """Its batch in the job, its number in the batch."""
    infotext: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    subseed: int = -1
    companions: list[Any] = field(default_factory=list)
    """Its mask and mask composite, where the host returns them."""

    @property
    def score(self) -> float | None:
        """The number of its score."""
        return None if self.mark is None else self.mark.value

    @property
    def file(self) -> Path | None:
        """Where the host saved it."""
        return saved_as(self.image)

    def let_go(self) -> None:
        """Free the pixels."""
        self.image, self.companions = None, []


def saved_as(image: Any) -> Path | None:
    """Return where the host saved an image: it notes that on the image itself."""
    path = getattr(image, "already_saved_as", None)
    return Path(path) if path else None
