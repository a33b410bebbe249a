"""CLIP embeddings of images and prompts, computed once and kept on disk.

A cache is a folder of safetensors files for each tower. An image is known by its content, so it may be moved or
renamed; a computation that was cut off goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from imagereward_ext.reward_training.image_store import ImageStore
from imagereward_ext.scorers.clip_tower import ClipTower
from imagereward_ext.storage import file_digest, replacing
from imagereward_ext.weights.tensors import BrokenWeightsError, open_tensors

_AT_ONCE = 32
_IN_A_FILE = 1024


class EmbeddingCache:
    """Embeddings by key, of one tower in one precision."""

    def __init__(self, folder: Path, tower: ClipTower) -> None:
        precision = str(tower.dtype).removeprefix("torch.")
        self._folder = folder / f"{tower.digest}-{precision}"
        self._known: dict[str, Tensor] = {}
        self._read: set[Path] = set()

    def read(self) -> None:
        """Read what was kept, by whatever process, since the last look."""
        for path in sorted({*self._folder.glob("*.safetensors")} - self._read):
            try:
                file = open_tensors(path)
            except BrokenWeightsError:  # it only ever holds what can be computed again
                path.unlink(missing_ok=True)  # another process has seen it, too
                continue
            self._read.add(path)
            keys = json.loads(file.metadata["keys"])
            self._known.update(zip(keys, file["embeddings"].unbind(), strict=True))

    def missing(self, keys: Sequence[str]) -> list[str]:
        """List the keys without an embedding, each once."""
        return [key for key in dict.fromkeys(keys) if key not in self._known]

    def write(self, keys: Sequence[str], embeddings: Tensor) -> None:
        """Keep these, in a file of their own."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._known.update(zip(keys, embeddings.unbind(), strict=True))
        path = self._folder / f"{uuid.uuid4().hex}.safetensors"
        with replacing(path) as part:
            save_file(
                {"embeddings": embeddings.contiguous()}, part, metadata={"keys": json.dumps(list(keys))}
            )
        self._read.add(path)

    def __getitem__(self, key: str) -> Tensor:
        return self._known[key]


def embed_images(tower: ClipTower, paths: Sequence[Path], cache: EmbeddingCache) -> dict[Path, Tensor]:
    """Embed images, those that the cache lacks shared among the processes."""
    keys = {path: f"image {file_digest(path)}" for path in paths}
    of_key = {key: path for path, key in keys.items()}
    store = ImageStore(tower.preprocessing.image, kept_bytes=0)

    def embed(part: Sequence[str]) -> Tensor:
        inputs = store.take([of_key[key] for key in part])
        return tower.embed_images(inputs.to(tower.device, tower.dtype))

    def expect(part: Sequence[str]) -> None:
        store.expect(of_key[key] for key in part)

    _compute(list(keys.values()), embed, cache, "images", expect)
    return {path: cache[key] for path, key in keys.items()}


def embed_prompts(tower: ClipTower, prompts: Sequence[str], cache: EmbeddingCache) -> dict[str, Tensor]:
    """Embed prompts, those that the cache lacks shared among the processes."""
    keys = {prompt: f"text {hashlib.sha256(prompt.encode()).hexdigest()}" for prompt in prompts}
    of_key = {key: prompt for prompt, key in keys.items()}
    _compute(
        list(keys.values()), lambda part: tower.embed_texts([of_key[key] for key in part]), cache, "prompts"
    )
    return {prompt: cache[key] for prompt, key in keys.items()}


def _compute(
    keys: Sequence[str],
    embed: Callable[[Sequence[str]], Tensor],
    cache: EmbeddingCache,
    what: str,
    expect: Callable[[Sequence[str]], None] = lambda part: None,
) -> None:
    cache.read()
    state = PartialState()
    mine = cache.missing(keys)[state.process_index :: state.num_processes]
    state.wait_for_everyone()  # nobody writes before everybody has read the same
    parts = [mine[start : start + _AT_ONCE] for start in range(0, len(mine), _AT_ONCE)]
    done: list[tuple[Sequence[str], Tensor]] = []
    with torch.inference_mode():
        for index, part in enumerate(tqdm(parts, desc=f"embedding {what}", unit="batch", disable=None)):
            for coming in parts[index : index + 2]:
                expect(coming)
            done.append((part, embed(part).float().cpu()))
            if len(done) * _AT_ONCE >= _IN_A_FILE or index == len(parts) - 1:
                cache.write([key for part, _ in done for key in part], torch.cat([rows for _, rows in done]))
                done = []
    state.wait_for_everyone()
    cache.read()
