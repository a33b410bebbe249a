"""What the script in the dropdown does: one job as it is, or several of them put together to one result."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from imagereward_ext.settings import Reading
from imagereward_ext.webui.job import scoring
from imagereward_ext.webui.job.arrangement import Entry, Taken
from imagereward_ext.webui.job.hires_for_passing import Tally, draft_then_hires
from imagereward_ext.webui.job.score_fields import JOB_MARK
from imagereward_ext.webui.job.scoring import PLAN_MARK, Plan, ScoredJob
from imagereward_ext.webui.job.verdict import Candidate, floor, judge
from imagereward_ext.webui.options import ScoringRequest
from imagereward_ext.webui.service import Service, plain


def run(p: Any, reading: Reading[ScoringRequest], service: Service) -> Any:
    """Run the host's job with a plan, or several jobs when that is what the plan needs."""
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
        setattr(p, PLAN_MARK, Plan(request, problems))
        return service.host.generate(p)
    return _Several(p, request, problems, gated, service).run()


@dataclass
class _Several:
    """Jobs of one press of Generate, and what they made so far."""

    p: Any
    request: ScoringRequest
    problems: tuple[str, ...]
    gated: bool
    service: Service
    entries: list[Entry] = field(default_factory=list)
    settled: list[Candidate] = field(default_factory=list)
    """Rejected images that are dealt with already, so that a long run does not hold them all."""
    first_result: Any = None
    first_job: Any = None
    job: ScoredJob | None = None
    notes: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def run(self) -> Any:
        """Try until enough images pass, the cap is reached, or the user stops."""
        host = self.service.host
        host.fix_seeds(self.p)
        tries = self.request.tries if self.request.until else 1
        offset = number = 0
        while number < tries and not (number and host.stopped()):
            self._announce(number, tries)
            try:
                offset += self._attempt(offset)
            except Exception as error:
                if self.first_result is None:
                    raise
                self.notes.append(f"a later try failed: {plain(error)}")  # what is made already is kept
                break
            number += 1
            if self.job is None or self._passed() >= self.request.until or self._hopeless():
                break
            self._settle_rejected()
        return self._conclude(number)

    def _attempt(self, offset: int) -> int:
        job = self._copy_with_seeds(offset)
        plan = Plan(self.request, self.problems, collected=[], notes=self.notes)
        setattr(job, PLAN_MARK, plan)
        if self.gated:
            result, ran = draft_then_hires(job, plan, self.tally, self.service)
        else:
            result, ran = self.service.host.generate(job), job
        if self.first_result is None:
            self.first_result, self.first_job = result, ran
        self.entries += plan.collected or []
        self.job = scoring.later(self.job, getattr(job, JOB_MARK, None))
        return len(job.all_prompts or [])

    def _copy_with_seeds(self, offset: int) -> Any:
        """Copy the job so that its seeds (with variation, its variation seeds) continue the sequence."""
        job = copy(self.p)
        job.styles = list(job.styles)
        job.extra_generation_params = dict(job.extra_generation_params)
        if job.subseed_strength == 0:
            job.seed = _advanced(job.seed, offset)
        job.subseed = _advanced(job.subseed, offset)
        return job

    def _passed(self) -> int:
        return judge(scoring.candidates(self.entries), replace(self.request, keep_best=0)).passed

    def _hopeless(self) -> bool:
        """Whether nothing gets a score, for another reason than Skip."""
        unscored = bool(self.entries) and all(entry.score is None for entry in self.entries)
        return unscored and not (self.job is not None and self.job.cut_short)

    def _settle_rejected(self) -> None:
        """Put aside what is below the limit, except the best so far, which may be all there is to keep."""
        scored = [entry for entry in self.entries if entry.score is not None]
        best = max(scored, key=lambda entry: entry.score or 0.0, default=None)
        for entry in scored:
            if (
                entry is not best
                and entry.score is not None
                and entry.score < floor(self.request)
                and self.job
            ):
                scoring.put_aside(entry, self.job, self.service)
                self.settled.append(Candidate(entry.score, entry.prompt))
                self.entries.remove(entry)

    def _announce(self, number: int, tries: int) -> None:
        host, p = self.service.host, self.p
        passes = 2 if getattr(p, "enable_hr", False) else 1
        host.expect(p.n_iter * (tries - number) * passes, p.steps * p.n_iter * (tries - number) * passes)
        if self.request.until:
            host.tell(
                f"{self._passed()} of {self.request.until} images passed; try {number + 1} of at most {tries}"
            )

    def _conclude(self, tries: int) -> Any:
        job, result = self.job, self.first_result
        if job is None:  # the always-on script was switched off in the host's settings
            return result
        # Settled ones come last: they are in no list any more, only in the count.
        verdict = judge([*scoring.candidates(self.entries), *self.settled], self.request)
        job.note(str(self.tally))
        job.note(verdict.message)
        if verdict.passed < self.request.until:
            made = f"{tries} tries" if tries > 1 else "one try"
            wanted = f"{verdict.passed} of the {self.request.until} wanted"
            if self.service.host.stopped():
                job.note(f"you stopped it after {made}: {wanted}")
            elif self._hopeless():
                job.note(f"stopped after {made}, as without a score nothing can pass: {wanted}")
            else:
                cap = " (the cap)" if tries == self.request.tries else ""
                job.note(f"stopped after {made}{cap}: {wanted}")
        lists = scoring.lists_of(result)
        mine = range(len(self.entries))
        own = replace(
            verdict,
            shown=tuple(index for index in verdict.shown if index in mine),
            rejected=tuple(index for index in verdict.rejected if index in mine),
        )
        # The grid takes its file name and parameters from a job that has been run: the original never was.
        scoring.arrange(self.first_job, result, Taken(self.entries, []), lists, own, job, self.service)
        scoring.report(self.first_job, result, job, self.service)
        return result


def _advanced(seed: Any, offset: int) -> Any:
    return [s + offset for s in seed] if isinstance(seed, list) else int(seed) + offset
