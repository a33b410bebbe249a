"""PyTorch's files, read without running anything that stands in them.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program names. PyTorch's
`weights_only=True` was to prevent that, and before version 2.6 it could be made to call as well (CVE-2025-32434);
WebUIs bring 2.1 and 2.3. So the machine here knows containers, numbers, texts and tensors. A name is looked up in a
closed table and never imported; one that is not in it stands for a thing that does nothing.

What a program makes of a tensor are numbers: where it lies in the file, its type, shape and strides. They are held to
the file's size at once. The tensor itself is read, or mapped, when somebody asks for it.
"""

from __future__ import annotations

import math
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from imagereward_ext.weights import archive
from imagereward_ext.weights.archive import DamagedError, Span, UnsupportedError

LARGEST_PROGRAM = 2**23
"""Bytes, of some 60,000 tensors; a diffusion model's program takes half a million."""
_MOST_DIMENSIONS = 8
_MOST_ARGUMENTS = 16
_LONGEST_NAME = 200
_DEEPEST = 32
"""Containers within containers that a whole content is read of."""


class ForbiddenError(Exception):
    """A pickle names what only a program that means harm would call; the message is that name."""


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
        values = _read_numbers(file, Span(start, span * self.dtype.itemsize))
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
            lambda storage: _read_numbers(stream, Span(storage.start, storage.size)).untyped_storage()
        )
        return loaded(file.content, 0)


def _read_numbers(file: BinaryIO, span: Span) -> Tensor:
    """Read bytes of a file into memory of PyTorch's own."""
    values = torch.empty(span.size, dtype=torch.uint8)
    file.seek(span.start)
    if file.readinto(values.numpy().data) != span.size:  # type: ignore[attr-defined]
        raise DamagedError("its numbers are cut off")
    return values


# ------------------------------------------------------------------------------------------------- the two formats


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


# ------------------------------------------------------------------------------------------- what a program may name


@dataclass(frozen=True)
class _StorageType:
    dtype: torch.dtype


@dataclass(frozen=True)
class _Function:
    """One of our functions, in place of the one that a program names."""

    call: Callable[..., Any]


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    _gradient: Any = None,
    _hooks: Any = None,
    flags: Any = None,
) -> StoredTensor:
    return _tensor_of_type(storage, offset, shape, stride, None, None, getattr(storage, "dtype", None), flags)


def _tensor_of_type(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    _gradient: Any,
    _hooks: Any,
    dtype: Any,
    flags: Any = None,
) -> StoredTensor:
    if flags:
        raise UnsupportedError("it holds a tensor that is conjugated or negated when it is read")
    return _view(storage, dtype, offset, shape, stride)


def _view(storage: Any, dtype: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise DamagedError("it holds a tensor without numbers")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise DamagedError("it holds a tensor without a shape")
    if not len(shape) == len(stride) <= _MOST_DIMENSIONS or not all(
        map(_is_count, (offset, *shape, *stride))
    ):
        raise DamagedError("it holds a tensor with an impossible shape")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and (last + 1) * dtype.itemsize > storage.size:
        raise DamagedError("it holds a tensor that reaches beyond its storage")
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > storage.file_size:
        raise DamagedError("it holds a tensor that is larger than the file")
    return StoredTensor(storage, dtype, offset, shape, stride)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _called(function: _Function, arguments: Any) -> Any:
    """Call one of our functions. What it is given is copied by the call: a long list could be, again and again."""
    if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
        raise DamagedError("its program calls a function with what are no arguments")
    return function.call(*arguments)


def _of_subclass(function: Any, _class: Any, arguments: Any, *_: Any) -> Any:
    """Take a tensor with attributes of its own without them."""
    return _called(function, arguments) if function in _TENSORS.values() else Inert("torch.Tensor")


def _dictionary(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if isinstance(pairs, list):  # of Python 2
        for key, value in pairs:
            _set(result, key, value)
        pairs.clear()  # or a short program could copy a long list for ever
    return result


def _size(sides: Any) -> tuple[Any, ...]:
    if not isinstance(sides, (list, tuple)) or len(sides) > _MOST_DIMENSIONS:
        raise DamagedError("it holds an impossible shape")
    return tuple(sides)


_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_TENSORS = {
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_tensor_v3": _Function(_tensor_of_type),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Function(_parameter),
}
NAMES: Mapping[str, object] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _Function(_of_subclass),
    "collections.OrderedDict": _Function(_dictionary),
    "torch.Size": _Function(_size),
    "torch.storage.UntypedStorage": _StorageType(torch.uint8),
    **{f"torch.{name}": _StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
"""All that a program can reach: types of numbers, and functions of ours."""

_PLAIN_MODULES = {"collections", "argparse", "pathlib", "datetime", "enum", "typing", "copyreg", "copy_reg", "_codecs",
                  "decimal", "fractions", "uuid", "types", "dataclasses"}  # fmt: skip
_PLAIN_TYPES = {"object", "set", "frozenset", "int", "long", "float", "complex", "bool", "str", "unicode", "bytes",
                "bytearray", "list", "tuple", "dict", "slice", "range", "xrange"}  # fmt: skip


_MODULES_OF_PYTHON = sys.stdlib_module_names | {"__builtin__", "nt"}


def _look_up(module: str, name: str) -> object:
    if len(module) + len(name) > _LONGEST_NAME:
        raise DamagedError("its program has a name that is too long")
    full = f"{module}.{name}"
    if full in NAMES:
        return NAMES[full]
    if _is_pythons_own(module.partition(".")[0], name):
        raise ForbiddenError(full)
    return Inert(full)


def _is_pythons_own(module: str, name: str) -> bool:
    """Tell a function of Python's own from what the log of a training may hold: objects of its libraries, and values."""
    if module in ("builtins", "__builtin__"):
        return name not in _PLAIN_TYPES
    return module in _MODULES_OF_PYTHON and module not in _PLAIN_MODULES


def _is_short(key: object) -> bool:
    return isinstance(key, str) and len(key) <= _LONGEST_NAME


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key, or leave it out: nothing whose hash is work, as of tuples of tuples, or can be chosen to be another's.

    Weights have no such keys, but what lies beside them may: the states of some optimisers are kept by `id()`.
    """
    if isinstance(key, (str, bytes, Inert)) or (isinstance(key, int) and -(2**31) < key < 2**31):
        target[key] = value


# --------------------------------------------------------------------------------------------------- the machine

_PLAIN_OBJECTS = (dict, Inert, StoredTensor)
_SET = Inert("set")
"""One for all, as an instruction of one byte makes it."""


class Machine:
    """Runs a program: its instructions are those that the pickle protocols 2 to 5 need for the above, no others."""

    def __init__(
        self, program: bytes, storage: Callable[[torch.dtype, str, int], Storage], position: int = 0
    ) -> None:
        self.position = position
        self._program = program
        self._storage = storage
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        """The stacks under each mark."""
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Run to the next end, and return what lies on top."""
        self._stack, self._below, self._memo = [], [], {}
        try:
            while (code := self._take(1)) != pickle.STOP:
                instruction = _INSTRUCTIONS.get(code)
                if instruction is None:
                    raise UnsupportedError(
                        f"its program has the instruction {code!r}, which weights do not need"
                    )
                instruction(self)
            return self._stack.pop()
        except (
            IndexError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:  # a stack, a memo or arguments that lie
            raise DamagedError("its program is damaged") from error

    def _take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self._program):
            raise DamagedError("its program is cut off")
        return self._program[start : self.position]

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _line(self) -> str:
        end = self._program.find(b"\n", self.position)
        return self._take(end - self.position + 1)[:-1].decode() if end >= 0 else self._take(2**63).decode()

    def _text(self, size: int) -> None:
        self._push(self._take(self._number(size)).decode("utf-8", "surrogatepass"))

    def _bytes(self, size: int) -> None:
        self._push(self._take(self._number(size)))

    def _long(self, size: int) -> None:
        self._push(self._number(self._number(size), signed=True))

    def _old_text(self, size: int) -> None:
        """Push a text of Python 2."""
        self._push(self._take(self._number(size)).decode("latin-1"))

    def _put(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, size: int) -> None:
        items = [self._stack.pop() for _ in range(size)]
        self._push(tuple(reversed(items)))

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise DamagedError("its program adds to what is no list")

    def _forget_items(self) -> None:
        self._to_mark()
        self._push(_SET)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                _set(target, key, value)
        elif not isinstance(target, Inert):
            raise DamagedError("its program sets keys of what is no dictionary")

    def _name(self) -> None:
        self._push(_look_up(self._line(), self._line()))

    def _name_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise DamagedError("its program names what is no text")
        self._push(_look_up(module, name))

    def _call(self, has_names: bool = False) -> None:
        """Call one of our functions; any other name makes a thing of that name."""
        if has_names:
            self._stack.pop()
        arguments, function = self._stack.pop(), self._stack.pop()
        if isinstance(function, _Function):
            self._push(_called(function, arguments))
        elif isinstance(function, Inert):
            self._push(function)
        else:
            raise DamagedError("its program calls what is no function")

    def _build(self) -> None:
        """Leave out the state that would be given to an object."""
        self._stack.pop()
        if not isinstance(self._stack[-1], _PLAIN_OBJECTS):
            raise DamagedError("its program changes what has no state")

    def _stored(self) -> None:
        """Push a storage. A program names it by a tuple: a word, its type, its key, a device, its length."""
        word, kind, key, _device, count, *view = self._stack.pop()
        if isinstance(kind, Inert):
            raise UnsupportedError(f"its numbers are of a type that cannot be read ({kind.name!r})")
        if not isinstance(kind, _StorageType) or not _is_short(key) or not _is_count(count):
            raise DamagedError("one of its storages is damaged")
        if word != "storage" or view not in ([], [None]):
            raise DamagedError("one of its storages is part of another")
        self._push(self._storage(kind.dtype, key, count))


_INSTRUCTIONS: Mapping[bytes, Callable[[Machine], object]] = {
    pickle.PROTO: lambda m: m._take(1),
    pickle.FRAME: lambda m: m._take(8),
    pickle.MARK: Machine._mark,
    pickle.POP: lambda m: m._stack.pop(),
    pickle.POP_MARK: Machine._to_mark,
    # Values
    pickle.NONE: lambda m: m._push(None),
    pickle.NEWTRUE: lambda m: m._push(True),
    pickle.NEWFALSE: lambda m: m._push(False),
    pickle.BININT: lambda m: m._push(m._number(4, signed=True)),
    pickle.BININT1: lambda m: m._push(m._number(1)),
    pickle.BININT2: lambda m: m._push(m._number(2)),
    pickle.LONG1: lambda m: m._long(1),
    pickle.LONG4: lambda m: m._long(4),
    pickle.BINFLOAT: lambda m: m._push(struct.unpack(">d", m._take(8))[0]),
    pickle.SHORT_BINUNICODE: lambda m: m._text(1),
    pickle.BINUNICODE: lambda m: m._text(4),
    pickle.BINUNICODE8: lambda m: m._text(8),
    pickle.SHORT_BINSTRING: lambda m: m._old_text(1),
    pickle.BINSTRING: lambda m: m._old_text(4),
    pickle.SHORT_BINBYTES: lambda m: m._bytes(1),
    pickle.BINBYTES: lambda m: m._bytes(4),
    pickle.BINBYTES8: lambda m: m._bytes(8),
    pickle.BYTEARRAY8: lambda m: m._bytes(8),
    # Containers
    pickle.EMPTY_TUPLE: lambda m: m._push(()),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.TUPLE: lambda m: m._push(tuple(m._to_mark())),
    pickle.EMPTY_LIST: lambda m: m._push([]),
    pickle.APPEND: lambda m: m._extend([m._stack.pop()]),
    pickle.APPENDS: lambda m: m._extend(m._to_mark()),
    pickle.EMPTY_DICT: lambda m: m._push({}),
    pickle.SETITEM: lambda m: m._set_items([m._stack.pop(-2), m._stack.pop()]),
    pickle.SETITEMS: lambda m: m._set_items(m._to_mark()),
    pickle.EMPTY_SET: lambda m: m._push(_SET),
    pickle.ADDITEMS: lambda m: m._extend(m._to_mark()),
    pickle.FROZENSET: Machine._forget_items,
    # What was made before
    pickle.BINPUT: lambda m: m._put(m._number(1)),
    pickle.LONG_BINPUT: lambda m: m._put(m._number(4)),
    pickle.MEMOIZE: lambda m: m._put(len(m._memo)),
    pickle.BINGET: lambda m: m._push(m._memo[m._number(1)]),
    pickle.LONG_BINGET: lambda m: m._push(m._memo[m._number(4)]),
    # Names and tensors
    pickle.GLOBAL: Machine._name,
    pickle.STACK_GLOBAL: Machine._name_on_stack,
    pickle.REDUCE: Machine._call,
    pickle.NEWOBJ: Machine._call,
    pickle.NEWOBJ_EX: lambda m: m._call(has_names=True),
    pickle.BUILD: Machine._build,
    pickle.BINPERSID: Machine._stored,
}
