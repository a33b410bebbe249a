"""A lock that lives exactly as long as the process that took it.

The operating system holds it, so a crash, a kill or a power cut leaves nothing stale behind: what a dead process
wrote into the file is still there, but the lock is gone. A lock on a file that was removed meanwhile, with its run,
counts for nothing: it is taken anew.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

# Windows locks bytes and then lets nobody read them: lock one far behind the content.
_LOCKED_BYTE = 1 << 30
_RETRY_SECONDS = 0.05
_LOOKING = threading.Lock()
"""One look at a time: Windows has no shared lock here, so that two would take each other for the holder."""


class Lock:
    """An exclusive lock on a file that says who holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def take(self, about: dict[str, Any], patience: float = 2.0) -> bool:
        """Take the lock and write who has it. A look at :func:`holder` can be in the way for a moment."""
        deadline = time.monotonic() + patience
        while (file := _locked(self.path)) is None:
            if time.monotonic() > deadline:
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
        with _LOOKING, path.open("rb+" if sys.platform == "win32" else "rb") as file:
            if _lock(file, shared=True):
                return None
            file.seek(0)
            content = json.loads(file.read() or b"{}")
    except FileNotFoundError:
        return None
    except ValueError:  # taken this moment, not written yet
        return {}
    return content if isinstance(content, dict) else {}


def _locked(path: Path) -> IO[bytes] | None:
    """Open and lock a file; None where somebody else has it, or has removed it between the two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab+")
    if _lock(file) and _stands_at(file, path):
        return file
    file.close()
    return None


def _stands_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes], shared: bool = False) -> bool:
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: IO[bytes], shared: bool = False) -> bool:
        """Lock an open file, if nobody else has it; shared, if nobody has it for himself."""
        try:
            fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
