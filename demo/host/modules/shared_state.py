"""The job that runs now: how far it is, and what was asked of it (skip, interrupt, stop)."""

from __future__ import annotations

import datetime
import threading
import time
from typing import Any

from PIL import Image

from modules import errors


class State:
    skipped = False
    interrupted = False
    stopping_generation = False
    job: str | None = ""
    job_no = 0
    job_count = 0
    job_timestamp = "0"
    sampling_step = 0
    sampling_steps = 0
    current_latent: Any = None
    current_image: Image.Image | None = None
    current_image_sampling_step = 0
    id_live_preview = 0
    textinfo: str | None = None
    time_start = 0.0
    processing_has_refined_job_count = False

    def __init__(self) -> None:
        self.server_start = time.time()
        self._command: str | None = None
        self._command_given = threading.Event()

    @property
    def server_command(self) -> str | None:
        return self._command

    @server_command.setter
    def server_command(self, value: str | None) -> None:
        self._command = value
        self._command_given.set()

    @property
    def need_restart(self) -> bool:
        return self.server_command == "restart"

    def wait_for_server_command(self, timeout: float | None = None) -> str | None:
        if not self._command_given.wait(timeout):
            return None
        self._command_given.clear()
        command, self._command = self._command, None
        return command

    def request_restart(self) -> None:
        self.interrupt()
        self.server_command = "restart"

    def skip(self) -> None:
        self.skipped = True

    def interrupt(self) -> None:
        self.interrupted = True

    def stop_generating(self) -> None:
        self.stopping_generation = True

    def nextjob(self) -> None:
        self.job_no += 1
        self.sampling_step = 0
        self.current_image_sampling_step = 0

    def dict(self) -> dict[str, Any]:
        names = "skipped interrupted stopping_generation job job_count job_timestamp job_no sampling_step sampling_steps"
        return {name: getattr(self, name) for name in names.split()}

    def begin(self, job: str | None = "(unknown)") -> None:
        self.job, self.job_no, self.job_count = job, 0, -1  # -1: the job has not said how long it is
        self.time_start = time.time()
        self.job_timestamp = datetime.datetime.now().strftime("%Y%m%d%H%M%S")
        self.sampling_step = self.sampling_steps = self.current_image_sampling_step = self.id_live_preview = 0
        self.current_latent = self.current_image = self.textinfo = None
        self.skipped = self.interrupted = self.stopping_generation = False
        self.processing_has_refined_job_count = False

    def end(self) -> None:
        self.job, self.job_count = "", 0
        self.current_latent = None

    def set_current_image(self) -> None:
        """Draw the preview anew, if enough steps have passed since the last one."""
        from modules import shared

        every = shared.opts.show_progress_every_n_steps
        if (
            shared.opts.live_previews_enable
            and self.sampling_step - self.current_image_sampling_step >= every > 0
        ):
            self.do_set_current_image()

    def do_set_current_image(self) -> None:
        from modules import sd_samplers

        latent = self.current_latent
        if latent is None:
            return
        try:
            self.assign_current_image(sd_samplers.samples_to_image_grid(latent))
            self.current_image_sampling_step = self.sampling_step
        except Exception as e:  # the model may just be on its way out of memory
            errors.display(e, "drawing the preview")

    def assign_current_image(self, image: Image.Image) -> None:
        self.current_image = image
        self.id_live_preview += 1
