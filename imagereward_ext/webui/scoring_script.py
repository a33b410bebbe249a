"""The two Script classes the host registers: one sees every job, the other is chosen in the dropdown.

What they do in a job is imported by the first job: the WebUI's start does not wait for it.
"""

from __future__ import annotations

from typing import Any

from modules import scripts

from imagereward_ext.webui.options import read_arguments
from imagereward_ext.webui.page import panels
from imagereward_ext.webui.service import service

CHOSEN_TITLE = "ImageReward"
ALWAYS_ON_TITLE = "ImageReward scoring"
"""Different from the other title: the API takes the first script whose title matches."""


class ImageRewardScoring(scripts.Script):  # type: ignore[misc]  # the host's class has no types
    """Sees every job of the host; does nothing unless scoring is wanted."""

    def title(self) -> str:
        """Name the script for `alwayson_scripts`."""
        return ALWAYS_ON_TITLE

    def show(self, is_img2img: bool) -> Any:
        """Be part of every generation."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """Build the panel."""
        return panels.always_on_panel(_tab(is_img2img), service())

    def before_process(self, p: Any, *arguments: Any) -> None:
        """Decide whether this job is scored."""
        from imagereward_ext.webui.job import scoring

        scoring.begin(p, arguments, service())

    def postprocess_image_after_composite(self, p: Any, pp: Any, *arguments: Any) -> None:
        """Score the image as it will be saved."""
        from imagereward_ext.webui.job import scoring

        scoring.score_image(p, pp.image)

    def postprocess(self, p: Any, processed: Any, *arguments: Any) -> None:
        """Keep, reject and arrange."""
        from imagereward_ext.webui.job import scoring

        scoring.conclude(p, processed)


class ImageRewardScript(scripts.Script):  # type: ignore[misc]
    """Chosen in the dropdown: sets what the always-on script does, and starts further jobs where it must."""

    def title(self) -> str:
        """Name the script for the dropdown and `script_name`."""
        return CHOSEN_TITLE

    def ui(self, is_img2img: bool) -> list[Any]:
        """Build the panel."""
        return panels.chosen_panel(_tab(is_img2img), service())

    def run(self, p: Any, *arguments: Any) -> Any:
        """Generate as wished."""
        from imagereward_ext.webui.job import several_jobs

        return several_jobs.run(p, read_arguments(arguments, always_on=False), service())


def _tab(is_img2img: bool) -> str:
    return "img2img" if is_img2img else "txt2img"
