"""Start-up: settings, scripts, UI, API, in a WebUI's order; Reload UI does the second half again."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

from modules import (
    extensions,
    gradio_extensions,
    paths_internal,
    progress,
    script_callbacks,
    scripts,
    sd_models,
    shared,
    ui,
    ui_page,
)
from modules.api.api import Api
from modules.call_queue import queue_lock
from modules.initialize import initialize_settings


def initialize() -> None:
    """Settings and scripts; the checkpoint is read meanwhile."""
    Path(paths_internal.data_path).mkdir(parents=True, exist_ok=True)
    gradio_extensions.install()
    initialize_settings()
    sd_models.preload_in_background()
    load_extensions()


def load_extensions() -> None:
    extensions.list_extensions(shared.cmd_opts.extension)
    scripts.load_scripts()


def run(port: int) -> None:
    try:
        initialize()
        serve(port)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # gradio's threads would keep a half-started host alive


def serve(port: int) -> None:
    """The page and its API, until somebody stops it; Reload UI builds both again."""
    while True:
        started = time.monotonic()
        start_ui(port)
        print(f"Startup time: {time.monotonic() - started:.1f}s.", flush=True)
        restart = wait_for_restart()
        print("Restarting UI..." if restart else "Stopping server...", flush=True)
        shared.demo.close(verbose=False)
        if not restart:
            return
        time.sleep(0.5)
        script_callbacks.script_unloaded_callback()
        load_extensions()


def start_ui(port: int) -> None:
    script_callbacks.before_ui_callback()
    shared.demo = ui.create_ui()
    app, url, _ = shared.demo.queue(default_concurrency_limit=8).launch(
        server_name=shared.cmd_opts.server_name,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        show_api=False,
        allowed_paths=ui_page.served_folders(),
        app_kwargs={"docs_url": "/docs", "redoc_url": "/redoc"},  # gradio leaves them out
    )
    progress.setup_progress_api(app)
    Api(app, queue_lock)
    script_callbacks.app_started_callback(shared.demo, app)
    print(f"Running on local URL:  {url.rstrip('/')}", flush=True)


def wait_for_restart() -> bool:
    """Whether the UI asks to be built again; False: Ctrl+C."""
    try:
        shared.state.restart_wanted.wait()
    except KeyboardInterrupt:
        return False
    shared.state.restart_wanted.clear()
    return True
