"""The score among a job's parameters: what the host asks for while it writes an infotext.

The host builds infotexts at many moments: before sampling for `params.txt`, for every file, for the gallery, for
grids, and again for X/Y/Z plots. The values handed to it are therefore callables that look at the job as it is at
that moment and answer None unless the image at hand has been scored.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from imagereward_ext.webui.job.scoring_job import scoring_job


class ScoreField:
    """One `key: value` of the parameter line; X/Y/Z plots share it between cells, so it holds no score itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, p: Any = None, use_main_prompt: bool = False, **_: Any) -> str | None:
        """Answer the host for the image it is writing about."""
        job = scoring_job(p)
        return None if job is None or use_main_prompt else job.fields_now(p).get(self.name)

    def __repr__(self) -> str:
        return f"ScoreField({self.name!r})"


def install(parameters: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """Put the callables for some names among a job's parameters."""
    for name in names:
        parameters[name] = ScoreField(name)


def readable(parameters: MutableMapping[str, Any]) -> dict[str, Any]:
    """Copy a job's parameters without our callables, which would be null in an API answer."""
    return {key: value for key, value in parameters.items() if not isinstance(value, ScoreField)}
