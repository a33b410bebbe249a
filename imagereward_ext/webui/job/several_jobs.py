"""What the script in the dropdown does: one job as it is, or several of them put together to one result."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from imagereward_ext.settings import Reading
from imagereward_ext.webui.job import gallery
from imagereward_ext.webui.job.arrangement import ResultLists
from imagereward_ext.webui.job.hires_for_passing import Tally, draft_then_hires
from imagereward_ext.webui.job.instructions import Instructions
from imagereward_ext.webui.job.report import report
from imagereward_ext.webui.job.scored_image import ScoredImage
from imagereward_ext.webui.job.scoring_job import ScoringJob, scoring_job
from imagereward_ext.webui.job.verdict import judge, passing_score
from imagereward_ext.webui.options import ScoringRequest
from imagereward_ext.webui.service import Service, error_message


def run(p: Any, reading: Reading[ScoringRequest], service: Service) -> Any:
    """Run the host's job as it is wanted, or several jobs where it takes more than one."""
    request = reading.values
    if getattr(p, "txt2img_upscale", False):  # the gallery's hires button wants one image, and no other
        request = replace(request, until=0, hires_for_passing=False)
    gated = request.hires_for_passing and getattr(p, "enable_hr", False)
    if (request.until or gated) and "limit" not in reading.problem_of:
        request = replace(request, filter_low=True)
    problems = reading.problems
    if request.hires_for_passing and not gated:
        problems += ("Hires fix only for images that pass does nothing where Hires. fix is off",)
    if not request.until and not gated:
        Instructions(request, problems).give_to(p)
        return service.host.jobs.generate(p)
    return _Several(p, request, problems, gated, service).run()


@dataclass
class _Several:
    """Jobs of one press of Generate, and what they made so far."""

    p: Any
    request: ScoringRequest
    problems: tuple[str, ...]
    gated: bool
    service: Service
    images: list[ScoredImage] = field(default_factory=list)
    settled: list[ScoredImage] = field(default_factory=list)
    """Rejected images that are dealt with already, so that a long run does not hold them all."""
    first_result: Any = None
    first_ran: Any = None
    """The host's processing object of the first result; its scoring stands for that of all others."""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tally = Tally(passing_score(self.request))

    @property
    def job(self) -> ScoringJob | None:
        """The scoring of all jobs; None when the always-on script is switched off in the host's settings."""
        return scoring_job(self.first_ran)

    def run(self) -> Any:
        """Try until enough images pass, the cap is reached, or the user stops."""
        jobs = self.service.host.jobs
        jobs.fix_seeds(self.p)
        tries = self.request.tries if self.request.until else 1
        offset = number = 0
        while number < tries and not (number and jobs.stopped()):
            self._announce(number, tries)
            try:
                offset += self._attempt(offset)
            except Exception as error:
                if self.first_result is None:
                    raise
                self.notes.append(
                    f"a later try failed: {error_message(error)}"
                )  # what is made already is kept
                break
            number += 1
            job = self.job
            if job is None or self._passed() >= self.request.until or self._hopeless():
                break
            self._settle_rejected(job)
        return self._conclude(number)

    def _attempt(self, offset: int) -> int:
        p = self._copy_with_seeds(offset)
        instructions = Instructions(self.request, self.problems, collects=True, notes=self.notes)
        instructions.give_to(p)
        if self.gated:
            result, ran = draft_then_hires(p, instructions, self.tally, self.service)
        else:
            result, ran = self.service.host.jobs.generate(p), p
        if self.first_result is None:
            self.first_result, self.first_ran = result, ran
        elif self.job is not None:
            self.job.speak_for(scoring_job(ran))
        self.images += instructions.collected
        return len(p.all_prompts or [])

    def _copy_with_seeds(self, offset: int) -> Any:
        """Copy the job so that its seeds (with variation, its variation seeds) continue the sequence."""
        p = copy(self.p)
        p.styles = list(p.styles)
        p.extra_generation_params = dict(p.extra_generation_params)
        if p.subseed_strength == 0:
            p.seed = _advanced(p.seed, offset)
        p.subseed = _advanced(p.subseed, offset)
        return p

    def _passed(self) -> int:
        return judge(self.images, replace(self.request, keep_best=0)).passed

    def _hopeless(self) -> bool:
        """Whether nothing gets a score, for another reason than Skip."""
        unscored = bool(self.images) and all(image.score is None for image in self.images)
        return unscored and not (self.job is not None and self.job.cut_short)

    def _settle_rejected(self, job: ScoringJob) -> None:
        """Put aside what is below the limit, except the best so far, which may be all there is to keep."""
        scored = [image for image in self.images if image.score is not None]
        best = max(scored, key=lambda image: image.score or 0.0, default=None)
        for image in scored:
            if image is not best and (image.score or 0.0) < passing_score(self.request):
                gallery.put_aside(image, job)
                image.let_go()
                self.settled.append(image)
                self.images.remove(image)

    def _announce(self, number: int, tries: int) -> None:
        jobs, p = self.service.host.jobs, self.p
        passes = 2 if getattr(p, "enable_hr", False) else 1
        jobs.expect(p.n_iter * (tries - number) * passes, p.steps * p.n_iter * (tries - number) * passes)
        if self.request.until:
            jobs.tell(
                f"{self._passed()} of {self.request.until} images passed; try {number + 1} of at most {tries}"
            )

    def _conclude(self, tries: int) -> Any:
        job, result = self.job, self.first_result
        if job is None:
            return result
        verdict = judge([*self.images, *self.settled], self.request)
        job.note(str(self.tally))
        job.note(verdict.message)
        if verdict.passed < self.request.until:
            job.note(self._why_so_few(verdict.passed, tries))
        gallery.arrange(job, result, ResultLists.read(result), verdict, [])
        report(job, result, self.images)
        return result

    def _why_so_few(self, passed: int, tries: int) -> str:
        made = f"{tries} tries" if tries > 1 else "one try"
        wanted = f"{passed} of the {self.request.until} wanted"
        if self.service.host.jobs.stopped():
            return f"you stopped it after {made}: {wanted}"
        if self._hopeless():
            return f"stopped after {made}, as without a score nothing can pass: {wanted}"
        cap = " (the cap)" if tries == self.request.tries else ""
        return f"stopped after {made}{cap}: {wanted}"


def _advanced(seed: Any, offset: int) -> Any:
    return [s + offset for s in seed] if isinstance(seed, list) else int(seed) + offset
