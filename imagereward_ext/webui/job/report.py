"""What the user and the API are told of a job: sentences under the gallery, numbers in the answer's `info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagereward_ext.webui.job.score_fields import readable
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.job.scoring_job import ScoringJob
from imagereward_ext.webui.service import log

ANSWER = "ImageReward scores"
"""The key of our part in the `extra_generation_params` of an API answer's `info`."""


def report(job: ScoringJob, processed: Any, images: Sequence[ScoredImage]) -> None:
    """Tell of the images that the host's result shows; `images` are all that may be among them."""
    answer = _answer(job, processed, images)
    notes = job.instructions.notes
    if notes:
        answer["note"] = "; ".join(notes)
        sentence = f"ImageReward: {answer['note']}"
        processed.comments = f"{processed.comments or ''}{sentence}\n"
        job.p.comment(sentence)  # for another script, which makes one result of many
        log.info(answer["note"])
    processed.extra_generation_params = {**readable(job.p.extra_generation_params), ANSWER: answer}
    if job.plot is not None:
        job.plot.add_cell(processed, answer, job.caption_of(next(iter(processed.images), None)))


def _answer(job: ScoringJob, processed: Any, images: Sequence[ScoredImage]) -> dict[str, Any]:
    marks = {id(image.image): image.mark for image in images}
    shown = [marks.get(id(image)) for image in processed.images]
    decimals = job.settings.decimals
    answer: dict[str, Any] = {
        "scores": [None if mark is None else round(mark.value, decimals) for mark in shown]
    }
    if job.scored_by is not None:
        places = [None if mark is None else job.percentile(mark) for mark in shown]
        answer |= {"scorer": job.scored_by.label, "hash": job.scored_by.digest}
        answer["percentiles"] = [None if place is None else round(place, 3) for place in places]
    return answer
