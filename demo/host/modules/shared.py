"""What every part of the host, and every extension, reaches for: flags, settings, the job's state, the model."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import gradio as gr

from modules import options, shared_cmd_options, shared_state, styles, util
from modules.paths_internal import data_path, extensions_dir, models_path, script_path  # noqa: F401

cmd_opts = shared_cmd_options.cmd_opts
parser = shared_cmd_options.parser
config_filename = cmd_opts.ui_settings_file

OptionInfo = options.OptionInfo
OptionHTML = options.OptionHTML
options_section = options.options_section

opts: options.Options = None  # type: ignore[assignment]  # filled by initialize(): its choices need the models
state = shared_state.State()
prompt_styles = styles.StyleDatabase(cmd_opts.styles_file)

demo: gr.Blocks | None = None
device: Any = None
tab_names: list[str] = []
settings_components: dict[str, Any] = {}
progress_print_out = sys.stdout
hypernetworks: dict[str, str] = {}
face_restorers: list[Any] = []

latent_upscale_default_mode = "Latent"
latent_upscale_modes = {
    "Latent": {"mode": "bilinear", "antialias": False},
    "Latent (bicubic)": {"mode": "bicubic", "antialias": False},
    "Latent (nearest)": {"mode": "nearest", "antialias": False},
}
sd_upscalers: list[Any] = []

natural_sort_key = util.natural_sort_key
listfiles = util.listfiles
walk_files = util.walk_files


class TotalTQDM:
    """A WebUI draws a second progress bar on the console; extensions clear it."""

    def update(self) -> None:
        return

    def updateTotal(self, new_total: int) -> None:  # noqa: N802  # the name extensions call
        return

    def clear(self) -> None:
        return


total_tqdm = TotalTQDM()


class _Shared(ModuleType):
    """`shared.sd_model` loads the model when it is first asked for."""

    @property
    def sd_model(self) -> Any:
        from modules import sd_models

        return sd_models.model_data.get_sd_model()

    @sd_model.setter
    def sd_model(self, value: Any) -> None:
        from modules import sd_models

        sd_models.model_data.set_sd_model(value)


sys.modules[__name__].__class__ = _Shared


def initialize() -> None:
    """The settings, once the models they offer are known."""
    global opts, device
    from modules import devices, images, sd_models, sd_vae, shared_options

    device = devices.device
    sd_upscalers[:] = images.upscalers()
    sd_models.list_models()
    sd_vae.refresh_vae_list()
    opts = options.Options(shared_options.build())
    opts.load(config_filename)
    opts.onchange("sd_model_checkpoint", lambda: sd_models.reload_model_weights(), call=False)
    opts.onchange("sd_vae", sd_vae.reload_vae_weights, call=False)


def refresh_checkpoints() -> None:
    from modules import sd_models

    sd_models.list_models()


def list_checkpoint_tiles(use_short: bool = False) -> list[str]:
    from modules import sd_models

    return sd_models.checkpoint_tiles(use_short)
