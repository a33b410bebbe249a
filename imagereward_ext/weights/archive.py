"""Where the members of a zip archive lie, for archives whose members are stored as they are.

PyTorch writes such archives, so that a tensor can be read or mapped at its place. An archive comes from outside: what
its directory says is held to the file before anything is read by it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO, NamedTuple

MAGIC = b"PK\x03\x04"
MOST_BYTES_OF_DIRECTORY = 2**24
"""Some 200,000 members; a diffusion model has 3,000."""

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_POINTER_TO_END_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_HEADER = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 2**16
_FULL, _FULL_64 = 0xFFFFFFFF, 0x0001
"""A 32-bit number that stands in a field of 64 bits elsewhere, and the kind of that field."""


class DamagedError(Exception):
    """A file is not in the format it should be in; the message says in what, and completes a sentence."""


class UnsupportedError(Exception):
    """A file is whole, but in a form that is not read here: a fresh copy would be no other."""


class Span(NamedTuple):
    """A part of a file, in bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.start + self.size


def read_directory(file: BinaryIO, size: int) -> dict[str, Span]:
    """Say where each member's content lies; no two of them overlap, and none is compressed."""
    directory = _directory(file, size)
    members: dict[str, Span] = {}
    taken: list[Span] = []
    file.seek(directory.start)
    for member in _members(file.read(directory.size)):
        if member.name in members:
            raise DamagedError(f"it holds {member.name!r} twice")
        content = _content(file, member, directory.start)
        members[member.name] = content
        taken.append(Span(member.header, content.end - member.header))
    for before, after in pairwise(sorted(taken)):
        if after.start < before.end:
            raise DamagedError("its members overlap")
    return members


def _directory(file: BinaryIO, size: int) -> Span:
    """Find the directory by the record that ends an archive."""
    tail_start = max(0, size - _END.size - _LONGEST_COMMENT)
    file.seek(tail_start)
    tail = file.read(size - tail_start)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise DamagedError("its end is missing")
    *_, length, start, comment = _END.unpack_from(tail, place)
    if place + _END.size + comment != len(tail):
        raise DamagedError("its end is not where it should be")
    end = tail_start + place
    pointer = place - _POINTER_TO_END_64.size
    if pointer >= 0 and tail.startswith(b"PK\x06\x07", pointer):
        end = _POINTER_TO_END_64.unpack_from(tail, pointer)[2]
        file.seek(min(end, size))
        record = file.read(_END_64.size)
        if len(record) < _END_64.size or not record.startswith(b"PK\x06\x06"):
            raise DamagedError("its end is not where it should be")
        *_, length, start = _END_64.unpack(record)
    if start + length > end:
        raise DamagedError("its directory lies beyond its end")
    if length > MOST_BYTES_OF_DIRECTORY:
        raise DamagedError(f"its directory takes {length:,} bytes; {MOST_BYTES_OF_DIRECTORY:,} are read")
    return Span(start, length)


class _Member(NamedTuple):
    name: str
    size: int
    header: int
    """Where the member begins, its own header first."""


def _members(directory: bytes) -> Iterator[_Member]:
    place = 0
    while place < len(directory):
        if len(directory) - place < _ENTRY.size:
            raise DamagedError("its directory is cut off")
        values = _ENTRY.unpack_from(directory, place)
        flags, method, packed, size = values[3], values[4], values[8], values[9]
        name_length, extra_length, comment_length, header = *values[10:13], values[16]
        name_start = place + _ENTRY.size
        extra_start = name_start + name_length
        place = extra_start + extra_length + comment_length
        if values[0] != b"PK\x01\x02" or place > len(directory):
            raise DamagedError("its directory is damaged")
        name = directory[name_start:extra_start].decode("utf-8", "backslashreplace")
        large = _large_numbers(directory[extra_start : extra_start + extra_length])
        size, packed, header = (
            next(large, -1) if number == _FULL else number for number in (size, packed, header)
        )
        if method or flags & 1 or packed != size:
            raise UnsupportedError(f"its {name!r} is compressed or encrypted")
        yield _Member(name, size, header)


def _large_numbers(extra: bytes) -> Iterator[int]:
    """Yield an entry's 64-bit numbers, in their fixed order."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == _FULL_64:
            for start in range(place + 4, min(place + 4 + length, len(extra)) - 7, 8):
                yield from struct.unpack_from("<Q", extra, start)
        place += 4 + length


def _content(file: BinaryIO, member: _Member, directory_start: int) -> Span:
    """Find a member's content behind its own header."""
    if member.header < 0 or member.size < 0:
        raise DamagedError("its directory is damaged")
    file.seek(min(member.header, directory_start))
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise DamagedError(f"its {member.name!r} is not where it should be")
    name_length, extra_length = _HEADER.unpack(header)[-2:]
    content = Span(member.header + _HEADER.size + name_length + extra_length, member.size)
    if content.end > directory_start:
        raise DamagedError(f"its {member.name!r} is cut off")
    return content
