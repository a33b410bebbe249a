"""Images as network input, read ahead by a few threads and kept as far as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from imagereward_ext.images import open_image

_READERS = 4
_KEPT_BYTES = 1 << 30


class ImageStore:
    """Loads and preprocesses images; the threads decide only when, never what."""

    def __init__(self, preprocess: Callable[[Image.Image], Tensor], kept_bytes: int = _KEPT_BYTES) -> None:
        self._preprocess = preprocess
        self._room = kept_bytes
        self._kept: dict[Path, Tensor] = {}
        self._coming: dict[Path, Future[Tensor]] = {}
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="images")

    def expect(self, paths: Iterable[Path]) -> None:
        """Begin to load these."""
        for path in paths:
            if path not in self._kept and path not in self._coming:
                self._coming[path] = self._pool.submit(self._load, path)

    def take(self, paths: Sequence[Path]) -> Tensor:
        """Return network input for these, (n, 3, h, w)."""
        self.expect(paths)
        images = {path: self._one(path) for path in dict.fromkeys(paths)}
        return torch.stack([images[path] for path in paths])

    def _one(self, path: Path) -> Tensor:
        if path in self._kept:
            return self._kept[path]
        image = self._coming.pop(path).result()
        size = image.numel() * image.element_size()
        if size <= self._room:
            self._kept[path] = image
            self._room -= size
        return image

    def _load(self, path: Path) -> Tensor:
        return self._preprocess(open_image(path))
