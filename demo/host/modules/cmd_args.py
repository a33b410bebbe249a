"""The flags of the host. Those of a WebUI keep their names; `--extension` is ours."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

from modules import errors, extensions
from modules.paths_internal import data_path, folder

IN_DATA = Path(data_path)

parser = argparse.ArgumentParser(description="A small WebUI for trying and testing extensions")
flag = parser.add_argument
flag("--data-dir", type=folder, default=data_path, help="settings, outputs and models live here")
flag("--ckpt-dir", type=folder, help="one more folder with checkpoints")
flag("--lora-dir", type=folder, help="folder with LoRA files (default: <models>/Lora)")
flag("--extension", type=folder, action="append", default=[], help="load this extension (repeatable)")
flag("--ui-settings-file", default=str(IN_DATA / "config.json"), help="where the settings are kept")
flag("--ui-config-file", default=str(IN_DATA / "ui-config.json"), help="values the controls begin with")
flag("--styles-file", default=str(IN_DATA / "styles.csv"), help="where the styles are kept")
flag("--port", type=int, help="port to listen on (default: the first free one from 7860)")
flag("--server-name", default="127.0.0.1", help="address to listen on")
flag("--api", action="store_true", help="serve /sdapi/v1 (the demo always does)")
flag("--api-auth", help="user:password[,user:password] asked for by the API")
flag("--skip-install", action="store_true", help="do not run the install.py of the extensions")
flag("--use-cpu", nargs="+", default=[], help="use the CPU for these modules; `all` for everything")
flag("--hide-ui-dir-config", action="store_true", help="hide folders from the UI")


@cache  # since an extension can add its flags only once
def parse() -> argparse.Namespace:
    """Every flag, once the extensions have added theirs (preload.py)."""
    known, _ = parser.parse_known_args()
    for path in known.extension:
        try:
            preload = extensions.execute(Path(path) / "preload.py")
            if preload is not None:
                preload.preload(parser)
        except Exception:
            errors.report(f"Error running preload() of {path}", exc_info=True)
    return parser.parse_args()
