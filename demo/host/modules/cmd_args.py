"""The flags of the host. Those of a WebUI keep their names; `--extension` and `--sd-config` are ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from modules.paths_internal import _folder, data_path, models_path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A small WebUI for trying and testing extensions")
    flag = parser.add_argument
    flag(
        "--data-dir",
        type=_folder,
        default=data_path,
        help="settings, outputs, extensions and models live here",
    )
    flag("--models-dir", type=_folder, default=models_path, help="folder with Stable-diffusion/, Lora/, VAE/")
    flag("--ckpt", default=None, help="the checkpoint file to start with")
    flag("--ckpt-dir", type=_folder, default=None, help="one more folder with checkpoints")
    flag("--vae-dir", type=_folder, default=None, help="one more folder with VAE files")
    flag("--lora-dir", type=_folder, default=None, help="folder with LoRA files (default: <models>/Lora)")
    flag(
        "--sd-config",
        type=_folder,
        default=None,
        help="diffusers config folder, if it is not found by itself",
    )
    flag(
        "--extension",
        type=_folder,
        action="append",
        default=[],
        help="load this folder as an extension (repeatable)",
    )
    flag(
        "--ui-settings-file", default=str(Path(data_path) / "config.json"), help="where the settings are kept"
    )
    flag("--ui-config-file", default=str(Path(data_path) / "ui-config.json"), help="values to begin with")
    flag("--styles-file", default=str(Path(data_path) / "styles.csv"), help="where the styles are kept")
    flag("--port", type=int, default=None, help="port to listen on (default: the first free one from 7860)")
    flag("--server-name", default="127.0.0.1", help="address to listen on")
    flag("--api", action="store_true", help="serve /sdapi/v1 (the demo always does)")
    flag("--api-auth", default=None, help="user:password[,user:password] asked for by the API")
    flag("--nowebui", action="store_true", help="serve the API alone")
    flag("--skip-install", action="store_true", help="do not run the install.py of the extensions")
    flag("--device-id", default=None, help="CUDA device to use")
    flag("--use-cpu", nargs="+", default=[], help="use the CPU for these modules; `all` for everything")
    flag("--lowvram", action="store_true", help="accepted, does nothing here")
    flag("--medvram", action="store_true", help="accepted, does nothing here")
    flag("--no-half", action="store_true", help="accepted: this host always computes in 32 bit")
    flag("--hide-ui-dir-config", action="store_true", help="hide folders from the UI")
    return parser


parser = build_parser()
