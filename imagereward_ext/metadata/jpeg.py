"""The EXIF segment of JPEG files, read and replaced without touching the picture or any other segment."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import exif
from imagereward_ext.metadata.found_text import MOST_PARTS, bytes_between

SIGNATURE = b"\xff\xd8\xff"
_APP0, _APP1, _START_OF_SCAN, _END = 0xE0, 0xE1, 0xDA, 0xD9
_WITHOUT_CONTENT = {0x01, *range(0xD0, 0xD9)}
LONGEST_EXIF = 0xFFFF - 2 - len(exif.PREFIX)


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int


def read_exif(file: BinaryIO) -> bytes:
    """Read the EXIF block, b"" when there is none."""
    found = next((segment for segment in _segments(file) if _is_exif(file, segment)), None)
    return b"" if found is None else bytes_between(file, found.start + 4 + len(exif.PREFIX), found.end)


def with_exif(file: BinaryIO, block: bytes) -> Iterator[bytes]:
    """Yield the file's bytes with this EXIF block in place of the old one, or behind the JFIF header."""
    if len(block) > LONGEST_EXIF:
        raise MetadataError(
            f"the text would make its EXIF {len(block):,} bytes long, and a JPEG holds at most {LONGEST_EXIF:,}; "
            "save the image as PNG or WebP to store it"
        )
    segments = list(_segments(file))
    old = next((segment for segment in segments if _is_exif(file, segment)), None)
    behind_jfif = next(s.start for s in segments if s.marker != _APP0)
    start, end = (old.start, old.end) if old else (behind_jfif, behind_jfif)
    yield bytes_between(file, 0, start)
    yield struct.pack(">BBH", 0xFF, _APP1, 2 + len(exif.PREFIX) + len(block)) + exif.PREFIX + block
    yield bytes_between(file, end, None)


def _is_exif(file: BinaryIO, segment: _Segment) -> bool:
    head = segment.start + 4
    return segment.marker == _APP1 and bytes_between(file, head, head + len(exif.PREFIX)) == exif.PREFIX


def _segments(file: BinaryIO) -> Iterator[_Segment]:
    """Walk over the segments up to and with the first scan, where the picture begins."""
    position = 2
    for _ in range(MOST_PARTS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            raise MetadataError("the JPEG file is truncated")
        mark, marker, size = struct.unpack(">BBH", head)
        if mark != 0xFF:
            raise MetadataError(f"the JPEG file is broken at byte {position:,}")
        if marker == 0xFF:  # filling
            position += 1
            continue
        end = position + 2 + (0 if marker in _WITHOUT_CONTENT else size)
        yield _Segment(marker, position, end)
        if marker in (_START_OF_SCAN, _END):
            return
        position = end
    raise MetadataError(
        f"the JPEG file has more than {MOST_PARTS:,} segments before its picture; such a file is not read"
    )
