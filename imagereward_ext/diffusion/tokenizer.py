"""Find the vocabulary of CLIP where a WebUI or Hugging Face already keeps it.

The same 49,408 tokens serve every Stable Diffusion; a checkpoint file does not hold them. They are looked for
beside the checkpoint, in the Hugging Face cache, in Forge's own folder and in the packages the WebUIs install,
and only then downloaded once (1.6 MB).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from imagereward_ext.diffusion.checkpoint import CheckpointError
from imagereward_ext.wording import well_formed

REPOSITORY = "openai/clip-vit-large-patch14"
CACHED = (
    "openai--clip-vit-large-patch14",
    "runwayml--stable-diffusion-v1-5",
    "stabilityai--stable-diffusion-2-1",
    "stable-diffusion-v1-5--stable-diffusion-v1-5",
    "stabilityai--stable-diffusion-xl-base-1.0",
    "laion--CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "laion--CLIP-ViT-H-14-laion2B-s32B-b79K",
)
FILES = ("vocab.json", "merges.txt")
MERGES = 49152 - 256 - 2  # of the vocabulary CLIP was trained with


class Tokenizer:
    """Turns prompts into windows of token ids."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTokenizer

        try:
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # transformers raises whatever its parsers raise
            raise CheckpointError(f"the CLIP vocabulary in {folder} cannot be read: {error}") from error
        self.folder = folder
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self.start: int = vocabulary["<|startoftext|>"]
        self.end: int = vocabulary["<|endoftext|>"]

    def tokens(self, prompt: str) -> list[int]:
        """Return the ids of a prompt alone: no start, no end, nothing cut."""
        text = well_formed(prompt)
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def window(self, prompt: str, length: int, pad: int) -> list[int]:
        """Return start, the prompt (cut to fit), end, and the padding."""
        ids = [self.start, *self.tokens(prompt)[: length - 2], self.end]
        return ids + [pad] * (length - len(ids))


def find_tokenizer(checkpoint: Path, download: bool = True) -> Tokenizer:
    """Load the CLIP tokenizer from the first place that has it."""
    for folder in _folders(checkpoint):
        if all((folder / name).is_file() for name in FILES):
            return Tokenizer(folder)
    for archive in _archives():
        return Tokenizer(_unpacked(archive))
    if download and not os.environ.get("HF_HUB_OFFLINE"):
        return Tokenizer(_downloaded())
    raise CheckpointError(_missing(checkpoint))


def _folders(checkpoint: Path) -> Iterator[Path]:
    """Yield the folders that may hold vocab.json and merges.txt, nearest first."""
    here = checkpoint if checkpoint.is_dir() else checkpoint.parent
    yield here / checkpoint.stem / "tokenizer"
    yield here / "tokenizer"
    yield here
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    for name in CACHED:
        for snapshot in sorted(hub.glob(f"models--{name}/snapshots/*")):
            yield snapshot
            yield snapshot / "tokenizer"
    # Forge carries the tokenizers in its own source tree, which is the working folder of its processes.
    for root in (Path.cwd(), *checkpoint.resolve().parents):
        forge = root / "backend" / "huggingface"
        if forge.is_dir():
            yield from (folder.parent for folder in sorted(forge.glob("*/*/tokenizer/vocab.json")))


def _archives() -> Iterator[Path]:
    """Yield the byte-pair files that the packages open_clip and clip (both in A1111) carry."""
    for package in ("open_clip", "clip"):
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            archive = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
            if archive.is_file():
                yield archive


def vocabulary_of(archive: Path) -> tuple[dict[str, int], list[str]]:
    """Build CLIP's vocabulary and merges from its byte-pair file."""
    lines = gzip.decompress(archive.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : MERGES + 1]
    letters = [_letter(byte) for byte in _byte_order()]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += ["".join(merge.split()) for merge in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: index for index, word in enumerate(words)}, merges


def _byte_order() -> list[int]:
    """Return all bytes in the vocabulary's order: the printable ones, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    return printable + [byte for byte in range(256) if byte not in printable]


@cache
def _letter(byte: int) -> str:
    """Return the visible letter that stands for a byte: itself, or one from U+0100 on."""
    order = _byte_order()
    printable = 188
    place = order.index(byte)
    return chr(byte) if place < printable else chr(256 + place - printable)


@cache
def _unpacked(archive: Path) -> Path:
    """Write vocab.json and merges.txt of a byte-pair file into a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="imagereward-clip-"))
    vocabulary, merges = vocabulary_of(archive)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return folder


def _downloaded() -> Path:
    from huggingface_hub import hf_hub_download

    try:
        paths = [Path(hf_hub_download(REPOSITORY, name)) for name in FILES]
    except Exception as error:  # whatever the network raises, the way out is the same
        raise CheckpointError(_missing(Path("the checkpoint"))) from error
    return paths[0].parent


def _missing(checkpoint: Path) -> str:
    return (
        f"the CLIP vocabulary was not found and cannot be downloaded: put {' and '.join(FILES)} of {REPOSITORY} "
        f"into a folder named tokenizer beside {checkpoint.name}"
    )
