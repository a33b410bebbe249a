"""Image files that make Pillow work, or remember, far more than they have bytes: found before Pillow reads them.

A TIFF is a directory of values, each with its place in the file, and many may have the same place. Pillow copies each
(before version 13; 218 kB became 576 MB) and makes an object of each number it needs. EXIF blocks are built like that,
and so is the index of pictures (MPF) that a JPEG may have. Texts in many pieces are copied once for each piece: the
comment of a GIF (before version 12: 0.3 MB took a second, and twice as much four times as long), the EXIF of a JPEG.

The walks below go where Pillow goes, junk between the parts included: what it does not read may be anything.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

from imagereward_ext.errors import ImageError

_LONGEST_BLOCK = 2**21
"""Bytes of an EXIF block; cameras write some ten thousand."""
_MOST_NUMBERS = 2**20
"""In a TIFF's directories: where each tile of 16 x 16 pixels is and how long, at the most pixels that are decoded."""
_MOST_STEPS = 2**16
"""Parts before the picture, and bytes of junk between them."""
_MOST_COPIED = 2**31
"""Bytes that are copied while a text is put together: one of 1 MB in a GIF's largest pieces, in about a second."""

_EXIF = b"Exif\0\0"
_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
"""Bytes of each of TIFF's types."""
_BYTES = {1, 2, 7}
"""Types of which a value stays one object, however long."""
_FURTHER = {0x8769, 0x8825, 0xA005}
"""Tags that name another directory which Pillow reads: EXIF, GPS, interoperability."""

_FIRST, _SOS, _APP1, _APP2 = 0xC0, 0xDA, 0xE1, 0xE2
_WITHOUT_CONTENT = {0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}


def refuse_bombs(file: BinaryIO) -> None:
    """Refuse a file that would take Pillow more memory or time than its size lets one expect, before any pixel."""
    file.seek(0)
    head = file.read(6)
    if head[:2] in (b"II", b"MM") and claims_too_much(file):
        raise ImageError("is a TIFF whose values claim more than the file holds")
    if head[:3] == b"\xff\xd8\xff":
        _refuse_jpeg(file)
    if head in (b"GIF87a", b"GIF89a"):
        _refuse_gif(file)


def is_bomb(exif: bytes) -> bool:
    """Tell whether an EXIF block, as Pillow gives it, must not be given back to Pillow to read."""
    # Some files have the prefix twice, and Pillow takes off both.
    block = exif.removeprefix(_EXIF).removeprefix(_EXIF)
    return len(block) > _LONGEST_BLOCK or claims_too_much(io.BytesIO(block))


def claims_too_much(file: BinaryIO) -> bool:
    """Tell whether the values of a TIFF structure are longer together than all of it, or too many."""
    size = file.seek(0, io.SEEK_END)
    room, numbers = size, _MOST_NUMBERS
    for step, value in enumerate(_values(file, size)):
        # Pillow ends at a value that reaches beyond the end.
        if value.place is not None and value.place + value.length <= size:
            room -= value.length
            numbers -= 0 if value.kind in _BYTES else value.numbers
        if room < 0 or numbers < 0 or step >= _MOST_STEPS:
            return True
    return False


class _Value(NamedTuple):
    """One value of a TIFF directory."""

    kind: int
    numbers: int
    length: int
    """In bytes."""
    place: int | None
    """Where the value is, None for a short one that stands in the directory."""


def _values(file: BinaryIO, size: int) -> Iterator[_Value]:
    """Go through the directories that Pillow reads for a picture: the first one, and those that it names."""
    head = _bytes_at(file, 0, 16, size).ljust(16, b"\0")
    if head[:2] not in (b"II", b"MM"):
        return
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    sign = "<" if order == "little" else ">"
    is_big = head[2] == 43  # what Pillow takes for a BigTIFF; none whose numbers are big-endian is among them
    entry, counted = struct.Struct(sign + ("HHI4s", "HHQ8s")[is_big]), (2, 8)[is_big]
    directories = [int.from_bytes(head[8:16] if is_big else head[4:8], order)]
    for directory in directories:  # which grow meanwhile
        count = int.from_bytes(_bytes_at(file, directory, counted, size), order)
        content = _bytes_at(file, directory + counted, min(count, _MOST_STEPS + 1) * entry.size, size)
        whole = len(content) // entry.size * entry.size
        for tag, kind, numbers, field in entry.iter_unpack(content[:whole]):
            length = numbers * (_SIZES[kind] if kind < len(_SIZES) else 0)
            place = int.from_bytes(field, order) if length > len(field) else None
            yield _Value(kind, numbers, length, place)
            if tag in _FURTHER and numbers == 1:
                pointer = field[:length] if place is None else _bytes_at(file, place, length, size)
                directories.append(int.from_bytes(pointer, order))


def _bytes_at(file: BinaryIO, place: int, length: int, size: int) -> bytes:
    """Read from a place that a stranger named."""
    if place >= size:
        return b""
    file.seek(place)
    return file.read(length)


def _refuse_jpeg(file: BinaryIO) -> None:
    exif, copied = b"", 0
    for marker, content in _jpeg_segments(file):
        if marker == _APP1 and content.startswith(_EXIF):
            exif += content[len(_EXIF) :]
            copied += len(exif)
        if copied > _MOST_COPIED or len(exif) > _LONGEST_BLOCK:
            raise ImageError(
                f"is a JPEG whose EXIF has more than {_LONGEST_BLOCK:,} bytes, or too many pieces"
            )
        if marker == _APP2 and content.startswith(b"MPF\0") and is_bomb(content[4:]):
            raise ImageError("is a JPEG whose index of pictures claims more than it holds")
    if is_bomb(exif):
        raise ImageError("is a JPEG whose EXIF claims more than it holds")


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Go through what stands before the picture, as JpegImageFile._open does."""
    file.seek(3)
    is_marked = True  # by the 0xFF that the last of the first three bytes is
    for _ in range(_MOST_STEPS):
        byte = file.read(1)
        if not is_marked or byte == b"\xff":
            is_marked = byte == b"\xff"
            if not byte:
                return
            continue
        is_marked = False
        marker = byte[0] if byte else _SOS
        if marker == _SOS or 0 < marker < _FIRST:
            return
        if marker and marker not in _WITHOUT_CONTENT:
            size = int.from_bytes(file.read(2), "big")
            yield marker, file.read(max(size - 2, 0))
    raise ImageError(f"is a JPEG with more than {_MOST_STEPS:,} segments before its picture")


def _refuse_gif(file: BinaryIO) -> None:
    length = copied = 0
    for step, size in enumerate(_gif_pieces(file)):
        length += size
        copied += length if size else 0
        if copied > _MOST_COPIED or step >= _MOST_STEPS:
            raise ImageError("is a GIF with too long a comment, or too many pieces before its picture")


def _gif_pieces(file: BinaryIO) -> Iterator[int]:
    """Go through what stands before the picture, as GifImageFile._seek does: what each piece adds to the comment."""
    file.seek(10)
    flags = (file.read(1) or b"\0")[0]
    file.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    while (start := file.read(1)) not in (b"", b";", b","):
        yield 0
        if start != b"!":
            continue
        kind, block = file.read(1), _gif_block(file)
        if kind == b"\xfe":
            while block:
                yield len(block)
                block = _gif_block(file)
            yield 1  # the line's end between two comments
            continue
        if kind == b"\xff" and block.startswith(b"NETSCAPE2.0"):
            _gif_block(file)
        while _gif_block(file):
            yield 0


def _gif_block(file: BinaryIO) -> bytes:
    size = file.read(1)
    return file.read(size[0]) if size else b""
