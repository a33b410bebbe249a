"""Files that are whole or not there: everything this project writes is written through here."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WINDOWS_OPEN_FILE_RETRIES = 10


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it takes the target's place only when the block ends well.

    After an error (a full disk, Ctrl-C, a crash of the writer) the target is what it was and no half file is
    left. An existing target's permissions are kept; a link is followed, so that what it points to is replaced.
    """
    target = Path(os.path.realpath(target))
    # Only a piece of the name: one that is as long as a file system allows must not grow.
    part = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        _flush_to_disk(part)
        replace(part, target)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(target) as part:
        part.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write a UTF-8 text file atomically, line ends as given."""
    write_bytes(target, content.encode("utf-8"))


def is_pipe_or_device(path: Path) -> bool:
    """Tell whether opening a path could wait for ever, or never come to an end."""
    mode = path.stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def file_digest(path: Path) -> str:
    """Identify a file by its content: 64 hexadecimal digits."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace(source: Path, target: Path) -> None:
    """Give a file, or a folder, its final name."""
    # Windows refuses to replace a file, or to rename a folder, of which another program has something open, a virus
    # scanner for instance: most let go within a second.
    for attempt in range(_WINDOWS_OPEN_FILE_RETRIES):
        try:
            source.replace(target)
        except PermissionError:
            if os.name != "nt" or attempt == _WINDOWS_OPEN_FILE_RETRIES - 1:
                raise
            time.sleep(0.1)
        else:
            return
