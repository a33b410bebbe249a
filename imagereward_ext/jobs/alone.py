"""A training outside the WebUI takes the same locks as one inside, so that the two never meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from imagereward_ext.jobs.child import RUN_LOCK
from imagereward_ext.jobs.order import JobError
from imagereward_ext.jobs.process import device_lock
from imagereward_ext.training.lock import Lock, holder


@contextmanager
def alone(folder: Path | None, device: str | None) -> Iterator[None]:
    """Hold a run, a device, or both within the block; refuse where another process has one of them."""
    with ExitStack() as held:
        if device is not None:
            _hold(held, device_lock(device), folder, f"another training uses this device ({device}): wait for it, stop "
                  "it, or share the device with --share-device")  # fmt: skip
        if folder is not None:
            new = [path for path in (folder, *folder.parents) if not path.exists()]
            _hold(held, folder / RUN_LOCK, folder, f"the run {folder} is at work already")
            held.callback(_remove_if_nothing_came, new)
        yield


def _hold(held: ExitStack, path: Path, folder: Path | None, refusal: str) -> None:
    lock = Lock(path)
    try:
        taken = lock.take({"name": folder.name if folder else ""})
    except OSError as error:
        raise JobError(f"{path} cannot be written: {error.strerror or error}") from error
    if not taken:
        other = holder(path) or {}
        raise JobError(f"{refusal} ({other.get('name') or 'a run'}, process {other.get('pid', 'unknown')})")
    held.callback(lock.release)


def _remove_if_nothing_came(folders: list[Path]) -> None:
    """A run that was refused before it began leaves no folders behind."""
    with suppress(OSError):  # Windows, while the lock is held; or somebody has removed them meanwhile
        if folders and [entry.name for entry in folders[0].iterdir()] == [RUN_LOCK]:
            (folders[0] / RUN_LOCK).unlink()
            for folder in folders:
                folder.rmdir()
