"""PyTorch's files, read without running anything that stands in them.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program names. PyTorch's
`weights_only=True` was to prevent that, and before version 2.6 it could be made to call as well (CVE-2025-32434);
WebUIs bring 2.1 and 2.3. So the machine here (`pickle_machine.py`) knows containers, numbers, texts and tensors, and
looks a name up in a closed table (`pickle_names.py`).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from imagereward_ext.weights import archive
from imagereward_ext.weights.archive import DamagedError, Span, UnsupportedError
from imagereward_ext.weights.pickle_machine import Machine
from imagereward_ext.weights.stored import Numbers, Storage, StoredTensor, read_numbers

LARGEST_PROGRAM = 2**23
"""Bytes, of some 60,000 tensors; a diffusion model's program takes half a million."""
_DEEPEST = 32
"""Containers within containers that a whole content is read of."""


class PickleFile:
    """A file of PyTorch's: what it holds, its tensors as :class:`StoredTensor`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        with path.open("rb") as file:
            is_archive = file.read(len(archive.MAGIC)) == archive.MAGIC
            self.content: Any = (_read_archive if is_archive else _read_old)(file, self.size)

    def map(self) -> Numbers:
        """Map the file; what is written into its tensors stays in memory."""
        pages = torch.UntypedStorage.from_file(str(self.path), False, self.size)

        def mapped(storage: Storage) -> torch.UntypedStorage:
            values: Any = pages[storage.start : storage.start + storage.size]
            return cast(torch.UntypedStorage, values.clone() if storage.start % _ALIGNMENT else values)

        return Numbers(mapped)


_ALIGNMENT = 16
"""Bytes: no type asks for a stricter place in memory."""


def read_all(path: Path) -> Any:
    """Read a file's whole content into memory; tensors that shared their numbers share them again."""
    file = PickleFile(path)
    known: dict[int, Any] = {}

    def loaded(value: Any, depth: int) -> Any:
        if id(value) in known:
            return known[id(value)]
        if depth > _DEEPEST:
            raise DamagedError("its containers are nested too deeply")
        result = value
        if isinstance(value, StoredTensor):
            result = value.over(numbers)
        elif isinstance(value, dict):
            result = {key: loaded(each, depth + 1) for key, each in value.items()}
        elif isinstance(value, (list, tuple)):
            result = type(value)(loaded(each, depth + 1) for each in value)
        known[id(value)] = result
        return result

    with path.open("rb") as stream:
        numbers = Numbers(
            lambda storage: read_numbers(stream, Span(storage.start, storage.size)).untyped_storage()
        )
        return loaded(file.content, 0)


def _read_archive(file: BinaryIO, size: int) -> Any:
    """Read the format of PyTorch 1.6 and later: a zip archive with the program and one member for each storage."""
    members = archive.read_directory(file, size)
    programs = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise DamagedError(f"the archive holds {len(programs)} files data.pkl")
    folder = programs[0].removesuffix("data.pkl")
    if (order := members.get(f"{folder}byteorder")) and _read(file, order)[:6] != b"little":
        raise UnsupportedError("its numbers are in big-endian order")

    storages: dict[str, Storage] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Storage:
        member = members.get(f"{folder}data/{key}")
        if member is None or count * dtype.itemsize > member.size:
            raise DamagedError(f"its storage {key!r} is missing or too short")
        wanted = Storage(dtype, count * dtype.itemsize, size, member.start)
        if storages.setdefault(key, wanted) != wanted:
            raise DamagedError(f"its storage {key!r} has two lengths")
        return storages[key]

    return Machine(_read(file, members[programs[0]]), storage).run()


_OLD_MAGIC, _OLD_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def _read_old(file: BinaryIO, size: int) -> Any:
    """Read the format before that: five pickles (two marks, the writer's system, the content, the keys), then numbers."""
    storages: dict[str, Storage] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Storage:
        wanted = Storage(dtype, count * dtype.itemsize, size)
        if wanted.size > size or storages.setdefault(key, wanted) != wanted:
            raise DamagedError(f"its storage {key!r} is longer than the file, or has two lengths")
        return storages[key]

    file.seek(0)
    machine = Machine(file.read(LARGEST_PROGRAM), storage)
    try:
        marks = machine.run(), machine.run()
    except UnsupportedError:  # of a web page, for instance, there is no end to what its letters mean
        marks = None
    if marks != (_OLD_MAGIC, _OLD_PROTOCOL):
        raise DamagedError("it is in neither of PyTorch's formats")
    machine.run()
    content, keys = machine.run(), machine.run()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise DamagedError("its list of storages is damaged")
    if set(storages) != set(keys):
        raise DamagedError("its list of storages is not that of its tensors")
    place = machine.position
    for key in keys:
        file.seek(min(place, size))
        header = file.read(8)  # a count of elements
        stored = storages[key]
        if len(header) < 8 or struct.unpack("<Q", header)[0] * stored.dtype.itemsize != stored.size:
            raise DamagedError(f"its storage {key!r} has another size than its tensors say")
        stored.start = place + 8
        place = stored.start + stored.size
    if place > size:
        raise DamagedError(f"{place - size:,} bytes are missing")
    return content


def _read(file: BinaryIO, span: Span) -> bytes:
    if span.size > LARGEST_PROGRAM:
        raise UnsupportedError(f"its program takes {span.size:,} bytes; {LARGEST_PROGRAM:,} are read")
    file.seek(span.start)
    return file.read(span.size)
