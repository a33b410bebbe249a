"""The stack machine that runs the program of a pickle."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any

import torch

from imagereward_ext.weights.archive import DamagedError, UnsupportedError
from imagereward_ext.weights.pickle_names import (
    Function,
    StorageType,
    called,
    is_count,
    is_short,
    look_up,
    set_key,
)
from imagereward_ext.weights.stored import Inert, Storage, StoredTensor

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
                set_key(target, key, value)
        elif not isinstance(target, Inert):
            raise DamagedError("its program sets keys of what is no dictionary")

    def _name(self) -> None:
        self._push(look_up(self._line(), self._line()))

    def _name_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise DamagedError("its program names what is no text")
        self._push(look_up(module, name))

    def _call(self, has_names: bool = False) -> None:
        """Call one of our functions; any other name makes a thing of that name."""
        if has_names:
            self._stack.pop()
        arguments, function = self._stack.pop(), self._stack.pop()
        if isinstance(function, Function):
            self._push(called(function, arguments))
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
        if not isinstance(kind, StorageType) or not is_short(key) or not is_count(count):
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
