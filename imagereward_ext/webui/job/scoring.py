"""What happens to a job of the host: score each final image, write it down, then keep, reject and arrange.

This is the only code path. The always-on script calls it for every job; the script in the dropdown only leaves a
:class:`Plan` on the host's processing object, which is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.hosts import Sample
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.residency import Wish
from imagereward_ext.webui.history import aesthetic_score
from imagereward_ext.webui.job import other_scripts, plots, rejected_files
from imagereward_ext.webui.job.arrangement import (
    Entry,
    Final,
    Lists,
    Taken,
    as_they_are,
    put_together,
    take_apart,
)
from imagereward_ext.webui.job.score_fields import GRID_MARK, JOB_MARK, SCORE_MARK, install, readable
from imagereward_ext.webui.job.verdict import Candidate, Verdict, judge
from imagereward_ext.webui.options import (
    AS_IN_SETTINGS,
    DISCARD,
    ON,
    TO_FOLDER,
    ScoringRequest,
    Settings,
    read_arguments,
    read_request,
)
from imagereward_ext.webui.service import Scored, Service, log, plain

PLAN_MARK = "_imagereward_plan"
AESTHETIC = "aesthetic_score"
ANSWER = "ImageReward scores"
"""The key of our part in the `extra_generation_params` of an API answer's `info`."""


@dataclass
class Plan:
    """What the script in the dropdown wants of the next job."""

    request: ScoringRequest
    problems: tuple[str, ...] = ()
    collected: list[Entry] | None = None
    """Where finished images go when the script puts several jobs together itself; None leaves it to the job."""
    draft: bool = False
    """True for small first passes, whose scores nobody sees."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user, one list for all jobs of the script."""

    def note(self, sentence: str) -> None:
        """Remember a sentence for the user, once."""
        _remember(self.notes, sentence)


@dataclass
class ScoredJob:
    """One job of the host while it is being scored; it hangs on the host's processing object."""

    owner: int
    """The `id` of that object: ADetailer calls hooks with copies of it, which are no jobs of their own."""
    request: ScoringRequest
    settings: Settings
    wish: Wish
    plan: Plan | None = None
    notes: list[str] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    fields: dict[tuple[int, int], Mapping[str, str]] = field(default_factory=dict)
    scored_by: Scored | None = None
    failed: bool = False
    cut_short: bool = False
    shows_all: bool = False
    """True when another script counts on every image: files are put aside, but nothing leaves the list."""
    finished: bool = False
    grid_was_off: bool = False
    plot: plots.Plot | None = None

    def fields_now(self, p: Any) -> Mapping[str, str]:
        """Return what the infotext of the image at hand says about its score."""
        key = (getattr(p, "iteration", -1), getattr(p, "batch_index", -1))
        over = self.finished or any(hasattr(final.image, GRID_MARK) for final in self.finals)
        return {} if over else self.fields.get(key, {})

    def note(self, sentence: str) -> None:
        """Remember a sentence for the user, once."""
        _remember(self.notes, sentence)


def _remember(notes: list[str], sentence: str) -> None:
    if sentence and sentence not in notes:
        notes.append(sentence)


def begin(p: Any, arguments: Sequence[Any], service: Service) -> None:
    """Decide, when a job starts, whether and how its images are scored."""
    setattr(p, JOB_MARK, None)
    # ADetailer's inner jobs paint a face, some scripts make tiles: an image is scored when it is whole.
    if getattr(p, "_ad_inner", False) or other_scripts.makes_parts(p):
        return
    plan: Plan | None = getattr(p, PLAN_MARK, None)
    settings = service.settings()
    if plan is not None:
        request, problems = plan.request, plan.problems
    else:
        reading = read_arguments(arguments, always_on=True)
        request, problems = reading.values, reading.problems
    overrides = getattr(p, plots.OVERRIDES_MARK, {})
    reading = read_request(overrides)
    request = replace(request, **{name: getattr(reading.values, name) for name in overrides})
    if (
        plan is None
        and request.score != ON
        and not (request.score == AS_IN_SETTINGS and settings.always_score)
    ):
        return
    if getattr(p, "txt2img_upscale", False):  # the gallery's hires button: somebody chose this very image
        request = replace(request, filter_low=False, keep_best=0, sort=False)
    job = ScoredJob(id(p), request, settings, service.wish(request.scorer), plan)
    if plan is not None:
        job.notes = plan.notes
    for problem in (*problems, *reading.problems):
        job.note(problem)
    job.shows_all = plan is None and other_scripts.needs_every_image(p)
    job.plot = plots.plot_of(p)
    job.grid_was_off = p.do_not_save_grid
    if (request.rearranges and not job.shows_all) or (plan is not None and plan.collected is not None):
        p.do_not_save_grid = True  # the host would draw it before anything is filtered
    setattr(p, JOB_MARK, job)


def later(before: ScoredJob | None, job: ScoredJob | None) -> ScoredJob | None:
    """Return the later one of two jobs; it speaks for both, even if it was stopped before it scored anything."""
    if job is None or before is None:
        return job or before
    job.scored_by = job.scored_by or before.scored_by
    return job


def job_of(p: Any) -> ScoredJob | None:
    """Return the job that is being scored, if this is the host's own object of it and it is not over."""
    job: ScoredJob | None = getattr(p, JOB_MARK, None)
    return None if job is None or job.finished or job.owner != id(p) else job


def score_image(p: Any, image: Any, service: Service) -> None:
    """Score one final image. Whatever goes wrong, the image goes on its way."""
    job = job_of(p)
    if job is None:
        return
    prompt = job.settings.text or plain_prompt(_prompt_of(p))
    scored = None
    if service.host.half_done():
        job.cut_short = True
        job.note("an image that was cut short is not scored")
    elif not job.failed:
        scored = _try_to_score(job, image, prompt, service)
    job.finals.append(Final(image, scored.score if scored else None))
    if scored is None:
        return
    job.scored_by = scored
    setattr(image, SCORE_MARK, scored.score)
    if job.plot is not None and job.settings.draw_in_plots:
        plots.mark_to_be_drawn(image, scored.score)
    if job.settings.score_in_file:
        fields = _fields(job, scored, service)
        job.fields[p.iteration, p.batch_index] = fields
        install(p.extra_generation_params, fields)
    if job.plan is None or not job.plan.draft:
        service.history(scored.label, scored.digest).add(scored.score)


def conclude(p: Any, processed: Any, service: Service) -> None:
    """Keep, reject and arrange what a job made, once it is over."""
    job = job_of(p)
    if job is None:
        return
    job.finished = True
    p.do_not_save_grid = job.grid_was_off
    service.job_over()
    lists = lists_of(processed)
    taken = take_apart(lists, job.finals, service.host.masks_per_image(p))
    for entry in taken.entries if taken else []:
        if entry.score is not None:  # another script may have put a new image in the old one's place
            setattr(entry.image, SCORE_MARK, entry.score)
    if taken is None:
        job.note("another extension changed the list of images: nothing was filtered or sorted")
    if job.plan is not None and job.plan.collected is not None:
        job.plan.collected += as_they_are(lists) if taken is None else taken.entries
        return
    if taken is not None and job.request.rearranges:
        verdict = judge(candidates(taken.entries), job.request)
        job.note(verdict.message)
        if job.shows_all:
            for index in verdict.rejected:
                put_aside(taken.entries[index], job, service)
            if verdict.rejected:
                job.note("the other script needs every image, so all are shown")
        else:
            arrange(p, processed, taken, lists, verdict, job, service)
    report(p, processed, job, service)


def candidates(entries: Sequence[Entry]) -> list[Candidate]:
    """Return what the rules look at."""
    return [Candidate(entry.score, entry.prompt) for entry in entries]


def arrange(
    p: Any, processed: Any, taken: Taken, lists: Lists, verdict: Verdict, job: ScoredJob, service: Service
) -> None:
    """Put rejected files aside, draw the grid again and hand the host what is left."""
    moved = [put_aside(taken.entries[index], job, service) for index in verdict.rejected]
    if not verdict.shown and moved and all(moved):  # an empty gallery leaves one wondering
        job.note(f"the files are in the folder {job.settings.rejected_folder or rejected_files.BESIDE}")
    left = Taken([taken.entries[index] for index in verdict.shown], taken.loose)
    grid, text = _draw_grid(p, left.entries, job, service)
    write_lists(processed, put_together(left, lists, grid, text), text)


def _draw_grid(p: Any, entries: Sequence[Entry], job: ScoredJob, service: Service) -> tuple[Any | None, str]:
    """Draw and save the grid of what is left; return it if the gallery shows grids. A full disk costs no image."""
    host = service.host
    try:
        text = host.grid_infotext(p)
        grid = host.grid_of([entry.image for entry in entries], p)
        if grid is None:
            return None, text
        if host.option("enable_pnginfo", True):
            grid.info["parameters"] = text
        host.save_grid(grid, p, Sample(grid, text, entries[0].prompt, entries[0].seed))
    except Exception as error:
        job.note(f"no grid: {plain(error)}")
        return None, ""
    return (grid if host.shows_grid() else None), text


def put_aside(entry: Entry, job: ScoredJob, service: Service) -> bool:
    """Move or delete the files of a rejected image and its masks; a failure leaves them there and says so.

    Return whether the image's file is in the rejected folder now.
    """
    try:
        for image in (entry.image, *entry.companions):
            _put_file_aside(image, job)
    except ImageRewardError as error:
        job.note(str(error))
        return False
    return job.request.rejected == TO_FOLDER and bool(getattr(entry.image, "already_saved_as", None))


def _put_file_aside(image: Any, job: ScoredJob) -> None:
    saved = getattr(image, "already_saved_as", None)
    if not saved:
        return
    if job.request.rejected == TO_FOLDER:
        folder = rejected_files.folder_for(Path(saved), job.settings.rejected_folder)
        image.already_saved_as = str(rejected_files.move(Path(saved), folder))
    elif job.request.rejected == DISCARD:
        rejected_files.discard(Path(saved))
        del image.already_saved_as


def report(p: Any, processed: Any, job: ScoredJob, service: Service) -> None:
    """Tell the user and the API: sentences under the gallery, numbers in the answer's `info`."""
    scores = [getattr(image, SCORE_MARK, None) for image in processed.images]
    answer: dict[str, Any] = {"scores": [_rounded(score, job.settings.decimals) for score in scores]}
    if job.scored_by:
        history = service.history(job.scored_by.label, job.scored_by.digest)
        places = [None if score is None else history.percentile(score) for score in scores]
        answer |= {"scorer": job.scored_by.label, "hash": job.scored_by.digest}
        answer["percentiles"] = [_rounded(place, 3) for place in places]
    if job.notes:
        answer["note"] = "; ".join(job.notes)
        sentence = f"ImageReward: {answer['note']}"
        processed.comments = f"{processed.comments or ''}{sentence}\n"
        p.comment(sentence)  # for another script, which makes one result of many
        log.info(answer["note"])
    processed.extra_generation_params = {**readable(p.extra_generation_params), ANSWER: answer}
    if job.plot is not None:
        job.plot.add_cell(processed, answer)


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(value, decimals)


def lists_of(processed: Any) -> Lists:
    """Read the host's parallel lists."""
    return Lists(
        images=list(processed.images),
        infotexts=list(processed.infotexts),
        prompts=list(processed.all_prompts),
        negative_prompts=list(processed.all_negative_prompts),
        seeds=list(processed.all_seeds),
        subseeds=list(processed.all_subseeds),
        first=processed.index_of_first_image,
    )


def write_lists(processed: Any, lists: Lists, without_images: str) -> None:
    """Give the host its lists back, and the single values it takes from the first of each."""
    processed.images = lists.images
    processed.infotexts = lists.infotexts
    processed.all_prompts = lists.prompts
    processed.all_negative_prompts = lists.negative_prompts
    processed.all_seeds = lists.seeds
    processed.all_subseeds = lists.subseeds
    processed.index_of_first_image = lists.first
    processed.info = lists.infotexts[0] if lists.infotexts else without_images
    if lists.seeds:
        processed.seed, processed.subseed = lists.seeds[0], lists.subseeds[0]


def _try_to_score(job: ScoredJob, image: Any, prompt: str, service: Service) -> Scored | None:
    try:
        (scored,) = service.score([image], [prompt], job.wish)
    except Exception as error:
        job.failed = True  # the next image would fail the same way, after another minute of loading
        sentence = f"not scored: {plain(error)}"
        log.warning(sentence)
        job.note(sentence)
        return None
    if scored is None:
        job.note("the scorer gave no number for an image; it is not scored")
    return scored


def _fields(job: ScoredJob, scored: Scored, service: Service) -> dict[str, str]:
    fields = scored.mark(job.settings).fields(job.settings.decimals)
    if job.settings.aesthetic_score:
        percentile = service.history(scored.label, scored.digest).percentile(scored.score)
        if percentile is not None:
            fields[AESTHETIC] = aesthetic_score(percentile)
    return fields


def _prompt_of(p: Any) -> str:
    prompts = p.prompts or []
    index = p.batch_index
    return str(prompts[index]) if index < len(prompts) else str(p.prompt)
