"""Open a checkpoint file and tell what is in it, before any tensor is read.

What a file is made of stands in the names and shapes of its tensors, so a LoRA given by mistake, an inpainting
model or a truncated download is refused in one line and at once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagereward_ext import storage
from imagereward_ext.diffusion.model_config import Family
from imagereward_ext.errors import ImageRewardError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

UNET = "model.diffusion_model."
VAE = "first_stage_model."
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
LARGEST_HEADER = 100 * 2**20  # bytes; the safetensors format allows no larger one


class CheckpointError(ImageRewardError):
    """A checkpoint that is missing, broken, or not a model this project can train."""


@dataclass(frozen=True)
class CheckpointFile:
    """The names, shapes and metadata of a file's tensors."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    def width(self, key: str, axis: int) -> int | None:
        """Return one side of a tensor, None when the file has no such tensor."""
        shape = self.shapes.get(key)
        return shape[axis] if shape is not None and len(shape) > axis else None

    def has(self, prefix: str) -> bool:
        """Tell whether any tensor's name starts so."""
        return any(key.startswith(prefix) for key in self.shapes)


def inspect(path: Path) -> CheckpointFile:
    """Read a file's table of contents."""
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist: give a .safetensors or .ckpt file, or a diffusers folder"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path.name} is not a checkpoint: expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise CheckpointError(f"{path} is no file that could hold a model")
    if path.suffix.lower() == ".safetensors":
        return _inspect_safetensors(path)
    from imagereward_ext.weights.tensors import open_tensors

    with _reading(path):
        return CheckpointFile(path, open_tensors(path).shapes, {})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a file; memory-mapped, so what is not used costs no memory."""
    if path.suffix.lower() != ".safetensors":
        from imagereward_ext.weights.tensors import map_pickle

        with _reading(path):
            return map_pickle(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error


def family_of(file: CheckpointFile) -> Family:
    """Tell the architecture from the keys, or refuse the file by name."""
    _refuse_other_kinds(file)
    channels = file.width(UNET + "input_blocks.0.0.weight", 1)
    name = file.path.name
    if channels is None:
        raise CheckpointError(f"{name} has an unknown layout: no Stable Diffusion UNet was found in it")
    if channels != 4:
        kind = {9: "an inpainting", 8: "an instruct-pix2pix", 5: "a depth", 7: "an upscaling"}
        raise CheckpointError(
            f"{name} is {kind.get(channels, 'an unusual')} model ({channels} input channels): "
            "train on its text-to-image base instead"
        )
    if file.has("conditioner.embedders.1.model."):
        return "sdxl"
    if file.has("conditioner.embedders.0.model."):
        raise CheckpointError(f"{name} is an SDXL refiner: train on the SDXL base model instead")
    if file.has("cond_stage_model.model."):
        return "sd2"
    if file.has("cond_stage_model.transformer."):
        return "sd1"
    raise CheckpointError(f"{name} holds a UNet but no text encoder: give the full checkpoint")


def _refuse_other_kinds(file: CheckpointFile) -> None:
    name = file.path.name
    if any(
        ".lora_" in key or "lora_unet" in key or ".lokr_" in key or ".hada_" in key for key in file.shapes
    ):
        raise CheckpointError(f"{name} is a LoRA, not a checkpoint: give the base model it belongs to")
    others = {
        "double_blocks.": "a Flux model",
        "joint_blocks.": "a Stable Diffusion 3 model",
        "control_model.": "a ControlNet",
        "emb_params": "a textual inversion",
    }
    for part, kind in others.items():
        if any(part in key for key in file.shapes):
            raise CheckpointError(f"{name} is {kind}; Stable Diffusion 1.x, 2.x and SDXL can be trained")
    if file.shapes and not file.has(UNET) and any(key.startswith(("encoder.", VAE)) for key in file.shapes):
        raise CheckpointError(
            f"{name} is a VAE, not a checkpoint: give it as the VAE and a model as the base"
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file (of all weight files' digests for a folder), in hexadecimal."""
    if path.is_dir():
        parts = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
        return hashlib.sha256("".join(map(file_digest, parts)).encode()).hexdigest()
    about = path.stat()
    return _digest(path, about.st_mtime_ns, about.st_size)


def old_hash(path: Path) -> str:
    """Return the eight digits that kohya's scripts call a checkpoint's hash: of 64 KiB from 1 MiB on; "" for a folder."""
    if path.is_dir():
        return ""
    with path.open("rb") as stream:
        stream.seek(0x100000)
        return hashlib.sha256(stream.read(0x10000)).hexdigest()[:8]


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    """Hash a file once as long as it stays as it is."""
    return storage.file_digest(path)


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON header of a safetensors file, and check that the file is as long as it says."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, LARGEST_HEADER)))
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        end = max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
        sizes = {side for entry in tensors for side in entry["shape"]}
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} is no safetensors file or is damaged; download it again"
        ) from error
    if not all(type(side) is int and side >= 0 for side in sizes):
        raise CheckpointError(f"{path.name} holds a tensor with an impossible shape; download it again")
    if 8 + length + end > size:
        missing = 8 + length + end - size
        raise CheckpointError(f"{path.name} is truncated ({missing:,} bytes are missing): download it again")
    return dict(header)


def _inspect_safetensors(path: Path) -> CheckpointFile:
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    texts = {key: str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    return CheckpointFile(path, {key: tuple(entry["shape"]) for key, entry in header.items()}, texts)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line why a file of PyTorch's own format is refused; nothing in it is ever run."""
    from imagereward_ext.weights.tensors import UnreadableWeightsError

    try:
        yield
    except UnreadableWeightsError as error:
        raise CheckpointError(
            f"{path.name} cannot be read safely: {error.reason}; get it as .safetensors"
        ) from error
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
