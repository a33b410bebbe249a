"""Ctrl-C and full disks at every step of what changes people's files: moving and copying them, writing a score.

A case is a place to break in: before or after the n-th call of the file system, before the n-th line of ours, or a
disk that is full at the n-th call that needs room.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

from imagereward_ext import relocation, storage
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.metadata import containers, records
from imagereward_ext.metadata.score_mark import ScoreMark
from tests.fuzzing.containers import picture

MOVE, MOVE_TO_ANOTHER_DISK, MOVE_LINKS, COPY, WRITE = (
    "move",
    "move to another disk",
    "move links",
    "copy",
    "write",
)
ACTS = (MOVE, MOVE_TO_ANOTHER_DISK, MOVE_LINKS, COPY, WRITE)
BEFORE, AFTER, LINE, FULL = "before a call", "after a call", "before a line", "full at a call"
WAYS = (BEFORE, AFTER, LINE, FULL)

NEEDS_ROOM = {
    "link",
    "symlink",
    "mkdir",
    "open",
    "sendfile",
    "copy_file_range",
    "write",
    "writelines",
    "fsync",
}
FILE_CALLS = NEEDS_ROOM | {
    "unlink",
    "remove",
    "rename",
    "replace",
    "utime",
    "chmod",
    "chown",
    "close",
    "setxattr",
}
FILES = {module.__file__ for module in (relocation, storage, containers, records)}
LINK = os.link
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

IMAGE, TEXT, MASK = "1.png", "1.txt", "1-mask.png"
TOGETHER = {IMAGE: b"pixels", TEXT: b"a fox", MASK: b"mask"}
MARK = ScoreMark("ImageReward", 0.25, "1a2b3c4d5e")


class Case(NamedTuple):
    act: str
    way: str
    step: int


class Breaking:
    """Counts steps and breaks in at one of them."""

    def __init__(self, way: str, step: int) -> None:
        self.way = way
        self.step = step
        self.count = 0

    def _reached(self) -> None:
        self.count += 1
        if self.count == self.step:
            if self.way == FULL:
                raise OSError(errno.ENOSPC, "No space left on device")
            raise KeyboardInterrupt

    def _call(self, frame: FrameType, event: str, function: Any) -> None:
        wanted = NEEDS_ROOM if self.way == FULL else FILE_CALLS
        if event == ("c_return" if self.way == AFTER else "c_call") and function.__name__ in wanted:
            self._reached()

    def _frame(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "line":
            self._reached()
        return self._line

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = sys.gettrace(), sys.getprofile()
        if self.way == LINE:
            sys.settrace(self._frame)
        else:
            sys.setprofile(self._call)
        try:
            yield
        finally:
            sys.settrace(before[0])
            sys.setprofile(before[1])


def cases(seed: int) -> Iterator[Case]:
    chance = random.Random(seed)
    while True:
        act, way = chance.choice(ACTS), chance.choice(WAYS)
        yield Case(act, way, chance.randint(1, steps(act, way)))


def every_case() -> Iterator[Case]:
    for act in ACTS:
        for way in WAYS:
            yield from (Case(act, way, step) for step in range(1, steps(act, way) + 1))


@functools.cache
def steps(act: str, way: str) -> int:
    """Count the places to break in at."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        breaking = Breaking(way, 0)
        _prepare(act, Path(folder))
        with breaking.watching():
            _do(act, Path(folder))
    return breaking.count


def check(case: Case) -> str | None:
    """Break in, and say what is lost, left over or untrue afterwards."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        folder = Path(name)
        _prepare(case.act, folder)
        said = ""
        try:
            with Breaking(case.way, case.step).watching():
                _do(case.act, folder)
        except KeyboardInterrupt:
            pass
        except ImageRewardError as error:
            said = str(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return _wrong_with_written(folder) if case.act == WRITE else _wrong_with_moved(case.act, folder, said)


def smaller(case: Case) -> Iterator[Case]:
    for step in range(1, case.step):
        yield case._replace(step=step)


def _prepare(act: str, folder: Path) -> None:
    if act == WRITE:
        (folder / IMAGE).write_bytes(picture("PNG"))
        return
    for name in ("out", "away", "store"):
        (folder / name).mkdir()
    (folder / "away" / IMAGE).write_bytes(b"somebody else's")
    for name, content in TOGETHER.items():
        if act == MOVE_LINKS:
            (folder / "store" / name).write_bytes(content)
            (folder / "out" / name).symlink_to(Path("..", "store", name))
        else:
            (folder / "out" / name).write_bytes(content)


def _do(act: str, folder: Path) -> None:
    out, away = folder / "out", folder / "away"
    if act == WRITE:
        records.write_mark(folder / IMAGE, MARK)
    elif act == COPY:
        relocation.copy(out / IMAGE, away)
    else:
        with patch.object(os, "link", _link_on_one_disk if act == MOVE_TO_ANOTHER_DISK else LINK):
            relocation.move_together([(out / IMAGE, away), (out / MASK, away)])


def _link_on_one_disk(source: Path, target: Path, **options: Any) -> None:
    if Path(source).parent != Path(target).parent:
        raise OSError(errno.EXDEV, "Invalid cross-device link")
    LINK(source, target, **options)


def _wrong_with_written(folder: Path) -> str | None:
    if (names := sorted(path.name for path in folder.iterdir())) != [IMAGE]:
        return f"left over: {names}"
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as other:
        new = Path(other, IMAGE)
        new.write_bytes(picture("PNG"))
        records.write_mark(new, MARK)
        whole = (folder / IMAGE).read_bytes() in (picture("PNG"), new.read_bytes())
    return None if whole else "the file is neither the old nor the new one"


def _wrong_with_moved(act: str, folder: Path, said: str) -> str | None:
    here, there = (_contents(folder / name) for name in ("out", "away"))
    if there.pop(IMAGE, b"") != b"somebody else's":
        return "what was there already is gone"
    if act == COPY:
        arrived = {"1-1.png": TOGETHER[IMAGE], "1-1.txt": TOGETHER[TEXT]}
        right = here == TOGETHER and there in (({},) if said else ({}, arrived))
    else:
        arrived = {"1-1.png": TOGETHER[IMAGE], "1-1.txt": TOGETHER[TEXT], MASK: TOGETHER[MASK]}
        right = (here, there) == (TOGETHER, {}) or ((here, there) == ({}, arrived) and not said)
    return None if right else f"here are {here}, there are {there}, and it was said {said!r}"


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.exists() else None for path in folder.iterdir()}
