"""Hires fix only for what passes: small first, judged, and only the good ones are worked out in full size.

The host can start its second pass from a finished small image, one image per job. Other scripts' image hooks
stay out of the first pass, so that ADetailer repaints a face once, in the full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from imagereward_ext.hosts import Sample
from imagereward_ext.webui.job import scoring
from imagereward_ext.webui.job.instructions import Instructions
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.job.scoring_job import scoring_job
from imagereward_ext.webui.service import Service, error_message


@dataclass
class Tally:
    """How many small images were judged and passed, and how many large ones were and did."""

    limit: float
    small: int = 0
    passed: int = 0
    large: int = 0
    held: int = 0

    def add(self, small: Sequence[ScoredImage], large: Sequence[ScoredImage]) -> None:
        """Count the images of one attempt."""
        drafts = [image.score for image in small if image.score is not None]
        finished = [image.score for image in large if image.score is not None]
        self.small += len(drafts)
        self.passed += sum(score >= self.limit for score in drafts)
        self.large += len(finished)
        self.held += sum(score >= self.limit for score in finished)

    def __str__(self) -> str:
        """Tell of images that were good enough only as long as they were small."""
        if self.held == self.large:
            return ""
        return f"{self.passed} of {self.small} passed when small; {self.held} of {self.large} after the hires fix"


def draft_then_hires(job: Any, instructions: Instructions, tally: Tally, service: Service) -> tuple[Any, Any]:
    """Make small images and upscale those that pass; all finished ones are collected by the instructions.

    Return the host's last result and the job it came from.
    """
    jobs = service.host.jobs
    drafts = replace(instructions, collected=[], draft=True)
    small = _draft_job(job, drafts, service)
    result, ran = jobs.generate(small), small
    job.all_prompts = small.all_prompts
    passing = _passing(drafts.collected, tally.limit, skipped=_cut_short(small))
    jobs.expect(len(passing) * 2, (job.hr_second_pass_steps or job.steps) * len(passing))
    enlarged: list[ScoredImage] = []
    failed = False
    for number, image in enumerate(passing, start=1):
        if failed or jobs.stopped():
            break
        jobs.tell(f"Hires fix for image {number} of {len(passing)} that passed")
        large = _hires_job(job, instructions, image, service)
        known = len(instructions.collected)
        try:
            result = jobs.generate(large)
            ran = large
        except Exception as error:
            failed = True
            instructions.note(f"hires fix failed, so the rest stays small: {error_message(error)}")
        # Stopped at its very start, a job makes nothing; stopped later, it makes nothing that is finished.
        if len(instructions.collected) > known and not _cut_short(large):
            enlarged.append(image)
    tally.add(drafts.collected, instructions.collected)
    small.do_not_save_samples = job.do_not_save_samples
    _keep_small(small, [image for image in drafts.collected if image not in enlarged], instructions, service)
    ran.batch_size = job.batch_size  # the grid of all of them has as many rows as if it were one job
    drafted, finished = scoring_job(small), scoring_job(ran)
    if drafted is not None and finished is not None:  # which may have been stopped before it scored anything
        finished.scored_by = finished.scored_by or drafted.scored_by
    return result, ran


def _passing(images: list[ScoredImage], limit: float, *, skipped: bool) -> list[ScoredImage]:
    """Without a score nobody judged it, so it passes; but what the user skipped is worth no further work."""
    return [image for image in images if (not skipped if image.score is None else image.score >= limit)]


def _keep_small(small: Any, images: list[ScoredImage], instructions: Instructions, service: Service) -> None:
    """Save what stays small, as the host saves what a job makes, and count it among the finished images."""
    for image in images:
        skipped = _cut_short(small) and image.score is None
        if not skipped or service.host.option("save_incomplete_images"):
            try:
                sample = Sample(image.image, image.infotext, image.prompt, image.seed)
                service.host.images.save(small, sample)
            except Exception as error:  # a full disk costs no image
                instructions.note(f"a small image was not saved: {error_message(error)}")
        instructions.collected.append(image)


def _cut_short(p: Any) -> bool:
    job = scoring_job(p)
    return job is not None and job.cut_short


def _draft_job(job: Any, drafts: Instructions, service: Service) -> Any:
    small = copy(job)
    small.enable_hr = small.restore_faces = False  # faces are restored once, in the full size
    small.do_not_save_samples = True
    small.extra_generation_params = dict(job.extra_generation_params)
    small.scripts = without_image_hooks(job.scripts, service)
    drafts.give_to(small)
    return small


def _hires_job(job: Any, instructions: Instructions, image: ScoredImage, service: Service) -> Any:
    """Continue one small image: its own seed and its resolved prompt, styles included."""
    large = copy(job)
    large.extra_generation_params = dict(job.extra_generation_params)
    large.hr_prompt, large.hr_negative_prompt = service.host.jobs.hires_prompts(job)
    large.prompt, large.negative_prompt, large.styles = image.prompt, image.negative_prompt, []
    large.seed, large.subseed = image.seed, image.subseed
    large.batch_size = large.n_iter = 1
    large.firstpass_image = image.image.convert("RGB")
    large.txt2img_upscale = True  # the host's own word for a job without first pass
    instructions.give_to(large)
    return large


def without_image_hooks(runner: Any, service: Service) -> Any:
    """Copy the host's script runner, except that only our own scoring sees finished images.

    A copy is what other scripts can take for the host's own, and copy again.
    """

    def leave_alone(p: Any, image: Any) -> None:
        return None

    def score(p: Any, pp: Any) -> None:
        scoring.score_image(p, pp.image)

    quiet = copy(runner)
    quiet.postprocess_image = quiet.postprocess_maskoverlay = leave_alone
    quiet.postprocess_image_after_composite = score
    return quiet
