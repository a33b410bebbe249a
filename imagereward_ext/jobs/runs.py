"""The runs of a folder as they are shown, whichever process is asking and whatever became of the one that trained."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagereward_ext.jobs.order import JobError, read_order
from imagereward_ext.jobs.process import LOG
from imagereward_ext.training.journal import Journal, Lines
from imagereward_ext.training.record import AT_WORK, RunEntry, RunRecord, State

COMPARISON = "comparison"
"""The folder of a run that holds its report of before and after."""

SHOWN = {State.PREPARING: "starting", State.TRAINING: "running", State.LOST: "killed"}
"""What states are called towards people, pages and the API, where that is not their own name."""
STOPPING = "stopping"
"""A run at work that was asked to end."""
STOPPED_BY_GUARD = "stopped by the guard"
ALIVE = (*(SHOWN.get(state, str(state)) for state in AT_WORK), STOPPING)

_RECENT_EVENTS = 1 << 16  # bytes from the end of events.jsonl, enough for the last update and more


@dataclass(frozen=True)
class Run:
    """A run as it is shown."""

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


class Runs:
    """The runs of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Return the folder of every run."""
        return [path for path in self.folder.iterdir() if is_run(path)] if self.folder.is_dir() else []

    def list(self) -> list[Run]:
        """Return every run, the newest first."""
        return sorted(map(read_run, self.paths()), key=lambda run: run.changed, reverse=True)

    def path(self, name: str) -> Path:
        """Return the folder of a run; a name that is none of the known ones is refused, whatever it looks like."""
        known = next((path for path in self.paths() if path.name == name), None)
        if known is None:
            raise JobError(f"there is no run {name!r}")
        return known

    def run(self, name: str) -> Run:
        """Return one run."""
        return read_run(self.path(name))

    def record(self, name: str) -> RunRecord:
        """Return the record of one run."""
        return RunRecord(self.path(name))

    def delete(self, name: str) -> None:
        """Remove a run's folder. A LoRA that was copied elsewhere stays."""
        record = self.record(name)
        state = state_of(record).state
        if state in (*AT_WORK, State.WAITING):
            raise JobError(f"the run {name!r} is at work or waits for it: stop it first")
        if record.is_held():
            raise JobError(f"the process of the run {name!r} is still ending: delete it in a moment")
        try:
            shutil.rmtree(record.folder)
        except OSError as error:
            raise JobError(f"the run {name!r} cannot be removed: {error.strerror or error}") from error


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, ordered here or trained on the command line."""
    return any((folder / name).is_file() for name in ("journal.jsonl", "order.json", "config.json"))


def state_of(record: RunRecord) -> RunEntry:
    """Return what is true of a run; one of which nothing is written never began."""
    return record.read() or RunEntry(State.LOST)


def shown_state(record: RunRecord, entry: RunEntry) -> str:
    """Name a run's state as it is shown."""
    if entry.state in AT_WORK and record.stop.asked():
        return STOPPING
    if entry.state is State.STOPPED and entry.by_guard:
        return STOPPED_BY_GUARD
    return SHOWN.get(entry.state, str(entry.state))


def read_run(folder: Path) -> Run:
    """Read a run's record, and what it has measured."""
    record = RunRecord(folder)
    entry = state_of(record)
    step, update = _progress(folder)
    updates, seconds = _updates(folder), _number(update, "seconds")
    at_work = entry.state in AT_WORK
    return Run(
        name=folder.name,
        state=shown_state(record, entry),
        reason=entry.reason,
        step=step,
        updates=updates,
        seconds=seconds,
        seconds_left=seconds * max(0, updates - step) if seconds and entry.state is State.TRAINING else None,
        memory=_number(update, "memory") or 0.0,
        lora=Path(entry.lora).stem if entry.lora and (folder / entry.lora).is_file() else "",
        resumable=not at_work
        and entry.state not in (State.WAITING, State.FINISHED)
        and any((folder / "states").glob("step-*")),
        compared=(folder / COMPARISON / "comparison.json").is_file(),
        starts=entry.start,
        pid=record.process() if at_work else None,
        changed=_changed(folder),
    )


def _progress(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the last step that anything was measured at, and the last update."""
    last = 0
    for event in Journal(folder / "events.jsonl").read_end(_RECENT_EVENTS):
        step = int(_number(event, "step") or 0)
        last = last or step
        if event.get("kind") == "update" and step:
            return last, event
    return last, {}


def read_events(folder: Path, position: int) -> Lines:
    """Read what a run has measured since a position. A resumed run forgets what came after its state."""
    return Journal(folder / "events.jsonl").read_from(position)


class Checks:
    """The checks of the run that is watched: of its events, only what is new is read."""

    def __init__(self) -> None:
        self._known: tuple[Path, int, int, tuple[dict[str, Any], ...]] = (Path(), 0, 0, ())

    def read(self, folder: Path, start: int) -> tuple[dict[str, Any], ...]:
        """Return every check of a run, which has been started so many times."""
        *of, position, known = self._known
        if of != [folder, start]:
            position, known = 0, ()
        while True:
            news = read_events(folder, position)
            if news.position < position:  # the file has become shorter
                known = ()
            known += tuple(event for event in news.objects if event.get("kind") == "check")
            if news.position == position or not news.objects:
                self._known = (folder, start, news.position, known)
                return known
            position = news.position


def training_prompts(folder: Path) -> Path:
    """Return the file of the prompts that a run is trained on."""
    return Path(str(_config(folder).get("prompts") or "")).expanduser()


def log_tail(folder: Path, lines: int = 12) -> str:
    """Return the log's last lines."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _number(event: dict[str, Any], name: str) -> float | None:
    value = event.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _updates(folder: Path) -> int:
    config = _config(folder)
    if not config and (order := read_order(folder)) is not None:
        config = dict(order.config)
    return int(_number(config, "updates") or 0)


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _changed(folder: Path) -> float:
    last = 0.0
    for name in ("journal.jsonl", "order.json", "events.jsonl", "outcome.json", "config.json"):
        with suppress(OSError):
            last = max(last, (folder / name).stat().st_mtime)
    return last
