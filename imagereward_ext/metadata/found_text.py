"""A text that was found in a file, and how much of a file is looked at for one.

A file is read in time that grows with its size and no faster. What lies beyond these bounds was made by no program
that makes images; it is refused by name and not searched.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

LONGEST = 2**21
"""Bytes of one text, unfolded if it is compressed. ComfyUI's graphs are the long ones."""
LONGEST_TOGETHER = 4 * LONGEST
MOST_TEXTS = 1024
MOST_PARTS = 2**16
"""Chunks of a PNG or WebP, segments of a JPEG: enough for an animation, or for half a gigabyte in libpng's pieces."""


class FoundText(NamedTuple):
    """What stands in a file."""

    text: str = ""
    flaw: str = ""
    """Why `text` may not be all that stands there, "" when it is. Nothing is written over what has a flaw."""


def bytes_between(file: BinaryIO, start: int, end: int | None) -> bytes:
    """Read a part of a file, None for all that follows."""
    file.seek(start)
    return file.read(-1 if end is None else end - start)
