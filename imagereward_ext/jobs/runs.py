"""What a run's folder tells about it, whichever process is asking and whatever became of the one that trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagereward_ext.jobs.child import COMPARISON, OUTCOME, RUN_LOCK, STOP
from imagereward_ext.jobs.order import Order, read_order
from imagereward_ext.jobs.process import LOG
from imagereward_ext.training.lock import holder

WAITING, STARTING, RUNNING, STOPPING, COMPARING = "waiting", "starting", "running", "stopping", "comparing"
FINISHED, STOPPED, GUARD, FAILED, KILLED = "finished", "stopped", "stopped by the guard", "failed", "killed"
ALIVE = (STARTING, RUNNING, STOPPING, COMPARING)

_ENDINGS = {"finished": FINISHED, "asked": STOPPED, "guard": GUARD, "failed": FAILED}
_LONGEST_READ = 4 << 20  # bytes of events in one answer; the rest comes with the next


@dataclass(frozen=True)
class Run:
    """A run as its folder shows it."""

    name: str
    state: str
    reason: str = ""
    step: int = 0
    updates: int = 0
    seconds: float | None = None
    """What its last update took."""
    seconds_left: float | None = None
    memory: float = 0.0
    """Peak in GB."""
    lora: str = ""
    """File name without its suffix, as the host's `<lora:…>` takes it."""
    resumable: bool = False
    compared: bool = False
    starts: int = 0
    pid: int | None = None
    changed: float = 0.0


@dataclass(frozen=True)
class Events:
    """Some lines of events.jsonl and where the next ones begin."""

    events: tuple[dict[str, Any], ...]
    position: int


def list_runs(folder: Path) -> list[Run]:
    """List every run of a folder, the newest first."""
    if not folder.is_dir():
        return []
    runs = [read_run(path) for path in folder.iterdir() if is_run(path)]
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, ordered here or trained on the command line."""
    return (folder / "order.json").is_file() or (folder / "config.json").is_file()


def read_run(folder: Path) -> Run:
    """Read what a run's folder tells."""
    order = read_order(folder)
    owner = holder(folder / RUN_LOCK)
    outcome = _read_json(folder / OUTCOME)
    last = _last_events(folder / "events.jsonl")
    update, newest = last.get("update", {}), last.get("newest", {})
    end = newest if newest.get("kind") == "end" else {}  # an older one belongs to an earlier start
    state = _state(folder, order, owner is not None, outcome, end)
    step = int(last.get("step", {}).get("step", 0))
    updates = _updates(folder, order.config if order else {})
    seconds = float(update["seconds"]) if "seconds" in update else None
    return Run(
        name=folder.name,
        state=state,
        reason=str(outcome.get("reason") or end.get("reason") or ""),
        step=step,
        updates=updates,
        seconds=seconds,
        seconds_left=None if seconds is None or state != RUNNING else seconds * max(0, updates - step),
        memory=float(update.get("memory", 0.0)),
        lora=_lora(folder, outcome, end),
        resumable=state not in (*ALIVE, WAITING, FINISHED) and any((folder / "states").glob("step-*")),
        compared=(folder / COMPARISON / "comparison.json").is_file(),
        starts=order.starts if order else 1,
        pid=owner.get("pid") if owner else None,
        changed=_changed(folder),
    )


def is_over(order: Order) -> bool:
    """Whether a training has said how it ended and has nothing to compare any more: its process only has to end."""
    outcome = _read_json(order.folder / OUTCOME)
    if not outcome or order.only_compare:
        return False
    return not _compares(order, outcome) or holder(order.folder / RUN_LOCK) is None


def _compares(order: Order, outcome: dict[str, Any]) -> bool:
    """Whether images are compared after a training that ended like this, or are all there is to do."""
    trained = outcome.get("ending") in ("finished", "guard") and bool(outcome.get("lora"))
    return order.only_compare or (order.compare > 0 and trained)


def read_events(folder: Path, position: int) -> Events:
    """Read the complete lines behind a position."""
    try:
        with (folder / "events.jsonl").open("rb") as file:
            if position > file.seek(0, 2):
                position = 0  # a resumed run forgets what came after its state
            file.seek(position)
            block = file.read(_LONGEST_READ)
    except OSError:
        return Events((), 0)
    whole = block[: block.rfind(b"\n") + 1]
    return Events(tuple(_parsed(whole)), position + len(whole))


def training_prompts(folder: Path) -> Path:
    """Return the file of the prompts that a run is trained on."""
    stored = _read_json(folder / "config.json").get("config", {})
    return Path(str(stored.get("prompts") or "")).expanduser()


def read_checks(folder: Path) -> list[dict[str, Any]]:
    """Read every check of a run; they are few among its events, and only they are parsed."""
    try:
        lines = (folder / "events.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    found = _parsed(b"\n".join(line for line in lines if b'"check"' in line))
    return [event for event in found if event.get("kind") == "check"]


def log_tail(folder: Path, lines: int = 12) -> str:
    """Return the log's last lines."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _state(
    folder: Path, order: Order | None, alive: bool, outcome: dict[str, Any], end: dict[str, Any]
) -> str:
    if alive:
        if (folder / STOP).exists():
            return STOPPING
        if outcome and order is not None and _compares(order, outcome):
            return COMPARING
        return RUNNING if (folder / "events.jsonl").exists() else STARTING
    if order is not None and order.waiting:
        return WAITING
    ending = outcome.get("ending") or end.get("ending")
    return _ENDINGS.get(str(ending), KILLED)


def _last_events(file: Path) -> dict[str, dict[str, Any]]:
    """Return the last event of each kind, and under "step" and "newest" the last with a step and of all."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 65_536))
            block = stream.read()
    except OSError:
        return found
    for event in _parsed(block):
        found[str(event.get("kind"))] = found["newest"] = event
        if "step" in event:
            found["step"] = event
    return found


def _parsed(block: bytes) -> Iterator[dict[str, Any]]:
    for line in block.splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # cut off at the start of the block, or by a crash
            continue
        if isinstance(event, dict):
            yield event


def _updates(folder: Path, ordered: Any) -> int:
    stored = _read_json(folder / "config.json").get("config", {})
    return int(stored.get("updates") or ordered.get("updates") or 0)


def _lora(folder: Path, outcome: dict[str, Any], end: dict[str, Any]) -> str:
    name = str(outcome.get("lora") or end.get("lora") or "")
    return Path(name).stem if name and (folder / name).exists() else ""


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _changed(folder: Path) -> float:
    times = [
        path.stat().st_mtime for name in ("order.json", "events.jsonl", OUTCOME, "config.json")
        if (path := folder / name).exists()
    ]  # fmt: skip
    return max(times, default=0.0)
