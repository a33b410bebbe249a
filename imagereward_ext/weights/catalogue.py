"""The one list of published weights this project knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagereward_ext.errors import WeightsError


@dataclass(frozen=True)
class RemoteFile:
    """One published file: where it is on the hub, and what it is called on a user's disk."""

    repos: tuple[str, ...]
    """The same file in several repositories, the first one preferred."""
    path: str
    size_in_bytes: int
    saved_as: str = ""
    url: str = ""
    """Its address when it is not on the hub; `repos` is empty then."""

    @property
    def repo(self) -> str:
        """Where it comes from: the preferred repository, or the server when it is not on the hub."""
        return self.repos[0] if self.repos else self.url.split("/")[2]

    @property
    def name(self) -> str:
        """The file's name in a folder of ours."""
        return self.saved_as or self.path.rsplit("/", 1)[-1]

    @property
    def address(self) -> str:
        """The page a browser can download it from."""
        return self.url or f"https://huggingface.co/{self.repo}/resolve/main/{self.path}"


@dataclass(frozen=True)
class Entry:
    """One scorer that can be had by name."""

    name: str
    label: str
    """The key of its score inside an image file."""
    architecture: str
    """The module of :mod:`imagereward_ext.scorers` that builds it, with - for _."""
    weights: RemoteFile
    licence: str
    homepage: str
    companions: Mapping[str, RemoteFile] = field(default_factory=dict)
    """Further files it needs, by role: a vocabulary, a tower."""
    mean: float = 0.0
    """With `std`, what turns the network's raw output into a standardised score; 0 and 1 where nothing is published,
    and the score is in the network's own units."""
    std: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Whatever differs from its architecture's defaults."""

    @property
    def repo(self) -> str:
        """The repository of the main file."""
        return self.weights.repo

    @property
    def file(self) -> str:
        """The main file's name on disk."""
        return self.weights.name

    @property
    def size_in_bytes(self) -> int:
        """What has to be downloaded, all files together."""
        return self.weights.size_in_bytes + sum(file.size_in_bytes for file in self.companions.values())


BERT_VOCABULARY = RemoteFile(
    repos=("google-bert/bert-base-uncased", "bert-base-uncased"),
    path="vocab.txt",
    size_in_bytes=231_508,
    saved_as="bert-base-uncased-vocab.txt",
)

# The sizes below are rounded; they are for the user's eye only.
CLIP_L = RemoteFile(
    repos=("openai/clip-vit-large-patch14",),
    path="model.safetensors",
    size_in_bytes=1_710_000_000,
    saved_as="clip-vit-large-patch14.safetensors",
)
CLIP_TOKENIZER = RemoteFile(
    repos=("openai/clip-vit-large-patch14",),
    path="tokenizer.json",
    size_in_bytes=2_220_000,
    saved_as="clip-tokenizer.json",
)

_ENTRIES = (
    Entry(
        name="ImageReward-v1.0",
        label="ImageReward",
        architecture="image-reward",
        weights=RemoteFile(
            repos=("THUDM/ImageReward", "zai-org/ImageReward"),
            path="ImageReward.pt",
            size_in_bytes=1_790_000_000,
        ),
        companions={"vocabulary": BERT_VOCABULARY},
        licence="Apache-2.0",
        homepage="https://github.com/THUDM/ImageReward",
        mean=0.16717362830052426,
        std=1.0333394966054072,
    ),
    Entry(
        name="CLIP",
        label="CLIP",
        architecture="clip",
        weights=CLIP_L,
        companions={"tokenizer": CLIP_TOKENIZER},
        licence="MIT",
        homepage="https://github.com/openai/CLIP",
    ),
    Entry(
        name="BLIP",
        label="BLIP",
        architecture="blip",
        weights=RemoteFile(
            repos=(),
            path="model_large.pth",
            size_in_bytes=1_790_000_000,
            saved_as="blip-large.pth",
            url="https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_large.pth",
        ),
        companions={"vocabulary": BERT_VOCABULARY},
        licence="BSD-3-Clause",
        homepage="https://github.com/salesforce/BLIP",
    ),
    Entry(
        name="Aesthetic",
        label="Aesthetic",
        architecture="aesthetic",
        weights=RemoteFile(
            repos=(),
            path="sac+logos+ava1-l14-linearMSE.pth",
            size_in_bytes=3_710_000,
            url="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
            "sac%2Blogos%2Bava1-l14-linearMSE.pth",
        ),
        companions={"tower": CLIP_L, "tokenizer": CLIP_TOKENIZER},
        licence="Apache-2.0",
        homepage="https://github.com/christophschuhmann/improved-aesthetic-predictor",
    ),
    Entry(
        name="PickScore",
        label="PickScore",
        architecture="pickscore",
        weights=RemoteFile(
            repos=("yuvalkirstain/PickScore_v1",),
            path="model.safetensors",
            size_in_bytes=3_940_000_000,
            saved_as="PickScore_v1.safetensors",
        ),
        companions={"tokenizer": CLIP_TOKENIZER},
        licence="MIT",
        homepage="https://github.com/yuvalkirstain/PickScore",
        settings={
            # CLIP ViT-H/14 of LAION
            "vision_width": 1280,
            "vision_layers": 32,
            "text_width": 1024,
            "text_layers": 24,
            "text_heads": 16,
            "shared_width": 1024,
            "activation": "gelu",
        },
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
DEFAULT = "ImageReward-v1.0"
_OTHER_NAMES = {"imagereward": DEFAULT}


def find_entry(name: str) -> Entry | None:
    """Look a scorer up by name, in any spelling of upper and lower case."""
    wanted = _OTHER_NAMES.get(name.lower(), name).lower()
    return next((entry for entry in ENTRIES.values() if entry.name.lower() == wanted), None)


def entry(name: str) -> Entry:
    """Look a scorer up by name; an unknown one is an error that lists the choices."""
    found = find_entry(name)
    if found is None:
        raise WeightsError(f"no scorer is called {name!r}; known are: {', '.join(ENTRIES)}")
    return found
