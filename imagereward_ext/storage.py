"""Files that are whole or not there: everything this project writes is written through here."""

from __future__ import annotations

import errno
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
def replacing(target: Path, *, keep_times: bool = False) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it takes the target's place only when the block ends well.

    After an error (a full disk, Ctrl-C, a crash of the writer) the target is what it was and no half file is
    left. An existing target's owner, permissions and extended attributes are kept, and its times if that is asked
    for; a link is followed, so that what it points to is replaced.
    """
    target = Path(os.path.realpath(target))
    part = part_beside(target)
    try:
        yield part
        flush_to_disk(part)
        if target.exists():
            take_attributes(target, part, times=keep_times)
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


def part_beside(target: Path) -> Path:
    """Name a file that grows in a folder before it gets its name."""
    # Only a piece of the name: one that is as long as a file system allows must not grow.
    return target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex[:8]}.part")


def take_attributes(source: Path, target: Path, *, times: bool = True) -> None:
    """Give a file the owner, the permissions, the extended attributes and the times of another."""
    status = source.stat()
    if hasattr(os, "chown"):
        with suppress(OSError):  # only root may give files away; others keep their own
            os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)
    if not times:
        os.utime(target)


def is_pipe_or_device(path: Path) -> bool:
    """Tell whether opening a path could wait for ever, or never come to an end."""
    mode = path.stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def refuse_pipe(path: Path) -> None:
    """Raise an :class:`OSError` for what `is_pipe_or_device`."""
    if is_pipe_or_device(path):
        raise OSError(errno.EINVAL, "it is no file, but a pipe or a device", str(path))


def file_digest(path: Path) -> str:
    """Identify a file by its content: 64 hexadecimal digits."""
    refuse_pipe(path)
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system lets folders be opened."""
    if os.name == "nt":
        return
    with suppress(OSError):  # some network disks know no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
