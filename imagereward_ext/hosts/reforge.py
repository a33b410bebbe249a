"""reForge: Forge's first memory management under AUTOMATIC1111's loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modules import sd_models

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.hosts.a1111 import A1111, A1111Checkpoints, allow_loading, hold_loading
from imagereward_ext.memory import return_memory

_hands_on: list[Any] = []
"""The host's module of its one thread, once it lets refusals through."""


class ReForgeCheckpoints(A1111Checkpoints):
    """Loaded as in AUTOMATIC1111; Forge's memory management and the thread that generates hold it as well."""

    def make_room(self) -> None:
        from ldm_patched.modules import model_management

        hold_loading()
        hand_refusals_on()
        data = sd_models.model_data
        if data.sd_model is not None:
            sd_models.unload_model_weights(data.sd_model)
        data.loaded_sd_models.clear()
        data.sd_model = None
        data.was_loaded_at_least_once = True  # as in AUTOMATIC1111
        model_management.unload_all_models()
        forget_results()
        model_management.soft_empty_cache(force=True)
        return_memory()

    def restore(self) -> None:
        allow_loading()
        sd_models.load_model(sd_models.select_checkpoint(), forced_reload=True)


class ReForge(A1111):
    """reForge."""

    name = "reForge"
    packages = ("modules_forge", "ldm_patched")
    checkpoints = ReForgeCheckpoints()


def forget_results() -> None:
    """Let go of the checkpoint as the answer of a task: of the one at the start, which nobody fetches, and the last."""
    from modules_forge import main_thread

    for task in list(main_thread.finished_list):
        if isinstance(task.result, torch.nn.Module):
            task.result = None
    main_thread.run_and_wait_result(lambda: None)


def hand_refusals_on() -> None:
    """Let the page say why a generation was refused.

    Its generations run in one thread, which prints an error and gives None back; then the page tells of that None.
    """
    from modules_forge import main_thread

    if main_thread in _hands_on:
        return
    own = main_thread.run_and_wait_result

    def run_and_wait_result(work: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        refusals: list[ImageRewardError] = []

        def attempt() -> Any:
            try:
                return work(*arguments, **more)
            except ImageRewardError as error:
                refusals.append(error)

        answer = own(attempt)
        if refusals:
            raise refusals[0]
        return answer

    _hands_on.append(main_thread)
    main_thread.run_and_wait_result = run_and_wait_result
