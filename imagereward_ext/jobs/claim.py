"""A run or a device, kept from every other training: one inside the WebUI and one outside never meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imagereward_ext.jobs.order import JobError
from imagereward_ext.jobs.process import device_lock
from imagereward_ext.training.lock import Lock, holder
from imagereward_ext.training.record import RunRecord

if TYPE_CHECKING:  # it loads torch, and claims come first
    from imagereward_ext.training.processes import Processes


class ClaimError(JobError):
    """Another process has it."""


@contextmanager
def claimed(path: Path, name: str, refusal: str) -> Iterator[None]:
    """Hold a lock within the block, in the name of a run."""
    lock = Lock(path)
    try:
        taken = lock.take({"name": name})
    except OSError as error:
        raise JobError(f"{path} cannot be written: {error.strerror or error}") from error
    if not taken:
        other = holder(path) or {}
        raise ClaimError(f"{refusal} ({other.get('name') or 'a run'}, process {other.get('pid', 'unknown')})")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def training_claimed(folder: Path, processes: Processes, share_device: bool) -> Iterator[None]:
    """Keep a run and its device from every other training.

    Of several processes each claims its device, and the first one the run.
    """
    own_device = processes.device.type == "cuda" or processes.index_here == 0
    device = str(processes.device) if own_device and not share_device else None
    with run_and_device(folder if processes.main else None, device):
        yield


@contextmanager
def run_and_device(folder: Path | None, device: str | None) -> Iterator[None]:
    """Claim what a training outside the WebUI needs: of several processes each has a part in that."""
    with ExitStack() as claims:
        if device is not None:
            refusal = (
                f"another training uses this device ({device}): wait for it, stop it, or share the device with "
                "--share-device"
            )
            claims.enter_context(claimed(device_lock(device), folder.name if folder else "", refusal))
        if folder is not None:
            new = [path for path in (folder, *folder.parents) if not path.exists()]
            lock = RunRecord(folder).process_lock
            claims.enter_context(claimed(lock, folder.name, f"the run {folder} is at work already"))
            claims.callback(_remove_if_nothing_came, new)
        yield


def _remove_if_nothing_came(new: list[Path]) -> None:
    """Leave no folders behind where a run was refused before it made anything."""
    if not new:
        return
    record = RunRecord(new[0])
    with suppress(OSError):  # Windows, while the lock is held; or somebody has removed them meanwhile
        if {entry.name for entry in new[0].iterdir()} <= {record.process_lock.name, record.journal.path.name}:
            for file in new[0].iterdir():
                file.unlink()
            for folder in new:
                folder.rmdir()
