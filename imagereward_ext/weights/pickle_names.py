"""What the program of a pickle may name: types of numbers, and functions of ours in place of those that it means.

The table is closed and nothing is imported. A name that is not in it stands for a thing that does nothing; one of
Python's own functions is refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from imagereward_ext.weights.archive import DamagedError, UnsupportedError
from imagereward_ext.weights.stored import Inert, Storage, StoredTensor

_MOST_DIMENSIONS = 8
_MOST_ARGUMENTS = 16
_LONGEST_NAME = 200


class ForbiddenError(Exception):
    """A pickle names what only a program that means harm would call; the message is that name."""


@dataclass(frozen=True)
class StorageType:
    """The type of a storage's numbers."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Function:
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
    if not len(shape) == len(stride) <= _MOST_DIMENSIONS or not all(map(is_count, (offset, *shape, *stride))):
        raise DamagedError("it holds a tensor with an impossible shape")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and (last + 1) * dtype.itemsize > storage.size:
        raise DamagedError("it holds a tensor that reaches beyond its storage")
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > storage.file_size:
        raise DamagedError("it holds a tensor that is larger than the file")
    return StoredTensor(storage, dtype, offset, shape, stride)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def called(function: Function, arguments: Any) -> Any:
    """Call one of our functions. What it is given is copied by the call: a long list could be, again and again."""
    if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
        raise DamagedError("its program calls a function with what are no arguments")
    return function.call(*arguments)


def _of_subclass(function: Any, _class: Any, arguments: Any, *_: Any) -> Any:
    """Take a tensor with attributes of its own without them."""
    return called(function, arguments) if function in _TENSORS.values() else Inert("torch.Tensor")


def _dictionary(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if isinstance(pairs, list):  # of Python 2
        for key, value in pairs:
            set_key(result, key, value)
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
    "torch._utils._rebuild_tensor": Function(_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_tensor_v3": Function(_tensor_of_type),
    "torch._utils._rebuild_parameter": Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": Function(_parameter),
}
NAMES: Mapping[str, object] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": Function(_of_subclass),
    "collections.OrderedDict": Function(_dictionary),
    "torch.Size": Function(_size),
    "torch.storage.UntypedStorage": StorageType(torch.uint8),
    **{f"torch.{name}": StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
"""All that a program can reach: types of numbers, and functions of ours."""

_PLAIN_MODULES = {"collections", "argparse", "pathlib", "datetime", "enum", "typing", "copyreg", "copy_reg", "_codecs",
                  "decimal", "fractions", "uuid", "types", "dataclasses"}  # fmt: skip
_PLAIN_TYPES = {"object", "set", "frozenset", "int", "long", "float", "complex", "bool", "str", "unicode", "bytes",
                "bytearray", "list", "tuple", "dict", "slice", "range", "xrange"}  # fmt: skip


_MODULES_OF_PYTHON = sys.stdlib_module_names | {"__builtin__", "nt"}


def look_up(module: str, name: str) -> object:
    """Return what a name of a program stands for here."""
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


def is_short(key: object) -> bool:
    """Tell whether this can be a storage's name."""
    return isinstance(key, str) and len(key) <= _LONGEST_NAME


def is_count(value: object) -> bool:
    """Tell whether this can be a number of elements."""
    return type(value) is int and 0 <= value < 2**63


def set_key(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key, or leave it out: nothing whose hash is work, as of tuples of tuples, or can be chosen to be another's.

    Weights have no such keys, but what lies beside them may: the states of some optimisers are kept by `id()`.
    """
    if isinstance(key, (str, bytes, Inert)) or (isinstance(key, int) and -(2**31) < key < 2**31):
        target[key] = value
