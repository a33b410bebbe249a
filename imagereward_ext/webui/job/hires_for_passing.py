"""Hires fix only for what passes: small first, judged, and only the good ones are worked out in full size.

The host can start its second pass from a finished small image, one image per job. Other scripts' image hooks
stay out of the first pass, so that ADetailer repaints a face once, in the full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from imagereward_ext.hosts import Sample
from imagereward_ext.webui.job import scoring
from imagereward_ext.webui.job.arrangement import Entry
from imagereward_ext.webui.job.score_fields import JOB_MARK
from imagereward_ext.webui.job.scoring import PLAN_MARK, Plan, ScoredJob
from imagereward_ext.webui.job.verdict import floor
from imagereward_ext.webui.service import Service, plain


@dataclass
class Tally:
    """How many small images were judged and passed, and how many large ones were and did."""

    small: int = 0
    passed: int = 0
    large: int = 0
    held: int = 0

    def add(self, small: Sequence[Entry], large: Sequence[Entry], limit: float) -> None:
        """Count the images of one attempt."""
        drafts = [entry.score for entry in small if entry.score is not None]
        finished = [entry.score for entry in large if entry.score is not None]
        self.small += len(drafts)
        self.passed += sum(score >= limit for score in drafts)
        self.large += len(finished)
        self.held += sum(score >= limit for score in finished)

    def __str__(self) -> str:
        """Tell of images that were good enough only as long as they were small."""
        if self.held == self.large:
            return ""
        return f"{self.passed} of {self.small} passed when small; {self.held} of {self.large} after the hires fix"


def draft_then_hires(job: Any, plan: Plan, tally: Tally, service: Service) -> tuple[Any, Any]:
    """Make small images and upscale those that pass; all finished ones end up in the plan.

    Return the host's last result and the job it came from.
    """
    drafts = Plan(plan.request, plan.problems, collected=[], draft=True, notes=plan.notes)
    ran = small = _draft_job(job, drafts, service)
    result = service.host.generate(small)
    job.all_prompts = small.all_prompts
    if drafts.collected is None or plan.collected is None:
        return result, ran
    # Without a score nobody judged it, so it passes; but what the user skipped is worth no further work.
    skipped = _cut_short(small)
    passing = [
        entry
        for entry in drafts.collected
        if (not skipped if entry.score is None else entry.score >= floor(plan.request))
    ]
    service.host.expect(len(passing) * 2, (job.hr_second_pass_steps or job.steps) * len(passing))
    grown: list[Entry] = []
    failed = False
    for number, entry in enumerate(passing, start=1):
        if failed or service.host.stopped():
            break
        service.host.tell(f"Hires fix for image {number} of {len(passing)} that passed")
        large = _hires_job(job, plan, entry, service)
        known = len(plan.collected)
        try:
            result = service.host.generate(large)
            ran = large
        except Exception as error:
            failed = True
            plan.note(f"hires fix failed, so the rest stays small: {plain(error)}")
        # Stopped at its very start, a job makes nothing; stopped later, it makes nothing that is finished.
        if len(plan.collected) > known and not _cut_short(large):
            grown.append(entry)
    tally.add(drafts.collected, plan.collected, floor(plan.request))
    small.do_not_save_samples = job.do_not_save_samples
    for entry in drafts.collected:
        if entry not in grown:  # as small as it is, it was made: from here on it is an image like any other
            _save(small, entry, plan, service, cut_short=skipped and entry.score is None)
            plan.collected.append(entry)
    ran.batch_size = job.batch_size  # the grid of all of them has as many rows as if it were one job
    setattr(job, JOB_MARK, scoring.later(getattr(small, JOB_MARK, None), getattr(ran, JOB_MARK, None)))
    return result, ran


def _cut_short(job: Any) -> bool:
    mark: ScoredJob | None = getattr(job, JOB_MARK, None)
    return mark is not None and mark.cut_short


def _draft_job(job: Any, drafts: Plan, service: Service) -> Any:
    small = copy(job)
    small.enable_hr = small.restore_faces = False  # faces are restored once, in the full size
    small.do_not_save_samples = True
    small.extra_generation_params = dict(job.extra_generation_params)
    small.scripts = without_image_hooks(job.scripts, service)
    setattr(small, PLAN_MARK, drafts)
    return small


def _save(small: Any, entry: Entry, plan: Plan, service: Service, *, cut_short: bool) -> None:
    """Save what stays small, as the host saves what a job makes. A full disk costs no image."""
    if cut_short and not service.host.option("save_incomplete_images"):
        return
    try:
        service.host.save_sample(small, Sample(entry.image, entry.infotext, entry.prompt, entry.seed))
    except Exception as error:
        plan.note(f"a small image was not saved: {plain(error)}")


def _hires_job(job: Any, plan: Plan, entry: Entry, service: Service) -> Any:
    """Continue one small image: its own seed and its resolved prompt, styles included."""
    large = copy(job)
    large.extra_generation_params = dict(job.extra_generation_params)
    large.hr_prompt, large.hr_negative_prompt = service.host.hires_prompts(job)
    large.prompt, large.negative_prompt, large.styles = entry.prompt, entry.negative_prompt, []
    large.seed, large.subseed = entry.seed, entry.subseed
    large.batch_size = large.n_iter = 1
    large.firstpass_image = entry.image.convert("RGB")
    large.txt2img_upscale = True  # the host's own word for a job without first pass
    setattr(large, PLAN_MARK, plan)
    return large


def without_image_hooks(runner: Any, service: Service) -> Any:
    """Copy the host's script runner, except that only our own scoring sees finished images.

    A copy is what other scripts can take for the host's own, and copy again.
    """

    def leave_alone(p: Any, image: Any) -> None:
        return None

    def score(p: Any, pp: Any) -> None:
        scoring.score_image(p, pp.image, service)

    quiet = copy(runner)
    quiet.postprocess_image = quiet.postprocess_maskoverlay = leave_alone
    quiet.postprocess_image_after_composite = score
    return quiet
