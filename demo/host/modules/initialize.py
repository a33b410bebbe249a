"""The settings, once the models they offer are known."""

from __future__ import annotations

from modules import images, options, sd_models, shared, shared_options


def initialize_settings() -> None:
    shared.sd_upscalers[:] = images.upscalers()
    sd_models.list_models()
    shared.opts = options.Options(shared_options.build())
    shared.opts.load(shared.cmd_opts.ui_settings_file)
