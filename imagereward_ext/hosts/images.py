"""The images a WebUI makes: its grid, its masks, its files and what is written in them. All hosts do it alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import images, processing

from imagereward_ext.hosts.base import Sample


class Images:
    """What the host makes of finished images. `job` is its own processing object."""

    def __init__(self, option: Callable[[str], Any]) -> None:
        self._option = option
        """Returns one of the host's settings, None where it has none of that name."""

    def masks_per_image(self, job: Any) -> int:
        """Say how many mask images follow each image of a job in its results."""
        if getattr(job, "mask_for_overlay", None) is None:
            return 0
        return int(bool(self._option("return_mask"))) + int(bool(self._option("return_mask_composite")))

    def grid(self, cells: list[Any], job: Any) -> Any | None:
        """Draw the host's grid of some images, None where the user wants none."""
        wanted = self._option("return_grid") or self._option("grid_save")
        too_few = len(cells) < 2 and self._option("grid_only_if_multiple")
        if not cells or too_few or not wanted or job.do_not_save_grid:
            return None
        return images.image_grid(cells, job.batch_size)

    def grid_infotext(self, job: Any) -> str:
        """Write the parameters the host puts into a grid."""
        return str(
            processing.create_infotext(
                job,
                job.all_prompts,
                job.all_seeds,
                job.all_subseeds,
                use_main_prompt=True,
                all_negative_prompts=job.all_negative_prompts,
            )
        )

    def save_grid(self, job: Any, sample: Sample) -> None:
        """Save a grid where the host saves grids, if the user wants that."""
        if not self._option("grid_save"):
            return
        images.save_image(
            sample.image,
            job.outpath_grids,
            "grid",
            sample.seed,
            sample.prompt,
            self._option("grid_format"),
            info=sample.infotext,
            short_filename=not self._option("grid_extended_filename"),
            p=job,
            grid=True,
        )

    def save(self, job: Any, sample: Sample) -> None:
        """Save one image as the host saves the images of a job."""
        if job.do_not_save_samples or not self._option("samples_save"):
            return  # the job's own word would also depend on whether the user has stopped it meanwhile
        images.save_image(
            sample.image,
            job.outpath_samples,
            "",
            sample.seed,
            sample.prompt,
            self._option("samples_format"),
            info=sample.infotext,
            p=job,
        )

    def infotext(self, image: Any) -> str:
        """Read the parameters out of an image, wherever its format keeps them."""
        text, _ = images.read_info_from_image(image)
        return str(text or "")

    def font(self, size: int) -> Any:
        """Return a Pillow font the host draws its grids with."""
        return images.get_font(size)
