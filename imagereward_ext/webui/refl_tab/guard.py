"""The script that refuses generations while a training has the memory."""

from __future__ import annotations

from typing import Any

from modules import scripts


class ImageRewardTrainingGuard(scripts.Script):  # type: ignore[misc]
    """Always on, without a panel."""

    def title(self) -> str:
        """Name it as the API lists it."""
        return "ImageReward training guard"

    def show(self, is_img2img: bool) -> Any:
        """Take part in every generation."""
        return scripts.AlwaysVisible

    def before_process(self, p: Any, *arguments: Any) -> None:
        """Look at whether a training runs, before anything is loaded."""
        from imagereward_ext.webui.refl_tab.training import (
            training_service,  # half of what start-up would cost
        )

        training_service().handover.refuse_if_training(p)
