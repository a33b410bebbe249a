"""What our script in the dropdown, or an axis of a plot, asks of the job that the host is about to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.options import ScoringRequest

_MARK = "_imagereward_instructions"
"""On the host's processing object: nothing else reaches from a script's `run` into the hooks of its jobs."""


@dataclass
class Instructions:
    """What one job is to do; without any, the panel alone decides."""

    request: ScoringRequest | None = None
    """None leaves it to the panel."""
    problems: tuple[str, ...] = ()
    axes: Mapping[str, Any] = field(default_factory=dict)
    """Values of a plot's axes by the names of the request's fields; they win."""
    collects: bool = False
    """True when the script puts several jobs together itself: they neither filter nor report."""
    collected: list[ScoredImage] = field(default_factory=list)
    """What those jobs have finished."""
    draft: bool = False
    """True for small first passes, whose scores nobody sees."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user, one list for all jobs of the script."""

    def give_to(self, p: Any) -> None:
        """Let the next run of this processing object follow them."""
        setattr(p, _MARK, self)

    def note(self, sentence: str) -> None:
        """Remember a sentence for the user, once."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)


def instructions_of(p: Any) -> Instructions:
    """Return what was asked of a job."""
    given: Instructions | None = getattr(p, _MARK, None)
    return given or Instructions()


def add_axis(p: Any, **values: Any) -> None:
    """Ask for some values of the request, beside whatever other axes ask for."""
    given = instructions_of(p)
    replace(given, axes={**given.axes, **values}).give_to(p)
