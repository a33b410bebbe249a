"""Weight files as named tensors: opened lazily, checked before use, converted once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imagereward_ext.errors import WeightsError
from imagereward_ext.storage import replacing
from imagereward_ext.weights import digests
from imagereward_ext.weights.archive import DamagedError, UnsupportedError
from imagereward_ext.weights.pickle_names import ForbiddenError
from imagereward_ext.weights.pickles import PickleFile
from imagereward_ext.weights.stored import StoredTensor
from imagereward_ext.wording import visible, well_formed

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
        wanted = self.only(names)
        return digests.remembered([self.path], sorted(wanted), lambda: digest(wanted))

    def only(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        """Return some of the tensors by name, still in the file."""
        return _Unread(tuple(names), self._read)


class _Unread(Mapping[str, Tensor]):
    """Tensors that are read, or mapped, each time they are asked for."""

    def __init__(self, names: Sequence[str], read: Callable[[str], Tensor]) -> None:
        self._names = names
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_tensors(path: Path) -> TensorFile:
    """Open a `.safetensors` file, or a pickle that holds tensors and nothing else."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise BrokenWeightsError(path, "it is empty")
    return _open_pickle(path) if is_pickle(path) else _open_safetensors(path)


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
        held = _shown(", ".join(list(file.shapes)[:2])) or "nothing"
        raise WeightsError(
            f"{file.path} holds another model, not {what}: none of the {len(expected)} expected tensors is in it "
            f"(it begins with {held})"
        )
    faults = [*(f"{name} is missing" for name in missing), *wrong]
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    raise WeightsError(f"{file.path} is not {what}: {'; '.join(faults[:3])}{more}")


def convert(file: TensorFile, names: Iterable[str], target: Path) -> TensorFile:
    """Write these tensors of a pickle to a safetensors file and open that; in a read-only place, keep the pickle."""
    try:
        save_tensors(target, file.only(names), {_COPY_OF: file.path.name})
    except OSError:
        return file
    except WeightsError as error:
        raise WeightsError(f"{file.path} cannot be converted: {error}") from error
    return open_tensors(target)


_COPY_OF = "imagereward_copy_of"
"""Marks a file that `convert` wrote, and may write anew."""


def is_copy(path: Path, original: Path) -> bool:
    """Tell whether `convert` made this file of that one. Any other file of its name is the user's own."""
    try:
        return open_tensors(path).metadata.get(_COPY_OF) == original.name
    except WeightsError:
        return False


def save_tensors(
    target: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically."""
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name, (dtype, _) in layout.items():
        if dtype not in _TYPE_NAMES:
            raise WeightsError(f"{name} holds {dtype}, which no scorer computes with")
    with replacing(target) as part, part.open("wb") as file:
        _write_safetensors(file, tensors, layout, {"format": "pt", **(metadata or {})})


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, types and values in the order of the names: 10 hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        total.update(_bytes_of(tensor))
    return total.hexdigest()[:10]


def _write_safetensors(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    layout: Mapping[str, tuple[torch.dtype, Shape]],
    metadata: Mapping[str, str],
) -> None:
    """Write the format tensor by tensor; the library's own writer first copies all of them."""
    # Wide types first, so that each tensor begins at a multiple of its type's size.
    names = sorted(layout, key=lambda name: (-layout[name][0].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        dtype, shape = layout[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _TYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
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
    return path.suffix.lower() != ".safetensors"


class UnreadableWeightsError(WeightsError):
    """A file that cannot be read, or must not be."""

    def __init__(self, path: Path, reason: str, cure: str = "") -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be read: {reason}{cure}")


class BrokenWeightsError(UnreadableWeightsError):
    """A file that was cut off or damaged: a fresh copy would help."""


def _open_safetensors(path: Path) -> TensorFile:
    try:
        handle = _open_mapped(path)
        shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
        metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BrokenWeightsError(
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


def map_pickle(path: Path) -> dict[str, Tensor]:
    """Map all tensors of a pickle: what is looked at stays in memory until the last of them is gone."""
    file, tensors = _read_pickle(path)
    numbers = file.map()
    return {name: tensor.over(numbers) for name, tensor in tensors.items()}


def _open_pickle(path: Path) -> TensorFile:
    _, tensors = _read_pickle(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}

    def read(name: str) -> Tensor:
        with path.open("rb") as stream:
            return tensors[name].read(stream)

    return TensorFile(path, shapes, read, {})


def _read_pickle(path: Path) -> tuple[PickleFile, dict[str, StoredTensor]]:
    try:
        file = PickleFile(path)
    except ForbiddenError as error:
        raise UnreadableWeightsError(
            path,
            f"it holds code, which is never run ({_first_line(error)})",
            ". A weights file needs nothing but tensors; get it from its original address",
        ) from error
    except UnsupportedError as error:
        raise UnreadableWeightsError(path, _first_line(error), ". Save it anew with torch.save") from error
    except (DamagedError, OSError) as error:
        raise BrokenWeightsError(
            path, f"it is cut off, damaged or no PyTorch file ({_first_line(error)})"
        ) from error
    tensors = _named_tensors(file.content)
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name")
    return file, tensors


def _named_tensors(content: object) -> dict[str, StoredTensor]:
    """Find a file's tensors: they are all of its content, or lie one level down."""
    for place in ("model", "state_dict"):
        if isinstance(content, dict) and place in content:
            content = content[place]
            break
    items = content.items() if isinstance(content, dict) else ()
    return {k: v for k, v in items if isinstance(k, str) and isinstance(v, StoredTensor)}


def _first_line(error: Exception) -> str:
    """Shorten an error, some of whose words may come from the file."""
    return _shown((str(error).strip().splitlines() or [type(error).__name__])[0])


def _shown(text: str) -> str:
    return visible(well_formed(text[:160]))


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"
