"""What is known of a run: its state is written by whoever brings it about, and read by everybody else.

`journal.jsonl` in the run's folder says what happened, line by line. A line stays true as long as nobody writes another
one, with one exception that no line can tell: the process at work may have died. So whoever has a run at work holds a
lock of the operating system on it, and a run that is at work by its journal while nobody holds a lock is *lost*.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.training.journal import Journal
from imagereward_ext.training.lock import holder


class State(str, Enum):
    """What a run is doing, or how it ended."""

    WAITING = "waiting"
    """in the queue"""
    PREPARING = "preparing"
    """room is made, the process starts, the model loads"""
    TRAINING = "training"
    COMPARING = "comparing"
    """images are made before and after; the training itself has ended"""
    FINISHED = "finished"
    STOPPED = "stopped"
    """because somebody asked, or by the guard rails"""
    FAILED = "failed"
    LOST = "lost"
    """its process ended without a word"""

    def __str__(self) -> str:
        return self.value


AT_WORK = (State.PREPARING, State.TRAINING, State.COMPARING)
ENDED = (State.FINISHED, State.STOPPED, State.FAILED, State.LOST)


class RecordError(ImageRewardError):
    """A run's record cannot be written."""


@dataclass(frozen=True)
class RunEntry:
    """One line of the journal, with all that is true from then on."""

    state: State
    reason: str = ""
    """Why it ended."""
    lora: str = ""
    """What it left, the name of a file in the run's folder."""
    by_guard: bool = False
    """Whether it was the guard rails that stopped it."""
    compares: bool = False
    """Whether a comparison is to follow a training that ends well."""
    start: int = 0
    """How often the run had been started by then."""
    time: float = 0.0
    """Seconds since 1970."""


class StopFile:
    """The file that asks a run to end after the update at work; whoever runs it looks for it after each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def asked(self) -> bool:
        """Tell whether somebody wants the run to end."""
        return self.path.exists()

    def ask(self) -> None:
        """Ask the run to end."""
        try:
            self.path.touch()
        except OSError as error:
            raise RecordError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def forget(self) -> None:
        """Take back what an earlier start was asked."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise RecordError(f"{self.path} cannot be removed: {error.strerror or error}") from error


class RunRecord:
    """The record of one run. Nothing is kept in memory: every process that looks sees the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self.process_lock = folder / "lock"
        """Held by the process that trains."""
        self.queue_lock = folder / "queue.lock"
        """Held by the queue that has the run at work, from before the process starts until after it has ended."""
        self.stop = StopFile(folder / "stop")

    # ---- reading

    def read(self) -> RunEntry | None:
        """Return what is true now; None where nobody has begun to write a record."""
        entries = self._entries()
        if not entries:
            return None
        last = entries[-1]
        if last.state not in AT_WORK or self.is_held():
            return last
        if last.state is State.COMPARING:  # how the training ended stays, whatever becomes of a comparison
            return replace(_of_ending(entries), start=last.start)
        return replace(last, state=State.LOST, lora=_of_ending(entries).lora)

    def state(self) -> State | None:
        """Return what the run is doing, or how it ended."""
        entry = self.read()
        return entry.state if entry else None

    def is_held(self) -> bool:
        """Tell whether a living process has the run at work."""
        return any(holder(lock) is not None for lock in (self.process_lock, self.queue_lock))

    def process(self) -> int | None:
        """Return the id of the process that trains."""
        owner = holder(self.process_lock)
        pid = owner.get("pid") if owner else None
        return pid if isinstance(pid, int) else None

    # ---- writing

    def wait(self, to_compare: bool = False) -> None:
        """Put the run into the queue, to train or only to compare what a training has made."""
        self.stop.forget()
        self._append(_of_ending(self._entries(), State.WAITING) if to_compare else RunEntry(State.WAITING))

    def begin(self, to_compare: bool = False, compares: bool = False) -> None:
        """Start the run (once more). What asked an earlier start to stop does not ask this one.

        It is there only to compare (`to_compare`), or to train and, if that ends well, to compare then (`compares`).
        """
        self.stop.forget()
        begun = (
            _of_ending(self._entries(), State.COMPARING)
            if to_compare
            else RunEntry(State.PREPARING, compares=compares)
        )
        self._append(begun, starts=1)

    def write(self, state: State) -> None:
        """Say what is done from now on."""
        self._append(RunEntry(state))

    def end(self, state: State, reason: str, lora: str = "", by_guard: bool = False) -> None:
        """Say how the training ended, and in the same breath that a comparison follows, if one does."""
        ending = RunEntry(state, reason, lora, by_guard)
        begun = next((entry for entry in reversed(self._entries()) if entry.state is State.PREPARING), None)
        compares = begun is not None and begun.compares and lora and (by_guard or state is State.FINISHED)
        self._append(ending, *([replace(ending, state=State.COMPARING)] if compares else []))

    def end_comparison(self) -> None:
        """Say that the comparison is over: what was true of the training is true again."""
        self._append(_of_ending(self._entries()))

    def give_up(self, state: State, reason: str) -> None:
        """Say that a start has come to nothing: what an earlier one left is still there."""
        self._append(RunEntry(state, reason, _of_ending(self._entries()).lora))

    def _append(self, *entries: RunEntry, starts: int = 0) -> None:
        written = self._written()
        earlier = [] if written else _before_journals(self.folder)  # to be told once and for all
        known = [*earlier, *written]
        start = (known[-1].start if known else 0) + starts
        new = [*earlier, *(replace(entry, start=start, time=time.time()) for entry in entries)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.journal.append(*(asdict(entry) for entry in new), durable=True)
        except OSError as error:
            raise RecordError(
                f"the record of the run {self.folder.name} cannot be written: {error.strerror or error}"
            ) from error

    def _entries(self) -> list[RunEntry]:
        return self._written() or _before_journals(self.folder)

    def _written(self) -> list[RunEntry]:
        return [entry for line in self.journal.read() if (entry := _parsed(line)) is not None]


@contextmanager
def endings_told(record: RunRecord, begun: bool = False, hint: str = "") -> Iterator[None]:
    """Write why a start of the run ended that ends with an error: one that begins within the block, or has `begun`.

    The hint says where the rest of an error stands that nobody expected.
    """

    def starts() -> int:
        entry = record.read()
        return entry.start if entry else 0

    before = starts()

    def told(state: State, reason: str) -> None:
        if begun or starts() > before:
            with suppress(RecordError):  # a full disk: whoever called still hears of it
                record.give_up(state, reason)

    try:
        yield
    except ImageRewardError as error:
        told(State.FAILED, str(error))
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "no message")
        told(State.FAILED, f"{type(error).__name__}: {first}{hint}")
        raise
    except KeyboardInterrupt:
        told(State.STOPPED, "interrupted")
        raise


def _parsed(line: dict[str, Any]) -> RunEntry | None:
    try:
        return RunEntry(
            State(line["state"]),
            str(line.get("reason", "")),
            str(line.get("lora", "")),
            line.get("by_guard") is True,
            line.get("compares") is True,
            int(line.get("start", 0)),
            float(line.get("time", 0.0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError):  # a later version may know more states
        return None


def _of_ending(entries: list[RunEntry], state: State | None = None) -> RunEntry:
    """Return what is true of how the training ended, in another state if one is given."""
    ending = next((entry for entry in reversed(entries) if entry.state in ENDED), RunEntry(State.LOST))
    return replace(ending, state=state or ending.state)


def _before_journals(folder: Path) -> list[RunEntry]:
    """Say what the folder of a run shows that was made before there were journals."""
    order, outcome = _object_in(folder / "order.json"), _object_in(folder / "outcome.json")
    if "waiting" not in order and not (folder / "config.json").is_file():
        return []
    last = next(Journal(folder / "events.jsonl").read_end(1 << 16), {})
    end = outcome or (last if last.get("kind") == "end" else {})
    states = {
        "finished": State.FINISHED,
        "asked": State.STOPPED,
        "guard": State.STOPPED,
        "failed": State.FAILED,
    }
    ending = str(end.get("ending"))
    state = states.get(ending, State.LOST if outcome else State.TRAINING)
    line = {
        "state": State.WAITING if order.get("waiting") is True else state,
        "reason": end.get("reason") or "",
        "lora": end.get("lora") or "",
        "by_guard": ending == "guard",
        "start": order.get("starts", 1),
        "time": order.get("queued_at", 0.0),
    }
    entry = _parsed(line)
    return [entry] if entry else []


def _object_in(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
