"""The EXIF chunk of WebP files, read and replaced without touching the picture (RFC 9649; animations too)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import exif
from imagereward_ext.metadata.found_text import LONGEST, MOST_PARTS, bytes_between

_HAS_EXIF, _HAS_ALPHA = 0x08, 0x10


class _RiffChunk(NamedTuple):
    kind: bytes
    start: int
    size: int
    """Bytes of content."""

    @property
    def end(self) -> int:
        return self.start + 8 + self.size + self.size % 2


def read_exif(file: BinaryIO) -> bytes:
    """Read the EXIF block, b"" when there is none."""
    found = next((chunk for chunk in _chunks(file) if chunk.kind == b"EXIF"), None)
    if found is None:
        return b""
    start = found.start + 8
    # Some writers leave JPEG's prefix before the block.
    return bytes_between(file, start, start + min(found.size, LONGEST)).removeprefix(exif.PREFIX)


def with_exif(file: BinaryIO, block: bytes) -> Iterator[bytes]:
    """Yield the file's bytes with this EXIF block in place of the old one, or behind the picture."""
    chunks = list(_chunks(file))
    if not chunks:
        raise MetadataError("the WebP file is empty")
    old = next((chunk for chunk in chunks if chunk.kind == b"EXIF"), None)
    before = old or next((chunk for chunk in chunks if chunk.kind == b"XMP "), None)  # XMP comes last
    parts = [_chunk(b"VP8X", _extended_header(file, chunks))]
    for chunk in chunks:
        if chunk is before:
            parts.append(_chunk(b"EXIF", block))
        if chunk is not old and chunk.kind != b"VP8X":
            parts.append(_chunk(chunk.kind, _content(file, chunk)))
    if before is None:
        parts.append(_chunk(b"EXIF", block))
    yield struct.pack("<4sI4s", b"RIFF", 4 + sum(map(len, parts)), b"WEBP")
    yield from parts
    yield bytes_between(file, chunks[-1].end, None)


def _extended_header(file: BinaryIO, chunks: list[_RiffChunk]) -> bytes:
    """Make the content of VP8X, which a file needs as soon as it holds more than one picture."""
    first = chunks[0]
    content = (
        _content(file, first)
        if first.kind == b"VP8X"
        else bytes_between(file, first.start + 8, first.start + 18)
    )
    if first.kind == b"VP8X" and len(content) >= 10:
        return bytes([content[0] | _HAS_EXIF]) + content[1:]
    if first.kind == b"VP8L" and content[:1] == b"\x2f" and len(content) >= 5:
        (bits,) = struct.unpack("<I", content[1:5])  # 14 bits of width - 1, 14 of height - 1, alpha
        width, height, alpha = int(bits & 0x3FFF), int(bits >> 14 & 0x3FFF), bits >> 28 & 1
    elif first.kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) == 10:
        width, height = (
            int(side & 0x3FFF) - 1 for side in struct.unpack("<HH", content[6:10])
        )  # of a key frame
        alpha = 0
    else:
        raise MetadataError("the WebP file does not start with a picture")
    if width < 0 or height < 0:
        raise MetadataError("the WebP file holds a picture without a size")
    flags = _HAS_EXIF | (_HAS_ALPHA if alpha else 0)
    return struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")


def _chunks(file: BinaryIO) -> Iterator[_RiffChunk]:
    """Walk over the chunks without reading the picture."""
    size_of_file = file.seek(0, 2)
    (size,) = struct.unpack("<I", bytes_between(file, 4, 8))
    position, end = 12, 8 + size
    if end > size_of_file + 1:  # the padding of the last chunk is missing in some files
        raise MetadataError("the WebP file is truncated")
    for _ in range(MOST_PARTS):
        if position + 8 > min(end, size_of_file):
            return
        kind, size = struct.unpack("<4sI", bytes_between(file, position, position + 8))
        chunk = _RiffChunk(kind, position, size)
        if position + 8 + size > size_of_file:
            raise MetadataError("the WebP file is truncated")
        yield chunk
        position = chunk.end
    raise MetadataError(f"the WebP file has more than {MOST_PARTS:,} chunks; such a file is not read")


def _content(file: BinaryIO, chunk: _RiffChunk) -> bytes:
    return bytes_between(file, chunk.start + 8, chunk.start + 8 + chunk.size)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
