"""What a program makes of a tensor: numbers that say where it lies in the file, its type, shape and strides.

They are held to the file's size at once. The tensor itself is read, or mapped, when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import torch
from torch import Tensor

from imagereward_ext.weights.archive import DamagedError, Span


@dataclass(frozen=True, slots=True)
class Inert:
    """Stands for an object of a class that weights have no need of: nothing but its name."""

    name: str


@dataclass(slots=True)
class Storage:
    """A run of numbers in a file."""

    dtype: torch.dtype
    size: int
    """In bytes."""
    file_size: int
    start: int = 0
    """In bytes; in an old file it is known only when the program has ended."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage. Its numbers have been checked: it lies in the storage, and is no larger than the file."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    """In elements, as the strides are."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, file: BinaryIO) -> Tensor:
        """Return the tensor in memory of its own, which is no larger than it needs."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        span = 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        start = self.storage.start + self.offset * self.dtype.itemsize
        values = read_numbers(file, Span(start, span * self.dtype.itemsize))
        return values.view(self.dtype).as_strided(self.shape, self.stride)

    def over(self, numbers: Numbers) -> Tensor:
        """Return the tensor over its storage's numbers, which other tensors may share."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        values = numbers.of(self.storage)
        return torch.empty(0, dtype=self.dtype).set_(values, self.offset, self.shape, self.stride)


class Numbers:
    """The numbers of a file's storages, brought into memory once however many tensors share them."""

    def __init__(self, bring: Callable[[Storage], torch.UntypedStorage]) -> None:
        self._bring = bring
        self._brought: dict[int, torch.UntypedStorage] = {}

    def of(self, storage: Storage) -> torch.UntypedStorage:
        """Return one storage's numbers. No two storages begin at one place."""
        if storage.start not in self._brought:
            self._brought[storage.start] = self._bring(storage)
        return self._brought[storage.start]


def read_numbers(file: BinaryIO, span: Span) -> Tensor:
    """Read bytes of a file into memory of PyTorch's own."""
    values = torch.empty(span.size, dtype=torch.uint8)
    file.seek(span.start)
    if file.readinto(values.numpy().data) != span.size:  # type: ignore[attr-defined]
        raise DamagedError("its numbers are cut off")
    return values
