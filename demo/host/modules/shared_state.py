"""The job that runs now: how far it is, and what was asked of it (skip, interrupt, stop)."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

from PIL import Image

from modules import errors

TOLD = (
    "skipped interrupted stopping_generation job job_count job_timestamp job_no sampling_step sampling_steps"
)


class State:
    draw_preview: Callable[[Any], Image.Image] | None = None
    """Latents to a picture; whoever samples says how."""

    def __init__(self) -> None:
        self.restart_wanted = threading.Event()
        self.job_timestamp = "0"
        self.begin("")
        self.end()

    def begin(self, job: str | None = "(unknown)") -> None:
        self.job, self.job_no, self.job_count = job, 0, -1  # -1: the job has not said how long it is
        self.job_timestamp = datetime.datetime.now().strftime("%Y%m%d%H%M%S")
        self.sampling_step = self.sampling_steps = 0
        self.current_image_sampling_step = self.id_live_preview = 0
        self.current_latent: Any = None
        self.current_image: Image.Image | None = None
        self.textinfo: str | None = None
        self.skipped = self.interrupted = self.stopping_generation = False
        self.processing_has_refined_job_count = False

    def end(self) -> None:
        self.job, self.job_count, self.current_latent = "", 0, None

    def request_restart(self) -> None:
        self.interrupt()
        self.restart_wanted.set()

    def skip(self) -> None:
        self.skipped = True

    def interrupt(self) -> None:
        self.interrupted = True

    def nextjob(self) -> None:
        self.job_no += 1
        self.sampling_step = self.current_image_sampling_step = 0

    def dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TOLD.split()}

    def fraction_done(self) -> float:
        """0..1 of the running job: whole parts done, and the steps of the part in hand."""
        if self.job_count <= 0:
            return 0.0
        within = self.sampling_step / self.sampling_steps if self.sampling_steps > 0 else 0.0
        return min((self.job_no + within) / self.job_count, 1.0)

    def set_current_image(self, every: int) -> None:
        """Draw the preview anew, if enough steps have passed since the last one."""
        latent = self.current_latent
        if latent is None or self.draw_preview is None or every <= 0:
            return
        if self.sampling_step - self.current_image_sampling_step < every:
            return
        try:
            self.current_image = self.draw_preview(latent)
            self.current_image_sampling_step = self.sampling_step
            self.id_live_preview += 1
        except Exception:  # the model may just be on its way out of memory
            errors.report("The preview could not be drawn", exc_info=True)
