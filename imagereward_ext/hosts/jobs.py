"""The jobs of a WebUI: how one is run, how far it is and whether it is to go on. All hosts do it alike."""

from __future__ import annotations

from typing import Any

from modules import processing, shared


class Jobs:
    """What the host generates. `job` is its own processing object."""

    def generate(self, job: Any) -> Any:
        """Run a job and return what the host makes of it."""
        return processing.process_images(job)

    def fix_seeds(self, job: Any) -> None:
        """Draw the seeds that are left to chance now, so that later jobs can continue their sequence."""
        if not isinstance(job.seed, list):
            job.seed = processing.get_fixed_seed(job.seed)
        if not isinstance(job.subseed, list):
            job.subseed = processing.get_fixed_seed(job.subseed)

    def hires_prompts(self, job: Any) -> tuple[str, str]:
        """Return a job's own prompts for its second pass with their styles applied, "" where it has none."""
        styles = shared.prompt_styles
        positive, negative = job.hr_prompt or "", job.hr_negative_prompt or ""
        return (
            styles.apply_styles_to_prompt(positive, job.styles) if positive else "",
            styles.apply_negative_styles_to_prompt(negative, job.styles) if negative else "",
        )

    def expect(self, batches: int, steps: int) -> None:
        """Tell the progress bar how many batches and sampling steps are still to come."""
        shared.state.job_count = shared.state.job_no + batches
        shared.state.processing_has_refined_job_count = True  # hires fix would double what is exact already
        shared.total_tqdm.updateTotal(steps)

    def tell(self, text: str) -> None:
        """Show a line beside the progress bar."""
        shared.state.textinfo = text

    def stopped(self) -> bool:
        """Whether the user asked to stop: no further image is to be started."""
        return bool(shared.state.interrupted or getattr(shared.state, "stopping_generation", False))

    def half_done(self) -> bool:
        """Whether the image at hand was cut short by Interrupt or Skip."""
        return bool(shared.state.interrupted or shared.state.skipped)
