"""What a verdict does to a finished job: rejected files are put aside, the grid is drawn again, the rest is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.hosts import Sample
from imagereward_ext.relocation import move_together
from imagereward_ext.webui.job import rejected_files
from imagereward_ext.webui.job.arrangement import Arrangement, ResultLists, put_together
from imagereward_ext.webui.job.scored_image import ScoredImage, saved_as
from imagereward_ext.webui.job.scoring_job import ScoringJob
from imagereward_ext.webui.job.verdict import Verdict
from imagereward_ext.webui.options import DISCARD, TO_FOLDER
from imagereward_ext.webui.service import error_message
from imagereward_ext.wording import visible


def arrange(job: ScoringJob, processed: Any, lists: ResultLists, verdict: Verdict, others: list[Any]) -> None:
    """Put rejected files aside, draw the grid again and hand the host what is left.

    `lists` are those of the host's result; `others` are its images of other extensions.
    """
    moved = [put_aside(image, job) for image in verdict.rejected if image.image is not None]
    if not verdict.shown and moved and all(moved):  # an empty gallery leaves one wondering
        job.note(f"the files are in the folder {job.settings.rejected_folder or rejected_files.BESIDE}")
    left = Arrangement(list(verdict.shown), others)
    grid, text = _draw_grid(job, left.images)
    put_together(left, lists, grid, text).write(processed, text)


def put_aside(rejected: ScoredImage, job: ScoringJob) -> bool:
    """Move or delete the files of a rejected image and its masks; a failure leaves them there and says so.

    Return whether the image's file is in the rejected folder now.
    """
    images = [image for image in (rejected.image, *rejected.companions) if saved_as(image) is not None]
    try:
        if job.request.rejected == TO_FOLDER:
            _move(images, job.settings.rejected_folder)
        elif job.request.rejected == DISCARD:
            _discard(images)
    except ImageRewardError as error:
        job.note(visible(str(error)))  # a setting may have anything in it
        return False
    return job.request.rejected == TO_FOLDER and rejected.file is not None


def _move(images: Sequence[Any], setting: str) -> None:
    files = [Path(image.already_saved_as) for image in images]
    targets = move_together([(file, rejected_files.folder_for(file, setting)) for file in files])
    for image, target in zip(images, targets, strict=True):
        image.already_saved_as = str(target)


def _discard(images: Sequence[Any]) -> None:
    for image in images:
        rejected_files.discard(Path(image.already_saved_as))
        del image.already_saved_as


def _draw_grid(job: ScoringJob, images: list[ScoredImage]) -> tuple[Any | None, str]:
    """Draw and save the grid of what is left; return it if the gallery shows grids. A full disk costs no image."""
    host, p = job.service.host, job.p
    try:
        text = host.images.grid_infotext(p)
        grid = host.images.grid([image.image for image in images], p)
        if grid is None:
            return None, text
        if host.option("enable_pnginfo", True):
            grid.info["parameters"] = text
        host.images.save_grid(p, Sample(grid, text, images[0].prompt, images[0].seed))
    except Exception as error:
        job.note(f"no grid: {error_message(error)}")
        return None, ""
    return (grid if host.option("return_grid") else None), text
