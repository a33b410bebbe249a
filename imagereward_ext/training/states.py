"""States to resume from: folders of a run that appear under their name only when they are complete.

So a run that is killed at any moment resumes from the newest one, and from the one before when a disk has damaged that.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.memory import is_out_of_memory
from imagereward_ext.storage import flush_to_disk, replace
from imagereward_ext.weights.pickles import read_all

TENSORS, PROGRESS = "learner.pt", "state.json"


_OF_DAMAGE = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EINVAL)
"""What the system says of a file that is not there whole; whatever else it says may be over in a minute."""


class RunError(ImageRewardError):
    """A run folder that cannot be made, opened or written."""


class DamagedStateError(RunError):
    """A state that cannot be read whole."""


@dataclass(frozen=True)
class SavedState:
    """What one update left behind."""

    step: int
    parameters: Sequence[Tensor]
    optimiser: Mapping[str, Any] | None
    """None where only the weights were kept, which is not enough to go on."""
    scale: Mapping[str, Any]
    """Of the loss; empty where it is not scaled."""
    progress: Mapping[str, Any]
    """What the task has to know to go on, as JSON holds it."""


class States:
    """The states of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Return where the state after so many updates is."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Return the steps of the complete states, oldest first."""
        names = (path.name for path in self.folder.glob("step-*") if path.is_dir())
        return sorted(int(name.removeprefix("step-")) for name in names)

    def write(self, state: SavedState) -> None:
        """Write a state."""
        content = {"parameters": state.parameters, "optimiser": state.optimiser, "scaler": state.scale}
        with self._new(state.step) as folder:
            _save(content, folder / TENSORS)
            progress = {"step": state.step, **state.progress}
            (folder / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")

    def read(self, step: int) -> SavedState:
        """Read a state back."""
        folder = self.path(step)
        with whole(folder / PROGRESS):
            progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            del progress["step"]
        with whole(folder / TENSORS):
            tensors = read_all(folder / TENSORS)
            return SavedState(
                step, tensors["parameters"], tensors["optimiser"], tensors.get("scaler") or {}, progress
            )

    def prune(self, keep: set[int]) -> None:
        """Remove the states that are not wanted any more."""
        for step in self.steps():
            if step not in keep:
                shutil.rmtree(self.path(step), ignore_errors=True)

    def set_aside(self, step: int) -> None:
        """Give the name of a damaged state free: the run comes to that step again."""
        damaged = self.folder / f"damaged-{step:06d}"
        shutil.rmtree(damaged, ignore_errors=True)
        replace(self.path(step), damaged)

    @contextmanager
    def _new(self, step: int) -> Iterator[Path]:
        """Yield a folder to write a state into; it gets its name when the block ends well."""
        part = self.folder / f".step-{step:06d}.part"
        with writing(f"the state of step {step} (earlier states are kept)"):
            try:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                yield part
                for file in part.iterdir():
                    flush_to_disk(file)
                replace(part, self.path(step))
            finally:
                shutil.rmtree(part, ignore_errors=True)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn the system's errors while writing into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"no space is left to write {what}: free some and resume the run") from error
        if isinstance(error, PermissionError):
            raise RunError(f"{what} cannot be written: no permission") from error
        raise RunError(f"{what} cannot be written: {error.strerror or error}") from error


@contextmanager
def whole(file: Path) -> Iterator[None]:
    """Tell a file of a state that is damaged, which an older state makes up for, from one that is out of reach."""
    unread = f"the state {file.parent} cannot be read"
    try:
        yield
    except Exception as error:  # it fails in whatever layer reads it, with advice that is none
        if is_out_of_memory(error):
            raise RunError(f"{unread}: out of memory; close other programs and resume the run") from error
        if isinstance(error, OSError) and error.errno not in _OF_DAMAGE:
            raise RunError(f"{unread}: {file.name}: {error.strerror}") from error
        raise DamagedStateError(f"{unread}: {file.name} is damaged") from error


def _save(content: Any, path: Path) -> None:
    """Write tensors straight to a file. PyTorch hides the system's error behind one of its own: it is brought out."""
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError):
                raise cause from None
            cause = cause.__context__
        raise
