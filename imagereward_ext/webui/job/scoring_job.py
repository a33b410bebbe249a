"""One job of the host while its images are scored: what every step of it knows."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.webui.job.instructions import Instructions
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.options import ScoringRequest, Settings
from imagereward_ext.webui.service import Service

if TYPE_CHECKING:
    from imagereward_ext.residency import Wish
    from imagereward_ext.webui.job.plots import Plot

_MARK = "_imagereward_job"
"""On the host's processing object, which is all that its hooks and callbacks are given."""


@dataclass(eq=False)
class ScoringJob:
    """A job of the host, the wishes and settings it runs under, and what was scored in it so far."""

    processing: InitVar[Any]
    service: Service
    settings: Settings
    request: ScoringRequest
    instructions: Instructions
    wish: Wish
    images: list[ScoredImage] = field(default_factory=list)
    scored_by: ScoreMark | None = None
    """The last score, for the scorer's label and digest."""
    failed: bool = False
    cut_short: bool = False
    shows_all: bool = False
    """True when another script counts on every image: files are put aside, but nothing leaves the list."""
    finished: bool = False
    grid_was_off: bool = False
    grid_drawn: bool = False
    plot: Plot | None = None

    def __post_init__(self, processing: Any) -> None:
        # The processing object owns this one: a strong reference back would keep its tensors until a collection.
        self._processing = weakref.ref(processing)
        setattr(processing, _MARK, self)

    @property
    def p(self) -> Any:
        """The host's processing object; None once the host has let go of it."""
        return self._processing()

    def note(self, sentence: str) -> None:
        """Remember a sentence for the user, once."""
        self.instructions.note(sentence)

    def find(self, image: Any) -> ScoredImage | None:
        """Return the record of an image in hand, if this job saw it as a finished one."""
        return next((record for record in self.images if record.image is image), None)

    def mark_of(self, image: Any) -> ScoreMark | None:
        """Return the score of an image in hand."""
        record = self.find(image)
        return None if record is None else record.mark

    def caption_of(self, image: Any) -> str:
        """Return what a plot draws into an image in hand, "" for nothing."""
        mark = self.mark_of(image) if self.plot is not None and self.settings.draw_in_plots else None
        return "" if mark is None else f"{mark.value:.2f}"

    def fields_now(self, p: Any) -> Mapping[str, str]:
        """Return what the infotext of the image at hand says about its score."""
        if self.finished or self.grid_drawn:
            return {}
        place = (getattr(p, "iteration", -1), getattr(p, "batch_index", -1))
        return next((record.fields for record in reversed(self.images) if record.place == place), {})

    def percentile(self, mark: ScoreMark) -> float | None:
        """Return the place (0..1) of a score among the user's own."""
        return self.service.history(mark.label, mark.digest).percentile(mark.value)

    def speak_for(self, later: ScoringJob | None) -> None:
        """Stand for a later job of the same script as well, even if that was stopped before it scored anything."""
        if later is not None:
            self.scored_by = later.scored_by or self.scored_by
            self.cut_short = later.cut_short


_at_hand: weakref.ref[ScoringJob] | None = None


def scoring_job(p: Any) -> ScoringJob | None:
    """Return the scoring of a job, be it of a copy of the host's object or over."""
    job: ScoringJob | None = getattr(p, _MARK, None)
    return job


def forget_job(p: Any) -> None:
    """Let a processing object be that of no scored job; a copy has inherited that of its original."""
    setattr(p, _MARK, None)


def running_job(p: Any) -> ScoringJob | None:
    """Return the job that is being scored, if this is the host's own object of it and it is not over.

    ADetailer calls hooks with copies of that object, which are no jobs of their own.
    """
    job = scoring_job(p)
    return job if job is not None and not job.finished and job.p is p else None


def take_in_hand(job: ScoringJob) -> None:
    """Note the job that the host is working on, for callbacks that tell of no job."""
    global _at_hand
    _at_hand = weakref.ref(job)


def job_at_hand() -> ScoringJob | None:
    """Return the job that was the last to score an image."""
    return _at_hand() if _at_hand is not None else None


def note_grid(images: Iterable[Any]) -> None:
    """Note that these images are in a grid: reForge asks for a grid's infotext as if it were an image's."""
    job = job_at_hand()
    if job is not None and any(job.mark_of(image) for image in images):
        job.grid_drawn = True
