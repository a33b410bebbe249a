"""What every part of the host, and every extension, reaches for: flags, settings, the job's state, the model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gradio as gr

from modules import cmd_args, options, shared_state, styles

cmd_opts = cmd_args.parse()
OptionInfo = options.OptionInfo

opts = options.Options({})  # filled by initialize.py: its choices need the models
state = shared_state.State()
prompt_styles = styles.StyleDatabase(cmd_opts.styles_file)
demo: gr.Blocks | None = None
sd_upscalers: list[Any] = []
latent_upscale_modes = {"Latent": {"mode": "bilinear"}, "Latent (nearest)": {"mode": "nearest"}}


class TotalTQDM:
    """A WebUI draws a second progress bar on the console; extensions say how long it is."""

    def updateTotal(self, new_total: int) -> None:  # noqa: N802  # the name extensions call
        return


total_tqdm = TotalTQDM()


class _Shared(ModuleType):
    """`shared.sd_model` loads the model when it is first asked for; sd_models says how."""

    find_model: Callable[[], Any]

    @property
    def sd_model(self) -> Any:
        return self.find_model()


sys.modules[__name__].__class__ = _Shared
