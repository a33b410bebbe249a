"""A lock that lives exactly as long as the process that took it.

The operating system holds it, so a crash, a kill or a power cut leaves nothing stale behind: what a dead process
wrote into the file is still there, but the lock is gone. The file itself is never removed, since somebody could be
about to lock it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

# Windows locks bytes and then lets nobody read them: lock one far behind the content.
_LOCKED_BYTE = 1 << 30
_RETRY_SECONDS = 0.05


class Lock:
    """An exclusive lock on a file that says who holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def take(self, about: dict[str, Any], patience: float = 2.0) -> bool:
        """Take the lock and write who has it. A look at :func:`holder` can be in the way for a moment."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab+")
        deadline = time.monotonic() + patience
        while not _lock(file):
            if time.monotonic() > deadline:
                file.close()
                return False
            time.sleep(_RETRY_SECONDS)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "since": time.time(), **about}).encode())
        file.flush()
        self._file = file  # an open file is the lock
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def holder(path: Path) -> dict[str, Any] | None:
    """Return what the holder wrote, None when no living process holds the lock."""
    try:
        with path.open("rb+") as file:
            if _lock(file):
                return None
            file.seek(0)
            content = json.loads(file.read() or b"{}")
    except FileNotFoundError:
        return None
    except ValueError:  # taken this moment, not written yet
        return {}
    return content if isinstance(content, dict) else {}


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> bool:
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
