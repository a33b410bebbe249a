"""The score among a job's parameters: what the host asks for while it writes an infotext.

The host builds infotexts at many moments: before sampling for `params.txt`, for every file, for the gallery, for
grids, and again for X/Y/Z plots. The values handed to it are therefore callables that look at the job as it is at
that moment and answer None unless the image at hand has been scored.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

JOB_MARK = "_imagereward_job"
SCORE_MARK = "_imagereward_score"
GRID_MARK = "_imagereward_in_grid"


class ScoreField:
    """One `key: value` of the parameter line; X/Y/Z plots share it between cells, so it holds no score itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, p: Any = None, use_main_prompt: bool = False, **_: Any) -> str | None:
        """Answer the host for the image it is writing about."""
        job = getattr(p, JOB_MARK, None)
        if job is None or use_main_prompt:
            return None
        answer: str | None = job.fields_now(p).get(self.name)
        return answer

    def __repr__(self) -> str:
        return f"ScoreField({self.name!r})"


def mark_in_grid(images: Iterable[Any]) -> None:
    """Note that these images are in a grid: reForge asks for a grid's infotext as if it were an image's."""
    for image in images:
        if hasattr(image, SCORE_MARK):
            setattr(image, GRID_MARK, True)


def install(parameters: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """Put the callables for some names among a job's parameters."""
    for name in names:
        parameters[name] = ScoreField(name)


def readable(parameters: MutableMapping[str, Any]) -> dict[str, Any]:
    """Copy a job's parameters without our callables, which would be null in an API answer."""
    return {key: value for key, value in parameters.items() if not isinstance(value, ScoreField)}
