"""What happens to a job of the host: score each final image, write it down, then keep, reject and arrange.

This is the only code path. The always-on script calls it for every job; the script in the dropdown only leaves
:class:`Instructions` on the host's processing object, which are read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.webui.history import aesthetic_score
from imagereward_ext.webui.job import gallery, other_scripts, plots
from imagereward_ext.webui.job.arrangement import Arrangement, ResultLists, as_they_are, take_apart
from imagereward_ext.webui.job.instructions import Instructions, instructions_of
from imagereward_ext.webui.job.report import report
from imagereward_ext.webui.job.score_fields import install
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.job.scoring_job import ScoringJob, forget_job, running_job, take_in_hand
from imagereward_ext.webui.job.verdict import judge
from imagereward_ext.webui.options import (
    AS_IN_SETTINGS,
    ON,
    ScoringRequest,
    Settings,
    read_arguments,
    read_request,
)
from imagereward_ext.webui.service import Service, error_message, log

AESTHETIC = "aesthetic_score"


def begin(p: Any, arguments: Sequence[Any], service: Service) -> None:
    """Decide, when a job starts, whether and how its images are scored."""
    forget_job(p)
    # ADetailer's inner jobs paint a face, some scripts make tiles: an image is scored when it is whole.
    if getattr(p, "_ad_inner", False) or other_scripts.makes_parts(p):
        return
    settings, instructions = service.settings(), instructions_of(p)
    request, problems = _wanted(arguments, instructions)
    if instructions.request is None and not _is_wanted(request, settings):
        return
    if getattr(p, "txt2img_upscale", False):  # the gallery's hires button: somebody chose this very image
        request = replace(request, filter_low=False, keep_best=0, sort=False)
    job = ScoringJob(p, service, settings, request, instructions, service.wish(request.scorer))
    for problem in problems:
        job.note(problem)
    job.shows_all = instructions.request is None and other_scripts.needs_every_image(p)
    job.plot = plots.plot_of(p)
    job.grid_was_off = p.do_not_save_grid
    if (request.rearranges and not job.shows_all) or instructions.collects:
        p.do_not_save_grid = True  # the host would draw it before anything is filtered


def _wanted(arguments: Sequence[Any], instructions: Instructions) -> tuple[ScoringRequest, tuple[str, ...]]:
    """Read what is wanted, and what of it made no sense: the script's request, else the panel's; the axes of a plot win over both."""
    if instructions.request is not None:
        request, problems = instructions.request, instructions.problems
    else:
        reading = read_arguments(arguments, always_on=True)
        request, problems = reading.values, reading.problems
    axes = read_request(instructions.axes)
    request = replace(request, **{name: getattr(axes.values, name) for name in instructions.axes})
    return request, (*problems, *axes.problems)


def _is_wanted(request: ScoringRequest, settings: Settings) -> bool:
    return request.score == ON or (request.score == AS_IN_SETTINGS and settings.always_score)


def score_image(p: Any, image: Any) -> None:
    """Score one final image. Whatever goes wrong, the image goes on its way."""
    job = running_job(p)
    if job is None:
        return
    take_in_hand(job)
    mark = None
    if job.service.host.jobs.half_done():
        job.cut_short = True
        job.note("an image that was cut short is not scored")
    elif not job.failed:
        mark = _score(job, image)
    scored = ScoredImage(image, mark, place=(p.iteration, p.batch_index))
    job.images.append(scored)
    if mark is None:
        return
    job.scored_by = mark
    if job.settings.score_in_file:
        scored.fields = _fields(job, mark)
        install(p.extra_generation_params, scored.fields)
    if not job.instructions.draft:
        job.service.history(mark.label, mark.digest).add(mark.value)


def _score(job: ScoringJob, image: Any) -> ScoreMark | None:
    text = job.settings.text
    try:
        (mark,) = job.service.score([image], [text or plain_prompt(_prompt_of(job.p))], job.wish)
    except Exception as error:
        job.failed = True  # the next image would fail the same way, after another minute of loading
        sentence = f"not scored: {error_message(error)}"
        log.warning(sentence)
        job.note(sentence)
        return None
    if mark is None:
        job.note("the scorer gave no number for an image; it is not scored")
        return None
    return replace(mark, prompt=text or None)


def _prompt_of(p: Any) -> str:
    prompts = p.prompts or []
    index = p.batch_index
    return str(prompts[index]) if index < len(prompts) else str(p.prompt)


def _fields(job: ScoringJob, mark: ScoreMark) -> dict[str, str]:
    fields = mark.fields(job.settings.decimals)
    if job.settings.aesthetic_score:
        percentile = job.percentile(mark)
        if percentile is not None:
            fields[AESTHETIC] = aesthetic_score(percentile)
    return fields


def conclude(p: Any, processed: Any) -> None:
    """Keep, reject and arrange what a job made, once it is over."""
    job = running_job(p)
    if job is None:
        return
    job.finished = True
    p.do_not_save_grid = job.grid_was_off
    job.service.job_over()
    lists = ResultLists.read(processed)
    arrangement = take_apart(lists, job.images, job.service.host.images.masks_per_image(p))
    if arrangement is None:
        job.note("another extension changed the list of images: nothing was filtered or sorted")
    if job.instructions.collects:
        job.instructions.collected += as_they_are(lists) if arrangement is None else arrangement.images
        return
    if arrangement is not None and job.request.rearranges:
        _apply_request(job, processed, lists, arrangement)
    report(job, processed, job.images)


def _apply_request(job: ScoringJob, processed: Any, lists: ResultLists, arrangement: Arrangement) -> None:
    verdict = judge(arrangement.images, job.request)
    job.note(verdict.message)
    if not job.shows_all:
        gallery.arrange(job, processed, lists, verdict, list(arrangement.others))
        return
    for image in verdict.rejected:
        gallery.put_aside(image, job)
    if verdict.rejected:
        job.note("the other script needs every image, so all are shown")
