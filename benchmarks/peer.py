"""The `image-reward` package, as its README uses it. Runs in the peer's environment."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

from tests.reference.make_peer_scores import MED_CONFIG


def prepare() -> None:
    """Let torchvision be imported where its compiled operators do not fit this torch (they are for CUDA builds).

    The peer needs none of them, only the transforms; what describes them to the compiler fails without them.
    """
    import torch

    if not torch.cuda.is_available():
        name = "torchvision._meta_registrations"
        sys.modules.setdefault(name, types.ModuleType(name))


def load(folder: str, device: str = "cpu", **unused: Any) -> Any:
    """Load the official file; the vocabulary comes from disk instead of the hub."""
    prepare()
    import ImageReward
    from transformers import BertTokenizer

    vocabulary = str(Path(folder, "bert-base-uncased-vocab.txt"))
    BertTokenizer.from_pretrained = classmethod(lambda cls, *args, **kwargs: cls(vocabulary))
    config = Path(folder, "med_config.json")
    config.write_text(json.dumps(MED_CONFIG))
    return ImageReward.load(str(Path(folder, "ImageReward.pt")), device=device, med_config=str(config))


def score(model: Any, images: list[Any], prompts: list[str], no_grad: bool = True) -> list[float]:
    """Score all images under each prompt, prompt by prompt."""
    import torch

    with torch.set_grad_enabled(not no_grad):
        return [value for prompt in prompts for value in _ranked(model, prompt, images)]


def _ranked(model: Any, prompt: str, images: list[Any]) -> list[float]:
    _, scores = model.inference_rank(prompt, images)
    return scores if isinstance(scores, list) else [scores]


def import_all() -> None:
    prepare()
    import ImageReward  # noqa: F401
