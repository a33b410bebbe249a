"""Weight files as named tensors: opened lazily, checked before use, converted once."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imagereward_ext.errors import WeightsError
from imagereward_ext.storage import replacing

DIGEST_KEY = "imagereward_digest"
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class TensorFile:
    """The tensors of one file by name; each is read from disk when it is asked for."""

    def __init__(
        self, path: Path, shapes: Shapes, read: Callable[[str], Tensor], metadata: Mapping[str, str]
    ) -> None:
        self.path = path
        self.shapes = shapes
        self.metadata = metadata
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        return self._read(name)

    def digest(self, names: Iterable[str]) -> str:
        """Identify these tensors by content: the same in whatever file they come."""
        recorded = self.metadata.get(DIGEST_KEY)
        return recorded if recorded is not None else digest({name: self[name] for name in names})


def open_tensors(path: Path) -> TensorFile:
    """Open a `.safetensors` file, or a pickle that holds tensors and nothing else."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise _broken(path, "it is empty")
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


def check(file: TensorFile, expected: Shapes, what: str) -> None:
    """Refuse a file that lacks a tensor or holds one of another shape; further tensors are allowed."""
    missing = [name for name in expected if name not in file.shapes]
    wrong = [
        f"{name} is {_times(file.shapes[name])} instead of {_times(shape)}"
        for name, shape in expected.items()
        if name in file.shapes and file.shapes[name] != shape
    ]
    if not missing and not wrong:
        return
    if len(missing) == len(expected):
        held = ", ".join(list(file.shapes)[:2]) or "nothing"
        raise WeightsError(
            f"{file.path} holds another model, not {what}: none of the {len(expected)} expected tensors is in it "
            f"(it begins with {held})"
        )
    faults = [*(f"{name} is missing" for name in missing), *wrong]
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    raise WeightsError(f"{file.path} is not {what}: {'; '.join(faults[:3])}{more}")


def convert(file: TensorFile, names: Iterable[str], target: Path) -> TensorFile:
    """Write these tensors of a pickle to a safetensors file and open that; in a read-only place, keep the pickle."""
    tensors = {name: file[name] for name in names}
    with suppress(OSError):
        save_tensors(target, tensors)
        return open_tensors(target)
    return file


def save_tensors(
    target: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> str:
    """Write a safetensors file atomically, its digest in its metadata; return the digest."""
    identity = digest(tensors)
    with replacing(target) as part, part.open("wb") as file:
        _write_safetensors(file, tensors, {"format": "pt", **(metadata or {}), DIGEST_KEY: identity})
    return identity


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, types and values in the order of the names: 10 hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        total.update(_bytes_of(tensor))
    return total.hexdigest()[:10]


def _write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write the format tensor by tensor; the library's own writer first copies all of them."""
    # Wide types first, so that each tensor begins at a multiple of its type's size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    file.write(len(content).to_bytes(8, "little") + content)
    for name in names:
        file.write(_bytes_of(tensors[name]))


_TYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the values of a tensor as they lie in memory (little-endian wherever torch runs)."""
    values: memoryview = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
    return values


def set_aside(path: Path) -> Path:
    """Rename a broken file, so that it is neither lost nor found again."""
    aside = path.with_name(path.name + ".broken")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.broken-{number}")
    return path.rename(aside)


def is_pickle(path: Path) -> bool:
    """Tell PyTorch's own format, which we convert, from safetensors."""
    return path.suffix != ".safetensors"


class BrokenWeightsError(WeightsError):
    """A file that was cut off or damaged: a fresh copy would help."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be read: {reason}")


def _broken(path: Path, reason: str) -> BrokenWeightsError:
    return BrokenWeightsError(path, reason)


def _open_safetensors(path: Path) -> TensorFile:
    try:
        handle = _open_mapped(path)
        shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
        metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _broken(
            path, f"it is cut off, damaged or no safetensors file ({_first_line(error)})"
        ) from error
    return TensorFile(path, shapes, _Portions(path), metadata)


class _Portions:
    """Reads tensors from a mapped file, mapping it anew after every portion.

    Every page of a mapping that was looked at counts as our memory until the mapping ends, and it ends when the last
    tensor that lies in it is gone. So a network that is filled in another precision never holds the file as well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: Any = None
        self._left = 0

    def __call__(self, name: str) -> Tensor:
        if self._left <= 0:
            self._handle, self._left = _open_mapped(self._path), _PORTION
        tensor: Tensor = self._handle.get_tensor(name)
        self._left -= tensor.numel() * tensor.element_size()
        return tensor


_PORTION = 2**25


def _open_mapped(path: Path) -> Any:  # its methods carry no types
    return safe_open(path, framework="pt")


def _open_pickle(path: Path) -> TensorFile:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch 2.1's own reader uses it
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it asks to run code while it is read ({_wanted_by(error)}). "
            "A weights file needs nothing but tensors; get it from its original address."
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
    ) as error:  # torch's reader lets all of them out
        raise _broken(path, f"it is cut off, damaged or no PyTorch file ({_first_line(error)})") from error
    tensors: Any = (
        content.get("model", content.get("state_dict", content)) if isinstance(content, dict) else {}
    )
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name")
    return TensorFile(
        path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__, {}
    )


def _is_zip(path: Path) -> bool:
    # Only the newer, zip-based pickles can be memory-mapped; torch raises on the others.
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _wanted_by(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found.group(1) if found else _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"
