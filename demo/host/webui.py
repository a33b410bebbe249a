"""Start-up: settings, scripts, UI, API, in a WebUI's order; Reload UI does the second half again."""

from __future__ import annotations

import os
import socket
import time
import traceback
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

from modules import (
    extensions,
    gradio_extensions,  # noqa: F401  # changes gradio when imported
    paths,
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
from modules.shared_cmd_options import cmd_opts
from modules.timer import startup_timer

FIRST_PORT = 7860


def initialize() -> None:
    """Settings and scripts; the checkpoint is read meanwhile."""
    startup_timer.record("import libraries")
    Path(paths.data_path).mkdir(parents=True, exist_ok=True)
    shared.initialize()
    sd_models.preload_in_background()
    load_extensions()


def load_extensions() -> None:
    extensions.list_extensions()
    scripts.load_scripts()
    startup_timer.record("load scripts")


def free_port() -> int:
    """The port asked for, else the first free one; without one nothing is loaded at all."""
    asked = cmd_opts.port
    for port in range(FIRST_PORT, FIRST_PORT + 100) if asked is None else [asked]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((cmd_opts.server_name, port))
            except (OSError, OverflowError):
                continue
            return port
    problem = (
        f"no free port from {FIRST_PORT} on" if asked is None else f"port {asked} cannot be used or is taken"
    )
    raise SystemExit(f"{problem}; choose one with --port")


def run() -> None:
    port = free_port()
    try:
        initialize()
        if cmd_opts.nowebui:
            run_api_alone(port)
        else:
            run_ui(port)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # gradio's threads would keep a half-started host alive


def run_api_alone(port: int) -> None:
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    script_callbacks.before_ui_callback()
    Api(app, queue_lock)
    script_callbacks.app_started_callback(None, app)
    print(f"Startup time: {startup_timer.summary()}.", flush=True)
    uvicorn.run(app, host=cmd_opts.server_name, port=port, log_level="warning")


def run_ui(port: int) -> None:
    while True:
        start_ui(port)
        print(f"Startup time: {startup_timer.summary()}.", flush=True)
        command = wait_for_command()
        print("Restarting UI..." if command == "restart" else "Stopping server...", flush=True)
        shared.demo.close(verbose=False)
        if command != "restart":
            return
        time.sleep(0.5)
        startup_timer.reset()
        script_callbacks.app_reload_callback()
        script_callbacks.script_unloaded_callback()
        load_extensions()


def start_ui(port: int) -> None:
    script_callbacks.before_ui_callback()
    shared.demo = ui.create_ui()
    startup_timer.record("create ui")
    app, url, _ = shared.demo.queue(default_concurrency_limit=8).launch(
        server_name=cmd_opts.server_name,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        show_api=False,
        allowed_paths=ui_page.served_folders(),
        app_kwargs={"docs_url": "/docs", "redoc_url": "/redoc"},  # gradio leaves them out
    )
    startup_timer.record("gradio launch")
    progress.setup_progress_api(app)
    ui.setup_ui_api(app)
    Api(app, queue_lock)
    script_callbacks.app_started_callback(shared.demo, app)
    startup_timer.record("app_started callbacks")
    print(f"Running on local URL:  {url.rstrip('/')}", flush=True)


def wait_for_command() -> str:
    """What the UI asks for: restart or stop. Ctrl+C stops."""
    try:
        while True:
            command = shared.state.wait_for_server_command(timeout=5)
            if command in ("stop", "restart"):
                return command
    except KeyboardInterrupt:
        return "stop"
