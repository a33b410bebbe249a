"""Images with prompts to denoise: the base's own, made once, or a user's folder.

Which of them a method learns from, and with what weight, :mod:`~imagereward_ext.refl.methods` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from imagereward_ext.diffusion.checkpoint import read_tensors
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.prompts import PromptError
from imagereward_ext.errors import ImageError
from imagereward_ext.images import SUFFIXES, open_image
from imagereward_ext.storage import write_bytes
from imagereward_ext.training.states import writing


@dataclass(frozen=True)
class Pool:
    """Clean latents on the CPU; the three belong together row by row."""

    latents: Tensor
    """(n, c, h, w)"""
    prompts: Tensor
    """(n,) numbers of the prompts"""
    rewards: Tensor
    """(n,), zero where nobody asked"""

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, keep: Tensor | slice) -> Pool:
        """Pick some rows."""
        return Pool(self.latents[keep], self.prompts[keep], self.rewards[keep])


def write_pool(pool: Pool, path: Path) -> None:
    """Keep a pool, so that a resumed run has the same."""
    from safetensors.torch import save

    content = {"latents": pool.latents.contiguous(), "prompts": pool.prompts, "rewards": pool.rewards}
    with writing(str(path)):
        write_bytes(path, save(content))


def read_pool(path: Path) -> Pool:
    """Read a pool back."""
    tensors = read_tensors(path)
    return Pool(tensors["latents"], tensors["prompts"], tensors["rewards"])


def captioned_images(folder: Path) -> list[tuple[Path, str]]:
    """Find the images of a folder that have a caption: a text file of the same name."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise PromptError(f"the image folder {folder} does not exist")
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    pairs = [(image, image.with_suffix(".txt")) for image in images]
    found = [(image, _caption(text)) for image, text in pairs if text.is_file()]
    if not found:
        raise PromptError(f"{folder} holds no image with a caption (a .txt file of the same name)")
    return found


def _caption(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise PromptError(f"{file} is not UTF-8 text: save it as UTF-8") from error


@torch.no_grad()
def encoded_images(parts: DiffusionParts, paths: Sequence[Path], width: int, height: int) -> Tensor:
    """Encode image files, cut to the size of the run: (n, c, h, w) on the CPU."""
    encoded = [
        parts.encode_pixels(pixels_of(path, width, height)[None].to(parts.device)).cpu() for path in paths
    ]
    return torch.cat(encoded)


def pixels_of(path: Path, width: int, height: int) -> Tensor:
    """Read an image as (3, height, width) in [0, 1], scaled and cut in the middle."""
    import numpy as np

    try:
        image = open_image(path)
    except ImageError as error:
        raise PromptError(str(error)) from error
    fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 255
