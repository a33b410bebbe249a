"""A training process from outside: started in a group of its own, asked to stop, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from imagereward_ext.jobs.order import JobError, Order
from imagereward_ext.memory import LARGE_PAGES

ROOT = Path(__file__).resolve().parents[2]
LOG = "log.txt"
WINDOWS = os.name == "nt"

# On Windows: Ctrl-C in the WebUI's console is not for it, and closing that window does not end it without saving.
_APART = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)

# Not PYTHONPATH: the Python of some WebUI packages ignores it. The entry it replaces is the working folder.
_PATH = "import sys; sys.path[0:1] = {path!r}; "
_START = _PATH + (
    "from pathlib import Path; from imagereward_ext.jobs.child import main; "
    "sys.exit(main(Path({folder!r}), Path({lock!r}), {follow!r}))"
)
_PLAN = _PATH + "from imagereward_ext.jobs.planning import main; sys.exit(main())"


def start(order: Order, locks: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the process of an order. Hold on to what is returned: it keeps the pipe to the process open."""
    lock = device_lock(order.device, locks)
    code = _START.format(
        path=_path(order.packages), folder=str(order.folder), lock=str(lock), follow=not order.survive
    )
    try:
        with (order.folder / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-u", "-c", code],
                stdin=subprocess.DEVNULL if order.survive else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=order.folder,
                env=environment(order.device),
                start_new_session=not WINDOWS,
                creationflags=_APART,
            )
    except OSError as error:
        raise JobError(f"the training process cannot be started: {error.strerror or error}") from error


def start_planner(packages: str, device: str) -> subprocess.Popen[str]:
    """Start a process that reads a config from its input and writes a plan: it needs the training's packages."""
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _PLAN.format(path=_path(packages))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(device),
            text=True,
            encoding="utf-8",
        )
    except OSError as error:
        raise JobError(f"the plan cannot be made: {error.strerror or error}") from error


def terminate(pid: int) -> None:
    """Ask the process to end after its update. Windows knows no such signal: there the stop file is all."""
    if not WINDOWS:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """End the process and whatever it started, now."""
    if WINDOWS:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], check=False, capture_output=True)
        return
    with suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # a training of the command line leads no group
            os.kill(pid, signal.SIGKILL)


def _path(packages: str) -> list[str]:
    return [folder for folder in (str(ROOT), packages) if folder]


def device_lock(device: str, folder: Path | None = None) -> Path:
    """Return the lock of a device: one per machine and user, whichever WebUI or command line asks."""
    whose = os.getuid() if hasattr(os, "getuid") else "user"
    kind = device.partition(":")[0]  # there is one CPU, though of several processes accelerate calls it cpu:0
    plain = f"cuda-{gpu}" if (gpu := _visible_gpu(device)) else kind or "auto"
    return (folder or Path(tempfile.gettempdir()) / f"imagereward-{whose}") / f"{plain}.lock"


def environment(device: str) -> dict[str, str]:
    """Return the environment of the process: the engine takes the first GPU it sees, so show it only ours."""
    env = {**LARGE_PAGES, **os.environ, "PYTHONIOENCODING": "utf-8"}
    if gpu := _visible_gpu(device):
        env["CUDA_VISIBLE_DEVICES"] = gpu
    return env


def _visible_gpu(device: str) -> str:
    """Return what the machine calls a GPU that this process calls cuda:N, or cuda alone; "" for other devices."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return ""
    visible = [gpu.strip() for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu.strip()]
    index = int(number or 0)
    return visible[index] if index < len(visible) else str(index)
