"""How much work a call is, counted and not timed: a busy machine is slow, and a fast one hides a square."""

from __future__ import annotations

import io
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import imagereward_ext

_OURS = str(Path(imagereward_ext.__file__).parent)


def lines_run(call: Callable[[], object], at_most: int = sys.maxsize) -> int:
    """Count the lines of the project that a call runs, each turn of a loop anew; stop it at the number given."""
    count = 0

    def count_line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        if count > at_most:
            raise TooMuchWorkError(f"more than {at_most:,} lines")
        return count_line

    def enter(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return count_line if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def memory_of(call: Callable[[], object]) -> int:
    """Return how many bytes Python's objects took at most during a call; pixels are none of them."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TooMuchWorkError(BaseException):
    """A call was stopped; no handler of the code under test takes this for an error of its own."""


class CountedText(str):
    """A text that counts how many of its letters, and of its parts' letters, are looked at or copied."""

    __slots__ = ("looked_at",)

    looked_at: list[int]

    @classmethod
    def of(cls, text: str, looked_at: list[int] | None = None) -> CountedText:
        counted = cls(text)
        counted.looked_at = [0] if looked_at is None else looked_at
        return counted

    def _part(self, text: str) -> CountedText:
        self.looked_at[0] += len(text)
        return CountedText.of(text, self.looked_at)

    def _whole(self) -> None:
        self.looked_at[0] += len(self)

    def __getitem__(self, key: Any) -> CountedText:
        return self._part(super().__getitem__(key))

    def __iter__(self) -> Any:
        self._whole()
        return super().__iter__()

    def find(self, wanted: str, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        place = super().find(wanted, start, end)
        self.looked_at[0] += (len(self) if place < 0 else place) - start
        return place

    def rfind(self, wanted: str, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        place = super().rfind(wanted, start, end)
        self.looked_at[0] += (len(self) if end is None else end) - (start if place < 0 else place)
        return place

    def strip(self, letters: str | None = None) -> CountedText:  # type: ignore[override]
        return self._part(super().strip(letters))

    def lstrip(self, letters: str | None = None) -> CountedText:  # type: ignore[override]
        return self._part(super().lstrip(letters))

    def rstrip(self, letters: str | None = None) -> CountedText:  # type: ignore[override]
        return self._part(super().rstrip(letters))

    def removeprefix(self, prefix: str) -> CountedText:
        return self._part(super().removeprefix(prefix))

    def removesuffix(self, suffix: str) -> CountedText:
        return self._part(super().removesuffix(suffix))

    def partition(self, separator: str) -> Any:
        return tuple(map(self._part, super().partition(separator)))

    def rpartition(self, separator: str) -> Any:
        return tuple(map(self._part, super().rpartition(separator)))

    def split(self, *arguments: Any) -> Any:
        return list(map(self._part, super().split(*arguments)))

    def replace(self, *arguments: Any) -> CountedText:  # type: ignore[override]
        self._whole()
        return self._part(super().replace(*arguments))

    def count(self, *arguments: Any) -> int:
        self._whole()
        return super().count(*arguments)

    def __contains__(self, part: object) -> bool:
        self._whole()
        return super().__contains__(part)  # type: ignore[operator]

    def __add__(self, other: str) -> CountedText:
        return self._part(super().__add__(other))

    def __radd__(self, other: str) -> CountedText:
        return self._part(other + str(self))


class CountedFile(io.BytesIO):
    """A file that counts its reads and the bytes they give."""

    reads = 0
    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.reads += 1
        self.bytes_read += len(content)
        return content
