"""`events.jsonl`: the figures of a run, line by line, told to whoever started it as well."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagereward_ext.storage import write_text
from imagereward_ext.training.journal import Journal
from imagereward_ext.training.states import writing

Listener = Callable[[dict[str, Any]], None]


class EventLog:
    """The events of one run. Of several processes only the main one speaks."""

    def __init__(self, path: Path, listener: Listener | None = None, main: bool = True) -> None:
        self.journal = Journal(path)
        self._listener = listener
        self._main = main

    def tell(self, kind: str, step: int, **values: Any) -> None:
        """Append an event, and tell it."""
        if not self._main:
            return
        event = {"kind": kind, "step": step, **values}
        with writing(str(self.journal.path)):
            self.journal.append({key: _finite(value) for key, value in event.items()})
        if self._listener is not None:
            self._listener(event)

    def note(self, step: int, text: str) -> None:
        """Tell something in words."""
        self.tell("note", step, text=text)

    def forget_after(self, step: int) -> None:
        """Drop what an interrupted run wrote after the state it resumes from."""
        if self._main and self.journal.path.exists():
            kept = [event for event in self.journal.read() if event.get("step", 0) <= step]
            write_text(self.journal.path, "".join(json.dumps(event) + "\n" for event in kept))


def _finite(value: Any) -> Any:
    """Return what JSON can hold for browsers too: they know no infinity, which fp16 gradients may reach."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
